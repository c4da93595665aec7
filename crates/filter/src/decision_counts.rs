//! Decisions by experiment and reason. A request adds one to a number; names are looked up on the tick.

use crate::metrics::Metrics;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Snapshot, State};

/// The decisions of one worker since the last tick.
#[derive(Debug, Default)]
pub struct DecisionCounts {
    /// The counts of each experiment of the snapshot in force, by its number. An experiment has few reasons.
    by_experiment: Vec<Vec<(Reason, u32)>>,
    /// The numbers of the experiments with counts.
    counted: Vec<usize>,
}

impl DecisionCounts {
    /// Starts anew with this number of experiments.
    pub fn reset(&mut self, experiments: usize) {
        self.by_experiment.clear();
        self.by_experiment.resize_with(experiments, Vec::new);
        self.counted.clear();
    }

    /// Counts a decision about the experiment of this number.
    #[inline(always)]
    pub fn add(&mut self, experiment: usize, reason: Reason) {
        let Some(counts) = self.by_experiment.get_mut(experiment) else { return };
        match counts.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => {
                if counts.is_empty() {
                    self.counted.push(experiment);
                }
                counts.push((reason, 1));
            }
        }
    }

    /// Flushes the counts, and the weights of the experiments that were decided. `snapshot` is the one that they belong to.
    pub fn flush(&mut self, snapshot: &Snapshot, metrics: &mut Metrics) {
        for number in self.counted.drain(..) {
            let found = self.by_experiment.get_mut(number).zip(snapshot.experiments.get(number));
            let Some((counts, experiment)) = found else { continue };
            for (reason, count) in counts.drain(..) {
                metrics.decided_on(&experiment.key, reason, u64::from(count));
            }
            if experiment.state == State::Running {
                let variants = experiment.variants.iter().enumerate();
                variants.for_each(|(at, variant)| metrics.weighed(&experiment.key, variant, experiment.weight(at)));
            }
        }
    }
}
