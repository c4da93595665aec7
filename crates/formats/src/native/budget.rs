//! The cache-key budget: how many combinations of variants a cache could have to keep for one request.

use crate::diagnostics::{Path, Problems};
use edgesplit_engine::snapshot::{Experiment, State};
use edgesplit_engine::sort::{sort, sort_by};
use std::cmp::Reverse;

/// How many steps the search for a route over its budget may take for one experiment. Experiments in force are within
/// their budget together, so few of them meet and the search is short; past this limit the experiment counts as over.
const SEARCH_STEPS_MAX: u32 = 50_000;

/// How many pairs an experiment can put into a cache key, and none: it multiplies the combinations of its routes.
fn factor(experiment: &Experiment) -> u64 {
    match experiment.state {
        State::Running => experiment.variants.iter().filter(|variant| !variant.baseline).count() as u64 + 1,
        State::Flag(_) => {
            // Several outcomes of a flag may have the same pair.
            let pairs = experiment.variants.iter().filter_map(|variant| variant.cache_pair.as_deref());
            let mut pairs: Vec<&str> = pairs.collect();
            sort(&mut pairs);
            pairs.dedup();
            pairs.len() as u64 + 1
        }
        // Everyone has the same pair, or nobody has one.
        State::Paused | State::Concluded(_) => 1,
    }
}

/// Reports `experiment` if some request could have more than `budget` combinations with it among `others`, which stand
/// before it in the config.
pub fn check(experiment: &Experiment, path: &Path<'_>, others: &[Experiment], budget: u64, problems: &mut Problems) {
    let own = factor(experiment);
    if own == 1 {
        return;
    }
    // The largest first; among equals, as they stand.
    let meeting = others.iter().filter(|other| factor(other) > 1 && other.route.meets(&experiment.route));
    let mut meeting: Vec<_> = meeting.enumerate().map(|(at, other)| (Reverse(factor(other)), at, other)).collect();
    sort_by(&mut meeting, |(a, a_at, _), (b, b_at, _)| (a, a_at) < (b, b_at));
    let meeting: Vec<&Experiment> = meeting.into_iter().map(|(_, _, other)| other).collect();
    let mut search = Search { budget, steps: SEARCH_STEPS_MAX };
    if let Some(combinations) = search.over(own, &mut Vec::new(), &meeting) {
        let message = format!(
            "over the budget of cache-key combinations: with the experiments before it whose routes can meet, a request \
             could have {combinations} or more, and {budget} are allowed (request.cache_key.budget); narrow its route, \
             mark a baseline or end another experiment"
        );
        problems.error(path, message);
    }
}

struct Search {
    budget: u64,
    steps: u32,
}

impl Search {
    /// Looks for experiments that all meet each other and bring `product` over the budget; gives that product.
    fn over<'a>(&mut self, product: u64, chosen: &mut Vec<&'a Experiment>, rest: &[&'a Experiment]) -> Option<u64> {
        if product > self.budget {
            return Some(product);
        }
        for (at, candidate) in rest.iter().enumerate() {
            let Some(steps) = self.steps.checked_sub(1) else { return Some(product) };
            self.steps = steps;
            let after = rest.get(at + 1..).unwrap_or_default();
            if chosen.iter().all(|other| other.route.meets(&candidate.route)) {
                chosen.push(candidate);
                let found = self.over(product.saturating_mul(factor(candidate)), chosen, after);
                chosen.pop();
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
}
