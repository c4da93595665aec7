//! From the buffer into a slot of the outbox.

use super::{DeliveryResult, Pipeline};
use crate::env::Env;
use crate::events::outbox::{Batch, BatchHeader, EvictionReason, Outbox, SendPolicy};
use crate::events::slot::EncodedBatch;
use crate::host::{Host, HostError};
use crate::shared_data::{Record, swap};

/// The place where sealed events go.
enum Place {
    /// A slot of their own.
    Slot(u32),
    /// The slot of a waiting batch, behind its events.
    Behind(Batch),
}

/// Whether events joined a waiting batch.
enum Joined {
    Yes,
    NotNow,
    /// The batches have different formats or heads.
    Incompatible,
}

impl Pipeline {
    /// Moves the oldest `count` events into the outbox and, as `policy` decides, on their way. False if no more can be sealed
    /// now.
    pub(super) fn seal(&mut self, env: &mut Env<'_, impl Host>, count: usize, policy: SendPolicy) -> bool {
        let mut events = self.recorder.lock().buffer.events().first(count);
        events.id = env.host.random();
        events.set_format(self.config.format);
        let mut place = self.find_place(env, &events, policy == SendPolicy::IfAllowed);
        if let Ok(Some(Place::Behind(batch))) = &place {
            match self.join(env, batch, &events) {
                Joined::Yes => return true,
                Joined::NotNow => return false,
                Joined::Incompatible => place = self.find_place(env, &events, false),
            }
        }
        match place {
            Ok(Some(Place::Slot(slot))) => self.fill_slot(env, slot, &events, policy),
            Ok(None) => {
                self.divert_or_drop(env, &events, 0..count, EvictionReason::Overflow);
                self.remove(count);
                true
            }
            Ok(Some(Place::Behind(_))) | Err(HostError) => false,
        }
    }

    /// Leases a place for `events`; `None` if the outbox is full.
    fn find_place(
        &mut self,
        env: &mut Env<'_, impl Host>,
        events: &EncodedBatch,
        may_join: bool,
    ) -> Result<Option<Place>, HostError> {
        let (header, lease) = (header(events), self.lease(env.now_ms));
        let (limits, batch_limits) = (self.config.outbox.clone(), self.config.batch);
        self.update(env, |outbox, settlement| {
            match may_join.then(|| outbox.join(header, lease, &limits, &batch_limits)).flatten() {
                Some(batch) => Some(Place::Behind(batch)),
                None => outbox.reserve(header, lease, &limits, settlement).map(Place::Slot),
            }
        })
    }

    /// Writes `events` to a reserved slot and publishes it. False if the reservation was lost: the events are then still in
    /// the buffer, and only there.
    fn fill_slot(
        &mut self,
        env: &mut Env<'_, impl Host>,
        slot: u32,
        events: &EncodedBatch,
        policy: SendPolicy,
    ) -> bool {
        let (id, vm, now_ms) = (events.id, self.vm, env.now_ms);
        if !self.write_slot(env, slot, events) {
            self.release(env, id);
            return false;
        }
        let (left, left_bytes) = self.left_without(events);
        let published = self.update(env, |outbox, _| {
            outbox.report_buffer(vm, left, left_bytes, now_ms);
            outbox.publish(id, vm, policy, now_ms)
        });
        let is_sent = match published {
            Ok(Some(is_sent)) => is_sent,
            Ok(None) => {
                self.clear_slot(env, slot, id);
                return false;
            }
            Err(HostError) => return false,
        };
        self.has_reported = left > 0;
        self.remove(events.len());
        if is_sent {
            self.send(env, events, 0..events.len());
        }
        true
    }

    /// Adds events to a waiting batch that is leased for this. If it fails halfway, the slot contains more events than the
    /// index counts: the index is right, and the others are still in the buffer.
    fn join(&mut self, env: &mut Env<'_, impl Host>, batch: &Batch, events: &EncodedBatch) -> Joined {
        let Some(mut all) = self.stored(env, batch) else {
            let call = self.call_of(batch, env.now_ms);
            self.settle(env, call, DeliveryResult::Lost);
            return Joined::NotNow;
        };
        let is_compatible = all.is_compatible(events);
        all.append(events);
        if !is_compatible || !self.write_slot(env, batch.slot, &all) {
            self.release(env, batch.id);
            return if is_compatible { Joined::NotNow } else { Joined::Incompatible };
        }
        let (id, vm, now_ms, limits) = (batch.id, self.vm, env.now_ms, self.config.outbox.clone());
        let (left, left_bytes) = self.left_without(events);
        let joined = self.update(env, |outbox, _| {
            outbox.report_buffer(vm, left, left_bytes, now_ms);
            outbox.publish_joined(id, vm, header(events), &limits).then_some(())
        });
        if joined != Ok(Some(())) {
            self.release(env, id);
            return Joined::NotNow;
        }
        self.has_reported = left > 0;
        self.remove(events.len());
        Joined::Yes
    }

    fn release(&mut self, env: &mut Env<'_, impl Host>, id: u128) {
        let vm = self.vm;
        // If this fails, the lease expires by itself.
        let _ = self.update(env, |outbox, _| outbox.release(id, vm).then_some(()));
    }

    /// Removes the oldest `count` events from the buffer, once they are stored elsewhere or dropped.
    fn remove(&self, count: usize) {
        self.recorder.lock().buffer.remove(count);
    }

    /// How many events and bytes the buffer has without its first `events`.
    fn left_without(&self, events: &EncodedBatch) -> (u32, u32) {
        let (all, bytes) = self.buffered();
        (all.saturating_sub(events.len() as u32), bytes.saturating_sub(events.bytes() as u32))
    }

    /// Writes a batch to the slot that is leased to this VM for it. False if the lease was lost: a VM that slept through it
    /// must not overwrite its successor. The lease is read after the slot was, so a later owner's write makes this one stale.
    fn write_slot(&self, env: &mut Env<'_, impl Host>, slot: u32, events: &EncodedBatch) -> bool {
        let written = swap(env, &self.slot_key(slot), &mut |env, _| {
            let index = env.host.shared_get(&self.index_key).ok()?;
            let is_held = Outbox::decode(&index.value)?.is_held(events.id, self.vm);
            is_held.then(|| events.encode())
        });
        written == Ok(true)
    }

    /// Frees the memory of a slot whose batch left the outbox, unless it already contains another batch.
    pub(super) fn clear_slot(&self, env: &mut Env<'_, impl Host>, slot: u32, batch: u128) {
        // If this fails, the next batch in this slot overwrites it.
        let _ = swap(env, &self.slot_key(slot), &mut |_, current| {
            let is_batch = EncodedBatch::decode(current).is_some_and(|stored| stored.id == batch);
            is_batch.then(Vec::new)
        });
    }
}

fn header(events: &EncodedBatch) -> BatchHeader {
    BatchHeader { id: events.id, events: events.len() as u32, bytes: events.bytes() as u32 }
}
