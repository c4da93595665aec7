//! The part of an experiment config that the dashboard shows.

use edgesplit_engine::snapshot::{Disabled, Snapshot, State};

#[derive(Debug, Clone, Default)]
pub(super) struct ConfigView {
    pub(super) revision: Option<String>,
    pub(super) experiments: Vec<ExperimentView>,
    /// The keys of invalid experiments, with a placeholder for those without one.
    pub(super) invalid: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct ExperimentView {
    pub(super) key: String,
    pub(super) state: &'static str,
    /// Keys and weights in 1/10,000. None for vendors' formats, whose weights are unknown here.
    pub(super) variants: Vec<(String, Option<u32>)>,
}

impl ConfigView {
    pub(super) fn new(snapshot: &Snapshot) -> ConfigView {
        let experiments = snapshot.experiments.iter().map(|experiment| {
            // Several outcomes of a vendor's flag may be one variant.
            let mut variants: Vec<(String, Option<u32>)> = Vec::new();
            for (at, variant) in experiment.variants.iter().enumerate() {
                if variants.iter().all(|(known, _)| *known != variant.key) {
                    let weight = snapshot.flag_evaluator.is_none().then(|| experiment.weight(at));
                    variants.push((variant.key.clone(), weight));
                }
            }
            ExperimentView {
                key: experiment.key.clone(),
                state: match experiment.state {
                    State::Running | State::Flag(_) => "running",
                    State::Paused => "paused",
                    State::Concluded(_) => "concluded",
                },
                variants,
            }
        });
        let key = |one: &Disabled| one.key.clone().unwrap_or_else(|| "(no key)".to_owned());
        ConfigView {
            revision: snapshot.revision.clone(),
            experiments: experiments.collect(),
            invalid: snapshot.disabled.iter().map(key).collect(),
        }
    }
}
