//! The outbox: what all VMs share of the batches that wait for their acknowledgement.
//!
//! One value in shared data, the index, says which batch is in which slot, who holds it until when, and how the service is
//! doing. It is changed by compare-and-swap only, so its bounds hold exactly over all workers. This file is the state
//! machine alone: time, randomness and limits come in as arguments, and what happened to events comes out.

use super::slot::FRAME_BYTES_MAX;
use crate::plugin_config::{Batch as BatchLimits, OnFull, OutboxLimits};
use std::ops::Range;

mod codec;

/// How many calls all VMs may have in flight together.
pub const CALLS_IN_FLIGHT_MAX: usize = 8;

/// How many of them may be for batches that waited: the rest is kept free for fresh ones.
pub const BACKLOG_CALLS_IN_FLIGHT_MAX: usize = 4;

/// How many VMs can say how much they have buffered. More are served all the same, but not seen in the gauges.
pub const VMS_MAX: usize = 256;

/// How long a VM's word about its buffer counts without being renewed.
pub const VM_WORD_MS: i64 = 5_000;

/// A batch takes others in for this part of its longest life.
const JOIN_AGE_PART: i64 = 10;

/// How many batches expire in one go: each may be a call to the fallback.
pub const EXPIRED_PER_TIDY_MAX: usize = 16;

/// How far two workers' readings of the clock may be apart.
const CLOCK_SKEW_MS_MAX: i64 = 5_000;

/// The state of the outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbox {
    /// Failures of the service in a row, over all batches.
    pub failures: u32,
    /// While the service fails: when it may be tried again.
    pub retry_at_ms: i64,
    /// When it last failed: what was sent before says nothing new by failing too.
    pub failed_at_ms: i64,
    /// Batches, the oldest first.
    pub batches: Vec<Batch>,
    /// What VMs have in their buffers.
    pub vms: Vec<Vm>,
}

/// A batch in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its id.
    pub id: u128,
    /// The slot with its events.
    pub slot: u32,
    /// How many events it was sealed with.
    pub events: u32,
    /// How many bytes they take up.
    pub bytes: u32,
    /// When it was sealed.
    pub sealed_at_ms: i64,
    /// The first event that is not settled.
    pub next: u32,
    /// How many events may be sent at once; less than all after an answer that they were too many.
    pub part_max: u32,
    /// How often it was tried in vain.
    pub tries: u32,
    /// Whether the slot has the events: false between reserving and writing.
    pub written: bool,
    /// Who works on it.
    pub lease: Option<Lease>,
}

/// The right to work on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The VM that has it.
    pub holder: u64,
    /// When it was given.
    pub since_ms: i64,
    /// When another VM may take it over.
    pub until_ms: i64,
}

/// A VM's word about its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vm {
    /// The VM.
    pub id: u64,
    /// Events in its buffer.
    pub events: u32,
    /// Bytes in its buffer.
    pub bytes: u32,
    /// Until when this counts.
    pub until_ms: i64,
}

/// How many events left the outbox, by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// The service has them.
    pub delivered: u64,
    /// The service will never take them.
    pub rejected: u64,
    /// Their slot did not hold what it should.
    pub lost: u64,
    /// The batches that are done, each with the slot that can be cleared.
    pub freed: Vec<(u32, u128)>,
    /// The batches that had to go before they were done.
    pub evicted: Vec<Evicted>,
}

/// A batch that had to go before it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evicted {
    /// The batch as it was.
    pub batch: Batch,
    /// Why it had to go.
    pub why: Why,
}

/// Why a batch has to go before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There was no room.
    Overflow,
    /// It was too old.
    Expired,
}

/// Whether a batch is sent once it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// If the service is well and not too many calls are in flight.
    IfAllowed,
    /// In any case: it is the last chance.
    Anyway,
    /// Somebody else will.
    Not,
}

/// What a VM wants to put into the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealing {
    /// The batch's id.
    pub id: u128,
    /// How many events it has.
    pub events: u32,
    /// How many bytes they take up.
    pub bytes: u32,
}

impl Batch {
    /// Events that are not settled.
    pub fn left(&self) -> u32 {
        self.events.saturating_sub(self.next)
    }

    /// The events to send next.
    pub fn part(&self) -> Range<usize> {
        let end = self.next.saturating_add(self.part_max.max(1)).min(self.events);
        self.next as usize..end as usize
    }

    fn is_leased(&self, now_ms: i64) -> bool {
        self.lease.is_some_and(|lease| lease.is_valid(now_ms))
    }
}

impl Lease {
    /// Whether nobody else may take over. A lease from the far future is none: the clock was set back since.
    fn is_valid(self, now_ms: i64) -> bool {
        now_ms < self.until_ms && self.since_ms.saturating_sub(now_ms) <= CLOCK_SKEW_MS_MAX
    }
}

impl Outbox {
    /// Events that are in the outbox or, as far as their VMs said, in buffers.
    pub fn queued_events(&self) -> u64 {
        let batches = self.batches.iter().filter(|batch| batch.written).map(|batch| u64::from(batch.left()));
        batches.chain(self.vms.iter().map(|vm| u64::from(vm.events))).sum()
    }

    /// The bytes they take up.
    pub fn queued_bytes(&self) -> u64 {
        let batches = self.batches.iter().filter(|batch| batch.written).map(|batch| u64::from(batch.bytes));
        batches.chain(self.vms.iter().map(|vm| u64::from(vm.bytes))).sum()
    }

    /// Whether there are any batches.
    pub fn has_batches(&self) -> bool {
        self.batches.iter().any(|batch| batch.written)
    }

    /// How long the batch has waited that was sealed first; 0 without one.
    pub fn oldest_age_ms(&self, now_ms: i64) -> u64 {
        let sealed = self.batches.iter().filter(|batch| batch.written).map(|batch| batch.sealed_at_ms);
        let age_ms = sealed.min().map_or(0, |sealed_at_ms| now_ms.saturating_sub(sealed_at_ms));
        u64::try_from(age_ms).unwrap_or(0)
    }

    /// Whether the service is left alone for now.
    pub fn is_down(&self) -> bool {
        self.failures > 0
    }

    /// Whether the clock was set back since the service failed: nobody knows then how long it has been left alone.
    fn was_set_back(&self, now_ms: i64) -> bool {
        self.failed_at_ms.saturating_sub(now_ms) > CLOCK_SKEW_MS_MAX
    }

    fn in_flight(&self, now_ms: i64) -> usize {
        self.batches.iter().filter(|batch| batch.is_leased(now_ms)).count()
    }

    /// The batch under the lease that was given at `since_ms`: a call that a VM gave up for lost says nothing of the lease
    /// that it took since.
    fn held_since(&mut self, id: u128, holder: u64, since_ms: i64) -> Option<&mut Batch> {
        let same = |batch: &&mut Batch| batch.lease.is_some_and(|lease| lease.since_ms == since_ms);
        self.held_by(id, holder).filter(same)
    }

    fn held_by(&mut self, id: u128, holder: u64) -> Option<&mut Batch> {
        let mine = |batch: &&mut Batch| batch.id == id && batch.lease.is_some_and(|lease| lease.holder == holder);
        self.batches.iter_mut().find(mine)
    }

    /// Makes room for a batch and reserves a slot under a lease; gives the slot's number. `None`: there is no room, and
    /// the batch is not in the outbox. What had to go for it is added to `settled`.
    pub fn reserve(
        &mut self,
        sealing: Sealing,
        lease: Lease,
        limits: &OutboxLimits,
        settled: &mut Settled,
    ) -> Option<u32> {
        let bytes_max = limits.max_bytes as u64;
        if u64::from(sealing.bytes) > bytes_max {
            return None;
        }
        while self.batches.len() >= limits.max_batches || self.bytes() + u64::from(sealing.bytes) > bytes_max {
            let oldest = self.batches.iter().position(|batch| !batch.is_leased(lease.since_ms));
            let oldest = oldest.filter(|_| limits.on_full == OnFull::DropOldest)?;
            let dropped = self.batches.remove(oldest);
            match dropped.written {
                true => settled.evicted.push(Evicted { batch: dropped, why: Why::Overflow }),
                // Its events are still counted where they came from, but they may be in the slot already.
                false => settled.freed.push((dropped.slot, dropped.id)),
            }
        }
        let slot = (0..).find(|slot| self.batches.iter().all(|batch| batch.slot != *slot))?;
        self.batches.push(Batch {
            id: sealing.id,
            slot,
            events: sealing.events,
            bytes: sealing.bytes,
            sealed_at_ms: lease.since_ms,
            next: 0,
            part_max: sealing.events,
            tries: 0,
            written: false,
            lease: Some(lease),
        });
        Some(slot)
    }

    /// Leases a batch that `sealing` can join: only where it would have to wait anyway, and behind events that nobody has
    /// tried to send, for the service may know a batch by its id. A lease that ran out was one for sending, perhaps. So an
    /// outage fills batches before it fills slots. What joins expires with the batch, so one that waited for long takes nothing in.
    pub fn join(
        &mut self,
        sealing: Sealing,
        lease: Lease,
        limits: &OutboxLimits,
        batch_limits: &BatchLimits,
    ) -> Option<Batch> {
        let waits = self.is_down() || self.in_flight(lease.since_ms) >= CALLS_IN_FLIGHT_MAX;
        let has_room = self.bytes() + u64::from(sealing.bytes) <= limits.max_bytes as u64;
        let young_ms = i64::try_from(limits.max_age_ms).unwrap_or(i64::MAX) / JOIN_AGE_PART;
        let fits = |batch: &&mut Batch| {
            let events = batch.events.saturating_add(sealing.events) as usize;
            let bytes = batch.bytes.saturating_add(sealing.bytes) as usize;
            let untouched = batch.written && batch.tries == 0 && batch.next == 0 && batch.part_max == batch.events;
            untouched
                && lease.since_ms.saturating_sub(batch.sealed_at_ms) <= young_ms
                && events <= batch_limits.max_events
                && bytes.saturating_add(FRAME_BYTES_MAX) <= batch_limits.max_bytes
        };
        let free = |batch: &&mut Batch| batch.lease.is_none();
        let batch = self.batches.iter_mut().filter(|_| waits && has_room).filter(free).rfind(fits)?;
        batch.lease = Some(lease);
        Some(batch.clone())
    }

    /// Declares that the slot of `id` holds the events of `sealing` too, behind its own. False where the lease was lost, or
    /// the room to another VM: they do not count then.
    pub fn joined(&mut self, id: u128, holder: u64, sealing: Sealing, limits: &OutboxLimits) -> bool {
        if self.bytes() + u64::from(sealing.bytes) > limits.max_bytes as u64 {
            return false;
        }
        let Some(batch) = self.held_by(id, holder) else { return false };
        batch.events = batch.events.saturating_add(sealing.events);
        batch.bytes = batch.bytes.saturating_add(sealing.bytes);
        batch.part_max = batch.events;
        batch.lease = None;
        true
    }

    /// All bytes that slots hold or are reserved for.
    fn bytes(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.bytes)).sum()
    }

    /// Declares the slot of `id` written. True where the holder sends it right away, as `sending` allows, and keeps its lease
    /// for that; else the batch waits its turn. `None`: the reservation was lost, and the events are not in the outbox.
    pub fn publish(&mut self, id: u128, holder: u64, sending: Sending, now_ms: i64) -> Option<bool> {
        let sends = match sending {
            // The batch itself counts as in flight.
            Sending::IfAllowed => !self.is_down() && self.in_flight(now_ms) <= CALLS_IN_FLIGHT_MAX,
            Sending::Anyway => true,
            Sending::Not => false,
        };
        let batch = self.held_by(id, holder)?;
        batch.written = true;
        if !sends {
            batch.lease = None;
        }
        Some(sends)
    }

    /// Gives a reservation back, or the lease of a batch that others can send. True where there was one.
    pub fn cancel(&mut self, id: u128, holder: u64) -> bool {
        let Some(batch) = self.held_by(id, holder) else { return false };
        batch.lease = None;
        self.batches.retain(|batch| batch.written || batch.id != id);
        true
    }

    /// Whether `id` is leased to `holder`, be it that its time is over: as long as nobody took it over.
    pub fn is_held(&self, id: u128, holder: u64) -> bool {
        self.batches.iter().any(|batch| batch.id == id && batch.lease.is_some_and(|lease| lease.holder == holder))
    }

    /// Gives `lease` on a batch that waits, if one may be sent now: the one tried least often, then the oldest. While the
    /// service fails that is one batch per back-off, to see whether it is back.
    pub fn lease_next(&mut self, lease: Lease) -> Option<Batch> {
        let now_ms = lease.since_ms;
        let in_flight = self.in_flight(now_ms);
        let may = match self.is_down() {
            true => in_flight == 0 && (now_ms >= self.retry_at_ms || self.was_set_back(now_ms)),
            false => in_flight < BACKLOG_CALLS_IN_FLIGHT_MAX,
        };
        let waits = |batch: &&mut Batch| batch.written && !batch.is_leased(now_ms);
        let batch = self.batches.iter_mut().filter(waits).filter(|_| may).min_by_key(|batch| batch.tries)?;
        batch.lease = Some(lease);
        Some(batch.clone())
    }

    /// The service has the events in `part`. False where the batch is no longer the holder's: somebody else settles it.
    pub fn delivered(&mut self, id: u128, holder: u64, part: &Range<usize>, settled: &mut Settled) -> bool {
        let count = self.settle(id, holder, part, settled);
        settled.delivered += count.unwrap_or(0);
        self.failures = 0;
        count.is_some()
    }

    /// The service will never take the events in `part`, but it answered.
    pub fn rejected(&mut self, id: u128, holder: u64, part: &Range<usize>, settled: &mut Settled) -> bool {
        let count = self.settle(id, holder, part, settled);
        settled.rejected += count.unwrap_or(0);
        self.failures = 0;
        count.is_some()
    }

    /// Counts `part` off and lets go of the batch; removes it once nothing is left.
    fn settle(&mut self, id: u128, holder: u64, part: &Range<usize>, settled: &mut Settled) -> Option<u64> {
        let batch = self.held_by(id, holder)?;
        if batch.part() != *part {
            return None;
        }
        batch.next = part.end as u32;
        batch.tries = 0;
        batch.lease = None;
        if batch.left() == 0 {
            settled.freed.push((batch.slot, id));
            self.batches.retain(|batch| batch.id != id);
        }
        Some(part.len() as u64)
    }

    /// The events in `part` were too many at once: halves what is sent of this batch. A single event that is too large is
    /// rejected.
    pub fn too_large(
        &mut self,
        id: u128,
        holder: u64,
        part: &Range<usize>,
        sent_at_ms: i64,
        settled: &mut Settled,
    ) -> bool {
        if part.len() <= 1 {
            return self.rejected(id, holder, part, settled);
        }
        self.failures = 0;
        let Some(batch) = self.held_since(id, holder, sent_at_ms) else { return false };
        batch.part_max = (part.len() as u32).div_ceil(2);
        batch.lease = None;
        true
    }

    /// The service failed: keeps the batch and leaves the service alone for a while. `sent_at_ms` tells a failure that is
    /// news from the echo of one that is known.
    pub fn kept(
        &mut self,
        id: u128,
        holder: u64,
        sent_at_ms: i64,
        now_ms: i64,
        wait_ms: impl FnOnce(u32) -> u64,
    ) -> bool {
        if !self.is_down() || sent_at_ms >= self.failed_at_ms || self.was_set_back(now_ms) {
            self.failures = self.failures.saturating_add(1);
            self.failed_at_ms = now_ms;
            let wait_ms = i64::try_from(wait_ms(self.failures)).unwrap_or(i64::MAX);
            self.retry_at_ms = now_ms.saturating_add(wait_ms);
        }
        let Some(batch) = self.held_since(id, holder, sent_at_ms) else { return false };
        batch.tries = batch.tries.saturating_add(1);
        batch.lease = None;
        true
    }

    /// The slot of a batch does not hold what it should.
    pub fn lost(&mut self, id: u128, holder: u64, settled: &mut Settled) -> bool {
        let Some(batch) = self.held_by(id, holder) else { return false };
        settled.lost += u64::from(batch.left());
        self.batches.retain(|batch| batch.id != id);
        true
    }

    /// Removes what is too old, and what a VM reserved and never wrote: it has the events still, or died with them.
    /// Forgets VMs that say nothing any more.
    /// True where that changed anything.
    pub fn tidy(&mut self, now_ms: i64, max_age_ms: u64, settled: &mut Settled) -> bool {
        let before = (self.batches.len(), self.vms.len());
        let max_age_ms = i64::try_from(max_age_ms).unwrap_or(i64::MAX);
        let mut expired = 0;
        self.batches.retain(|batch| {
            if batch.is_leased(now_ms) {
                return true;
            }
            let too_old = now_ms.saturating_sub(batch.sealed_at_ms) >= max_age_ms;
            if batch.written && too_old && expired < EXPIRED_PER_TIDY_MAX {
                expired += 1;
                settled.evicted.push(Evicted { batch: batch.clone(), why: Why::Expired });
                return false;
            }
            if !batch.written {
                settled.freed.push((batch.slot, batch.id));
            }
            batch.written
        });
        self.vms.retain(|vm| now_ms < vm.until_ms && vm.until_ms - now_ms <= VM_WORD_MS);
        before != (self.batches.len(), self.vms.len())
    }

    /// Takes down what a VM has in its buffer. True where that changed anything.
    pub fn buffered(&mut self, id: u64, events: u32, bytes: u32, now_ms: i64) -> bool {
        let word = Vm { id, events, bytes, until_ms: now_ms.saturating_add(VM_WORD_MS) };
        match self.vms.iter().position(|vm| vm.id == id) {
            Some(at) if events == 0 => {
                self.vms.remove(at);
            }
            Some(at) => {
                if let Some(vm) = self.vms.get_mut(at) {
                    *vm = word;
                }
            }
            None if events == 0 || self.vms.len() >= VMS_MAX => return false,
            None => self.vms.push(word),
        }
        true
    }
}

#[cfg(test)]
mod tests;
