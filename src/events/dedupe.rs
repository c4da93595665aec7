//! Which exposures this worker has already reported in the current window.

use std::collections::HashSet;

/// Remembers exposures by their fingerprint: in two generations, so that a full memory forgets its older half and not
/// everything. What is forgotten is reported once more, under the same id.
#[derive(Debug)]
pub struct Dedupe {
    window_ms: u64,
    generation_entries_max: usize,
    window: i64,
    current: HashSet<u64>,
    previous: HashSet<u64>,
}

impl Dedupe {
    /// An empty memory of at most `max_entries` exposures.
    pub fn new(window_ms: u64, max_entries: usize) -> Dedupe {
        Dedupe {
            window_ms: window_ms.max(1),
            generation_entries_max: max_entries.div_ceil(2),
            window: 0,
            current: HashSet::new(),
            previous: HashSet::new(),
        }
    }

    /// The number of the window since the epoch.
    pub fn window(&self, now_ms: i64) -> i64 {
        now_ms.div_euclid(i64::try_from(self.window_ms).unwrap_or(i64::MAX))
    }

    /// Whether the exposure was reported in `window`.
    pub fn has_seen(&self, fingerprint: u128, window: i64) -> bool {
        // Half of the bits tell well enough: with 100,000 entries the odds of a mix-up are 1 in 10^14.
        let short = fingerprint as u64;
        window == self.window && (self.current.contains(&short) || self.previous.contains(&short))
    }

    /// Remembers the exposure. Call it once the event is in the buffer.
    pub fn remember(&mut self, fingerprint: u128, window: i64) {
        if window != self.window {
            self.window = window;
            self.current.clear();
            self.previous.clear();
        }
        if self.current.len() >= self.generation_entries_max {
            self.previous = std::mem::take(&mut self.current);
        }
        self.current.insert(fingerprint as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposure_is_seen_once_a_window() {
        let mut dedupe = Dedupe::new(1_000, 100);
        let window = dedupe.window(5_999);
        assert_eq!(window, 5);
        assert!(!dedupe.has_seen(7, window));
        dedupe.remember(7, window);
        assert!(dedupe.has_seen(7, window));
        assert!(!dedupe.has_seen(8, window));
        assert!(!dedupe.has_seen(7, dedupe.window(6_000)));
        dedupe.remember(8, 6);
        assert!(!dedupe.has_seen(7, 6) && dedupe.has_seen(8, 6));
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_newer_half() {
        let mut dedupe = Dedupe::new(1_000, 100);
        for fingerprint in 0..10_000 {
            dedupe.remember(fingerprint, 1);
            assert!(dedupe.current.len() + dedupe.previous.len() <= 100);
            assert!(dedupe.has_seen(fingerprint, 1));
        }
        assert!((9_950..10_000).all(|fingerprint| dedupe.has_seen(fingerprint, 1)));
        assert!(!dedupe.has_seen(0, 1));
    }
}
