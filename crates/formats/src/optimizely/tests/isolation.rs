//! A problem in a datafile is reported with its path, and disables only the parts that it affects.

use super::*;
use crate::diagnostics::{Problem, Severity};

/// A flag with all there is to a flag. Two of them have nothing in common but the document.
struct Parts {
    audience: Value,
    typed_audience: Value,
    experiment: Value,
    group: Value,
    rollout: Value,
    flag: Value,
}

fn parts(name: &str) -> Parts {
    let id = |part: &str| format!("{name}-{part}");
    let condition = json!({"type": "custom_attribute", "name": "plan", "match": "exact", "value": "pro"});
    let variables = json!([{"id": id("variable"), "value": "on"}]);
    let rule = |part: &str, share: u32| {
        let mut rule = rule(&id(part), share);
        rule["variations"][0]["variables"] = variables.clone();
        rule
    };
    let mut experiment = with(
        rule("experiment", 5_000),
        json!({
            "audienceConditions": ["or", id("audience"), ["and", id("typed")]],
            "forcedVariations": {"qa": format!("in-{}", id("experiment"))},
        }),
    );
    experiment.as_object_mut().unwrap().remove("audienceIds");
    Parts {
        audience: json!({"id": id("audience"), "conditions": json!(["or", condition]).to_string()}),
        typed_audience: json!({"id": id("typed"), "conditions": ["and", ["not", condition]]}),
        experiment,
        group: json!({
            "id": id("group"), "policy": "random", "experiments": [rule("grouped", 4_000)],
            "trafficAllocation": [{"entityId": id("grouped"), "endOfRange": 9_000}],
        }),
        rollout: json!({"id": id("rollout"), "experiments": [rule("delivery", 2_000), rule("everyone", 4_000)]}),
        flag: json!({
            "id": id("flag"), "key": id("flag"), "experimentIds": [id("experiment"), id("grouped")],
            "rolloutId": id("rollout"),
            "variables": [{"id": id("variable"), "key": "v", "type": "string", "defaultValue": "off"}],
        }),
    }
}

fn two_flags() -> Value {
    let (a, b) = (parts("a"), parts("b"));
    document(json!({
        "audiences": [a.audience, b.audience], "typedAudiences": [a.typed_audience, b.typed_audience],
        "experiments": [a.experiment, b.experiment], "groups": [a.group, b.group],
        "rollouts": [a.rollout, b.rollout], "featureFlags": [a.flag, b.flag],
    }))
}

/// The outcomes of the flag `key` for all kinds of visitors.
fn decisions(datafile: &Datafile, key: &str) -> Vec<(Option<String>, Value, &'static str)> {
    let flag = datafile.flags.iter().find(|flag| flag.key == key).unwrap();
    let users = ["qa".to_owned()].into_iter().chain((0..40).map(|user| user.to_string()));
    let attributes = [json!({}), json!({"plan": "pro"}), json!({"plan": "free"})];
    let decide = |user: &str, attributes: &Value| {
        let decision = datafile.decide(flag, user, attributes, &mut ());
        let outcome = &flag.outcomes()[decision.outcome];
        (outcome.variant.clone(), outcome.value.clone(), decision.reason.name())
    };
    users.flat_map(|user| attributes.each_ref().map(|attributes| decide(&user, attributes))).collect()
}

/// The JSON pointers of all that stands in `value`, itself included.
fn pointers(value: &Value, pointer: String, found: &mut Vec<String>) {
    match value {
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                pointers(element, format!("{pointer}/{index}"), found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                pointers(member, format!("{pointer}/{name}"), found);
            }
        }
        _ => {}
    }
    found.push(pointer);
}

/// The path that problems name for the value at `pointer`.
fn path(pointer: &str) -> String {
    let parts = pointer.split('/').skip(1);
    let written = parts.map(|part| match part.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!(".{part}"),
    });
    written.collect::<String>().trim_start_matches('.').to_owned()
}

#[test]
fn problem_of_one_flag_leaves_others_unchanged() {
    let document = two_flags();
    let compiled = compile(&document);
    assert_eq!(compiled.problems.iter().count(), 0, "{:?}", compiled.problems);
    let expected = decisions(&compiled.datafile.unwrap(), "b-flag");
    let reasons = ["forced", "feature_test", "rollout", "traffic"];
    assert!(reasons.iter().all(|reason| expected.iter().any(|(_, _, other)| other == reason)));

    let mut found = Vec::new();
    for list in ["audiences", "typedAudiences", "experiments", "groups", "rollouts", "featureFlags"] {
        pointers(&document[list][0], format!("/{list}/0"), &mut found);
    }
    assert!(found.len() > 100);
    for pointer in found {
        for junk in [json!(null), json!(5), json!(-0.5), json!("junk"), json!([]), json!([[]]), json!({"junk": {}})] {
            let mut wrong = document.clone();
            *wrong.pointer_mut(&pointer).unwrap() = junk.clone();
            let compiled = compile(&wrong);
            let datafile = compiled.datafile.unwrap();
            assert_eq!(decisions(&datafile, "b-flag"), expected, "{pointer} {junk}");
            let is_there = |problem: &Problem| problem.path.starts_with(&path(&pointer));
            if junk.is_object() {
                assert!(compiled.problems.iter().any(is_there), "{pointer} {junk}: {:?}", compiled.problems);
            }
            let is_a = datafile.flags.iter().any(|flag| flag.key == "a-flag");
            let is_disabled = datafile.disabled.iter().any(|disabled| disabled.key.as_deref() == Some("a-flag"));
            assert!(is_a != is_disabled || pointer.starts_with("/featureFlags/0"), "{pointer} {junk}");
        }
    }
}

#[test]
fn missing_members_are_named() {
    let document = two_flags();
    let expected = decisions(&compiled(&document), "b-flag");
    let mut found = Vec::new();
    for list in ["audiences", "typedAudiences", "experiments", "groups", "rollouts", "featureFlags"] {
        pointers(&document[list][0], format!("/{list}/0"), &mut found);
    }
    for pointer in found {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let mut wrong = document.clone();
        let Some(members) = wrong.pointer_mut(parent).unwrap().as_object_mut() else { continue };
        members.remove(name);
        let compiled = compile(&wrong);
        assert_eq!(decisions(&compiled.datafile.unwrap(), "b-flag"), expected, "{pointer}");
        // A condition without `match` is one of `exact`; the rest of these has a default, or is no member of its own.
        let may_be_missing = ["match", "featureEnabled", "variables", "qa"].contains(&name)
            && !parent.ends_with("Flags/0")
            || name == "audienceConditions";
        let is_named = compiled
            .problems
            .iter()
            .any(|problem| problem.path == path(&pointer) && problem.severity == Severity::Error);
        assert!(is_named || may_be_missing, "{pointer}: {:?}", compiled.problems);
    }
}

#[test]
fn unknown_ids_are_reported_and_mean_the_same_as_to_the_sdks() {
    let cases = [
        ("/experiments/0/audienceConditions/1", "experiments[0].audienceConditions[1]"),
        ("/experiments/0/trafficAllocation/0/entityId", "experiments[0].trafficAllocation[0].entityId"),
        ("/experiments/0/variations/0/variables/0/id", "experiments[0].variations[0].variables[0].id"),
        ("/experiments/0/forcedVariations/qa", "experiments[0].forcedVariations.qa"),
        ("/groups/0/trafficAllocation/0/entityId", "groups[0].trafficAllocation[0].entityId"),
        ("/featureFlags/0/experimentIds/0", "featureFlags[0].experimentIds[0]"),
        ("/featureFlags/0/rolloutId", "featureFlags[0].rolloutId"),
    ];
    for (pointer, path) in cases {
        let mut wrong = two_flags();
        *wrong.pointer_mut(pointer).unwrap() = "nowhere".into();
        let compiled = compile(&wrong);
        assert_eq!(compiled.problems.iter().map(|problem| problem.path.as_str()).next(), Some(path));
        assert!(compiled.datafile.unwrap().flags.iter().any(|flag| flag.key == "a-flag"), "{path}");
    }
}

#[test]
fn flag_is_disabled_with_an_experiment_that_it_needs() {
    let mut wrong = two_flags();
    wrong["experiments"][0]["trafficAllocation"] = json!("all");
    let datafile = compile(&wrong).datafile.unwrap();
    let disabled: Vec<_> =
        datafile.disabled.iter().map(|disabled| (disabled.key.as_deref(), disabled.position)).collect();
    assert_eq!(disabled, [(Some("a-flag"), 0)]);
    assert!(datafile.disabled[0].problem.contains("experiments[0].trafficAllocation: expected a list"));
    assert_eq!(datafile.flags.iter().map(|flag| flag.key.as_str()).collect::<Vec<_>>(), ["b-flag"]);
}

#[test]
fn unknown_fields_are_ignored() {
    let mut newer = two_flags();
    newer["experiments"][0]["news"] = json!({"deep": [1]});
    newer["news"] = json!(1);
    let compiled = compile(&newer);
    assert_eq!(compiled.problems.iter().count(), 0);
    let datafile = compiled.datafile.unwrap();
    assert_eq!(decisions(&datafile, "a-flag"), decisions(&super::compiled(&two_flags()), "a-flag"));
}

#[test]
fn nesting_is_bounded() {
    let mut conditions = json!({"type": "custom_attribute", "name": "a", "match": "exists"});
    for _ in 0..AUDIENCE_DEPTH_MAX {
        conditions = json!(["not", conditions]);
    }
    let audiences = |conditions: &Value| document(json!({"typedAudiences": [{"id": "a", "conditions": conditions}]}));
    let compiled = compile(&audiences(&conditions));
    let messages: Vec<&str> = compiled.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(messages, ["conditions may be nested at most 64 deep"]);
    assert_eq!(compile(&audiences(&conditions[1])).problems.errors(), 0);
}
