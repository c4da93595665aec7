#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::PostHog;
use super::date::{self, Bound};
use super::evaluation::bucket;
use crate::events::{EventKind, EventWire, VendorEvent};
use crate::format::{Compiled, Options};
use crate::{compile_bytes, find};
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::DecisionInput;
use edgesplit_engine::decide_flags;
use edgesplit_engine::flag::{FlagDecisions, FlagExposure, FlagVisitor};
use edgesplit_engine::snapshot::Snapshot;
use serde_json::{Value, json};

const NOW_MS: i64 = 1_795_780_800_000; // 2026-11-27T12:00:00Z

fn compile(payload: &Value) -> (Compiled, Vec<String>) {
    let mut options = Options::new(find("posthog").unwrap(), 64);
    options.events_path = Some("/batch/?token=phc_\"1".to_owned());
    let compiled = compile_bytes(payload.to_string().as_bytes(), &options);
    let problems = compiled.problems.iter().map(ToString::to_string).collect();
    (compiled, problems)
}

/// The key, reason and variant of each flag that is not disabled.
fn decisions(snapshot: &Snapshot, attributes: &Value) -> Vec<(String, &'static str, Option<String>)> {
    let (steps, mut found) = (request_budget(), FlagDecisions::default());
    let visitor = FlagVisitor::new(Some("u1"), attributes, &steps, NOW_MS);
    let rules = snapshot.flag_evaluator.as_deref().unwrap();
    let candidates: Vec<u32> = (0..).take(snapshot.experiments.len()).collect();
    let input = DecisionInput::unrestricted(NOW_MS, &steps);
    decide_flags(snapshot, rules, &candidates, &input, &visitor, &mut found);
    let row = |(flag, outcome, reason): &(usize, Option<usize>, edgesplit_engine::reason::Reason)| {
        let variant = outcome.and_then(|outcome| rules.outcomes(*flag)[outcome].variant.clone());
        (snapshot.experiments[snapshot.flag(*flag).unwrap()].key.clone(), reason.name(), variant)
    };
    found.decided.iter().map(row).collect()
}

#[test]
fn buckets_are_those_of_the_sdks() {
    for (parts, expected) in [
        (&["nav", ".", "u1"][..], 0.753_729_555_959),
        (&["nav", ".", "u1", "variant"], 0.245_993_481_420),
        (&["nav", ".", "größe 7"], 0.905_023_979_938),
        (&["shop", ".", "d-42", "variant"], 0.014_291_403_563),
        (&["holdout-", "u1"], 0.511_029_431_941),
    ] {
        assert!((bucket(parts) - expected).abs() < 1e-12, "{parts:?}: {}", bucket(parts));
    }
}

#[test]
fn problems_touch_only_their_flags() {
    let on = |properties: Value| json!({"groups": [{"properties": properties}]});
    let flag = |key: &str, filters: Value| json!({"key": key, "active": true, "filters": filters});
    let payload = json!({"later": 1, "cohorts": {"1": {"type": "XOR", "values": []}}, "flags": [
        flag("good", json!({"groups": [{}], "later": true})),
        flag("wrong", json!({"groups": 1})),
        {"active": true},
        7,
        flag("cohort", on(json!([{"type": "cohort", "value": 9}]))),
        flag("malformed", on(json!([{"type": "cohort", "value": 1}]))),
        flag("operator", on(json!([{"key": "plan", "operator": "near", "value": 1}]))),
        flag("number", on(json!([{"key": "plan", "operator": "gt", "value": "x"}]))),
        flag("chain", on(json!([{"type": "flag", "key": "none", "value": true, "operator": "flag_evaluates_to", "dependency_chain": ["none"]}]))),
        flag("keyless", on(json!([{"operator": "exact"}]))),
        flag("share", json!({"multivariate": {"variants": [{"key": "a"}]}})),
        flag("group", json!({"aggregation_group_type_index": 3, "groups": [{}]})),
    ]});
    let (compiled, problems) = compile(&payload);
    assert_eq!(
        problems,
        [
            "cohorts.1: expected an object with the type AND or OR, and a list of values, found the object {\"type\":\"XOR\",\"values\":[]}",
            "flags[1].filters.groups: expected a list, found the number 1",
            "flags[2].key: missing",
            "flags[3]: expected an object, found the number 7",
            "flags[4].filters.groups[0].properties[0].value: there is no cohort 9: the flag is undecided",
            "flags[6].filters.groups[0].properties[0].operator: near the number 1 cannot be decided here: the flag may be undecided",
            "flags[7].filters.groups[0].properties[0].value: gt the string \"x\" cannot be decided here: the flag may be undecided",
            "flags[8].filters.groups[0].properties[0].dependency_chain[0]: there is no flag \"none\": the flag is undecided",
            "flags[9].filters.groups[0].properties[0].key: missing",
            "flags[10].filters.multivariate.variants[0].rollout_percentage: missing",
            "flags[11].filters.aggregation_group_type_index: an unknown type of groups: the flag is undecided",
        ]
    );
    let snapshot = compiled.snapshot.unwrap();
    let disabled: Vec<usize> = snapshot.disabled.iter().map(|one| one.position).collect();
    assert_eq!(disabled, [1, 2, 3, 9, 10]);
    let found = decisions(&snapshot, &json!({"plan": "pro"}));
    let found: Vec<(&str, &str)> = found.iter().map(|(key, reason, _)| (&**key, *reason)).collect();
    let undecided = ["cohort", "malformed", "operator", "number", "chain", "group"];
    let undecided = undecided.map(|key| (key, "unsupported_definition"));
    assert_eq!(found, [&[("good", "condition_match")], &undecided[..]].concat());
}

#[test]
fn payloads_of_another_shape_are_refused() {
    for payload in [json!({}), json!({"flags": {}}), json!([])] {
        let (compiled, problems) = compile(&payload);
        assert!(compiled.snapshot.is_none() && problems.len() == 1, "{payload}: {problems:?}");
    }
}

#[test]
fn circles_are_undecided() {
    let on = |key: &str, other: &str| {
        let property = json!({"type": "flag", "key": other, "value": true, "operator": "flag_evaluates_to", "dependency_chain": [other]});
        json!({"key": key, "active": true, "filters": {"groups": [{"properties": [property]}]}})
    };
    let cohort = |id: u32| json!({"type": "AND", "values": [{"type": "cohort", "value": id}]});
    let in_cohort =
        json!({"key": "c", "active": true, "filters": {"groups": [{"properties": [{"type": "cohort", "value": 1}]}]}});
    let payload =
        json!({"flags": [on("a", "b"), on("b", "a"), in_cohort], "cohorts": {"1": cohort(2), "2": cohort(1)}});
    let found = decisions(&compile(&payload).0.snapshot.unwrap(), &json!({}));
    assert!(found.iter().all(|(_, reason, _)| ["unresolved_dependency", "unsupported_definition"].contains(reason)));
    assert_eq!(found.len(), 3);
}

#[test]
fn dates_are_those_of_the_sdk() {
    for (text, seconds) in [
        ("2026-11-26", 1_795_651_200),
        ("2026-11-26T12:30:00Z", 1_795_696_200),
        (" 2026-11-26 12:30:00 +01:00", 1_795_692_600),
        ("2026-11-26 12:30 UTC", 1_795_696_200),
    ] {
        assert_eq!(date::parse(text), Some(seconds * 1_000_000), "{text}");
    }
    for text in ["", "soon", "2026-13-01", "2026-11-26T", "2026-11-26T25:00:00Z"] {
        assert_eq!(date::parse(text), None, "{text}");
    }
    let ago = |text: &str, now: &str| {
        let now_ms = date::parse(now).unwrap() / 1_000;
        Bound::parse(text).and_then(|bound| bound.micros(now_ms))
    };
    for (text, now, then) in [
        ("-30d", "2026-11-27", "2026-10-28"),
        ("6h", "2026-11-27T06:30:00Z", "2026-11-27T00:30:00Z"),
        ("-3w", "2026-11-27", "2026-11-06"),
        ("-2m", "2026-03-31", "2026-01-28"),
        ("-1m", "2024-03-31", "2024-02-29"),
        ("-1y", "2024-02-29", "2023-02-28"),
        ("-4y", "2024-02-29", "2020-02-28"),
        ("-15m", "2026-01-15", "2024-10-15"),
        ("-12m", "2026-03-31", "2025-03-28"),
        ("-3y", "2026-03-31", "2023-03-31"),
    ] {
        assert_eq!(ago(text, now), date::parse(then), "{text} before {now}");
    }
    assert_eq!(ago("-9999y", "2026-11-27"), None);
    for text in ["-10000d", "-3x", "d", "-", "--3d"] {
        assert!(Bound::parse(text).is_none(), "{text}");
    }
}

#[test]
fn events_are_those_of_the_sdk() {
    let (compiled, problems) = compile(&json!({"flags": []}));
    let snapshot = compiled.snapshot.unwrap_or_else(|| panic!("{problems:?}"));
    let (attributes, aliases) = (json!({"id": "u1"}), []);
    let event = |attribute, unit| {
        let (experiment, variant, typed_unit, outcome) = ("nav", Some("b"), None, None);
        let kind = EventKind::Exposure(FlagExposure { experiment, variant, attribute, unit, typed_unit, outcome });
        let (id, time_ms, attributes) = ("e1", NOW_MS, &attributes);
        let (aliases, keeps_url_query, steps) = (&aliases, false, &request_budget());
        let event = VendorEvent { kind, unit, id, time_ms, attributes, aliases, keeps_url_query, steps };
        let mut out = Vec::new();
        assert!(PostHog.write(&event, None, &mut out));
        out
    };
    let events = [event("id", "u1"), event("$groups.company", "acme")];
    let mut body = Vec::new();
    let head = PostHog.head(snapshot.flag_evaluator.as_deref().unwrap());
    PostHog.write_body(&head, &mut events.iter().map(Vec::as_slice), &mut body);
    let expected = |id: &str, groups: Option<Value>| {
        let mut event = json!({"event": "$feature_flag_called", "distinct_id": id, "uuid": "e1",
            "timestamp": "2026-11-27T12:00:00.000Z", "properties": {"$feature_flag": "nav",
            "$feature_flag_response": "b", "locally_evaluated": true}});
        if let Some(groups) = groups {
            event["properties"]["$groups"] = groups;
        }
        event
    };
    let batch = [expected("u1", None), expected("acme", Some(json!({"company": "acme"})))];
    let found: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(found, json!({"api_key": "phc_\"1", "batch": batch}));
}
