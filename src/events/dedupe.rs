//! Which exposures this worker has already reported in the current window.

use crate::engine::hash::{HashedAlready, seeded};
use std::collections::HashSet;

/// Exposures by 64 bits each: with 100,000 of them the odds that another is taken for one of them are 1 in 10^14.
type Seen = HashSet<u64, HashedAlready>;

/// Remembers exposures: in two generations, so that a full memory forgets its older half and not
/// everything. What is forgotten is reported once more, under the same id.
#[derive(Debug)]
pub struct Dedupe {
    /// Nobody outside the VM knows it, so that nobody can make up an id that passes for another's.
    seed: u64,
    window_ms: u64,
    generation_entries_max: usize,
    window: i64,
    current: Seen,
    previous: Seen,
    /// Combinations of exposures all of which were reported in the window, each at the place that its name gives; 0 stands for
    /// none. Most requests come from visitors who were here just before.
    recent: Vec<u64>,
}

/// How many combinations of exposures are remembered; a power of two.
pub const RECENT_MAX: usize = 4_096;

impl Dedupe {
    /// An empty memory of at most `max_entries` exposures.
    pub fn new(seed: u64, window_ms: u64, max_entries: usize) -> Dedupe {
        Dedupe {
            seed,
            window_ms: window_ms.max(1),
            generation_entries_max: max_entries.div_ceil(2),
            window: 0,
            current: Seen::default(),
            previous: Seen::default(),
            recent: Vec::new(),
        }
    }

    /// The number of the window since the epoch.
    pub fn window(&self, now_ms: i64) -> i64 {
        now_ms.div_euclid(i64::try_from(self.window_ms).unwrap_or(i64::MAX))
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
            self.recent.clear();
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

    /// Whether all exposures that `combination` stands for were reported in `window`.
    #[inline(always)]
    pub fn has_seen_all(&self, combination: u64, window: i64) -> bool {
        let place = combination as usize % RECENT_MAX;
        window == self.window && combination != 0 && self.recent.get(place) == Some(&combination)
    }

    /// Remembers that all exposures that `combination` stands for were reported in `window`.
    pub fn remember_all(&mut self, combination: u64, window: i64) {
        if window == self.window {
            self.recent.resize(RECENT_MAX, 0);
            if let Some(place) = self.recent.get_mut(combination as usize % RECENT_MAX) {
                *place = combination;
            }
        }
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
    fn a_combination_is_remembered_until_the_window_ends_or_another_takes_its_place() {
        let mut dedupe = Dedupe::new(7, 1_000, 100);
        dedupe.remember_all(5, 3);
        assert!(!dedupe.has_seen_all(5, 3) && !dedupe.has_seen_all(0, 0), "nothing was reported in that window");
        dedupe.remember(7, 3);
        dedupe.remember_all(5, 3);
        assert!(dedupe.has_seen_all(5, 3) && !dedupe.has_seen_all(5, 4) && !dedupe.has_seen_all(0, 3));
        dedupe.remember_all(5 + RECENT_MAX as u64, 3);
        assert!(!dedupe.has_seen_all(5, 3) && dedupe.has_seen_all(5 + RECENT_MAX as u64, 3));
        dedupe.remember(7, 4);
        assert!(!dedupe.has_seen_all(5 + RECENT_MAX as u64, 4));
        assert!(dedupe.recent.len() <= RECENT_MAX);
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
