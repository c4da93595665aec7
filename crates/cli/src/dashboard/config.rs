//! The part of an experiment config that the dashboard shows.

use edgesplit_engine::snapshot::{Snapshot, State};

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
            let mut start = 0;
            let weights = experiment.variants.iter().map(|variant| {
                let weight = variant.bucket_end - std::mem::replace(&mut start, variant.bucket_end);
                (variant.key.clone(), snapshot.flag_evaluator.is_none().then_some(weight))
            });
            let mut variants: Vec<(String, Option<u32>)> = Vec::new();
            for (key, weight) in weights {
                if !variants.iter().any(|(known, _)| *known == key) {
                    variants.push((key, weight));
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
        let key = |one: &edgesplit_engine::snapshot::Disabled| one.key.clone().unwrap_or_else(|| "(no key)".to_owned());
        ConfigView {
            revision: snapshot.revision.clone(),
            experiments: experiments.collect(),
            invalid: snapshot.disabled.iter().map(key).collect(),
        }
    }
}
