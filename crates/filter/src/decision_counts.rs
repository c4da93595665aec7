//! Decisions by experiment and reason. A request adds one to a number; names are looked up on the tick.

use crate::metrics::Metrics;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Snapshot, State};
use std::mem::take;

/// The decisions of one worker since the last tick.
#[derive(Debug, Default)]
pub struct DecisionCounts {
    /// The number of experiments of the snapshot in force.
    experiments: usize,
    /// The counts of each reason that occurred. Requests have few reasons, and the counts of a page's experiments are then close
    /// together.
    by_reason: Vec<ReasonCounts>,
}

#[derive(Debug)]
struct ReasonCounts {
    reason: Reason,
    /// By the numbers of the experiments.
    counts: Vec<u32>,
    /// The numbers of the experiments with counts.
    counted: Vec<usize>,
}

impl DecisionCounts {
    /// Starts anew with this number of experiments.
    pub fn reset(&mut self, experiments: usize) {
        *self = DecisionCounts { experiments, by_reason: Vec::new() };
    }

    /// Counts a decision about the experiment of this number.
    #[inline(always)]
    pub fn add(&mut self, experiment: usize, reason: Reason) {
        for counts in &mut self.by_reason {
            if counts.reason == reason {
                return counts.add(experiment);
            }
        }
        self.add_first(experiment, reason);
    }

    #[cold]
    #[inline(never)]
    fn add_first(&mut self, experiment: usize, reason: Reason) {
        let mut counts = ReasonCounts { reason, counts: vec![0; self.experiments], counted: Vec::new() };
        counts.add(experiment);
        self.by_reason.push(counts);
    }

    /// Flushes the counts, and the weights of the experiments that were decided. `snapshot` is the one that they belong to.
    pub fn flush(&mut self, snapshot: &Snapshot, metrics: &mut Metrics) {
        for ReasonCounts { reason, counts, counted } in &mut self.by_reason {
            for number in counted.drain(..) {
                let found = counts.get_mut(number).zip(snapshot.experiments.get(number));
                let Some((count, experiment)) = found else { continue };
                metrics.decided_on(&experiment.key, *reason, u64::from(take(count)));
                if experiment.state == State::Running {
                    let variants = experiment.variants.iter().enumerate();
                    variants.for_each(|(at, variant)| metrics.weighed(&experiment.key, variant, experiment.weight(at)));
                }
            }
        }
    }
}

impl ReasonCounts {
    #[inline(always)]
    fn add(&mut self, experiment: usize) {
        let Some(count) = self.counts.get_mut(experiment) else { return };
        if *count == 0 {
            self.counted.push(experiment);
        }
        *count = count.saturating_add(1);
    }
}
