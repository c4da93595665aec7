//! Which exposures this worker has already reported in the current window.

use edgesplit_engine::hash::{HashedAlready, seeded};
use std::cell::Cell;
use std::collections::HashSet;

/// Exposures by 64 bits each: with 100,000 of them the odds that another is taken for one of them are 1 in 10^14.
type Seen = HashSet<u64, HashedAlready>;

/// Remembers exposures: in two generations, so that a full memory forgets its older half and not
/// everything. What is forgotten is reported once more, under the same id.
#[derive(Debug)]
pub struct Dedupe {
    /// Nobody outside the VM knows it, so that nobody can foresee what falls together. Who makes up an id that passes for
    /// another's can keep that one's exposures from being reported, but no more than by sending the other's id.
    seed: u64,
    window_ms: u64,
    /// The moment that was asked for last, and its window.
    asked: Cell<(i64, i64)>,
    generation_entries_max: usize,
    window: i64,
    current: Seen,
    previous: Seen,
}

impl Dedupe {
    /// An empty memory of at most `max_entries` exposures.
    pub fn new(seed: u64, window_ms: u64, max_entries: usize) -> Dedupe {
        Dedupe {
            seed,
            window_ms: window_ms.max(1),
            asked: Cell::new((0, 0)),
            generation_entries_max: max_entries.div_ceil(2),
            window: 0,
            current: Seen::default(),
            previous: Seen::default(),
        }
    }

    /// The number of the window since the epoch.
    #[inline(always)]
    pub fn window(&self, now_ms: i64) -> i64 {
        // All requests between two ticks ask for the same moment, and dividing is dear.
        let (asked_ms, window) = self.asked.get();
        if asked_ms == now_ms { window } else { self.find_window(now_ms) }
    }

    #[cold]
    fn find_window(&self, now_ms: i64) -> i64 {
        let window = now_ms.div_euclid(i64::try_from(self.window_ms).unwrap_or(i64::MAX));
        self.asked.set((now_ms, window));
        window
    }

    /// The visitor's share of an exposure's name.
    pub fn visitor(&self, unit: &[u8]) -> u64 {
        seeded(self.seed, unit)
    }

    /// Whether the exposure was reported in `window`. It is named by its visitor and its variant: `visitor ^ tag`.
    pub fn has_seen(&self, exposure: u64, window: i64) -> bool {
        window == self.window && (self.current.contains(&exposure) || self.previous.contains(&exposure))
    }

    /// Remembers the exposure as reported. False where it was already.
    pub fn remember(&mut self, exposure: u64, window: i64) -> bool {
        if window != self.window {
            self.window = window;
            self.current.clear();
            self.previous.clear();
        }
        if self.previous.contains(&exposure) {
            return false;
        }
        if self.current.len() >= self.generation_entries_max && !self.current.contains(&exposure) {
            self.previous = std::mem::take(&mut self.current);
        }
        self.current.insert(exposure)
    }

    /// Forgets an exposure that could not be reported after all.
    pub fn forget(&mut self, exposure: u64) {
        self.current.remove(&exposure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposure_is_seen_once_a_window() {
        let mut dedupe = Dedupe::new(7, 1_000, 100);
        let window = dedupe.window(5_999);
        assert_eq!(window, 5);
        assert!(!dedupe.has_seen(7, window));
        assert!(dedupe.remember(7, window) && !dedupe.remember(7, window));
        assert!(dedupe.has_seen(7, window));
        dedupe.forget(7);
        assert!(!dedupe.has_seen(7, window) && dedupe.remember(7, window));
        assert!(!dedupe.has_seen(8, window));
        assert!(!dedupe.has_seen(7, dedupe.window(6_000)));
        dedupe.remember(8, 6);
        assert!(!dedupe.has_seen(7, 6) && dedupe.has_seen(8, 6));
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_newer_half() {
        let mut dedupe = Dedupe::new(7, 1_000, 100);
        for number in 0..10_000_u64 {
            let exposure = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert!(dedupe.remember(exposure, 1) && !dedupe.remember(exposure, 1));
            assert!(dedupe.current.len() + dedupe.previous.len() <= 100);
            assert!(dedupe.has_seen(exposure, 1));
        }
        let a_while_ago = 9_920_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        assert!(
            !dedupe.current.contains(&a_while_ago)
                && dedupe.has_seen(a_while_ago, 1)
                && !dedupe.remember(a_while_ago, 1)
        );
        assert!((9_950..10_000_u64).all(|number| dedupe.has_seen(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1)));
        assert!(!dedupe.has_seen(0, 1));
    }
}
