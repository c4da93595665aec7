//! The answer to a request: a decision for each experiment or flag, with the checks that led to it.

use super::flags;
use super::request::{Link, Request, with_input};
use super::row::{Log, Row};
use edgesplit_engine::assignments;
use edgesplit_engine::decide::{Decision, DecisionInput, Units, check_request, evaluate_on_route};
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Choice, Snapshot};
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_filter::request_context::RequestContext;
use serde_json::{Value, json};

/// The answer to a request.
pub(crate) struct Answer {
    /// The decisions, in the order of the config.
    pub(crate) rows: Vec<Row>,
    pub(crate) assignments: String,
    pub(crate) cache_key: String,
    /// Whether the config is a vendor's.
    pub(crate) is_flags: bool,
    /// The problem of a preview link that is ignored.
    pub(crate) ignored_preview: Option<String>,
}

impl Answer {
    /// Decides every experiment or flag for `request`, and records the checks if `records`.
    pub(crate) fn new(
        snapshot: &Snapshot,
        plugin: Option<&PluginConfig>,
        request: &Request<'_>,
        now_ms: i64,
        records: bool,
    ) -> Answer {
        with_input(request, plugin, now_ms, |context, input, link| {
            let (mut rows, mut choices) = match snapshot.flag_evaluator.as_deref() {
                Some(evaluator) => {
                    let keeps_sticky = plugin.is_some_and(|plugin| plugin.request.sticky.is_some());
                    flags::decide(snapshot, evaluator, (request, context), input, keeps_sticky, records)
                }
                None => decide_native(snapshot, context, input, records),
            };
            rows.extend(snapshot.disabled.iter().map(|disabled| Row {
                key: disabled.key.clone(),
                problem: Some(disabled.problem.clone()),
                ..Row::new(disabled.position, "", Reason::Disabled)
            }));
            rows.sort_by_key(|row| row.position);
            let (assignments, cache_key) = texts(snapshot, &mut choices, link);
            let ignored_preview = link.and_then(|link| link.as_ref().err()).map(ToString::to_string);
            let is_flags = snapshot.flag_evaluator.is_some();
            Answer { rows, assignments, cache_key, is_flags, ignored_preview }
        })
    }

    /// The answer as `evaluate` prints it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "decisions": self.rows.iter().filter(|row| row.key.is_some()).map(Row::to_json).collect::<Vec<_>>(),
            "assignments": self.assignments,
            "cache_key": self.cache_key,
        })
    }
}

fn decide_native(
    snapshot: &Snapshot,
    context: &RequestContext<'_>,
    input: &DecisionInput<'_>,
    records: bool,
) -> (Vec<Row>, Vec<Choice>) {
    let (mut rows, mut choices, mut log) = (Vec::new(), Vec::new(), Log::new(records));
    // As in the filter, all routes come before all conditions: they share a budget.
    let excluded: Vec<_> = (snapshot.experiments.iter())
        .map(|experiment| (check_request(experiment, &context.line(), input, &mut log), log.take()))
        .collect();
    let units = Units::new(snapshot, input, context);
    for ((number, experiment), (excluded, mut checks)) in snapshot.experiments.iter().enumerate().zip(excluded) {
        let decision = match excluded {
            Some(reason) => Decision::no(reason),
            None => evaluate_on_route(snapshot, experiment, input, &units, &mut log),
        };
        checks.extend(log.take());
        let variant = decision.variant.and_then(|variant| experiment.variants.get(variant));
        choices.extend(decision.variant.map(|variant| Choice { experiment: number, variant }));
        rows.push(Row {
            variant: variant.map(|variant| variant.key.clone()),
            in_experiment: variant.is_some(),
            checks,
            ..Row::new(experiment.position, &experiment.key, decision.reason)
        });
    }
    (rows, choices)
}

/// The assignments and the cache key of `choices`. The filter adds a random number to the mark of a preview.
fn texts(snapshot: &Snapshot, choices: &mut [Choice], link: Link<'_>) -> (String, String) {
    let (assignments, mut cache_key) = assignments::texts(snapshot, choices);
    if let Some(Ok(_)) = link {
        assignments::mark_preview(&mut cache_key, None);
    }
    (assignments, cache_key)
}
