//! The part of an experiment config that the dashboard shows.

use super::words;
use crate::config::{Compilation, Setting};
use crate::document::{Document, below};
use crate::drawing::Source;
use edgesplit_engine::snapshot::{Disabled, Experiment, Snapshot, State};
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::diagnostics::Severity;

#[derive(Debug, Clone, Default)]
pub(super) struct ConfigView {
    pub(super) revision: Option<String>,
    /// All experiments in the order of the config, including invalid ones.
    pub(super) experiments: Vec<ExperimentView>,
    pub(super) goals: Vec<String>,
    /// The plugin configuration, if it is known.
    pub(super) plugin: Option<PluginView>,
}

/// The settings of a plugin that can skew shares, or keep events from being sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct PluginView {
    pub(super) has_events: bool,
    pub(super) are_bots_counted: bool,
    pub(super) can_be_cached: bool,
}

#[derive(Debug, Clone)]
pub(super) struct ExperimentView {
    pub(super) key: String,
    pub(super) state: &'static str,
    /// When this state began or begins, in milliseconds since the epoch, if the config has the time.
    pub(super) state_at_ms: Option<i64>,
    pub(super) route: String,
    pub(super) audience: String,
    pub(super) traffic: String,
    pub(super) guardrail: Option<String>,
    pub(super) variants: Vec<VariantView>,
    /// Why it is invalid, with its place in the document.
    pub(super) problem: Option<ProblemView>,
}

#[derive(Debug, Clone)]
pub(super) struct VariantView {
    pub(super) key: String,
    /// In 1/10,000. None for vendors' formats, whose weights are unknown here.
    pub(super) weight: Option<u32>,
    pub(super) is_baseline: bool,
    /// Whether it sends visitors to another URL.
    pub(super) redirects: bool,
}

/// A problem of a document, with its line if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProblemView {
    pub(super) text: String,
    pub(super) line: Option<usize>,
}

/// The reason why there is no new config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ConfigError {
    /// The source gives no document.
    Unreadable(String),
    /// The document is refused as a whole.
    Rejected(ProblemView),
}

impl ConfigView {
    pub(super) fn new(
        document: &Document,
        compilation: &Compilation,
        setting: &Setting,
        now_ms: i64,
    ) -> Result<ConfigView, ConfigError> {
        let source = Source::new(document);
        let problems = below(&compilation.prefix, &compilation.problems);
        let place = |text: &str| {
            let of_text = compilation.problems.iter().zip(problems.iter()).find(|(own, _)| own.to_string() == text);
            of_text.and_then(|(_, problem)| source.position(problem)).map(|position| position.line)
        };
        let Some(config) = &compilation.config else {
            let error = compilation.problems.iter().find(|problem| problem.severity == Severity::Error);
            let text = error.map(ToString::to_string).unwrap_or_default();
            return Err(ConfigError::Rejected(ProblemView { line: place(&text), text }));
        };
        let snapshot = &config.snapshot;
        let valid = snapshot.experiments.iter().map(|one| (one.position, ExperimentView::new(one, snapshot, now_ms)));
        let invalid =
            snapshot.disabled.iter().map(|one| (one.position, ExperimentView::invalid(one, place(&one.problem))));
        let mut experiments: Vec<(usize, ExperimentView)> = valid.chain(invalid).collect();
        experiments.sort_by_key(|(position, _)| *position);
        Ok(ConfigView {
            revision: snapshot.revision.clone(),
            experiments: experiments.into_iter().map(|(_, experiment)| experiment).collect(),
            goals: snapshot.goals.iter().map(|goal| goal.key.clone()).collect(),
            plugin: setting.plugin().map(PluginView::new),
        })
    }

    /// The weights of an experiment's variants.
    pub(super) fn weights(&self, key: &str) -> Option<Vec<(&str, Option<u32>)>> {
        let experiment = self.experiments.iter().find(|one| one.key == key && one.problem.is_none())?;
        Some(experiment.variants.iter().map(|variant| (variant.key.as_str(), variant.weight)).collect())
    }
}

impl PluginView {
    fn new(config: &PluginConfig) -> PluginView {
        PluginView {
            has_events: config.events.is_some(),
            are_bots_counted: !config.visitor.exclude_bots,
            can_be_cached: !config.response.downstream_private,
        }
    }
}

impl ExperimentView {
    pub(super) fn new(experiment: &Experiment, snapshot: &Snapshot, now_ms: i64) -> ExperimentView {
        // Several outcomes of a vendor's flag may be one variant.
        let mut variants: Vec<VariantView> = Vec::new();
        for (at, variant) in experiment.variants.iter().enumerate() {
            if variants.iter().all(|known| known.key != variant.key) {
                variants.push(VariantView {
                    key: variant.key.clone(),
                    weight: snapshot.flag_evaluator.is_none().then(|| experiment.weight(at)),
                    is_baseline: variant.baseline,
                    redirects: variant.effects.redirect.is_some(),
                });
            }
        }
        let (state, state_at_ms) = state(experiment, now_ms);
        let is_flag = matches!(experiment.state, State::Flag(_));
        ExperimentView {
            key: experiment.key.clone(),
            state,
            state_at_ms,
            route: words::route(&experiment.route),
            audience: if is_flag { "by the vendor's rules".to_owned() } else { words::audience(experiment) },
            traffic: if is_flag { "by the vendor's rules".to_owned() } else { words::traffic(experiment, now_ms) },
            guardrail: experiment.guardrail.as_ref().map(words::guardrail),
            variants,
            problem: None,
        }
    }

    fn invalid(disabled: &Disabled, line: Option<usize>) -> ExperimentView {
        let problem = ProblemView { text: disabled.problem.clone(), line };
        ExperimentView {
            key: disabled.key.clone().unwrap_or_else(|| format!("(number {}, without a key)", disabled.position + 1)),
            state: "invalid",
            state_at_ms: None,
            route: String::new(),
            audience: String::new(),
            traffic: String::new(),
            guardrail: None,
            variants: Vec::new(),
            problem: Some(problem),
        }
    }
}

/// The state of an experiment at `now_ms`, and when it began or begins.
fn state(experiment: &Experiment, now_ms: i64) -> (&'static str, Option<i64>) {
    match experiment.state {
        State::Paused => ("paused", None),
        State::Concluded(_) => ("concluded", None),
        State::Flag(_) => ("running", None),
        State::Running => match (experiment.starts_ms, experiment.ends_ms) {
            (_, Some(end)) if end <= now_ms => ("ended", Some(end)),
            (Some(start), _) if start > now_ms => ("scheduled", Some(start)),
            (start, _) => ("running", start),
        },
    }
}
