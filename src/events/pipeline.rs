//! What happens to events outside requests: sealing, sending, settling. Runs on ticks and replies only.

use super::backoff::{Backoff, retry_after_ms};
use super::buffer::Buffer;
use super::dedupe::Dedupe;
use super::event::Event;
use super::outbox::{BACKLOG_CALLS_IN_FLIGHT_MAX, Batch, Evicted, Lease, Outbox, Sealing, Sending, Settled, Why};
use super::outcome::{Outcome, outcome};
use super::slot::{Events, part_id};
use crate::host::{Call, Host, HostError, Reply, SetError, status};
use crate::metrics::{Counter, Gauge, Metrics};
use crate::plugin_config::{self, Endpoint, EventFormat};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

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
    calls: HashMap<u32, Sent>,
    /// Calls to the fallback: their answers change nothing any more.
    diversions: HashSet<u32>,
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

/// Where events go when they are sealed.
enum Place {
    /// Into a slot of their own.
    Slot(u32),
    /// Behind those of a batch that waits.
    Behind(Batch),
}

/// What is to be written down about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Answered(Outcome, Option<u64>),
    /// The slot did not hold the batch.
    Lost,
}

impl Why {
    fn counter(self) -> Counter {
        match self {
            Why::Overflow => Counter::DroppedOverflow,
            Why::Expired => Counter::DroppedExpired,
        }
    }
}

impl Pipeline {
    /// The pipeline of a VM. `prefix` is put in front of all its keys in shared data.
    pub fn new(config: plugin_config::Events, vm: u64, prefix: &str, tick_ms: u64) -> Pipeline {
        Pipeline {
            buffer: Buffer::new(config.batch),
            dedupe: Dedupe::new(config.dedupe.window_ms, config.dedupe.max_entries),
            vm,
            index_key: format!("{prefix}/outbox"),
            slot_key: format!("{prefix}/slot"),
            tick_ms,
            calls: HashMap::new(),
            diversions: HashSet::new(),
            unsettled: Vec::new(),
            has_word: false,
            tidied_ms: i64::MIN,
            config,
        }
    }

    /// Puts an event into the buffer. False where it is full; either way the event is accounted for.
    pub fn emit(&mut self, event: &Event<'_>, metrics: &mut Metrics) -> bool {
        metrics.add(Counter::Emitted, 1);
        let buffered = self.buffer.push(event.time_ms, |out| event.write(out));
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
        if self.diversions.remove(&token) {
            let failed = outcome(status(&headers)) != Outcome::Delivered;
            metrics.add(Counter::FallbackFailed, u64::from(failed));
            return true;
        }
        let Some(sent) = self.calls.remove(&token) else { return false };
        let retry_after_ms = headers.get("retry-after").and_then(|value| retry_after_ms(value, now_ms));
        let outcome = outcome(status(&headers));
        self.settle(host, now_ms, sent, Verdict::Answered(outcome, retry_after_ms), metrics);
        self.send_waiting(host, now_ms, metrics);
        true
    }

    /// Moves the oldest `count` events into the outbox and, as `sending` says, on their way. False where nothing more can
    /// be sealed now.
    fn seal(&mut self, host: &impl Host, now_ms: i64, count: usize, sending: Sending, metrics: &mut Metrics) -> bool {
        let events = self.buffer.events().first(count);
        let id = host.random();
        let sealing = Sealing { id, events: count as u32, bytes: events.bytes() as u32 };
        let lease = self.lease(now_ms);
        let (limits, batch_limits) = (self.config.outbox, self.config.batch);
        let placed = self.update(host, metrics, |outbox, settled| {
            let joined = (sending == Sending::IfAllowed).then(|| outbox.join(sealing, lease, &limits, &batch_limits));
            match joined.flatten() {
                Some(batch) => Some(Place::Behind(batch)),
                None => outbox.reserve(sealing, lease, &limits, settled).map(Place::Slot),
            }
        });
        let slot = match placed {
            Ok(Some(Place::Slot(slot))) => slot,
            Ok(Some(Place::Behind(batch))) => return self.join(host, now_ms, &batch, sealing, &events, metrics),
            Ok(None) => {
                self.go_without(host, id, &events, 0..count, Why::Overflow, metrics);
                self.buffer.remove(count);
                return true;
            }
            Err(HostError) => return false,
        };
        let vm = self.vm;
        if self.write_slot(host, slot, id, &events, metrics).is_err() {
            // The slot is another's by now: give the reservation back and try again with the next tick.
            let _ = self.update(host, metrics, |outbox, _| outbox.cancel(id, vm).then_some(()));
            return false;
        }
        let (left, left_bytes) = self.left_without(&events);
        let published = self.update(host, metrics, |outbox, _| {
            outbox.buffered(vm, left, left_bytes, now_ms);
            outbox.publish(id, vm, sending, now_ms)
        });
        let sends = match published {
            Ok(Some(sends)) => sends,
            Ok(None) => {
                // The reservation was lost: the events are still in the buffer, and only there.
                self.clear_slot(host, slot, id);
                return false;
            }
            Err(HostError) => return false,
        };
        self.has_word = left > 0;
        self.buffer.remove(count);
        if sends {
            self.send(host, now_ms, id, &events, 0..count, metrics);
        }
        true
    }

    /// Adds events to a batch that waits and is leased for that. Where it breaks off in the middle, the slot holds more
    /// events than the index counts: the index is right, and the others are still in the buffer.
    fn join(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        batch: &Batch,
        sealing: Sealing,
        events: &Events,
        metrics: &mut Metrics,
    ) -> bool {
        let Some(mut all) = self.stored(host, batch) else {
            let sent = Sent { batch: batch.id, part: batch.part(), at_ms: now_ms };
            self.settle(host, now_ms, sent, Verdict::Lost, metrics);
            return false;
        };
        all.append(events);
        let (id, vm, limits) = (batch.id, self.vm, self.config.outbox);
        if self.write_slot(host, batch.slot, id, &all, metrics).is_err() {
            let _ = self.update(host, metrics, |outbox, _| outbox.cancel(id, vm).then_some(()));
            return false;
        }
        let (left, left_bytes) = self.left_without(events);
        let joined = self.update(host, metrics, |outbox, _| {
            outbox.buffered(vm, left, left_bytes, now_ms);
            outbox.joined(id, vm, sealing, &limits).then_some(())
        });
        let Ok(Some(())) = joined else {
            let _ = self.update(host, metrics, |outbox, _| outbox.cancel(id, vm).then_some(()));
            return false;
        };
        self.has_word = left > 0;
        self.buffer.remove(events.len());
        true
    }

    /// How many events and bytes the buffer has without its first `events`.
    fn left_without(&self, events: &Events) -> (u32, u32) {
        let all = self.buffer.events();
        let (left, bytes) = (all.len().saturating_sub(events.len()), all.bytes().saturating_sub(events.bytes()));
        (left as u32, bytes as u32)
    }

    /// Writes a slot that is leased to this VM for `batch`. Compare-and-swap here too: a VM that slept through its lease must
    /// not write over its successor. The lease is looked at after the slot was: whoever takes the slot over later writes
    /// later too, and is seen.
    fn write_slot(
        &self,
        host: &impl Host,
        slot: u32,
        batch: u128,
        events: &Events,
        metrics: &mut Metrics,
    ) -> Result<(), SetError> {
        let key = format!("{}/{slot}", self.slot_key);
        let written = match (host.shared_get(&key), host.shared_get(&self.index_key)) {
            (Ok(shared), Ok(index)) => {
                match Outbox::decode(&index.value).is_some_and(|outbox| outbox.is_held(batch, self.vm)) {
                    true => host.shared_set(&key, &events.encode(batch), shared.cas),
                    false => Err(SetError::Stale),
                }
            }
            _ => Err(SetError::Failed),
        };
        if written == Err(SetError::Failed) {
            metrics.add(Counter::SharedData, 1);
        }
        written
    }

    /// Takes back the memory of a slot whose batch left the outbox, unless it is another batch's already.
    fn clear_slot(&self, host: &impl Host, slot: u32, batch: u128) {
        let key = format!("{}/{slot}", self.slot_key);
        if let Ok(shared) = host.shared_get(&key)
            && Events::decode(&shared.value, batch).is_some()
        {
            // Where this fails the slot was just taken again, and its new owner overwrites it.
            let _ = host.shared_set(&key, &[], shared.cas);
        }
    }

    /// Sends batches that wait, as many as may be in flight.
    fn send_waiting(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        for _ in 0..BACKLOG_CALLS_IN_FLIGHT_MAX {
            let Ok(Some(batch)) = self.lease_next(host, now_ms, metrics) else { return };
            self.send_stored(host, now_ms, &batch, metrics);
        }
    }

    fn lease_next(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) -> Result<Option<Batch>, HostError> {
        let lease = self.lease(now_ms);
        self.update(host, metrics, |outbox, _| outbox.lease_next(lease))
    }

    /// The events of a batch, if its slot holds them.
    fn stored(&self, host: &impl Host, batch: &Batch) -> Option<Events> {
        let shared = host.shared_get(&format!("{}/{}", self.slot_key, batch.slot)).ok()?;
        let events = Events::decode(&shared.value, batch.id)?;
        // More than the index counts are what somebody broke off adding.
        (events.len() >= batch.events as usize).then(|| events.first(batch.events as usize))
    }

    fn send_stored(&mut self, host: &impl Host, now_ms: i64, batch: &Batch, metrics: &mut Metrics) {
        match self.stored(host, batch) {
            Some(events) => self.send(host, now_ms, batch.id, &events, batch.part(), metrics),
            None => {
                let sent = Sent { batch: batch.id, part: batch.part(), at_ms: now_ms };
                self.settle(host, now_ms, sent, Verdict::Lost, metrics);
            }
        }
    }

    /// Sends a part of a batch to the service.
    fn send(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        batch: u128,
        events: &Events,
        part: Range<usize>,
        metrics: &mut Metrics,
    ) {
        let called = self.call(host, &self.config.endpoint, batch, events, &part);
        let sent = Sent { batch, part, at_ms: now_ms };
        match called {
            Ok(token) => {
                self.calls.insert(token, sent);
            }
            Err(HostError) => {
                // No such cluster, as a rule: an operator can mend that, so it is a failure like any other.
                metrics.add(Counter::Dispatch, 1);
                self.settle(host, now_ms, sent, Verdict::Answered(Outcome::Keep, None), metrics);
            }
        }
    }

    /// The end of events that there is no place for any more: to the fallback, once, or nowhere.
    fn go_without(
        &mut self,
        host: &impl Host,
        batch: u128,
        events: &Events,
        part: Range<usize>,
        why: Why,
        metrics: &mut Metrics,
    ) {
        let count = part.len() as u64;
        match self.config.fallback.as_ref().map(|fallback| self.call(host, fallback, batch, events, &part)) {
            Some(Ok(token)) => {
                self.diversions.insert(token);
                metrics.add(Counter::Diverted, count);
                return;
            }
            Some(Err(HostError)) => metrics.add(Counter::Dispatch, 1),
            None => {}
        }
        metrics.add(why.counter(), count);
    }

    /// Dispatches the events in `part` to `endpoint`.
    fn call(
        &self,
        host: &impl Host,
        endpoint: &Endpoint,
        batch: u128,
        events: &Events,
        part: &Range<usize>,
    ) -> Result<u32, HostError> {
        let id = part_id(batch, part, events.len());
        let body = events.body(self.config.format, &id, part.clone());
        let id = id.to_string();
        let content_type = match self.config.format {
            EventFormat::Native => "application/json",
            EventFormat::Ndjson => "application/x-ndjson",
        };
        let mut headers = vec![
            (":method", "POST"),
            (":path", endpoint.path.as_str()),
            (":authority", endpoint.authority.as_str()),
            (":scheme", "http"),
            ("content-type", content_type),
            ("idempotency-key", id.as_str()),
        ];
        headers.extend(endpoint.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        host.dispatch(&Call { cluster: &endpoint.cluster, headers, body: &body, timeout_ms: self.config.timeout_ms })
    }

    /// Writes a verdict down in the index, or keeps it for the next tick.
    fn settle(&mut self, host: &impl Host, now_ms: i64, sent: Sent, verdict: Verdict, metrics: &mut Metrics) {
        let vm = self.vm;
        let backoff = self.backoff();
        let random = host.random() as u64;
        let done = self.update(host, metrics, |outbox, settled| {
            let (batch, part) = (sent.batch, &sent.part);
            let was_mine = match verdict {
                Verdict::Answered(Outcome::Delivered, _) => outbox.delivered(batch, vm, part, settled),
                Verdict::Answered(Outcome::Reject, _) => outbox.rejected(batch, vm, part, settled),
                Verdict::Answered(Outcome::Split, _) => outbox.too_large(batch, vm, part, sent.at_ms, settled),
                Verdict::Answered(Outcome::Keep, retry_after_ms) => {
                    outbox.kept(batch, vm, sent.at_ms, now_ms, |failures| {
                        backoff.wait_ms(failures, retry_after_ms, random)
                    })
                }
                Verdict::Lost => outbox.lost(batch, vm, settled),
            };
            Some(was_mine)
        });
        match done {
            Ok(Some(true)) => {}
            Ok(_) => metrics.add(Counter::StaleReply, 1),
            Err(HostError) if self.unsettled.len() < UNSETTLED_MAX => self.unsettled.push((sent, verdict)),
            Err(HostError) => {}
        }
    }

    fn tidy(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        let (vm, max_age_ms) = (self.vm, self.config.outbox.max_age_ms);
        let (events, bytes) = (self.buffer.events().len() as u32, self.buffer.events().bytes() as u32);
        let has_word = events > 0 || self.has_word;
        let mut seen = None;
        let changed = self.update(host, metrics, |outbox, settled| {
            let said = has_word && outbox.buffered(vm, events, bytes, now_ms);
            let tidied = outbox.tidy(now_ms, max_age_ms, settled);
            seen = Some((outbox.queued_events(), outbox.queued_bytes()));
            (said || tidied).then_some(())
        });
        if changed.is_ok() {
            self.has_word = events > 0;
        }
        if let (Ok(None), Some((events, bytes))) = (changed, seen) {
            // Nothing to write, but the gauges may show what another VM knew before.
            metrics.record(host, Gauge::QueuedEvents, events);
            metrics.record(host, Gauge::QueuedBytes, bytes);
        }
    }

    fn lease(&self, now_ms: i64) -> Lease {
        let lease_ms = i64::try_from(self.config.retry.lease_ms).unwrap_or(i64::MAX);
        Lease { holder: self.vm, since_ms: now_ms, until_ms: now_ms.saturating_add(lease_ms) }
    }

    fn backoff(&self) -> Backoff {
        Backoff { min_ms: self.config.retry.backoff_min_ms, max_ms: self.config.retry.backoff_max_ms }
    }

    /// Changes the index by compare-and-swap. `change` may run several times, each time on what is there then; `None` from
    /// it leaves the index as it is. What became of events is counted once, by whoever wrote it down.
    fn update<T>(
        &mut self,
        host: &impl Host,
        metrics: &mut Metrics,
        mut change: impl FnMut(&mut Outbox, &mut Settled) -> Option<T>,
    ) -> Result<Option<T>, HostError> {
        for _ in 0..CAS_TRIES_MAX {
            let Ok(shared) = host.shared_get(&self.index_key) else {
                metrics.add(Counter::SharedData, 1);
                return Err(HostError);
            };
            let mut outbox = Outbox::decode(&shared.value).unwrap_or_else(|| {
                metrics.add(Counter::SharedDataCorrupt, 1);
                Outbox::default()
            });
            let mut settled = Settled::default();
            let Some(result) = change(&mut outbox, &mut settled) else { return Ok(None) };
            match host.shared_set(&self.index_key, &outbox.encode(), shared.cas) {
                Ok(()) => {
                    self.written_down(host, &outbox, settled, metrics);
                    return Ok(Some(result));
                }
                Err(SetError::Stale) => {}
                Err(SetError::Failed) => {
                    metrics.add(Counter::SharedData, 1);
                    return Err(HostError);
                }
            }
        }
        metrics.add(Counter::CasExhausted, 1);
        Err(HostError)
    }

    fn written_down(&mut self, host: &impl Host, outbox: &Outbox, settled: Settled, metrics: &mut Metrics) {
        for (counter, count) in [
            (Counter::Delivered, settled.delivered),
            (Counter::Rejected, settled.rejected),
            (Counter::EventsLost, settled.lost),
        ] {
            metrics.add(counter, count);
        }
        for Evicted { batch, why } in &settled.evicted {
            let part = batch.next as usize..batch.events as usize;
            // The slot is free already: where another VM was faster, what it held can only be counted.
            match self.config.fallback.is_some().then(|| self.stored(host, batch)).flatten() {
                Some(events) => self.go_without(host, batch.id, &events, part, *why, metrics),
                None => metrics.add(why.counter(), part.len() as u64),
            }
        }
        let evicted = settled.evicted.iter().map(|evicted| (evicted.batch.slot, evicted.batch.id));
        for (slot, batch) in settled.freed.iter().copied().chain(evicted) {
            self.clear_slot(host, slot, batch);
        }
        metrics.record(host, Gauge::QueuedEvents, outbox.queued_events());
        metrics.record(host, Gauge::QueuedBytes, outbox.queued_bytes());
    }
}
