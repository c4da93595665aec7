//! What is written down in the index, and what follows from it.

use super::{CAS_TRIES_MAX, Pipeline, Sent, UNSETTLED_MAX, Verdict};
use crate::events::backoff::Backoff;
use crate::events::outbox::{Evicted, Lease, Outbox, Settled};
use crate::events::outcome::Outcome;
use crate::host::{Host, HostError, SetError};
use crate::metrics::{Counter, Gauge, Metrics};

impl Pipeline {
    /// Writes a verdict down in the index, or keeps it for the next tick.
    pub(super) fn settle(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        sent: Sent,
        verdict: Verdict,
        metrics: &mut Metrics,
    ) {
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

    pub(super) fn tidy(&mut self, host: &impl Host, now_ms: i64, metrics: &mut Metrics) {
        let (vm, max_age_ms) = (self.vm, self.config.outbox.max_age_ms);
        let (events, bytes) = (self.buffer.events().len() as u32, self.buffer.events().bytes() as u32);
        let has_word = events > 0 || self.has_word;
        let mut seen = None;
        let changed = self.update(host, metrics, |outbox, settled| {
            let said = has_word && outbox.buffered(vm, events, bytes, now_ms);
            let tidied = outbox.tidy(now_ms, max_age_ms, settled);
            seen = Some((outbox.queued_events(), outbox.queued_bytes(), outbox.oldest_age_ms(now_ms)));
            (said || tidied).then_some(())
        });
        if changed.is_ok() {
            self.has_word = events > 0;
        }
        let Some((events, bytes, oldest_age_ms)) = seen else { return };
        metrics.record(host, Gauge::OldestAgeSeconds, oldest_age_ms / 1_000);
        if changed == Ok(None) {
            // Nothing to write, but the gauges may show what another VM knew before.
            metrics.record(host, Gauge::QueuedEvents, events);
            metrics.record(host, Gauge::QueuedBytes, bytes);
        }
    }

    pub(super) fn lease(&self, now_ms: i64) -> Lease {
        let lease_ms = i64::try_from(self.config.retry.lease_ms).unwrap_or(i64::MAX);
        Lease { holder: self.vm, since_ms: now_ms, until_ms: now_ms.saturating_add(lease_ms) }
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff { min_ms: self.config.retry.backoff_min_ms, max_ms: self.config.retry.backoff_max_ms }
    }

    /// Changes the index by compare-and-swap. `change` may run several times, each time on what is there then; `None` from
    /// it leaves the index as it is. What became of events is counted once, by whoever wrote it down.
    pub(super) fn update<T>(
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

    pub(super) fn written_down(&mut self, host: &impl Host, outbox: &Outbox, settled: Settled, metrics: &mut Metrics) {
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
        if !outbox.has_batches() {
            // The age of what waits is looked at regularly; that nothing waits is known now.
            metrics.record(host, Gauge::OldestAgeSeconds, 0);
        }
        metrics.record(host, Gauge::QueuedEvents, outbox.queued_events());
        metrics.record(host, Gauge::QueuedBytes, outbox.queued_bytes());
    }
}
