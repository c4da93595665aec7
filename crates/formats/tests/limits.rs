//! The limits on a config: on its elements, its goals and its patterns.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_engine::condition::{CONFIG_INSTRUCTIONS_MAX, StepBudget};
use edgesplit_engine::flag::{FlagDecisions, FlagVisitor};
use edgesplit_engine::reason::Reason;
use edgesplit_formats::native::route::GOALS_MAX;
use edgesplit_formats::{Compiled, ELEMENT_BYTES_MAX, Options, compile_bytes, find};
use serde_json::{Value, json};

fn compile(format: &str, config: &Value) -> Compiled {
    compile_bytes(config.to_string().as_bytes(), &Options::new(find(format).unwrap(), 64))
}

fn experiment(key: &str, rest: &Value) -> Value {
    let mut experiment = json!({"key": key, "state": "running", "variants": [
        {"key": "a", "weight": 5000, "baseline": true}, {"key": "b", "weight": 5000}]});
    experiment.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    experiment
}

/// The keys of the experiments in force, and the problems of the disabled ones.
fn outcome(compiled: &Compiled) -> (Vec<&str>, Vec<&str>) {
    let snapshot = compiled.snapshot.as_ref().unwrap();
    let disabled = snapshot.disabled.iter().map(|disabled| disabled.problem.as_str());
    (snapshot.experiments.iter().map(|experiment| experiment.key.as_str()).collect(), disabled.collect())
}

#[test]
fn large_elements_are_disabled_alone() {
    let large = "x".repeat(ELEMENT_BYTES_MAX);
    let native = json!({"schema": 1, "experiments": [
        experiment("a", &json!({})), experiment("large", &json!({"description": large})), experiment("z", &json!({}))]});
    let compiled = compile("native", &native);
    let message = format!("takes more than {ELEMENT_BYTES_MAX} bytes, so it is not read");
    let (keys, disabled) = outcome(&compiled);
    assert_eq!((keys, disabled.len()), (vec!["a", "z"], 1));
    assert!(disabled[0].contains(&message), "{disabled:?}");

    let growthbook = json!({"features": {
        "a": {"defaultValue": 1}, "large": {"defaultValue": large}, "z": {"defaultValue": 2}}});
    let compiled = compile("growthbook", &growthbook);
    let (keys, disabled) = outcome(&compiled);
    assert_eq!((keys, disabled.len()), (vec!["a", "z"], 1));
    let problems: Vec<String> = compiled.problems.iter().map(ToString::to_string).collect();
    assert!(problems.iter().any(|problem| problem.contains("features.large") && problem.contains(&message)));
}

#[test]
fn a_large_holdout_refuses_the_document() {
    let holdout = json!({"key": "x".repeat(ELEMENT_BYTES_MAX), "share": 500});
    let config = json!({"schema": 1, "holdout": holdout, "experiments": [experiment("a", &json!({}))]});
    assert!(compile("native", &config).snapshot.is_none(), "without its holdout, an experiment has more visitors");
}

#[test]
fn goals_beyond_the_limit_are_left_out() {
    let goals: Vec<Value> = (0..GOALS_MAX + 5).map(|number| json!({"key": format!("g{number}")})).collect();
    let compiled = compile("native", &json!({"schema": 1, "experiments": [], "goals": goals}));
    assert_eq!(compiled.snapshot.unwrap().goals.len(), GOALS_MAX);
    assert_eq!(compiled.problems.errors(), 1);
}

#[test]
fn patterns_of_a_config_share_a_limit() {
    let pattern = format!("{}[a-z]{{2900}}", "a".repeat(50));
    let audience = json!({"$or": (0..20).map(|_| json!({"plan": {"$regex": pattern}})).collect::<Vec<_>>()});
    let fitting = CONFIG_INSTRUCTIONS_MAX / (20 * 2_960);
    let experiments = (0..fitting + 3).map(|number| {
        experiment(&number.to_string(), &json!({"audience": audience, "route": {"paths": [format!("/{number}")]}}))
    });
    let compiled = compile("native", &json!({"schema": 1, "experiments": experiments.collect::<Vec<_>>()}));
    let (keys, disabled) = outcome(&compiled);
    assert!(keys.len() >= fitting && !disabled.is_empty(), "{} and {}", keys.len(), disabled.len());
    assert!(disabled.iter().all(|problem| problem.contains("instructions")), "{disabled:?}");

    let features = (0..fitting + 3).map(|number| {
        let rules = json!([{"condition": audience, "force": 1}]);
        (format!("f{number:03}"), json!({"defaultValue": 0, "rules": rules}))
    });
    let compiled = compile("growthbook", &json!({"features": features.collect::<serde_json::Map<_, _>>()}));
    let (keys, disabled) = outcome(&compiled);
    assert!(keys.len() >= fitting && !disabled.is_empty(), "{} and {}", keys.len(), disabled.len());
}

#[test]
fn invalid_json_inside_an_experiment_refuses_the_document() {
    for text in [r#"{"experiments": [{"key": nul}]}"#, r#"{"experiments": [{"key": "a"]}]}"#, r#"{"experiments": [] "#]
    {
        let compiled = compile_bytes(text.as_bytes(), &Options::new(find("native").unwrap(), 64));
        assert!(compiled.snapshot.is_none());
        assert!(compiled.problems.first_error().contains("not JSON"), "{}", compiled.problems.first_error());
    }
}

#[test]
fn audiences_of_flags_take_steps() {
    let example = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/optimizely.json")).unwrap();
    let mut datafile: Value = serde_json::from_slice(&example).unwrap();
    let condition = json!(["or", {"type": "custom_attribute", "match": "exact", "name": "plan", "value": "x"}]);
    datafile["typedAudiences"] = json!([{"id": "limit", "name": "limit", "conditions": condition}]);
    for experiment in datafile["experiments"].as_array_mut().unwrap() {
        experiment["audienceConditions"] = json!(["or", "limit"]);
    }
    let snapshot = compile("optimizely", &datafile).snapshot.unwrap();
    let evaluator = snapshot.flag_evaluator.as_deref().unwrap();
    let attributes = json!({"plan": "y".repeat(8_000)});
    for (steps, is_limited) in [(500, true), (100_000, false)] {
        let steps = StepBudget::new(steps);
        let (id, attributes) = (Some("u1"), &attributes);
        let visitor = FlagVisitor::new(id, attributes, &steps, 0);
        let mut found = FlagDecisions::default();
        evaluator.decide(&(0..snapshot.experiments.len()).collect::<Vec<_>>(), &visitor, &mut found);
        let limited = found.decided.iter().filter(|(_, outcome, reason)| outcome.is_none() && *reason == Reason::Limit);
        assert_eq!(limited.count() > 0, is_limited, "{:?}", found.decided);
        assert_eq!(found.decided.len(), snapshot.experiments.len());
    }
}

#[test]
fn units_of_features_take_steps() {
    let rule = json!({"key": "e", "variations": [0, 1], "hashAttribute": "plan"});
    let snapshot = compile("growthbook", &json!({"features": {"f": {"defaultValue": 0, "rules": [rule]}}})).snapshot;
    let evaluator = snapshot.as_ref().unwrap().flag_evaluator.as_deref().unwrap();
    let attributes = &json!({"plan": "y".repeat(8_000)});
    for (steps, is_limited) in [(500, true), (100_000, false)] {
        let steps = &StepBudget::new(steps);
        let mut found = FlagDecisions::default();
        let visitor = FlagVisitor::new(None, attributes, steps, 0);
        evaluator.decide(&[0], &visitor, &mut found);
        let [(0, outcome, reason)] = found.decided[..] else { panic!("{:?}", found.decided) };
        assert_eq!((outcome.is_none(), reason == Reason::Limit), (is_limited, is_limited), "{reason:?}");
    }
}
