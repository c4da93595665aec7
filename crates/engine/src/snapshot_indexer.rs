//! Builds the indexes and ranks of a snapshot out of its lists, a bounded number of items at a time.

use super::route_index::{RouteIndexer, Sorter};
use super::snapshot::{DecisionCore, Needs, Snapshot, State};
use std::cmp::Reverse;

/// A snapshot whose indexes are being built.
#[derive(Debug, Default)]
pub struct SnapshotIndexer {
    snapshot: Snapshot,
    /// The experiments' positions by their keys.
    by_key: Sorter,
    experiments: RouteIndexer,
    goals: RouteIndexer,
    stage: Stage,
}

/// The next item.
#[derive(Debug, Default)]
enum Stage {
    /// Adds the experiment at this position to the indexes.
    Experiment(usize),
    /// Adds the goal at this position.
    Goal(usize),
    /// Gives the next key this rank.
    Rank(usize),
    /// Writes out the sorted routes.
    Routes,
    #[default]
    Done,
}

impl SnapshotIndexer {
    /// Begins with the lists of `snapshot`.
    pub fn new(snapshot: Snapshot) -> SnapshotIndexer {
        SnapshotIndexer { snapshot, stage: Stage::Experiment(0), ..SnapshotIndexer::default() }
    }

    /// Indexes at most about `items_max` items, and one at least. An item is an experiment, a goal, a key or a path.
    /// Gives the number of items; 0 if nothing is left to do.
    pub fn advance(&mut self, items_max: usize) -> usize {
        let mut items = 0;
        while items <= items_max && !matches!(self.stage, Stage::Done) {
            items += self.step();
        }
        items
    }

    fn step(&mut self) -> usize {
        let snapshot = &mut self.snapshot;
        let (next, items) = match self.stage {
            Stage::Experiment(position) => match snapshot.experiments.get_mut(position) {
                Some(experiment) => {
                    experiment.core = DecisionCore::new(experiment);
                    self.by_key.push(Reverse((experiment.key.as_bytes().into(), position as u32)));
                    snapshot.needs.push(Needs::new(experiment));
                    let mut items = 2;
                    match experiment.state {
                        State::Paused => snapshot.paused += 1,
                        _ => items += self.experiments.add(position as u32, &experiment.route),
                    }
                    (Stage::Experiment(position + 1), items)
                }
                None => (Stage::Goal(0), 1),
            },
            Stage::Goal(position) => match snapshot.goals.get(position) {
                Some(goal) => (Stage::Goal(position + 1), self.goals.add(position as u32, &goal.route)),
                None => (Stage::Rank(0), 1),
            },
            Stage::Rank(rank) => match self.by_key.pop() {
                Some(Reverse((_, position))) => {
                    if let Some(experiment) = snapshot.experiments.get_mut(position as usize) {
                        experiment.rank = rank;
                    }
                    (Stage::Rank(rank + 1), 1)
                }
                None => (Stage::Routes, 1),
            },
            Stage::Routes => match self.experiments.step() || self.goals.step() {
                true => (Stage::Routes, 1),
                false => {
                    snapshot.experiment_index = std::mem::take(&mut self.experiments).finish();
                    snapshot.goal_index = std::mem::take(&mut self.goals).finish();
                    (Stage::Done, 1)
                }
            },
            Stage::Done => (Stage::Done, 0),
        };
        self.stage = next;
        items
    }

    /// The snapshot, with everything that is left to do done.
    pub fn finish(mut self) -> Snapshot {
        while self.advance(usize::MAX) > 0 {}
        self.snapshot
    }
}
