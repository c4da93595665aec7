//! The work on events outside requests: they are sealed into batches, sent, and settled. It runs on ticks and replies only.

use super::backoff::retry_after_ms;
use super::outbox::{InFlight, SendPolicy, index_key};
use super::outcome::{Outcome, outcome};
use super::recorder::SharedRecorder;
use super::slot::slot_key;
use crate::call_failure::{CallFailure, FailureLog};
use crate::env::Env;
use crate::host::{Host, Reply, status};
use crate::metrics::{Counter, Metrics};
use crate::plugin_config;

mod seal;
mod send;
mod settle;

/// How many batches a VM seals in one tick; the rest waits for the next one.
pub const SEALS_PER_TICK_MAX: u32 = 64;

/// How many results a VM keeps that it could not record. A batch whose result is lost is sent again when its lease ends.
pub const UNSETTLED_MAX: usize = 64;

/// How often a VM tidies the outbox.
const TIDY_EVERY_MS: i64 = 1_000;

/// The events of one plugin in one VM.
#[derive(Debug)]
pub struct Pipeline {
    config: plugin_config::Events,
    /// Identifies this VM.
    vm: u64,
    index_key: String,
    slot_key: String,
    tick_ms: u64,
    /// The source of the events.
    pub recorder: SharedRecorder,
    calls: Vec<(u32, InFlight)>,
    /// Calls to the fallback. Their answers are only counted.
    diversions: Vec<u32>,
    /// Results that could not be recorded yet.
    unsettled: Vec<(InFlight, DeliveryResult)>,
    /// The failures of calls to the service, and to the fallback.
    failures: FailureLog,
    fallback_failures: FailureLog,
    /// Whether the index may contain a report of this VM's buffer.
    has_reported: bool,
    tidied_ms: i64,
}

/// The result of a call, as it is recorded in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeliveryResult {
    /// The outcome, with the wait that the service asked for in milliseconds.
    Answered(Outcome, Option<u64>),
    /// The slot did not contain the batch.
    Lost,
}

impl Pipeline {
    /// The pipeline of a VM. All its keys in shared data begin with `prefix`.
    pub fn new(config: plugin_config::Events, vm: u64, prefix: &str, tick_ms: u64) -> Pipeline {
        Pipeline {
            recorder: SharedRecorder::new(&config, vm),
            vm,
            index_key: index_key(prefix),
            slot_key: slot_key(prefix),
            tick_ms,
            calls: Vec::new(),
            diversions: Vec::new(),
            unsettled: Vec::new(),
            failures: FailureLog::default(),
            fallback_failures: FailureLog::default(),
            has_reported: false,
            tidied_ms: i64::MIN,
            config,
        }
    }

    /// Sets the beginning of the bodies of batches, which some formats take from the experiments in force.
    pub fn set_head(&mut self, head: Vec<u8>) {
        self.recorder.lock().buffer.set_head(head);
    }

    /// The regular work: records results that are left, seals due batches, and sends waiting ones.
    pub fn tick(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        let env = &mut Env::new(host, now_ms, metrics);
        for (call, result) in std::mem::take(&mut self.unsettled) {
            self.settle(env, call, result);
        }
        for _ in 0..SEALS_PER_TICK_MAX {
            let Some(count) = self.due_batch(now_ms) else { break };
            if !self.seal(env, count, SendPolicy::IfAllowed) {
                break;
            }
        }
        // The second condition holds if the clock was set back.
        if now_ms.saturating_sub(self.tidied_ms) >= TIDY_EVERY_MS || now_ms < self.tidied_ms {
            self.tidied_ms = now_ms;
            self.tidy(env);
        }
        self.send_waiting(env);
    }

    /// How many events make the next batch, if one is due.
    fn due_batch(&self, now_ms: i64) -> Option<usize> {
        let recorder = self.recorder.lock();
        recorder.buffer.is_due(now_ms, self.tick_ms).then(|| recorder.buffer.next_batch())
    }

    /// The last chance of this VM: makes one call, with its own events or else with a waiting batch. Of several calls, some
    /// would not be sent. The outbox keeps the events too: if the process goes on, another VM delivers them.
    pub fn shut_down(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        let env = &mut Env::new(host, now_ms, metrics);
        let mut policy = if host.can_dispatch() { SendPolicy::Always } else { SendPolicy::Never };
        loop {
            let count = self.recorder.lock().buffer.events().fitting(0, usize::MAX, self.config.outbox.max_bytes);
            if count == 0 || !self.seal(env, count, policy) {
                break;
            }
            policy = SendPolicy::Never;
        }
        if policy == SendPolicy::Always
            && let Ok(Some(batch)) = self.lease_next(env)
        {
            self.send_stored(env, &batch);
        }
    }

    /// Handles the reply to a call of this pipeline. False if the token is not one of its calls.
    pub fn on_reply(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        token: u32,
        reply: &impl Reply,
        metrics: &mut Metrics,
    ) -> bool {
        let env = &mut Env::new(host, now_ms, metrics);
        let headers = reply.headers();
        let headers = headers.map();
        let outcome = outcome(status(&headers));
        if let Some(at) = self.diversions.iter().position(|diversion| *diversion == token) {
            self.diversions.swap_remove(at);
            if outcome == Outcome::Delivered {
                self.fallback_failures.succeeded(env.host, "the fallback takes events again");
            } else {
                env.metrics.add(Counter::FallbackFailed, 1);
                self.log_fallback_failure(env, CallFailure::of(reply));
            }
            return true;
        }
        let Some(at) = self.calls.iter().position(|(call, _)| *call == token) else { return false };
        let (_, call) = self.calls.swap_remove(at);
        if outcome == Outcome::Delivered {
            self.failures.succeeded(env.host, "events are delivered again");
        } else {
            self.log_failure(env, outcome, CallFailure::of(reply));
        }
        let retry_after_ms = headers.get("retry-after").and_then(|value| retry_after_ms(value, now_ms));
        self.settle(env, call, DeliveryResult::Answered(outcome, retry_after_ms));
        self.send_waiting(env);
        true
    }
}
