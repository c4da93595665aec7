//! The decisions of an experiment by reason, and its goals by variant.

use super::charts::Charts;
use super::config::ExperimentView;
use super::json::merge;
use super::sample::Sample;
use edgesplit_engine::conversion::{Conversions, Lift};
use edgesplit_filter::metrics::name_part;
use serde_json::{Value, json};

/// The most goals of an experiment that are shown.
const GOALS_MAX: usize = 20;

/// The decisions of an experiment by reason, the most frequent first.
pub(super) fn reasons(view: &ExperimentView, sample: &Sample) -> Vec<Value> {
    let name = name_part(&view.key);
    let of_experiment = sample.reasons.range((name.clone(), String::new())..).take_while(|((key, _), _)| *key == name);
    let mut counts: Vec<(&str, u64)> = of_experiment.map(|((_, reason), count)| (reason.as_str(), *count)).collect();
    counts.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    let share = |count: u64| (total > 0).then(|| count as f64 / total as f64);
    let reason = |(reason, count): (&str, u64)| {
        let (is_in, meaning) = meaning(reason);
        json!({"reason": reason, "count": count, "share": share(count), "in_experiment": is_in, "meaning": meaning})
    };
    counts.into_iter().map(reason).collect()
}

/// Whether a reason puts visitors into the experiment, and its meaning. Both are unknown for a vendor's own reasons.
fn meaning(reason: &str) -> (Option<bool>, &'static str) {
    match reason {
        "bucketed" => (Some(true), "in the experiment, by bucket"),
        "sticky" => (Some(true), "in the experiment: the variant of an earlier visit"),
        "forced" => (Some(true), "the document forces a variant, which is not reported"),
        "preview" => (Some(true), "a preview link, which is not reported"),
        "winner" => (Some(true), "the winner, which is not reported"),
        "traffic" => (Some(false), "outside the share of visitors that takes part"),
        "audience" => (Some(false), "not in the audience"),
        "holdout" => (Some(false), "held out of all experiments"),
        "layer" => (Some(false), "in the slot of another experiment of the layer"),
        "bot" => (Some(false), "the user agent of a bot"),
        "no_consent" => (Some(false), "without consent, or with an objection"),
        "no_unit" => (Some(false), "without the id or attribute that is bucketed"),
        "not_started" => (Some(false), "before its start"),
        "ended" => (Some(false), "after its end"),
        "guardrail" => (Some(false), "the variant is switched off"),
        "limit" => (Some(false), "the decision exceeded the limit of work"),
        _ => (None, ""),
    }
}

/// The goals that visitors of an experiment have reached, each with the conversion of every variant.
pub(super) fn goals(charts: &Charts<'_>, is_open: bool, sample: &Sample) -> Vec<Value> {
    let name = name_part(&charts.view.key);
    let of_experiment = sample.goals.range(((name.clone(), String::new()), String::new())..);
    let mut goals: Vec<&str> = of_experiment
        .take_while(|(((experiment, _), _), _)| *experiment == name)
        .map(|((_, goal), _)| goal.as_str())
        .collect();
    goals.sort_unstable();
    goals.dedup();
    goals.truncate(GOALS_MAX);
    goals.into_iter().map(|goal| goal_json(charts, is_open, goal, sample)).collect()
}

fn goal_json(charts: &Charts<'_>, is_open: bool, goal: &str, sample: &Sample) -> Value {
    let Charts { view, counts, .. } = charts;
    let conversions: Vec<Conversions> = (charts.counters(Some(goal)).zip(*counts))
        .map(|(counter, exposures)| Conversions { exposures: *exposures, converted: sample.counter(&counter) })
        .collect();
    let baseline = view.variants.iter().position(|variant| variant.is_baseline).unwrap_or(0);
    let variants = view.variants.iter().zip(&conversions).zip(charts.counters(Some(goal))).enumerate();
    let variants = variants.map(|(at, ((variant, conversion), counter))| {
        let compared = conversions.get(baseline).filter(|_| at != baseline);
        let lift = compared.and_then(|baseline| Lift::new(*baseline, *conversion));
        let mut json = json!({
            "key": variant.key, "converted": conversion.converted, "rate": conversion.rate(), "baseline": at == baseline,
            "lift": lift.map(|lift| json!({
                "difference": lift.difference, "low": lift.low, "high": lift.high, "certain": lift.is_certain()
            })),
        });
        if is_open {
            merge(&mut json, json!({"per_minute": charts.state.history.rates(&counter, charts.selection)}));
        }
        json
    });
    json!({"key": goal, "variants": variants.collect::<Vec<_>>()})
}
