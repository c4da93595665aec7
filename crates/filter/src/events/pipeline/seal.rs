//! From the buffer into a slot of the outbox.

use super::{Pipeline, Sent, Verdict};
use crate::events::outbox::{Batch, Outbox, Sealing, Sending, Why};
use crate::events::slot::Events;
use crate::host::{Host, HostError, SetError};
use crate::metrics::{Counter, Metrics};

/// Where events go when they are sealed.
enum Place {
    /// Into a slot of their own.
    Slot(u32),
    /// Behind those of a batch that waits.
    Behind(Batch),
}

/// Whether events came into a batch that waits.
pub(super) enum Joined {
    Yes,
    NotNow,
    Never,
}

impl Pipeline {
    /// Moves the oldest `count` events into the outbox and, as `sending` says, on their way. False where nothing more can
    /// be sealed now.
    pub(super) fn seal(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        count: usize,
        sending: Sending,
        metrics: &mut Metrics,
    ) -> bool {
        let mut events = self.buffer.events().first(count);
        events.set_format(self.config.format);
        let id = host.random();
        let sealing = Sealing { id, events: count as u32, bytes: events.bytes() as u32 };
        let lease = self.lease(now_ms);
        let (limits, batch_limits) = (self.config.outbox, self.config.batch);
        let place = |pipeline: &mut Pipeline, joins: bool, metrics: &mut Metrics| {
            pipeline.update(host, metrics, |outbox, settled| {
                match joins.then(|| outbox.join(sealing, lease, &limits, &batch_limits)).flatten() {
                    Some(batch) => Some(Place::Behind(batch)),
                    None => outbox.reserve(sealing, lease, &limits, settled).map(Place::Slot),
                }
            })
        };
        let mut placed = place(self, sending == Sending::IfAllowed, metrics);
        if let Ok(Some(Place::Behind(batch))) = &placed {
            match self.join(host, now_ms, batch, sealing, &events, metrics) {
                Joined::Yes => return true,
                Joined::NotNow => return false,
                // What stands around them there is another config's.
                Joined::Never => placed = place(self, false, metrics),
            }
        }
        let slot = match placed {
            Ok(Some(Place::Slot(slot))) => slot,
            Ok(Some(Place::Behind(_))) => return false,
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
    pub(super) fn join(
        &mut self,
        host: &impl Host,
        now_ms: i64,
        batch: &Batch,
        sealing: Sealing,
        events: &Events,
        metrics: &mut Metrics,
    ) -> Joined {
        let Some(mut all) = self.stored(host, batch) else {
            let sent = Sent { batch: batch.id, part: batch.part(), at_ms: now_ms };
            self.settle(host, now_ms, sent, Verdict::Lost, metrics);
            return Joined::NotNow;
        };
        let (id, vm, limits) = (batch.id, self.vm, self.config.outbox);
        let is_alike = all.is_like(events);
        all.append(events);
        if !is_alike || self.write_slot(host, batch.slot, id, &all, metrics).is_err() {
            let _ = self.update(host, metrics, |outbox, _| outbox.cancel(id, vm).then_some(()));
            return if is_alike { Joined::NotNow } else { Joined::Never };
        }
        let (left, left_bytes) = self.left_without(events);
        let joined = self.update(host, metrics, |outbox, _| {
            outbox.buffered(vm, left, left_bytes, now_ms);
            outbox.joined(id, vm, sealing, &limits).then_some(())
        });
        let Ok(Some(())) = joined else {
            let _ = self.update(host, metrics, |outbox, _| outbox.cancel(id, vm).then_some(()));
            return Joined::NotNow;
        };
        self.has_word = left > 0;
        self.buffer.remove(events.len());
        Joined::Yes
    }

    /// How many events and bytes the buffer has without its first `events`.
    pub(super) fn left_without(&self, events: &Events) -> (u32, u32) {
        let all = self.buffer.events();
        let (left, bytes) = (all.len().saturating_sub(events.len()), all.bytes().saturating_sub(events.bytes()));
        (left as u32, bytes as u32)
    }

    /// Writes a slot that is leased to this VM for `batch`. Compare-and-swap here too: a VM that slept through its lease must
    /// not write over its successor. The lease is looked at after the slot was: whoever takes the slot over later writes
    /// later too, and is seen.
    pub(super) fn write_slot(
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
    pub(super) fn clear_slot(&self, host: &impl Host, slot: u32, batch: u128) {
        let key = format!("{}/{slot}", self.slot_key);
        if let Ok(shared) = host.shared_get(&key)
            && Events::decode(&shared.value, batch).is_some()
        {
            // Where this fails the slot was just taken again, and its new owner overwrites it.
            let _ = host.shared_set(&key, &[], shared.cas);
        }
    }
}
