//! A compiled payload: immutable, replaced whole, only read on the request path.

use super::experiment::{Attribute, Experiment};
use super::feature::Feature;
use super::redirect::RedirectTest;
use super::tie::{TIE_STEPS_MAX, tie};
use super::wire::Scope;
use crate::conditions::SavedGroups;
use crate::diagnostics::{Node, Problems};
use edgesplit_engine::condition::StepBudget;
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::snapshot::Disabled;
use serde_json::Value;
use std::collections::HashMap;

/// How many attributes sticky buckets may be kept by: each is looked up in every request.
pub(super) const STICKY_ATTRIBUTES_MAX: usize = 32;

/// A compiled payload.
#[derive(Debug, Default)]
pub struct Payload {
    /// The time of its last change, which serves as its revision.
    pub revision: Option<String>,
    /// The valid features, sorted by key.
    pub features: Vec<Feature>,
    /// How many features there are, disabled ones counted. Redirect tests come after them.
    pub(super) feature_count: usize,
    pub(super) by_key: HashMap<String, usize>,
    /// The invalid features and experiments, each disabled alone. Experiments come after all features.
    pub disabled: Vec<Disabled>,
    /// The valid URL redirect tests, in the order of the payload.
    pub redirects: Vec<RedirectTest>,
    pub(super) sticky_attributes: Vec<Attribute>,
}

impl Payload {
    /// The place of the feature `key` among the valid ones.
    pub fn feature(&self, key: &str) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// The names of the attributes that sticky buckets are kept by, sorted.
    pub fn sticky_attributes(&self) -> impl Iterator<Item = &str> {
        self.sticky_attributes.iter().map(|attribute| attribute.written.as_str())
    }

    /// Compiles one experiment that is no part of a payload, as the SDK's `run` takes it, beside the features of this one.
    pub fn experiment(
        &self,
        node: Node<'_>,
        saved_groups: &Value,
        problems: &mut Problems,
    ) -> Option<(Experiment, Vec<Outcome>)> {
        let mut groups = SavedGroups::new(saved_groups);
        let mut scope = Scope::new(&mut groups);
        let values = scope
            .required(node, "variations", |scope, node| node.array(&mut scope.problems).map(<[Value]>::to_vec))
            .unwrap_or_default();
        let mut experiment = Experiment::compile_whole(&mut scope, node, &values).filter(|_| !scope.is_disabled());
        problems.append(scope.problems);
        if let Some(experiment) = &mut experiment {
            let steps = StepBudget::new(TIE_STEPS_MAX);
            tie(&mut experiment.parents, node.path, (&self.by_key, &self.features), &steps, problems);
        }
        experiment.map(|experiment| {
            let outcomes = experiment.outcomes(&values).collect();
            (experiment, outcomes)
        })
    }

    /// Adds the attributes that the experiment's sticky buckets are kept by. False if there would be too many.
    pub(super) fn add_sticky_attributes(&mut self, experiment: &Experiment) -> bool {
        let unit = &experiment.unit;
        [Some(&unit.attribute), unit.fallback.as_ref()].into_iter().flatten().all(|attribute| {
            let place = self.sticky_attributes.binary_search_by(|other| other.written.cmp(&attribute.written));
            let fits = place.is_ok() || self.sticky_attributes.len() < STICKY_ATTRIBUTES_MAX;
            if let (Err(place), true) = (place, fits) {
                self.sticky_attributes.insert(place, attribute.clone());
            }
            fits
        })
    }
}
