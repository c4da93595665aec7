//! Deciding by payloads, and writing events.

mod checks;
mod reading;
mod sdk;

use super::ingest;
use super::sticky::{StickyDocument, StickyDocuments};
use super::*;
use crate::events::{EventKind, EventWire};
use edgesplit_engine::condition::{StepBudget, request_budget};
use edgesplit_engine::flag::FlagExposure;
use serde_json::{Value, json};
use std::collections::HashMap;

fn payload(document: &Value) -> Payload {
    let compiled = compile(document, None);
    compiled.payload.unwrap_or_else(|| panic!("{:?}", compiled.problems))
}

fn problems(document: &Value) -> Vec<String> {
    compile(document, None).problems.iter().map(ToString::to_string).collect()
}

fn context<'a>(attributes: &'a Value, url: &'a str) -> Context<'a, Value> {
    Context { attributes, url, overrides: Overrides::default(), steps: &*Box::leak(Box::new(request_budget())) }
}

/// The value and the reason of the feature `key`.
fn decided(payload: &Payload, key: &str, attributes: &Value) -> (Value, &'static str) {
    let at = payload.feature(key).expect("a feature");
    let context = context(attributes, "");
    let decision = Evaluation::new(payload, &context, None).feature(at);
    (payload.features[at].outcomes[decision.outcome].value.clone(), decision.reason.name())
}

#[test]
fn prerequisites_end_however_they_are_tied() {
    let on = |id: &str| json!({"parentConditions": [{"id": id, "condition": {"value": true}, "gate": true}]});
    let chain = |length: usize, last: Value| {
        let feature =
            |at: usize| (format!("f{at:03}"), json!({"defaultValue": true, "rules": [on(&format!("f{:03}", at + 1))]}));
        let mut features: serde_json::Map<String, Value> = (1..length).map(feature).collect();
        features.insert(format!("f{length:03}"), last);
        json!({ "features": features })
    };
    let attributes = json!({});
    let max = prerequisites::PREREQUISITE_DEPTH_MAX;
    let longest = payload(&chain(max, json!({"defaultValue": true})));
    assert_eq!(decided(&longest, "f001", &attributes), (json!(true), "default_value"));
    let blocked = payload(&chain(3, json!({"defaultValue": false})));
    assert_eq!(decided(&blocked, "f001", &attributes), (Value::Null, "prerequisite"));
    let too_long = payload(&chain(max + 2, json!({"defaultValue": true})));
    let disabled: Vec<_> = too_long.disabled.iter().filter_map(|disabled| disabled.key.as_deref()).collect();
    assert_eq!(disabled, ["f001", "f002"]);
    // A circle ends, and so does a way into one that is longer than any chain may be.
    for length in [1, 2, 200] {
        let circle = payload(&chain(length, json!({"defaultValue": true, "rules": [on("f001")]})));
        assert_eq!(decided(&circle, "f001", &attributes), (Value::Null, "cyclic_prerequisite"), "{length}");
    }
}

#[test]
fn long_list_of_rules_is_compiled_in_parts() {
    let rule = |at: usize| json!({"condition": {"country": format!("c{at}")}, "force": at});
    let feature = |last: Value| {
        let rules: Vec<Value> = (0..1_000).map(rule).chain([last]).collect();
        json!({"features": {"before": {}, "long": {"defaultValue": -1, "rules": rules}, "after": {"defaultValue": 1}}})
    };
    let config = payload(&feature(rule(1_000)));
    for (country, expected) in [("c0", 0), ("c500", 500), ("c1000", 1_000), ("c1001", -1)] {
        assert_eq!(decided(&config, "long", &json!({ "country": country })).0, json!(expected));
    }
    assert_eq!(decided(&config, "after", &json!({})).0, json!(1));

    let invalid = feature(json!({"force": 1, "coverage": "x"}));
    let place = "features.long.rules[1000].coverage: expected ";
    assert!(problems(&invalid).iter().any(|problem| problem.starts_with(place)), "{:?}", problems(&invalid));
    let disabled = payload(&invalid).disabled;
    assert_eq!(disabled.iter().map(|disabled| disabled.key.as_deref()).collect::<Vec<_>>(), [Some("long")]);
}

#[test]
fn contexts_of_a_bandit_take_the_steps_of_their_variations() {
    let bandit = json!({"banditVersion": 1, "contexts": [{"leafId": 1, "weights": vec![0.01; 100]}]});
    let rule = json!({"variations": (0..100).collect::<Vec<_>>(), "contextualBanditRef": "b"});
    let config = payload(&json!({"features": {"f": {"rules": [rule]}}, "contextualBandits": {"b": bandit}}));
    let attributes = json!({"id": "u1"});
    for (steps, reason) in [(100, "limit"), (250, "experiment")] {
        let steps = StepBudget::new(steps);
        let context = Context { steps: &steps, ..context(&attributes, "") };
        assert_eq!(Evaluation::new(&config, &context, None).feature(0).reason.name(), reason);
    }
}

#[test]
fn every_outcome_is_listed_in_advance() {
    let payload = payload(&json!({"features": {"f": {"defaultValue": "d", "rules": [
        {"force": "x"},
        {"key": "e", "variations": ["a", "b"], "meta": [{"key": "red"}, {}]},
    ]}}}));
    let feature = &payload.features[0];
    let shown: Vec<Value> = feature
        .outcomes
        .iter()
        .map(|outcome| json!([outcome.value, outcome.experiment, outcome.variant, outcome.in_experiment]))
        .collect();
    let expected = json!([
        [null, null, null, false],
        ["d", null, null, false],
        ["x", null, null, false],
        ["a", "e", "red", true],
        ["b", "e", "1", true],
    ]);
    assert_eq!(Value::from(shown), expected);
}

#[test]
fn exposures_are_those_that_the_sdk_reports() {
    let document = json!({"features": {
        "parent": {"defaultValue": false, "rules": [{"key": "parent-exp", "variations": [true, true]}]},
        "child": {"defaultValue": 0, "rules": [
            {"parentConditions": [{"id": "parent", "condition": {"value": true}}],
             "key": "holdout", "variations": [1, 2], "ranges": [[0, 0], [0, 1]], "meta": [{}, {"key": "in", "passthrough": true}]},
            {"key": "exp", "variations": [3, 3], "condition": {"plan": "pro"}},
            {"force": 4, "tracks": [{"experiment": {"key": "remote"}, "result": {"key": "1", "variationId": 1, "hashValue": 7}}]},
        ]},
    }});
    let payload = payload(&document);
    for (attributes, expected) in [
        (json!({"id": "u1", "plan": "pro"}), json!(["parent-exp", "holdout", "exp"])),
        (json!({"id": "u1"}), json!(["parent-exp", "holdout", "remote"])),
        (json!({}), json!(["remote"])),
    ] {
        let context = context(&attributes, "");
        let mut evaluation = Evaluation::new(&payload, &context, None);
        for feature in 0..payload.features.len() {
            evaluation.feature(feature);
            evaluation.feature(feature);
        }
        let exposed: Value = evaluation.exposures().iter().map(|exposure| exposure.experiment).collect();
        assert_eq!(exposed, expected, "{attributes}");
    }
    let attributes = json!({"id": "u1", "plan": "pro"});
    let context = context(&attributes, "");
    let child = payload.feature("child").unwrap();
    let decision = Evaluation::new(&payload, &context, None).feature(child);
    let result = decision.result.unwrap();
    assert_eq!((decision.reason.name(), result.hash_used, result.unit.as_deref()), ("experiment", true, Some("u1")));
}

#[test]
fn overrides_apply_only_where_allowed() {
    let payload =
        payload(&json!({"features": {"feature": {"defaultValue": "d", "rules": [{"variations": ["a", "b", "c"]}]}}}));
    let attributes = json!({"id": "123"});
    let url = "https://shop.example/?feature=1";
    let forced = HashMap::from([("feature".to_owned(), 0)]);
    for (overrides, expected, reason, exposure) in [
        (Overrides::default(), "c", "experiment", true),
        (Overrides { query_string: true, ..Overrides::default() }, "b", "experiment", false),
        (Overrides { variations: Some(&forced), ..Overrides::default() }, "a", "experiment", false),
        (Overrides { enabled: false, ..Overrides::default() }, "d", "default_value", false),
        (Overrides { qa_mode: true, ..Overrides::default() }, "d", "default_value", false),
        (Overrides { outcomes: &[(0, 3)], ..Overrides::default() }, "b", "override", false),
    ] {
        let context = Context { overrides, ..context(&attributes, url) };
        let mut evaluation = Evaluation::new(&payload, &context, None);
        let decision = evaluation.feature(0);
        let value = &payload.features[0].outcomes[decision.outcome].value;
        let hash_used = decision.result.is_some_and(|result| result.hash_used);
        assert_eq!((value, decision.reason.name(), hash_used), (&json!(expected), reason, exposure));
        assert_eq!(evaluation.exposures().len(), usize::from(exposure));
    }
}

#[test]
fn sticky_buckets_are_read_changed_and_written() {
    let payload = payload(&json!({"features": {"f": {"rules": [
        {"key": "e", "variations": ["a", "b"], "meta": [{"key": "0"}, {"key": "1"}], "weights": [1, 0], "fallbackAttribute": "session",
         "bucketVersion": 2, "minBucketVersion": 2},
    ]}}}));
    assert!(payload.sticky_attributes().eq(["id", "session"]));
    let document = |attribute: &str, unit: &str, assignments: Value| {
        StickyDocument::from_json(
            &json!({"attributeName": attribute, "attributeValue": unit, "assignments": assignments}),
        )
        .expect("a document")
    };
    let attributes = json!({"session": "s1"});
    for (kept, expected, written) in [
        (vec![], "a", json!({"e__2": "0"})),
        (vec![document("session", "s1", json!({"e__2": "1"}))], "b", Value::Null),
        (vec![document("session", "s2", json!({"e__2": "1"}))], "a", json!({"e__2": "0"})),
        (
            vec![document("session", "s1", json!({"e__2": "9", "other__0": "1"}))],
            "a",
            json!({"e__2": "0", "other__0": "1"}),
        ),
        (vec![document("session", "s1", json!({"e__1": "1"}))], "", Value::Null),
        (vec![document("session", "s1", json!({"e__01": "1", "e__2": "1"}))], "b", Value::Null),
    ] {
        let mut documents = StickyDocuments::default();
        kept.into_iter().for_each(|document| documents.add(document));
        let context = context(&attributes, "");
        let mut evaluation = Evaluation::new(&payload, &context, Some(documents));
        let decision = evaluation.feature(0);
        let value = payload.features[0].outcomes[decision.outcome].value.as_str().unwrap_or_default();
        let changed = evaluation.sticky().unwrap().iter().find(|document| document.is_changed);
        let changed = changed.map_or(Value::Null, |document| document.to_json()["assignments"].clone());
        assert_eq!((value, changed), (expected, written));
    }
    for value in [json!(null), json!({}), json!({"attributeName": "id", "attributeValue": "", "assignments": {}})] {
        assert_eq!(StickyDocument::from_json(&value), None, "{value}");
    }
}

#[test]
fn redirect_is_the_first_test_with_the_visitor() {
    let test = |key: &str, pattern: &str, to: &str| {
        json!({"key": key, "variations": [{}, {"urlRedirect": to}], "weights": [0, 1], "persistQueryString": true,
               "urlPatterns": [{"type": "simple", "include": true, "pattern": pattern}]})
    };
    let document = json!({"features": {}, "experiments": [
        test("elsewhere", "/other", "https://shop.example/never"),
        {"key": "visual", "variations": [{}, {"css": "a"}]},
        test("broken", "/home", "not a url"),
        test("first", "/home", "https://shop.example/new?b=3"),
        test("second", "/home", "https://shop.example/newer"),
        test("loop", "/loop*", "https://shop.example/loop/2"),
    ]});
    let payload = payload(&document);
    assert_eq!(payload.disabled.len(), 1);
    assert!(payload.disabled[0].problem.starts_with("experiments[2].variations[1].urlRedirect: expected a whole URL"));
    assert!(problems(&document).iter().any(|problem| problem.starts_with("experiments[1]: not a URL redirect test")));
    let attributes = json!({"id": "u1"});
    for (url, expected) in [
        ("https://shop.example/home/?a=1&b=2", Some(("first", Some("https://shop.example/new?b=3&a=1")))),
        ("https://shop.example/loop", Some(("loop", None))),
        ("https://shop.example/", None),
        ("/home", None),
    ] {
        let context = context(&attributes, url);
        let mut evaluation = Evaluation::new(&payload, &context, None);
        let redirect = evaluation.redirect();
        let shown =
            redirect.as_ref().map(|redirect| (redirect.result.experiment.key.as_str(), redirect.location.as_deref()));
        assert_eq!(shown, expected, "{url}");
        assert_eq!(evaluation.exposures().len(), usize::from(expected.is_some()), "{url}");
    }
}

#[test]
fn events_are_written_as_the_ingestor_takes_them() {
    let attributes =
        json!({"id": "u1", "device_id": "", "user_id": 5, "country": "DE", "utmSource": "mail", "pageTitle": null});
    let url = "https://shop.example/";
    let (variant, attribute, unit) = (Some("red"), "id", "7");
    let typed = json!(7);
    let exposure =
        FlagExposure { experiment: "e\"1", variant, attribute, unit, typed_unit: Some(&typed), outcome: None };
    let events = [EventKind::Exposure(exposure), EventKind::Goal("purchase")].map(|kind| {
        let mut out = Vec::new();
        ingest::write(kind, attributes.as_object().unwrap(), url, &mut out);
        out
    });
    let body = |events: &[Vec<u8>]| {
        let mut body = Vec::new();
        GrowthBook.write_body(b"", &mut events.iter().map(Vec::as_slice), &mut body);
        body
    };
    let written: Value = serde_json::from_slice(&body(&events)).expect("JSON");
    let common = json!({
        "user_id": null, "device_id": "u1", "page_id": null, "session_id": null, "utm_source": "mail", "url": url,
        "context_json": {"country": "DE"}, "sdk_language": "edgesplit", "sdk_version": env!("CARGO_PKG_VERSION"),
    });
    let expected = [
        (
            "Experiment Viewed",
            json!({"experimentId": "e\"1", "variationId": "red", "hashAttribute": "id", "hashValue": 7}),
        ),
        ("purchase", json!({})),
    ];
    let expected: Value = expected
        .into_iter()
        .map(|(name, properties)| {
            let mut event = common.clone();
            event["event_name"] = name.into();
            event["properties_json"] = properties;
            event
        })
        .collect();
    assert_eq!(written, expected);
    assert_eq!(body(&[]), b"[]");
}
