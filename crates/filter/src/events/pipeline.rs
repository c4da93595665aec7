//! What happens to events outside requests: sealing, sending, settling. Runs on ticks and replies only.

use super::backoff::retry_after_ms;
use super::buffer::Buffer;
use super::dedupe::Dedupe;
use super::event::Event;
use super::outbox::Sending;
use super::outcome::{Outcome, outcome};
use crate::host::{Host, Reply, status};
use crate::metrics::{Counter, Metrics};
use crate::plugin_config::{self, EventFormat};
use std::ops::Range;

mod seal;
mod send;
mod settle;

/// How often a change of the index is tried before it is left for the next tick.
pub const CAS_TRIES_MAX: u32 = 16;

/// How many batches a VM seals in one tick; the rest waits for the next one.
pub const SEALS_PER_TICK_MAX: u32 = 64;

/// How many verdicts a VM keeps that it could not write down; those of more calls are found out again by other means: the
/// lease runs out and the batch is sent once more.
pub const UNSETTLED_MAX: usize = 64;

/// How often a VM looks after the outbox beside its own batches.
const TIDY_EVERY_MS: i64 = 1_000;

/// The events of one plugin in one VM.
#[derive(Debug)]
pub struct Pipeline {
    config: plugin_config::Events,
    /// Tells this VM from the others.
    vm: u64,
    index_key: String,
    slot_key: String,
    tick_ms: u64,
    buffer: Buffer,
    /// Which exposures were reported.
    pub dedupe: Dedupe,
    calls: Vec<(u32, Sent)>,
    /// Calls to the fallback: their answers change nothing any more.
    diversions: Vec<u32>,
    unsettled: Vec<(Sent, Verdict)>,
    /// Whether the index may still hold a word about this VM's buffer.
    has_word: bool,
    tidied_ms: i64,
}

/// A part of a batch that is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    batch: u128,
    part: Range<usize>,
    at_ms: i64,
}

/// What is to be written down about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Answered(Outcome, Option<u64>),
    /// The slot did not hold the batch.
    Lost,
}

impl Pipeline {
    /// The pipeline of a VM. `prefix` is put in front of all its keys in shared data.
    pub fn new(config: plugin_config::Events, vm: u64, prefix: &str, tick_ms: u64) -> Pipeline {
        Pipeline {
            buffer: Buffer::new(config.batch),
            dedupe: Dedupe::new(vm, config.dedupe.window_ms, config.dedupe.max_entries),
            vm,
            index_key: format!("{prefix}/outbox"),
            slot_key: format!("{prefix}/slot"),
            tick_ms,
            calls: Vec::new(),
            diversions: Vec::new(),
            unsettled: Vec::new(),
            has_word: false,
            tidied_ms: i64::MIN,
            config,
        }
    }

    /// The format of its events.
    pub fn format(&self) -> EventFormat {
        self.config.format
    }

    /// Begins the batches from now on with what the format wants there of the config in force.
    pub fn set_head(&mut self, head: Vec<u8>) {
        self.buffer.set_head(head);
    }

    /// Puts an event into the buffer. False where it is full; either way the event is accounted for.
    pub fn emit(&mut self, event: &Event<'_>, time_ms: i64, metrics: &mut Metrics) -> bool {
        let format = self.config.format;
        self.buffer(time_ms, |out| event.write_as(format, out), metrics)
    }

    /// As [`Pipeline::emit`], with an event that is written already.
    pub fn emit_written(&mut self, event: &[u8], time_ms: i64, metrics: &mut Metrics) -> bool {
        self.buffer(time_ms, |out| out.extend_from_slice(event), metrics)
    }

    fn buffer(&mut self, time_ms: i64, write: impl FnOnce(&mut Vec<u8>), metrics: &mut Metrics) -> bool {
        metrics.add(Counter::Emitted, 1);
        let buffered = self.buffer.push(time_ms, write);
        if !buffered {
            metrics.add(Counter::DroppedOverflow, 1);
            metrics.add(Counter::BufferFull, 1);
        }
        buffered
    }

    /// The regular work: writes down what is still open, seals what is due, sends what may be sent.
    pub fn tick(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        for (sent, verdict) in std::mem::take(&mut self.unsettled) {
            self.settle(host, now_ms, sent, verdict, metrics);
        }
        for _ in 0..SEALS_PER_TICK_MAX {
            if !self.buffer.is_due(now_ms, self.tick_ms) {
                break;
            }
            let count = self.buffer.next_batch();
            if !self.seal(host, now_ms, count, Sending::IfAllowed, metrics) {
                break;
            }
        }
        // The clock may have been set back: then it is time as well.
        if now_ms.saturating_sub(self.tidied_ms) >= TIDY_EVERY_MS || now_ms < self.tidied_ms {
            self.tidied_ms = now_ms;
            self.tidy(host, now_ms, metrics);
        }
        self.send_waiting(host, now_ms, metrics);
    }

    /// The last chance of this VM: one call with what it has, else with a batch that waits; several calls would not all
    /// reach the wire. The outbox keeps the events too: where the process goes on, another VM delivers what the call did not.
    pub fn shut_down(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        let mut first = true;
        while !self.buffer.events().is_empty() {
            let count = self.buffer.events().fitting(0, usize::MAX, self.config.outbox.max_bytes);
            if !self.seal(host, now_ms, count, if first { Sending::Anyway } else { Sending::Not }, metrics) {
                break;
            }
            first = false;
        }
        if first && let Ok(Some(batch)) = self.lease_next(host, now_ms, metrics) {
            self.send_stored(host, now_ms, &batch, metrics);
        }
    }

    /// Takes in the reply to a call of this pipeline. False where the token is another's.
    pub fn on_reply(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        token: u32,
        reply: &impl Reply,
        metrics: &mut Metrics,
    ) -> bool {
        let headers = reply.headers();
        if let Some(at) = self.diversions.iter().position(|diversion| *diversion == token) {
            self.diversions.swap_remove(at);
            let failed = outcome(status(&headers)) != Outcome::Delivered;
            metrics.add(Counter::FallbackFailed, u64::from(failed));
            return true;
        }
        let Some(at) = self.calls.iter().position(|(call, _)| *call == token) else { return false };
        let (_, sent) = self.calls.swap_remove(at);
        let retry_after_ms = headers.get("retry-after").and_then(|value| retry_after_ms(value, now_ms));
        let outcome = outcome(status(&headers));
        self.settle(host, now_ms, sent, Verdict::Answered(outcome, retry_after_ms), metrics);
        self.send_waiting(host, now_ms, metrics);
        true
    }
}
