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

/// The decisions of an experiment by reason, the most frequent first. The reason of all decisions about an experiment that is
/// paused or invalid is not counted.
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
    let current = match view.state {
        "paused" => Some(("paused", "now the reason of every decision: no visitor is in it")),
        "invalid" => Some(("disabled", "now the reason of every decision: the experiment is invalid")),
        _ => None,
    };
    let current = current.map(|(reason, meaning)| {
        json!({"reason": reason, "count": null, "share": null, "in_experiment": false, "meaning": meaning})
    });
    current.into_iter().chain(counts.into_iter().map(reason)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::state::State;
    use edgesplit_formats::native;

    fn view() -> ExperimentView {
        let variants = json!([{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]);
        let config = json!({"schema": 1, "experiments": [{"key": "nav", "state": "running", "variants": variants}]});
        let snapshot = native::compile(&config, 64).snapshot.unwrap();
        ExperimentView::new(&snapshot.experiments[0], &snapshot, 0)
    }

    fn sample(stats: &[(&str, u64)]) -> Sample {
        Sample::new(&stats.iter().map(|(name, value)| (format!("wasmcustom.edgesplit.demo.{name}"), *value)).collect())
    }

    #[test]
    fn reasons_are_those_of_the_experiment_with_the_most_frequent_first() {
        let sample = sample(&[
            ("decisions.experiment.nav.reason.audience", 30),
            ("decisions.experiment.nav.reason.bucketed", 60),
            ("decisions.experiment.nav.reason.of_a_vendor", 10),
            ("decisions.experiment.nav2.reason.bot", 5),
            ("decisions.reason.audience", 1_000),
        ]);
        let found = reasons(&view(), &sample);
        let short: Vec<_> =
            found.iter().map(|one| (one["reason"].as_str().unwrap(), &one["share"], &one["in_experiment"])).collect();
        let (yes, no) = (json!(true), json!(false));
        assert_eq!(
            short,
            [
                ("bucketed", &json!(0.6), &yes),
                ("audience", &json!(0.3), &no),
                ("of_a_vendor", &json!(0.1), &Value::Null)
            ]
        );
    }

    #[test]
    fn state_is_the_reason_of_paused_and_invalid_experiments() {
        let sample = sample(&[("decisions.experiment.nav.reason.bucketed", 60)]);
        for (state, expected) in [("paused", "paused"), ("invalid", "disabled"), ("ended", "bucketed")] {
            let found = reasons(&ExperimentView { state, ..view() }, &sample);
            let count = if expected == "bucketed" { json!(60) } else { Value::Null };
            assert_eq!((&found[0]["reason"], &found[0]["count"]), (&json!(expected), &count));
        }
    }

    #[test]
    fn goals_compare_each_variant_with_the_baseline() {
        let state = State::new(&["a".to_owned()]);
        let view = view();
        let charts = Charts { state: &state, selection: None, view: &view, counts: &[10_000, 10_000] };
        let sample = sample(&[
            ("goals.experiment.nav.variant.control.goal.purchase", 1_000),
            ("goals.experiment.nav.variant.green.goal.purchase", 1_300),
            ("goals.experiment.nav.variant.green.goal.visit", 10_001),
            ("goals.experiment.nav2.variant.green.goal.other", 7),
        ]);
        let found = goals(&charts, false, &sample);
        let (purchase, visit) = (&found[0], &found[1]);
        assert_eq!((found.len(), &purchase["key"], &visit["key"]), (2, &json!("purchase"), &json!("visit")));
        let (control, green) = (&purchase["variants"][0], &purchase["variants"][1]);
        assert_eq!(
            (&control["rate"], &control["lift"], &control["baseline"]),
            (&json!(0.1), &Value::Null, &json!(true))
        );
        let lift = &green["lift"];
        assert!((lift["difference"].as_f64().unwrap() - 0.03).abs() < 1e-12 && lift["certain"] == true, "{lift}");
        assert_eq!(green["per_minute"], Value::Null, "only open cards have histories");
        let unexposed = &visit["variants"][1];
        assert_eq!((&unexposed["rate"], &unexposed["lift"]), (&Value::Null, &Value::Null), "more than were exposed");
    }
}
