//! The outbox: the batches that wait for their acknowledgement, shared by all VMs.
//!
//! One value in shared data, the index, records which batch is in which slot, which VM holds it until when, and whether the
//! service is failing. It is only changed by compare-and-swap, so its bounds hold exactly over all workers. This file is the
//! state machine alone: time, randomness and limits are arguments, and the fate of events is the result.

mod batch;
mod codec;

pub use batch::{Batch, BatchHeader, InFlight, Lease};

use super::slot::FRAME_BYTES_MAX;
use crate::plugin_config::{Batch as BatchLimits, OnFull, OutboxLimits};
use crate::shared_data::CLOCK_SKEW_MS_MAX;

/// How many calls all VMs may have in flight together.
pub const CALLS_IN_FLIGHT_MAX: usize = 8;

/// How many of them may be for waiting batches: the rest is reserved for fresh ones.
pub const BACKLOG_CALLS_IN_FLIGHT_MAX: usize = 4;

/// How many VMs can report their buffers. Events of further VMs are delivered too, but missing in the gauges.
pub const BUFFER_REPORTS_MAX: usize = 256;

/// How long a VM's report of its buffer is valid.
pub const BUFFER_REPORT_TTL_MS: i64 = 5_000;

/// A batch takes in further events for this fraction of `outbox.max_age`: they expire together.
const JOIN_AGE_FRACTION: i64 = 10;

/// How many batches expire in one go: each may cause a call to the fallback.
pub const EXPIRED_PER_TIDY_MAX: usize = 16;

/// The key of the index in shared data.
pub fn index_key(prefix: &str) -> String {
    format!("{prefix}/outbox")
}

/// The state of the outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbox {
    /// Failures of the service in a row, over all batches.
    pub failures: u32,
    /// When a failing service may be tried again.
    pub retry_at_ms: i64,
    /// When it last failed. The failure of an earlier call does not count again.
    pub failed_at_ms: i64,
    /// Batches, the oldest first.
    pub batches: Vec<Batch>,
    /// Events in the buffers of VMs.
    pub buffers: Vec<BufferReport>,
}

/// A VM's report of its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferReport {
    /// The VM.
    pub vm: u64,
    /// Events in its buffer.
    pub events: u32,
    /// Bytes in its buffer.
    pub bytes: u32,
    /// When the report expires.
    pub until_ms: i64,
}

/// The events and batches that left the outbox with one change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Events that the service has.
    pub delivered: u64,
    /// Events that the service will never take.
    pub rejected: u64,
    /// Events that were missing in their slot.
    pub lost: u64,
    /// The slots that can be cleared, each with its batch.
    pub freed: Vec<(u32, u128)>,
    /// The batches that were removed undelivered.
    pub evicted: Vec<Evicted>,
}

/// A batch that was removed undelivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evicted {
    /// The batch as it was.
    pub batch: Batch,
    /// The reason.
    pub reason: EvictionReason,
}

/// The reason why a batch is removed undelivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvictionReason {
    /// The outbox was full.
    Overflow,
    /// It was too old.
    Expired,
}

/// Whether a batch is sent as soon as it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendPolicy {
    /// If the service is healthy and not too many calls are in flight.
    IfAllowed,
    /// Always: it is the last chance.
    Always,
    /// Never: another VM will send it.
    Never,
}

impl Outbox {
    /// Events in the outbox and, according to their VMs, in buffers.
    pub fn queued_events(&self) -> u64 {
        let batches = self.written().map(|batch| u64::from(batch.left()));
        batches.chain(self.buffers.iter().map(|report| u64::from(report.events))).sum()
    }

    /// The bytes they take up.
    pub fn queued_bytes(&self) -> u64 {
        let batches = self.written().map(|batch| u64::from(batch.bytes));
        batches.chain(self.buffers.iter().map(|report| u64::from(report.bytes))).sum()
    }

    /// Whether there are any batches.
    pub fn has_batches(&self) -> bool {
        self.written().next().is_some()
    }

    /// How long the oldest batch has waited; 0 without one.
    pub fn oldest_age_ms(&self, now_ms: i64) -> u64 {
        let sealed_at_ms = self.written().map(|batch| batch.sealed_at_ms).min();
        sealed_at_ms.map_or(0, |sealed_at_ms| u64::try_from(now_ms.saturating_sub(sealed_at_ms)).unwrap_or(0))
    }

    fn written(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter().filter(|batch| batch.written)
    }

    /// All bytes that slots hold or are reserved for.
    fn bytes(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.bytes)).sum()
    }

    /// Whether the service is failing.
    pub fn is_down(&self) -> bool {
        self.failures > 0
    }

    /// Whether the clock was set back since the service failed: the time since then is unknown.
    fn was_set_back(&self, now_ms: i64) -> bool {
        self.failed_at_ms.saturating_sub(now_ms) > CLOCK_SKEW_MS_MAX
    }

    fn in_flight(&self, now_ms: i64) -> usize {
        self.batches.iter().filter(|batch| batch.is_leased(now_ms)).count()
    }

    fn held_by(&mut self, id: u128, holder: u64) -> Option<&mut Batch> {
        self.batches.iter_mut().find(|batch| batch.id == id && batch.is_held_by(holder))
    }

    /// The batch, if it is still under the lease that `call` was made with. A late answer must not end a newer lease.
    fn held_since(&mut self, call: &InFlight) -> Option<&mut Batch> {
        let is_same = |batch: &&mut Batch| batch.lease.is_some_and(|lease| lease.since_ms == call.sent_at_ms);
        self.held_by(call.batch, call.holder).filter(is_same)
    }

    /// Whether `id` is leased to `holder`. An expired lease counts until another VM takes the batch over.
    pub fn is_held(&self, id: u128, holder: u64) -> bool {
        self.batches.iter().any(|batch| batch.id == id && batch.is_held_by(holder))
    }

    /// Reserves a slot under a lease, evicting old batches if `limits` require and allow it. Gives the slot's number, or
    /// `None` if the outbox is full.
    pub fn reserve(
        &mut self,
        header: BatchHeader,
        lease: Lease,
        limits: &OutboxLimits,
        settlement: &mut Settlement,
    ) -> Option<u32> {
        let bytes_max = limits.max_bytes as u64;
        if u64::from(header.bytes) > bytes_max {
            return None;
        }
        while self.batches.len() >= limits.max_batches || self.bytes() + u64::from(header.bytes) > bytes_max {
            let oldest = self.batches.iter().position(|batch| !batch.is_leased(lease.since_ms));
            let batch = self.batches.remove(oldest.filter(|_| limits.on_full == OnFull::DropOldest)?);
            match batch.written {
                true => settlement.evicted.push(Evicted { batch, reason: EvictionReason::Overflow }),
                // Its events are still counted in their VM's buffer, but may be in the slot already.
                false => settlement.freed.push((batch.slot, batch.id)),
            }
        }
        let slot = (0..).find(|slot| self.batches.iter().all(|batch| batch.slot != *slot))?;
        self.batches.push(Batch::reserved(header, slot, lease));
        Some(slot)
    }

    /// Declares the slot of `id` written. True if the holder sends the batch now, as `policy` decides, and keeps its lease
    /// for that; otherwise the batch waits. `None` if the reservation was lost: the events are then not in the outbox.
    pub fn publish(&mut self, id: u128, holder: u64, policy: SendPolicy, now_ms: i64) -> Option<bool> {
        let sends = match policy {
            // The batch itself counts as in flight.
            SendPolicy::IfAllowed => !self.is_down() && self.in_flight(now_ms) <= CALLS_IN_FLIGHT_MAX,
            SendPolicy::Always => true,
            SendPolicy::Never => false,
        };
        let batch = self.held_by(id, holder)?;
        batch.written = true;
        if !sends {
            batch.lease = None;
        }
        Some(sends)
    }

    /// Leases a waiting batch that the events of `header` can join. During an outage, batches therefore fill up before new
    /// slots are used. Only an untouched batch qualifies, and only a young one: added events expire with it.
    pub fn join(
        &mut self,
        header: BatchHeader,
        lease: Lease,
        limits: &OutboxLimits,
        batch_limits: &BatchLimits,
    ) -> Option<Batch> {
        let has_to_wait = self.is_down() || self.in_flight(lease.since_ms) >= CALLS_IN_FLIGHT_MAX;
        if !has_to_wait || self.bytes() + u64::from(header.bytes) > limits.max_bytes as u64 {
            return None;
        }
        let age_ms_max = i64::try_from(limits.max_age_ms).unwrap_or(i64::MAX) / JOIN_AGE_FRACTION;
        let fits = |batch: &&mut Batch| {
            let events = batch.events.saturating_add(header.events) as usize;
            let bytes = batch.bytes.saturating_add(header.bytes) as usize;
            batch.is_untouched()
                && lease.since_ms.saturating_sub(batch.sealed_at_ms) <= age_ms_max
                && events <= batch_limits.max_events
                && bytes.saturating_add(FRAME_BYTES_MAX) <= batch_limits.max_bytes
        };
        let batch = self.batches.iter_mut().rfind(fits)?;
        batch.lease = Some(lease);
        Some(batch.clone())
    }

    /// Declares that the slot of `id` also holds the events of `header`, behind its own. False if the lease or the room for
    /// them was lost: the index does not count them then.
    pub fn publish_joined(&mut self, id: u128, holder: u64, header: BatchHeader, limits: &OutboxLimits) -> bool {
        if self.bytes() + u64::from(header.bytes) > limits.max_bytes as u64 {
            return false;
        }
        let Some(batch) = self.held_by(id, holder) else { return false };
        batch.events = batch.events.saturating_add(header.events);
        batch.bytes = batch.bytes.saturating_add(header.bytes);
        batch.part_max = batch.events;
        batch.lease = None;
        true
    }

    /// Gives up a lease: a reservation disappears, a batch waits again. True if there was one.
    pub fn release(&mut self, id: u128, holder: u64) -> bool {
        let Some(batch) = self.held_by(id, holder) else { return false };
        batch.lease = None;
        self.batches.retain(|batch| batch.written || batch.id != id);
        true
    }

    /// Gives `lease` on a waiting batch, if one may be sent now: the one with the fewest failed attempts, then the oldest.
    /// While the service fails, that is one probe per back-off.
    pub fn lease_next(&mut self, lease: Lease) -> Option<Batch> {
        let now_ms = lease.since_ms;
        let in_flight = self.in_flight(now_ms);
        let is_allowed = match self.is_down() {
            true => in_flight == 0 && (now_ms >= self.retry_at_ms || self.was_set_back(now_ms)),
            false => in_flight < BACKLOG_CALLS_IN_FLIGHT_MAX,
        };
        let waits = |batch: &&mut Batch| batch.written && !batch.is_leased(now_ms);
        let batch = self.batches.iter_mut().filter(waits).filter(|_| is_allowed).min_by_key(|batch| batch.tries)?;
        batch.lease = Some(lease);
        Some(batch.clone())
    }

    /// The service took the events of `call`. False if another VM has taken over the batch and settles it.
    pub fn mark_delivered(&mut self, call: &InFlight, settlement: &mut Settlement) -> bool {
        let count = self.settle(call, settlement);
        settlement.delivered += count.unwrap_or(0);
        count.is_some()
    }

    /// The service will never take the events of `call`. False as in [`Outbox::mark_delivered`].
    pub fn mark_rejected(&mut self, call: &InFlight, settlement: &mut Settlement) -> bool {
        let count = self.settle(call, settlement);
        settlement.rejected += count.unwrap_or(0);
        count.is_some()
    }

    /// Settles the events of `call` for good, since the service answered: removes the batch once no events are left.
    fn settle(&mut self, call: &InFlight, settlement: &mut Settlement) -> Option<u64> {
        self.failures = 0;
        let batch = self.held_by(call.batch, call.holder).filter(|batch| batch.part() == call.part)?;
        batch.next = call.part.end as u32;
        batch.tries = 0;
        batch.lease = None;
        if batch.left() == 0 {
            settlement.freed.push((batch.slot, batch.id));
            self.batches.retain(|batch| batch.id != call.batch);
        }
        Some(call.part.len() as u64)
    }

    /// The events of `call` were too many at once: sends this batch in parts of half that. A single event that is too large
    /// is rejected.
    pub fn split(&mut self, call: &InFlight, settlement: &mut Settlement) -> bool {
        if call.part.len() <= 1 {
            return self.mark_rejected(call, settlement);
        }
        self.failures = 0;
        let Some(batch) = self.held_since(call) else { return false };
        batch.part_max = (call.part.len() as u32).div_ceil(2);
        batch.lease = None;
        true
    }

    /// The service failed: keeps the batch and, unless the failure is older than the last one, starts a back-off of
    /// `wait_ms(failures)`.
    pub fn keep(&mut self, call: &InFlight, now_ms: i64, wait_ms: impl FnOnce(u32) -> u64) -> bool {
        if !self.is_down() || call.sent_at_ms >= self.failed_at_ms || self.was_set_back(now_ms) {
            self.failures = self.failures.saturating_add(1);
            self.failed_at_ms = now_ms;
            let wait_ms = i64::try_from(wait_ms(self.failures)).unwrap_or(i64::MAX);
            self.retry_at_ms = now_ms.saturating_add(wait_ms);
        }
        let Some(batch) = self.held_since(call) else { return false };
        batch.tries = batch.tries.saturating_add(1);
        batch.lease = None;
        true
    }

    /// The slot of the batch does not contain its events: removes the batch.
    pub fn mark_lost(&mut self, call: &InFlight, settlement: &mut Settlement) -> bool {
        let Some(batch) = self.held_by(call.batch, call.holder) else { return false };
        settlement.lost += u64::from(batch.left());
        self.batches.retain(|batch| batch.id != call.batch);
        true
    }

    /// Removes expired batches, abandoned reservations and expired buffer reports. True if anything changed.
    pub fn tidy(&mut self, now_ms: i64, max_age_ms: u64, settlement: &mut Settlement) -> bool {
        let before = (self.batches.len(), self.buffers.len());
        let max_age_ms = i64::try_from(max_age_ms).unwrap_or(i64::MAX);
        let mut expired = 0;
        self.batches.retain(|batch| {
            if batch.is_leased(now_ms) {
                return true;
            }
            let is_too_old = now_ms.saturating_sub(batch.sealed_at_ms) >= max_age_ms;
            if batch.written && is_too_old && expired < EXPIRED_PER_TIDY_MAX {
                expired += 1;
                settlement.evicted.push(Evicted { batch: batch.clone(), reason: EvictionReason::Expired });
                return false;
            }
            if !batch.written {
                // Its VM still has the events in its buffer, or died with them.
                settlement.freed.push((batch.slot, batch.id));
            }
            batch.written
        });
        self.buffers.retain(|report| {
            now_ms < report.until_ms && report.until_ms.saturating_sub(now_ms) <= BUFFER_REPORT_TTL_MS
        });
        before != (self.batches.len(), self.buffers.len())
    }

    /// Records the size of a VM's buffer. True if that changed anything.
    pub fn report_buffer(&mut self, vm: u64, events: u32, bytes: u32, now_ms: i64) -> bool {
        let known = self.buffers.iter().position(|report| report.vm == vm);
        if known.is_none() && (events == 0 || self.buffers.len() >= BUFFER_REPORTS_MAX) {
            return false;
        }
        let report = BufferReport { vm, events, bytes, until_ms: now_ms.saturating_add(BUFFER_REPORT_TTL_MS) };
        match known.and_then(|at| self.buffers.get_mut(at)) {
            Some(known) => *known = report,
            None => self.buffers.push(report),
        }
        self.buffers.retain(|report| report.events > 0);
        true
    }
}

#[cfg(test)]
mod tests;
