//! The history for the charts: a quarter of an hour in points of five seconds.

use super::sample::Counter;
use std::collections::{HashMap, VecDeque};

/// The time between two points.
pub(super) const POINT_MS: u64 = 5_000;

/// The most points.
const POINTS_MAX: usize = 181;

/// The period over which a rate is measured, and the shortest one that gives a rate.
const RATE_MS: u64 = 60_000;
const RATE_MS_MIN: u64 = 5_000;

/// The most counters that are followed. A further one has no history.
const COUNTERS_MAX: usize = 10_000;

#[derive(Debug)]
struct Point {
    at_ms: u64,
    /// The most events that waited, if any proxy answered.
    queued: Option<u64>,
    /// Whether each proxy answered.
    answered: Vec<bool>,
    /// The counts since the previous point, by counter and proxy.
    gained: Vec<u32>,
}

/// The counts of all variants over time, by proxy.
#[derive(Debug)]
pub(super) struct History {
    proxies: usize,
    counters: HashMap<Counter, usize>,
    points: VecDeque<Point>,
}

/// The proxies whose counts are added up: all, or one.
pub(super) type Selection = Option<usize>;

impl History {
    pub(super) fn new(proxies: usize) -> History {
        History { proxies, counters: HashMap::new(), points: VecDeque::new() }
    }

    /// Opens a point, or extends the last one if it is younger than a point's length.
    pub(super) fn open(&mut self, now_ms: u64) {
        let before_last = self.points.len().checked_sub(2).and_then(|at| self.points.get(at)).map(|point| point.at_ms);
        match (self.points.back_mut(), before_last) {
            (Some(last), Some(before)) if last.at_ms.saturating_sub(before) < POINT_MS => last.at_ms = now_ms,
            _ => {
                let answered = vec![false; self.proxies];
                self.points.push_back(Point { at_ms: now_ms, queued: None, answered, gained: Vec::new() });
            }
        }
        if self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
    }

    /// Records the answer of a proxy in the last point. Counts of a time without answers are spread over it.
    pub(super) fn add(&mut self, proxy: usize, gained: Vec<(Counter, u64)>) {
        let was_silent = |point: &&Point| point.answered.get(proxy) == Some(&false);
        let missed = self.points.iter().rev().skip(1).take_while(was_silent).count();
        // Before the first answer, there is nothing to spread.
        let missed = if missed + 1 >= self.points.len() { 0 } else { missed };
        for (counter, count) in gained {
            let Some(at) = self.place(counter, proxy) else { continue };
            let part = count / (missed as u64 + 1);
            for (back, point) in self.points.iter_mut().rev().take(missed + 1).enumerate() {
                point.add(at, if back == 0 { count - part * missed as u64 } else { part });
            }
        }
        for point in self.points.iter_mut().rev().take(missed + 1) {
            if let Some(answered) = point.answered.get_mut(proxy) {
                *answered = true;
            }
        }
    }

    /// Records the number of waiting events in the last point.
    pub(super) fn set_queued(&mut self, queued: Option<u64>) {
        if let Some(last) = self.points.back_mut() {
            last.queued = last.queued.max(queued);
        }
    }

    fn place(&mut self, counter: Counter, proxy: usize) -> Option<usize> {
        let next = self.counters.len();
        if next >= COUNTERS_MAX && !self.counters.contains_key(&counter) {
            return None;
        }
        Some(*self.counters.entry(counter).or_insert(next) * self.proxies + proxy)
    }

    /// The times of the points, in seconds before `now_ms`.
    pub(super) fn seconds(&self, now_ms: u64) -> Vec<f64> {
        self.points.iter().map(|point| (point.at_ms as f64 - now_ms as f64) / 1_000.0).collect()
    }

    pub(super) fn queued(&self) -> Vec<Option<u64>> {
        self.points.iter().map(|point| point.queued).collect()
    }

    /// The number of proxies that answered at each point.
    pub(super) fn answered(&self) -> Vec<usize> {
        self.points.iter().map(|point| point.answered.iter().filter(|answered| **answered).count()).collect()
    }

    /// The counts since the first point at each point. None where no selected proxy answered.
    pub(super) fn gained(&self, counter: &Counter, selection: Selection) -> Vec<Option<u64>> {
        let (counter, mut sum) = (self.counters.get(counter).copied(), 0);
        let points = self.points.iter().enumerate().map(|(at, point)| {
            sum += if at == 0 { 0 } else { self.gained_at(point, counter, selection) };
            self.is_known(point, selection).then_some(sum)
        });
        points.collect()
    }

    /// The counts per minute at each point. None where no selected proxy answered, and where the past is too short.
    pub(super) fn rates(&self, counter: &Counter, selection: Selection) -> Vec<Option<f64>> {
        let counter = self.counters.get(counter).copied();
        (0..self.points.len()).map(|at| self.rate_at(at, counter, selection)).collect()
    }

    /// The counts per minute now.
    pub(super) fn rate(&self, counter: &Counter, selection: Selection) -> Option<f64> {
        self.rate_at(self.points.len().checked_sub(1)?, self.counters.get(counter).copied(), selection)
    }

    /// `counter` is the number of the counter, if it has ever counted.
    fn rate_at(&self, at: usize, counter: Option<usize>, selection: Selection) -> Option<f64> {
        let end = self.points.get(at).filter(|point| self.is_known(point, selection))?;
        let (mut count, mut first) = (0, None);
        // Each point has the counts since the one before it.
        for (point, before) in self.points.range(..=at).rev().zip(self.points.range(..at).rev()) {
            if end.at_ms.saturating_sub(before.at_ms) > RATE_MS {
                break;
            }
            count += self.gained_at(point, counter, selection);
            first = self.is_known(before, selection).then_some(before.at_ms).or(first);
        }
        let elapsed_ms = end.at_ms.saturating_sub(first?);
        (elapsed_ms >= RATE_MS_MIN).then(|| count as f64 * RATE_MS as f64 / elapsed_ms as f64)
    }

    fn is_known(&self, point: &Point, selection: Selection) -> bool {
        match selection {
            Some(proxy) => point.answered.get(proxy) == Some(&true),
            None => point.answered.contains(&true),
        }
    }

    fn gained_at(&self, point: &Point, counter: Option<usize>, selection: Selection) -> u64 {
        let Some(counter) = counter else { return 0 };
        let of = |proxy: usize| point.gained.get(counter * self.proxies + proxy).map_or(0, |count| u64::from(*count));
        match selection {
            Some(proxy) => of(proxy),
            None => (0..self.proxies).map(of).sum(),
        }
    }
}

impl Point {
    fn add(&mut self, at: usize, count: u64) {
        if self.gained.len() <= at {
            self.gained.resize(at + 1, 0);
        }
        if let Some(gained) = self.gained.get_mut(at) {
            *gained = gained.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> Counter {
        (("nav".to_owned(), "green".to_owned()), None)
    }

    /// A history of two proxies. Each row has their counts since the row before; none without an answer.
    fn history(rows: &[[Option<u64>; 2]]) -> History {
        let mut history = History::new(2);
        for (row, answers) in (0..).zip(rows) {
            history.open(row * POINT_MS);
            for (proxy, count) in answers.iter().enumerate() {
                if let Some(count) = count {
                    history.add(proxy, vec![(counter(), *count)]);
                }
            }
        }
        history
    }

    #[test]
    fn unknown_counts_are_not_zero() {
        let history = history(&[[None, None], [Some(0), None], [Some(7), None], [None, None], [None, Some(0)]]);
        assert_eq!(history.gained(&counter(), None), [None, Some(0), Some(7), None, Some(7)]);
        assert_eq!(history.gained(&counter(), Some(1)), [None, None, None, None, Some(0)]);
        assert_eq!(history.rates(&counter(), None), [None, None, Some(84.0), None, Some(28.0)]);
        assert_eq!(history.answered(), [0, 1, 1, 0, 1]);
    }

    #[test]
    fn counts_of_a_silent_time_are_spread_over_it() {
        let history = history(&[[Some(0), Some(0)], [Some(5), None], [Some(5), None], [Some(5), Some(32)]]);
        assert_eq!(history.gained(&counter(), Some(1)), [Some(0), Some(10), Some(20), Some(32)]);
        assert_eq!(history.gained(&counter(), None), [Some(0), Some(15), Some(30), Some(47)]);
    }

    #[test]
    fn rate_covers_the_last_minute() {
        let rows: Vec<_> = (0..40).map(|row| [Some(if row > 20 { 10 } else { 1 }), None]).collect();
        let history = history(&rows);
        assert_eq!(history.rate(&counter(), None), Some(120.0));
        assert_eq!(history.rates(&counter(), None)[20], Some(12.0));
    }

    #[test]
    fn points_are_bounded_and_merged() {
        let mut history = History::new(1);
        for second in 0..2_000 {
            history.open(second * 1_000);
            history.add(0, vec![(counter(), 1)]);
            history.set_queued(Some(second % 7));
        }
        assert_eq!(history.seconds(1_999_000).len(), POINTS_MAX);
        assert_eq!(history.rate(&counter(), None), Some(60.0));
        assert!(history.queued().iter().all(|queued| *queued >= Some(4)), "the most of five seconds");
    }
}
