//! The exposures that were already reported in the current window.

use edgesplit_engine::hash::{BuildIdentityHasher, hash64_seeded};
use std::cell::Cell;
use std::collections::HashSet;

/// Exposures by 64 bits each. With 100,000 of them, the chance that a new one is mistaken for a known one is 1 in 10^14.
type Seen = HashSet<u64, BuildIdentityHasher>;

/// Names visitors and windows for a memory.
#[derive(Debug, Clone)]
pub struct Names {
    /// Secret, to make collisions unpredictable. A visitor whose id collides with another's could suppress exposures of the
    /// other, but no more than by sending the other's id.
    seed: u64,
    window_ms: u64,
    /// The last moment that was looked up, and its window.
    last: Cell<(i64, i64)>,
}

impl Names {
    /// The number of the window since the epoch.
    #[inline(always)]
    pub fn window(&self, now_ms: i64) -> i64 {
        // All requests between two ticks have the same time, and dividing is slow.
        let (last_ms, window) = self.last.get();
        if last_ms == now_ms { window } else { self.find_window(now_ms) }
    }

    #[cold]
    fn find_window(&self, now_ms: i64) -> i64 {
        let window = now_ms.div_euclid(i64::try_from(self.window_ms).unwrap_or(i64::MAX));
        self.last.set((now_ms, window));
        window
    }

    /// The visitor's part of an exposure's name.
    pub fn visitor(&self, unit: &[u8]) -> u64 {
        hash64_seeded(self.seed, unit)
    }
}

/// A bounded memory of exposures in two generations: when it is full, it forgets its older half. A forgotten exposure is
/// reported again, under the same id.
#[derive(Debug)]
pub struct Dedupe {
    /// Its names.
    pub names: Names,
    generation_entries_max: usize,
    window: i64,
    current: Seen,
    previous: Seen,
}

impl Dedupe {
    /// An empty memory of at most `max_entries` exposures.
    pub fn new(seed: u64, window_ms: u64, max_entries: usize) -> Dedupe {
        Dedupe {
            names: Names { seed, window_ms: window_ms.max(1), last: Cell::new((0, 0)) },
            generation_entries_max: max_entries.div_ceil(2),
            window: 0,
            current: Seen::default(),
            previous: Seen::default(),
        }
    }

    /// Whether the exposure was reported in `window`. Its name is `visitor ^ tag`, of its visitor and its variant.
    pub fn has_seen(&self, exposure: u64, window: i64) -> bool {
        window == self.window && (self.current.contains(&exposure) || self.previous.contains(&exposure))
    }

    /// Remembers the exposure as reported. False if it already was.
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

    /// Forgets an exposure that could not be reported.
    pub fn forget(&mut self, exposure: u64) {
        self.current.remove(&exposure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposure_is_new_once_per_window() {
        let mut dedupe = Dedupe::new(7, 1_000, 100);
        let window = dedupe.names.window(5_999);
        assert_eq!(window, 5);
        assert!(!dedupe.has_seen(7, window));
        assert!(dedupe.remember(7, window) && !dedupe.remember(7, window));
        assert!(dedupe.has_seen(7, window));
        dedupe.forget(7);
        assert!(!dedupe.has_seen(7, window) && dedupe.remember(7, window));
        assert!(!dedupe.has_seen(8, window));
        assert!(!dedupe.has_seen(7, dedupe.names.window(6_000)));
        dedupe.remember(8, 6);
        assert!(!dedupe.has_seen(7, 6) && dedupe.has_seen(8, 6));
    }

    #[test]
    fn full_memory_keeps_the_newer_half() {
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
