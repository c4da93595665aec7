//! Configs of the vendors whose flags are decided one by one.

use super::{extended, list, members};
use serde_json::{Value, json};

/// A payload of Eppo's with these flags: each has the key of its own, and these members beside those that all have.
pub(super) fn eppo(count: usize, rest: impl Fn(usize) -> Value) -> (&'static str, Value) {
    let flag = |number: usize| {
        let flag = json!({"key": format!("f-{number}"), "enabled": true, "variationType": "STRING", "totalShards": 10_000,
            "variations": {"a": {"key": "a", "value": "a"}, "b": {"key": "b", "value": "b"}}, "allocations": []});
        extended(flag, &rest(number))
    };
    ("eppo", json!({"createdAt": "r", "flags": members("f", count, flag)}))
}

pub(super) fn eppo_configs() -> Vec<(&'static str, (&'static str, Value))> {
    let allocation = |conditions: Value, splits: usize| {
        let split = |at: usize| {
            let ranges = json!([{"start": 10 * at, "end": 10 * at + 10}]);
            json!({"variationKey": if at.is_multiple_of(2) { "a" } else { "b" }, "shards": [{"salt": "s", "ranges": ranges}]})
        };
        json!({"allocations": [{"key": "all", "rules": [{"conditions": conditions}], "splits": list(splits, split)}]})
    };
    let one_of = |count: usize| json!({"attribute": "country", "operator": "ONE_OF", "value": list(count, |at| format!("c{}", at * 7919 % 12_007).into())});
    let pattern = |at: usize| json!({"attribute": "a", "operator": "MATCHES", "value": format!("^[a-z]{{900}}{at}$")});
    vec![
        ("flags", eppo(5_000, |_| allocation(json!([one_of(3)]), 2))),
        ("long lists", eppo(20, |_| allocation(json!([one_of(12_000)]), 2))),
        ("many splits", eppo(50, |_| allocation(json!([]), 1_000))),
        ("patterns", eppo(30, |_| allocation(list(1_500, pattern), 2))),
        ("wrong flags", ("eppo", json!({"createdAt": "r", "flags": members("f", 60_000, |_| json!(1))}))),
    ]
}

/// Definitions of flagd with this targeting for each flag, and these evaluators.
pub(super) fn flagd(count: usize, targeting: impl Fn(usize) -> Value, evaluators: &Value) -> (&'static str, Value) {
    let flag = |number: usize| json!({"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "a", "targeting": targeting(number)});
    ("flagd", json!({"flags": members("f", count, flag), "$evaluators": evaluators}))
}

pub(super) fn flagd_configs() -> Vec<(&'static str, (&'static str, Value))> {
    let shares = json!({"fractional": [["a", 50], ["b", 50]]});
    let chain = |at: usize| json!({"if": [{"==": [{"var": "country"}, format!("c{at}")]}, "a"]});
    let many = json!({"or": list(2_000, chain)});
    vec![
        ("flags", flagd(5_000, |_| json!({"if": [{"in": [{"var": "country"}, ["DE", "AT"]]}, shares]}), &json!({}))),
        ("long conditions", flagd(25, |_| many.clone(), &json!({}))),
        (
            "large evaluators",
            flagd(1_000, |at| json!({"$ref": format!("e-{}", at % 25)}), &members("e", 25, |_| many.clone())),
        ),
        ("unknown operators", flagd(5_000, |_| json!({"like": 1}), &json!({}))),
        ("wrong flags", ("flagd", json!({"flags": members("f", 60_000, |_| json!(1)), "$evaluators": {}}))),
    ]
}

pub(super) fn unleash_configs() -> Vec<(&'static str, (&'static str, Value))> {
    let feature = |number: usize, strategy: Value, rest: Value| {
        let feature = json!({"name": format!("f{number}"), "enabled": true, "strategies": [strategy]});
        extended(feature, &rest)
    };
    let rollout =
        json!({"name": "flexibleRollout", "parameters": {"rollout": "50"}, "variants": [{"name": "a", "weight": 1}]});
    let constrained = |constraint: Value| json!({"name": "default", "constraints": constraint});
    let values = list(12_000, |at| format!("v{}", at * 7919 % 12_007).into());
    let pattern = |_| json!({"contextName": "plan", "operator": "REGEX", "value": "[a-z]{2500}"});
    let payload = |features: Value, segments: Value| ("unleash", json!({"features": features, "segments": segments}));
    let none = json!({});
    let segmented = |number: usize| feature(number, json!({"name": "default", "segments": [number]}), none.clone());
    let child = |number: usize| {
        feature(number, rollout.clone(), json!({"dependencies": [{"feature": "f0"}, {"feature": "x"}]}))
    };
    let variants = list(2_000, |at| json!({"name": format!("v{at}"), "weight": 1}));
    vec![
        ("features", payload(list(5_000, |number| feature(number, rollout.clone(), none.clone())), json!([]))),
        (
            "long lists of values",
            payload(
                list(10, |number| {
                    feature(
                        number,
                        constrained(json!([{"contextName": "plan", "operator": "IN", "values": values}])),
                        none.clone(),
                    )
                }),
                json!([]),
            ),
        ),
        (
            "patterns",
            payload(list(10, |number| feature(number, constrained(list(1_400, pattern)), none.clone())), json!([])),
        ),
        (
            "segments",
            payload(
                list(5_000, segmented),
                list(
                    5_000,
                    |id| json!({"id": id, "constraints": [{"contextName": "plan", "operator": "IN", "values": ["a"]}]}),
                ),
            ),
        ),
        ("dependencies", payload(list(5_000, child), json!([]))),
        (
            "many variants",
            payload(list(20, |number| feature(number, rollout.clone(), json!({"variants": variants}))), json!([])),
        ),
        ("wrong elements", payload(list(50_000, |_| json!(1)), list(50_000, |_| json!(1)))),
    ]
}

pub(super) fn posthog_configs() -> Vec<(&'static str, (&'static str, Value))> {
    let flag = |number: usize, properties: Value| {
        json!({"key": format!("f{number}"), "active": true, "filters": {"groups": [{"properties": properties, "rollout_percentage": 50}],
            "multivariate": {"variants": [{"key": "a", "rollout_percentage": 50}, {"key": "b", "rollout_percentage": 50}]}}})
    };
    let filter = |operator: &str, value: Value| json!({"key": "plan", "operator": operator, "value": value});
    let payload = |flags: Value, cohorts: Value| ("posthog", json!({"flags": flags, "cohorts": cohorts}));
    let values = list(12_000, |at| format!("v{}", at * 7919 % 12_007).into());
    let in_cohort = |number: usize| flag(number, json!([{"type": "cohort", "value": format!("c-{number}")}]));
    let cohort = |_| json!({"type": "AND", "values": [{"type": "OR", "values": [filter("exact", json!(["a", "b"]))]}]});
    let child = |number: usize| {
        flag(
            number,
            json!([{"type": "flag", "key": "f0", "value": true, "operator": "flag_evaluates_to", "dependency_chain": ["f0", "x"]}]),
        )
    };
    vec![
        ("flags", payload(list(5_000, |number| flag(number, json!([filter("exact", json!("pro"))]))), json!({}))),
        (
            "long lists of values",
            payload(list(10, |number| flag(number, json!([filter("exact", values.clone())]))), json!({})),
        ),
        (
            "patterns",
            payload(list(10, |number| flag(number, list(1_800, |_| filter("regex", json!("[a-z]{2500}"))))), json!({})),
        ),
        ("cohorts", payload(list(5_000, in_cohort), members("c", 8_000, cohort))),
        ("dependencies", payload(list(5_000, child), json!({}))),
        ("wrong elements", payload(list(50_000, |_| json!(1)), list(50_000, |_| json!(1)))),
    ]
}
