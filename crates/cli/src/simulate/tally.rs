//! The counts of a simulation.

use edgesplit_engine::decide::Decision;
use edgesplit_engine::reason::Reason;
use std::collections::BTreeMap;

/// The most experiments whose overlaps are counted.
pub(super) const PAIRED_MAX: usize = 64;

/// The visitors of one experiment, by outcome.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Visitors in it, by the variant's position.
    pub(super) variants: Vec<u64>,
    /// The bucketed ones among them. The weights apply to these only.
    pub(super) bucketed: Vec<u64>,
    /// Visitors who are not in it, by reason.
    pub(super) out: BTreeMap<Reason, u64>,
}

/// The visitors of all experiments.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) experiments: Vec<Counts>,
    /// Visitors in both of two experiments, by the positions of both.
    pub(super) both: Vec<u64>,
}

fn add(into: &mut Vec<u64>, at: usize, count: u64) {
    if into.len() <= at {
        into.resize(at + 1, 0);
    }
    if let Some(sum) = into.get_mut(at) {
        *sum += count;
    }
}

fn add_all(into: &mut Vec<u64>, from: &[u64]) {
    for (at, count) in from.iter().enumerate() {
        add(into, at, *count);
    }
}

impl Tally {
    /// Counts a visitor, with one decision for each experiment.
    pub(super) fn visitor(&mut self, decisions: &[Decision]) {
        if self.experiments.len() < decisions.len() {
            self.experiments.resize_with(decisions.len(), Counts::default);
        }
        for (counts, decision) in self.experiments.iter_mut().zip(decisions) {
            let Some(variant) = decision.variant else {
                *counts.out.entry(decision.reason).or_default() += 1;
                continue;
            };
            add(&mut counts.variants, variant, 1);
            if decision.reason == Reason::Bucketed {
                add(&mut counts.bucketed, variant, 1);
            }
        }
        let paired = decisions.iter().take(PAIRED_MAX).enumerate();
        let is_in = |(at, decision): (usize, &Decision)| decision.variant.map(|_| at);
        for first in paired.clone().filter_map(is_in) {
            for second in paired.clone().skip(first + 1).filter_map(is_in) {
                add(&mut self.both, first * PAIRED_MAX + second, 1);
            }
        }
    }

    pub(super) fn merge(mut self, other: &Tally) -> Tally {
        if self.experiments.len() < other.experiments.len() {
            self.experiments.resize_with(other.experiments.len(), Counts::default);
        }
        for (into, from) in self.experiments.iter_mut().zip(&other.experiments) {
            add_all(&mut into.variants, &from.variants);
            add_all(&mut into.bucketed, &from.bucketed);
            for (reason, count) in &from.out {
                *into.out.entry(*reason).or_default() += count;
            }
        }
        add_all(&mut self.both, &other.both);
        self
    }
}
