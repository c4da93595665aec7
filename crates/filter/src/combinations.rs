//! The combinations of variants that requests were given. A page has few: what one comes to, its two texts, is written once,
//! and what comes of its requests, their responses by class, is counted in one place. A response pays one addition, a
//! request that is given what another was given before no allocation.

use super::guardrails::Guardrails;
use crate::metrics::{CLASSES, Metrics};
use edgesplit_engine::assignments;
use edgesplit_engine::guardrail::Tally;
use edgesplit_engine::snapshot::{Choice, Snapshot};
use std::cell::Cell;
use std::rc::Rc;

/// How many combinations are kept; a power of two. A route has at most `request.cache_key.budget` of them that caches tell
/// apart, 64 by default.
pub const COMBINATIONS_MAX: usize = 256;

/// A combination of more variants is not kept: hardly two visitors have the same, and all that are kept would be large.
const KEPT_CHOICES_MAX: usize = 64;

/// How many combinations with counts wait for the tick.
const COUNTED_MAX: usize = COMBINATIONS_MAX;

/// Variants that a request was given.
#[derive(Debug)]
pub struct Combination {
    /// What they were chosen from.
    snapshot: Rc<Snapshot>,
    /// Them, in the order of the config.
    choices: Vec<Choice>,
    /// How the origin is told of them.
    pub assignments: String,
    /// How caches are.
    pub cache_key: String,
    /// Responses by class that were not handed over yet.
    responses: [Cell<u32>; CLASSES],
    /// There are such.
    is_counted: Cell<bool>,
}

impl Combination {
    /// What `choices` come to.
    pub fn of(snapshot: &Rc<Snapshot>, choices: &[Choice]) -> Combination {
        let (assignments, cache_key) = assignments::texts(snapshot, &mut choices.to_vec());
        let (snapshot, choices) = (Rc::clone(snapshot), choices.to_vec());
        Combination {
            snapshot,
            choices,
            assignments,
            cache_key,
            responses: Default::default(),
            is_counted: Cell::new(false),
        }
    }

    /// Hands over what was counted. What was chosen from another snapshot than the one `in_force` counts, but no longer for
    /// the guardrails.
    fn flush(&self, in_force: Option<&Rc<Snapshot>>, metrics: &mut Metrics, guardrails: &mut Guardrails) {
        let counts = self.responses.each_ref().map(Cell::take);
        self.is_counted.set(false);
        let is_in_force = in_force.is_some_and(|in_force| Rc::ptr_eq(in_force, &self.snapshot));
        for (experiment, variant) in self.choices.iter().filter_map(|choice| self.snapshot.choice(*choice)) {
            metrics.responded(&experiment.key, variant, &counts);
            if is_in_force && experiment.guardrail.is_some() {
                let responses = counts.iter().map(|count| u64::from(*count)).sum();
                let errors = counts.last().map_or(0, |count| u64::from(*count));
                guardrails.count(variant.tag, Tally { responses, errors });
            }
        }
    }
}

/// Those of one worker.
#[derive(Debug, Default)]
pub struct Combinations {
    /// Each at the place that its choices give, so that looking one up is one look.
    kept: Vec<Option<Rc<Combination>>>,
    /// Those with counts.
    counted: Vec<Rc<Combination>>,
}

impl Combinations {
    /// The combination of `choices`, which are in the order of the config.
    #[inline(always)]
    pub fn get(&mut self, snapshot: &Rc<Snapshot>, choices: &[Choice]) -> Rc<Combination> {
        let hash = choices.iter().fold(0_u32, |hash, choice| {
            let number = (choice.experiment as u32).wrapping_mul(31).wrapping_add(choice.variant as u32);
            (hash ^ number).wrapping_mul(0x9e37_79b1)
        });
        // The upper bits are the better mixed ones.
        let place = (hash >> 16) as usize % COMBINATIONS_MAX;
        match self.kept.get(place) {
            Some(Some(kept)) if are_same(&kept.choices, choices) && Rc::ptr_eq(&kept.snapshot, snapshot) => {
                Rc::clone(kept)
            }
            _ => self.keep(place, Combination::of(snapshot, choices)),
        }
    }

    #[cold]
    fn keep(&mut self, place: usize, combination: Combination) -> Rc<Combination> {
        self.kept.resize(COMBINATIONS_MAX, None);
        if combination.choices.len() > KEPT_CHOICES_MAX {
            return Rc::new(combination);
        }
        let combination = Rc::new(combination);
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = Some(Rc::clone(&combination));
        }
        combination
    }

    /// Counts a response with `status` for all variants of its combination. Says whether [`Combinations::flush`] cannot wait
    /// for the tick.
    #[inline(always)]
    pub fn count(&mut self, given: Rc<Combination>, status: Option<u16>) -> bool {
        let class = status.map_or(0, |status| usize::from(status / 100));
        if let Some(count) = given.responses.get(class.wrapping_sub(1)) {
            count.set(count.get().saturating_add(1));
            if !given.is_counted.replace(true) {
                return self.note(given);
            }
        }
        false
    }

    #[inline(never)]
    fn note(&mut self, counted: Rc<Combination>) -> bool {
        self.counted.push(counted);
        self.counted.len() >= COUNTED_MAX
    }

    /// Hands over what was counted since the last time.
    pub fn flush(&mut self, in_force: Option<&Rc<Snapshot>>, metrics: &mut Metrics, guardrails: &mut Guardrails) {
        for combination in self.counted.drain(..) {
            combination.flush(in_force, metrics, guardrails);
        }
    }

    /// Forgets those of the snapshot before; requests in progress keep theirs.
    pub fn clear(&mut self) {
        self.kept.clear();
    }
}

/// In place, which comparing slices is not.
#[inline(always)]
fn are_same(a: &[Choice], b: &[Choice]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgesplit_formats::native;
    use serde_json::{Value, json};

    fn snapshot(experiments: usize) -> Rc<Snapshot> {
        let experiments: Vec<Value> = (0..experiments)
            .map(|number| {
                json!({"key": format!("e{number}"), "state": "running", "variants": [
                    {"key": "a", "weight": 5_000, "baseline": true}, {"key": "b", "weight": 5_000}]})
            })
            .collect();
        let config = json!({"schema": 1, "experiments": experiments});
        Rc::new(native::compile(&config, u64::MAX).snapshot.unwrap())
    }

    #[test]
    fn each_combination_keeps_its_own_texts() {
        let (mut combinations, snapshot, other) = (Combinations::default(), snapshot(10), snapshot(10));
        for _ in 0..2 {
            // 1,024 combinations in 256 places.
            for bits in 0..1_u32 << 10 {
                let choices = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
                    .map(|experiment| Choice { experiment, variant: (bits >> experiment & 1) as usize });
                for snapshot in [&snapshot, &other] {
                    let found = combinations.get(snapshot, &choices);
                    let texts = assignments::texts(snapshot, &mut choices.to_vec());
                    assert_eq!((&found.assignments, &found.cache_key), (&texts.0, &texts.1));
                    assert!(Rc::ptr_eq(&found, &combinations.get(snapshot, &choices)), "it is kept");
                }
            }
        }
        assert_eq!(combinations.kept.len(), COMBINATIONS_MAX);
        combinations.clear();
        assert!(combinations.kept.is_empty());
    }

    #[test]
    fn what_is_large_is_not_kept() {
        let (mut combinations, snapshot) = (Combinations::default(), snapshot(KEPT_CHOICES_MAX + 1));
        let choices: Vec<Choice> = (0..=KEPT_CHOICES_MAX).map(|experiment| Choice { experiment, variant: 1 }).collect();
        let found = combinations.get(&snapshot, &choices);
        assert!(found.assignments.ends_with("e9=b"), "{}", found.assignments);
        assert!(combinations.kept.iter().all(Option::is_none));
    }

    #[test]
    fn a_response_counts_once_whatever_its_status() {
        let (mut combinations, snapshot) = (Combinations::default(), snapshot(1));
        let choices = [Choice { experiment: 0, variant: 1 }];
        for status in [Some(200), Some(204), Some(503), Some(99), Some(600), Some(0), None] {
            let given = combinations.get(&snapshot, &choices);
            combinations.count(given, status);
        }
        let counts = combinations.get(&snapshot, &choices).responses.each_ref().map(Cell::get);
        assert_eq!((counts, combinations.counted.len()), ([0, 2, 0, 0, 1], 1));
    }
}
