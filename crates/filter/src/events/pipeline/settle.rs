//! Changes of the index, and their consequences.

use super::{DeliveryResult, Pipeline, UNSETTLED_MAX};
use crate::env::Env;
use crate::events::backoff::Backoff;
use crate::events::outbox::{Evicted, InFlight, Lease, Outbox, Settlement};
use crate::events::outcome::Outcome;
use crate::host::{Host, HostError};
use crate::metrics::{Counter, Gauge};
use crate::shared_data;

impl Pipeline {
    /// Records the result of a call in the index, or keeps it for the next tick.
    pub(super) fn settle(&mut self, env: &mut Env<'_, impl Host>, call: InFlight, result: DeliveryResult) {
        let (now_ms, backoff, random) = (env.now_ms, self.backoff(), env.host.random() as u64);
        let settled = self.update(env, |outbox, settlement| {
            Some(match result {
                DeliveryResult::Answered(Outcome::Delivered, _) => outbox.mark_delivered(&call, settlement),
                DeliveryResult::Answered(Outcome::Reject, _) => outbox.mark_rejected(&call, settlement),
                DeliveryResult::Answered(Outcome::Split, _) => outbox.split(&call, settlement),
                DeliveryResult::Answered(Outcome::Keep, retry_after_ms) => {
                    outbox.keep(&call, now_ms, |failures| backoff.wait_ms(failures, retry_after_ms, random))
                }
                DeliveryResult::Lost => outbox.mark_lost(&call, settlement),
            })
        });
        match settled {
            Ok(was_held) => env.metrics.add(Counter::StaleReply, u64::from(was_held != Some(true))),
            Err(HostError) if self.unsettled.len() < UNSETTLED_MAX => self.unsettled.push((call, result)),
            Err(HostError) => {}
        }
    }

    /// Renews this VM's buffer report, tidies the outbox and sets the gauges.
    pub(super) fn tidy(&mut self, env: &mut Env<'_, impl Host>) {
        let (vm, now_ms, max_age_ms) = (self.vm, env.now_ms, self.config.outbox.max_age_ms);
        let (events, bytes) = self.buffered();
        let reports = events > 0 || self.has_reported;
        let mut seen = None;
        let changed = self.update(env, |outbox, settlement| {
            let has_reported = reports && outbox.report_buffer(vm, events, bytes, now_ms);
            let has_tidied = outbox.tidy(now_ms, max_age_ms, settlement);
            seen = Some((Queued::of(outbox), outbox.oldest_age_ms(now_ms)));
            (has_reported || has_tidied).then_some(())
        });
        if changed.is_ok() {
            self.has_reported = events > 0;
        }
        let Some((queued, oldest_age_ms)) = seen else { return };
        env.metrics.record(env.host, Gauge::OldestAgeSeconds, oldest_age_ms / 1_000);
        if changed == Ok(None) {
            // The gauges may still show an earlier state that another VM recorded.
            queued.record(env);
        }
    }

    /// How many events and bytes are in the buffer.
    pub(super) fn buffered(&self) -> (u32, u32) {
        let recorder = self.recorder.lock();
        let events = recorder.buffer.events();
        (events.len() as u32, events.bytes() as u32)
    }

    pub(super) fn lease(&self, now_ms: i64) -> Lease {
        let lease_ms = i64::try_from(self.config.retry.lease_ms).unwrap_or(i64::MAX);
        Lease { holder: self.vm, since_ms: now_ms, until_ms: now_ms.saturating_add(lease_ms) }
    }

    fn backoff(&self) -> Backoff {
        Backoff { min_ms: self.config.retry.backoff_min_ms, max_ms: self.config.retry.backoff_max_ms }
    }

    /// Changes the index, as [`shared_data::update`] does. The VM that made a change also counts the events that left with
    /// it, exactly once.
    pub(super) fn update<T>(
        &mut self,
        env: &mut Env<'_, impl Host>,
        mut change: impl FnMut(&mut Outbox, &mut Settlement) -> Option<T>,
    ) -> Result<Option<T>, HostError> {
        let mut result = None;
        self.update_if(env, &mut |outbox, settlement| {
            result = change(outbox, settlement);
            result.is_some()
        })?;
        Ok(result)
    }

    /// Changes the index if `change` agrees: one function for all changes, which would be large as a generic one.
    fn update_if(
        &mut self,
        env: &mut Env<'_, impl Host>,
        change: &mut dyn FnMut(&mut Outbox, &mut Settlement) -> bool,
    ) -> Result<(), HostError> {
        let changed = shared_data::update(env, &self.index_key, |outbox: &mut Outbox| {
            let mut settlement = Settlement::default();
            change(outbox, &mut settlement).then(|| (settlement, outbox.has_batches(), Queued::of(outbox)))
        });
        let Some((settlement, has_batches, queued)) = changed? else { return Ok(()) };
        self.record_settlement(env, &settlement);
        if !has_batches {
            // The age is recorded regularly, but an empty outbox at once.
            env.metrics.record(env.host, Gauge::OldestAgeSeconds, 0);
        }
        queued.record(env);
        Ok(())
    }

    /// Counts the events that left the outbox, diverts or drops evicted ones, and clears free slots.
    fn record_settlement(&mut self, env: &mut Env<'_, impl Host>, settlement: &Settlement) {
        for (counter, count) in [
            (Counter::Delivered, settlement.delivered),
            (Counter::Rejected, settlement.rejected),
            (Counter::EventsLost, settlement.lost),
        ] {
            env.metrics.add(counter, count);
        }
        for Evicted { batch, reason } in &settlement.evicted {
            let part = batch.next as usize..batch.events as usize;
            // The slot is already free: if another VM has reused it, the events can only be counted.
            match self.config.fallback.is_some().then(|| self.stored(env, batch)).flatten() {
                Some(events) => self.divert_or_drop(env, &events, part, *reason),
                None => env.metrics.add(reason.counter(), part.len() as u64),
            }
        }
        let evicted = settlement.evicted.iter().map(|evicted| (evicted.batch.slot, evicted.batch.id));
        for (slot, batch) in settlement.freed.iter().copied().chain(evicted) {
            self.clear_slot(env, slot, batch);
        }
    }
}

/// The size of the outbox and of the buffers, for the gauges.
struct Queued {
    events: u64,
    bytes: u64,
}

impl Queued {
    fn of(outbox: &Outbox) -> Queued {
        Queued { events: outbox.queued_events(), bytes: outbox.queued_bytes() }
    }

    fn record(&self, env: &mut Env<'_, impl Host>) {
        env.metrics.record(env.host, Gauge::QueuedEvents, self.events);
        env.metrics.record(env.host, Gauge::QueuedBytes, self.bytes);
    }
}
