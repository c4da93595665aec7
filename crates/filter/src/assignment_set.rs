//! Sets of assignments. A page has few different ones, so the header texts of each are written once and shared by its
//! requests, and their responses are counted in one place: one addition each.

use crate::metrics::{CLASSES, Metrics};
use edgesplit_engine::assignments;
use edgesplit_engine::snapshot::{Choice, Snapshot};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// The number of sets that are kept; a power of two. A route has at most `request.cache_key.budget` sets with different cache
/// keys, 64 by default.
pub const ASSIGNMENT_SETS_MAX: usize = 256;

/// A larger set is not kept: it is unlikely that two visitors share it.
const KEPT_CHOICES_MAX: usize = 64;

/// The number of sets with counts that can wait for the tick.
const COUNTED_MAX: usize = ASSIGNMENT_SETS_MAX;

/// The variants of a request.
#[derive(Debug)]
pub struct AssignmentSet {
    /// The config that they are from.
    snapshot: Arc<Snapshot>,
    /// The choices, in the order of the config.
    choices: Vec<Choice>,
    /// The value of the assignments header.
    pub assignments: String,
    /// How many pairs that header has no room for.
    pub omitted: usize,
    /// The cache key.
    pub cache_key: String,
    /// The responses by class since the last flush.
    responses: [AtomicU32; CLASSES],
    /// Whether there are any.
    is_counted: AtomicBool,
}

impl AssignmentSet {
    /// The set of `choices`, which are in the order of the config.
    pub fn new(snapshot: &Arc<Snapshot>, choices: &[Choice]) -> AssignmentSet {
        let omitted = assignments::omitted(snapshot, choices);
        let (assignments, cache_key) = assignments::texts(snapshot, &mut choices.to_vec());
        let (snapshot, choices) = (Arc::clone(snapshot), choices.to_vec());
        AssignmentSet {
            snapshot,
            choices,
            assignments,
            omitted,
            cache_key,
            responses: Default::default(),
            is_counted: AtomicBool::new(false),
        }
    }

    /// The set without the choices in `other`, if both are from one config.
    pub fn without(self: &Arc<AssignmentSet>, other: &AssignmentSet) -> Arc<AssignmentSet> {
        if !Arc::ptr_eq(&self.snapshot, &other.snapshot) {
            return Arc::clone(self);
        }
        let mut choices = self.choices.clone();
        choices.retain(|choice| !other.choices.contains(choice));
        Arc::new(AssignmentSet::new(&self.snapshot, &choices))
    }

    /// Flushes the counts.
    fn flush(&self, metrics: &mut Metrics) {
        let counts = self.responses.each_ref().map(|count| count.swap(0, Relaxed));
        self.is_counted.store(false, Relaxed);
        for (experiment, variant) in self.choices.iter().filter_map(|choice| self.snapshot.choice(*choice)) {
            metrics.responded(&experiment.key, variant, &counts);
        }
    }
}

/// The sets of one worker.
#[derive(Debug, Default)]
pub struct AssignmentSets {
    /// Each is at the place that the hash of its choices gives; a later set of the same place replaces it.
    kept: Vec<Option<Arc<AssignmentSet>>>,
    /// The sets with counts.
    counted: Vec<Arc<AssignmentSet>>,
}

impl AssignmentSets {
    /// The set of `choices`, which are in the order of the config. Whole keys are compared: the choices and their snapshot.
    #[inline(always)]
    pub fn get(&mut self, snapshot: &Arc<Snapshot>, choices: &[Choice]) -> Arc<AssignmentSet> {
        let hash = choices.iter().fold(0_u32, |hash, choice| {
            let number = (choice.experiment as u32).wrapping_mul(31).wrapping_add(choice.variant as u32);
            (hash ^ number).wrapping_mul(0x9e37_79b1)
        });
        // The upper bits are the better mixed ones.
        let place = (hash >> 16) as usize % ASSIGNMENT_SETS_MAX;
        match self.kept.get(place) {
            Some(Some(kept)) if are_same(&kept.choices, choices) && Arc::ptr_eq(&kept.snapshot, snapshot) => {
                Arc::clone(kept)
            }
            _ => self.keep(place, AssignmentSet::new(snapshot, choices)),
        }
    }

    #[cold]
    fn keep(&mut self, place: usize, set: AssignmentSet) -> Arc<AssignmentSet> {
        self.kept.resize(ASSIGNMENT_SETS_MAX, None);
        if set.choices.len() > KEPT_CHOICES_MAX {
            return Arc::new(set);
        }
        let set = Arc::new(set);
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = Some(Arc::clone(&set));
        }
        set
    }

    /// Counts a response with `status` for all variants of its set. Returns whether [`AssignmentSets::flush`] cannot wait for
    /// the tick.
    #[inline]
    pub fn count(&mut self, set: Arc<AssignmentSet>, status: Option<u16>) -> bool {
        let class = status.map_or(0, |status| usize::from(status / 100));
        if let Some(count) = set.responses.get(class.wrapping_sub(1)) {
            // Only the thread of the worker counts, so nothing comes between.
            count.store(count.load(Relaxed).saturating_add(1), Relaxed);
            if !set.is_counted.load(Relaxed) {
                set.is_counted.store(true, Relaxed);
                return self.note(set);
            }
        }
        false
    }

    #[inline(never)]
    fn note(&mut self, counted: Arc<AssignmentSet>) -> bool {
        self.counted.push(counted);
        self.counted.len() >= COUNTED_MAX
    }

    /// Flushes the counts of all sets.
    pub fn flush(&mut self, metrics: &mut Metrics) {
        for set in self.counted.drain(..) {
            set.flush(metrics);
        }
    }

    /// Drops the sets of the snapshot before. Requests in progress keep theirs.
    pub fn clear(&mut self) {
        self.kept.clear();
    }
}

/// Comparing slices would call a function.
#[inline(always)]
fn are_same(a: &[Choice], b: &[Choice]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgesplit_formats::native;
    use serde_json::{Value, json};

    fn snapshot(experiments: usize) -> Arc<Snapshot> {
        let experiments: Vec<Value> = (0..experiments)
            .map(|number| {
                json!({"key": format!("e{number}"), "state": "running", "variants": [
                    {"key": "a", "weight": 5_000, "baseline": true}, {"key": "b", "weight": 5_000}]})
            })
            .collect();
        let config = json!({"schema": 1, "experiments": experiments});
        Arc::new(native::compile(&config, u64::MAX).snapshot.unwrap())
    }

    #[test]
    fn each_set_keeps_its_own_texts() {
        let (mut sets, snapshot, other) = (AssignmentSets::default(), snapshot(10), snapshot(10));
        for _ in 0..2 {
            // 1,024 sets in 256 places.
            for bits in 0..1_u32 << 10 {
                let choices = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
                    .map(|experiment| Choice { experiment, variant: (bits >> experiment & 1) as usize });
                for snapshot in [&snapshot, &other] {
                    let found = sets.get(snapshot, &choices);
                    let texts = assignments::texts(snapshot, &mut choices.to_vec());
                    assert_eq!((&found.assignments, &found.cache_key), (&texts.0, &texts.1));
                    assert!(Arc::ptr_eq(&found, &sets.get(snapshot, &choices)), "it is kept");
                }
            }
        }
        assert_eq!(sets.kept.len(), ASSIGNMENT_SETS_MAX);
        sets.clear();
        assert!(sets.kept.is_empty());
    }

    #[test]
    fn header_omits_the_last_pairs() {
        let mut snapshot = Arc::into_inner(snapshot(4)).unwrap();
        // `e0=b, e1=b, e2=b, e3=b` has 22 bytes.
        for (max, expected, omitted) in [
            (None, "e0=b, e1=b, e2=b, e3=b", 0),
            (Some(22), "e0=b, e1=b, e2=b, e3=b", 0),
            (Some(21), "e0=b, e1=b, e2=b", 1),
            (Some(3), "", 4),
        ] {
            snapshot.assignments_bytes_max = max;
            let shared = Arc::new(snapshot);
            let set = AssignmentSet::new(&shared, &[3, 2, 1, 0].map(|experiment| Choice { experiment, variant: 1 }));
            assert_eq!((set.assignments.as_str(), set.omitted), (expected, omitted));
            assert_eq!(set.cache_key, "e0.b~e1.b~e2.b~e3.b");
            drop(set);
            snapshot = Arc::into_inner(shared).unwrap();
        }
    }

    #[test]
    fn large_sets_are_not_kept() {
        let (mut sets, snapshot) = (AssignmentSets::default(), snapshot(KEPT_CHOICES_MAX + 1));
        let choices: Vec<Choice> = (0..=KEPT_CHOICES_MAX).map(|experiment| Choice { experiment, variant: 1 }).collect();
        let found = sets.get(&snapshot, &choices);
        assert!(found.assignments.ends_with("e9=b"), "{}", found.assignments);
        assert!(sets.kept.iter().all(Option::is_none));
    }

    #[test]
    fn responses_count_once_by_class() {
        let (mut sets, snapshot) = (AssignmentSets::default(), snapshot(1));
        let choices = [Choice { experiment: 0, variant: 1 }];
        for status in [Some(200), Some(204), Some(503), Some(99), Some(600), Some(0), None] {
            let set = sets.get(&snapshot, &choices);
            sets.count(set, status);
        }
        let counts = sets.get(&snapshot, &choices).responses.each_ref().map(|count| count.load(Relaxed));
        assert_eq!((counts, sets.counted.len()), ([0, 2, 0, 0, 1], 1));
    }
}
