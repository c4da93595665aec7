//! A batch in the outbox, and the lease under which one VM works on it.

use crate::shared_data::CLOCK_SKEW_MS_MAX;
use std::ops::Range;

/// A batch in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its id.
    pub id: u128,
    /// The slot with its events.
    pub slot: u32,
    /// How many events it contains.
    pub events: u32,
    /// How many bytes they take up.
    pub bytes: u32,
    /// When it was sealed.
    pub sealed_at_ms: i64,
    /// The first event that is not settled.
    pub next: u32,
    /// How many events may be sent at once; fewer than all after the service refused them as too many.
    pub part_max: u32,
    /// How many attempts to send it failed.
    pub tries: u32,
    /// Whether the slot contains the events. It does not between reserving and writing.
    pub written: bool,
    /// The VM that works on it, if any.
    pub lease: Option<Lease>,
}

/// The description of a batch that a VM wants to put into the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The batch's id.
    pub id: u128,
    /// How many events it has.
    pub events: u32,
    /// How many bytes they take up.
    pub bytes: u32,
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

/// A part of a batch on its way to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// The batch's id.
    pub batch: u128,
    /// Its events that were sent.
    pub part: Range<usize>,
    /// The VM that sent them.
    pub holder: u64,
    /// When it did.
    pub sent_at_ms: i64,
}

impl Batch {
    /// A batch that is reserved under `lease`, and not written yet.
    pub(super) fn reserved(header: BatchHeader, slot: u32, lease: Lease) -> Batch {
        Batch {
            id: header.id,
            slot,
            events: header.events,
            bytes: header.bytes,
            sealed_at_ms: lease.since_ms,
            next: 0,
            part_max: header.events,
            tries: 0,
            written: false,
            lease: Some(lease),
        }
    }

    /// Events that are not settled.
    pub fn left(&self) -> u32 {
        self.events.saturating_sub(self.next)
    }

    /// The events to send next.
    pub fn part(&self) -> Range<usize> {
        let end = self.next.saturating_add(self.part_max.max(1)).min(self.events);
        self.next as usize..end as usize
    }

    /// Whether it was never sent. Only then may events be added: the service may know a batch by its id.
    pub(super) fn is_untouched(&self) -> bool {
        // An expired lease may have been one for sending.
        self.written && self.lease.is_none() && self.tries == 0 && self.next == 0 && self.part_max == self.events
    }

    pub(super) fn is_leased(&self, now_ms: i64) -> bool {
        self.lease.is_some_and(|lease| lease.is_valid(now_ms))
    }

    pub(super) fn is_held_by(&self, holder: u64) -> bool {
        self.lease.is_some_and(|lease| lease.holder == holder)
    }
}

impl Lease {
    /// Whether no other VM may take over. A lease from the far future is invalid: the clock was set back since.
    fn is_valid(self, now_ms: i64) -> bool {
        now_ms < self.until_ms && self.since_ms.saturating_sub(now_ms) <= CLOCK_SKEW_MS_MAX
    }
}
