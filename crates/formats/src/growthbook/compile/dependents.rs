//! The last stages of a payload: parts that depend on disabled features are disabled, and prerequisites are tied to their
//! features.

use super::super::payload::Payload;
use super::super::prerequisites::depends_on;
use super::super::tie::{TIE_STEPS_MAX, tie};
use super::{Draft, Stage, TIE_BYTES, TIE_STEPS_PER_BYTE, disabled};
use crate::diagnostics::{Path, Problems};
use edgesplit_engine::condition::StepBudget;

impl Draft {
    /// Begins to disable the features that cannot be decided, and the redirect tests that depend on a disabled feature.
    pub(super) fn begin_move(&mut self) -> Stage {
        if self.disabled.is_empty() && !self.dependencies.has_undecidable {
            return Stage::Tie(0);
        }
        let Payload { features, redirects, .. } = &mut self.payload;
        let kept = Vec::with_capacity(features.len());
        self.moved = (std::mem::replace(features, kept).into_iter(), std::mem::take(redirects).into_iter());
        Stage::Move(0)
    }

    /// Moves the feature that had the number `number`, or the next redirect test behind all features, to those in force, or
    /// disables it. None if there is none.
    pub(super) fn move_next(&mut self, number: usize, root: &Path<'_>, problems: &mut Problems) -> Option<()> {
        let payload = &mut self.payload;
        let feature_count = payload.feature_count;
        let mut disable = |path: &Path<'_>, key: &str, position, problem: String| {
            let mut own = Problems::new();
            own.error(path, problem);
            payload.disabled.push(disabled(Some(key.to_owned()), position, &own));
            problems.append(own);
        };
        let Some(feature) = self.moved.0.next() else {
            let test = self.moved.1.next()?;
            let key = &test.experiment.key;
            match test.experiment.parents.iter().find(|parent| self.disabled.contains(&parent.id)) {
                Some(parent) => {
                    let path = root.field("experiments");
                    disable(&path.index(test.position), key, feature_count + test.position, depends_on(&parent.id));
                }
                None => payload.redirects.push(test),
            }
            return Some(());
        };
        match self.dependencies.take_problem(number) {
            Some(problem) => {
                disable(&root.field("features").field(&feature.key), &feature.key, feature.position, problem);
                payload.by_key.remove(&feature.key);
                self.disabled.insert(feature.key);
            }
            None => {
                payload.by_key.insert(feature.key.clone(), payload.features.len());
                payload.features.push(feature);
            }
        }
        Some(())
    }

    /// Ties the prerequisites of a feature, or of a redirect test behind all features.
    pub(super) fn tie(&mut self, number: usize, root: &Path<'_>, problems: &mut Problems) -> Option<usize> {
        let steps_max = self.tie_steps.min(TIE_STEPS_MAX);
        let steps = StepBudget::new(steps_max);
        let Payload { features, redirects, by_key, .. } = &mut self.payload;
        let count = features.len();
        match features.get_mut(number) {
            Some(feature) => {
                let (list, key) = (root.field("features"), feature.key.clone());
                let path = list.field(&key);
                let path = path.field("rules");
                // A prerequisite may be the feature itself, but tying it reads only the outcomes.
                let mut rules = std::mem::take(&mut feature.rules);
                for (position, rule) in rules.iter_mut().enumerate() {
                    tie(&mut rule.parents, &path.index(position), (by_key, features), &steps, problems);
                }
                if let Some(feature) = features.get_mut(number) {
                    feature.rules = rules;
                }
            }
            None => {
                let test = redirects.get_mut(number - count)?;
                let path = root.field("experiments");
                tie(&mut test.experiment.parents, &path.index(test.position), (by_key, features), &steps, problems);
            }
        }
        let spent = steps_max - steps.left();
        self.tie_steps -= spent;
        Some(TIE_BYTES + spent as usize / TIE_STEPS_PER_BYTE)
    }
}
