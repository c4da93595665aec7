//! The events that wait in a worker to be sealed into batches.

use super::slot::EncodedBatch;
use crate::plugin_config::Batch;

/// How many batches' worth of bytes a worker buffers between two ticks. Further events are dropped and counted: the process
/// could not send them anyway.
pub const BUFFER_BATCHES_MAX: usize = 8;

/// The least that a worker can buffer, however small batches are.
pub const BUFFER_BYTES_MIN: usize = 1 << 20;

/// Collects events until they are sealed into batches.
#[derive(Debug)]
pub struct Buffer {
    limits: Batch,
    events: EncodedBatch,
    oldest_ms: i64,
}

impl Buffer {
    /// An empty buffer.
    pub fn new(limits: Batch) -> Buffer {
        Buffer { limits, events: EncodedBatch::default(), oldest_ms: 0 }
    }

    /// The events, the oldest first.
    pub fn events(&self) -> &EncodedBatch {
        &self.events
    }

    /// Sets the beginning of the bodies of batches, for formats that have one.
    pub fn set_head(&mut self, head: Vec<u8>) {
        self.events.set_head(head);
    }

    /// Adds the event that `write` writes. False if the buffer is full and the event is not in it.
    pub fn push(&mut self, now_ms: i64, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let bytes_max = self.limits.max_bytes.saturating_mul(BUFFER_BATCHES_MAX).max(BUFFER_BYTES_MIN);
        if self.events.is_empty() {
            self.oldest_ms = now_ms;
        }
        self.events.push(bytes_max, write)
    }

    /// Whether a batch is due at `now_ms`, or before the next tick in `tick_ms`.
    pub fn is_due(&self, now_ms: i64, tick_ms: u64) -> bool {
        let age_ms = now_ms.saturating_sub(self.oldest_ms);
        let due_ms = i64::try_from(self.limits.max_age_ms.saturating_sub(tick_ms)).unwrap_or(i64::MAX);
        // A clock that was set back must not delay events.
        !self.events.is_empty() && (self.is_full() || age_ms >= due_ms || age_ms < 0)
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.limits.max_events || self.events.bytes() >= self.limits.max_bytes
    }

    /// How many of the oldest events make the next batch: as many as its limits allow, and at least one.
    pub fn next_batch(&self) -> usize {
        self.events.fitting(0, self.limits.max_events, self.limits.max_bytes)
    }

    /// Removes the oldest `count` events, once they are stored elsewhere or dropped.
    pub fn remove(&mut self, count: usize) {
        self.events.remove_first(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(max_events: usize, max_bytes: usize) -> Buffer {
        Buffer::new(Batch { max_events, max_bytes, max_age_ms: 1_000 })
    }

    fn push(buffer: &mut Buffer, now_ms: i64, text: &str) -> bool {
        buffer.push(now_ms, |out| out.extend_from_slice(text.as_bytes()))
    }

    #[test]
    fn batch_is_due_by_count_bytes_or_age() {
        let mut by_count = buffer(2, 1_000);
        assert!(!by_count.is_due(9_999, 100));
        push(&mut by_count, 0, "a");
        assert!(!by_count.is_due(0, 100));
        push(&mut by_count, 0, "b");
        assert!(by_count.is_due(0, 100));

        let mut by_bytes = buffer(100, 200);
        push(&mut by_bytes, 0, &"x".repeat(210));
        assert!(by_bytes.is_due(0, 100));

        let mut by_age = buffer(100, 1_000);
        push(&mut by_age, 5_000, "a");
        assert!(!by_age.is_due(5_899, 100));
        assert!(by_age.is_due(5_900, 100));
        assert!(by_age.is_due(4_000, 100), "the clock was set back");
    }

    #[test]
    fn batches_and_buffer_keep_their_limits() {
        let mut by_count = buffer(2, 1_000_000);
        for text in ["a", "b", "c"] {
            push(&mut by_count, 0, text);
        }
        assert_eq!(by_count.next_batch(), 2);
        by_count.remove(2);
        assert_eq!(by_count.next_batch(), 1);

        let mut tiny = buffer(100, 1);
        push(&mut tiny, 0, "one event is larger than a batch may be: it goes alone");
        push(&mut tiny, 0, "b");
        assert_eq!(tiny.next_batch(), 1);

        let mut full = buffer(100, 1);
        let event = "x".repeat(BUFFER_BYTES_MIN / 4);
        let taken = (0..10).filter(|_| push(&mut full, 0, &event)).count();
        assert_eq!(taken, 3, "separators count as bytes");
        assert_eq!(full.events().len(), 3);
    }
}
