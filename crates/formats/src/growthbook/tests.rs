use super::ingest::IngestEvent;
use super::sticky::{StickyDocument, StickyDocuments};
use super::*;
use crate::events::{EventKind, EventWire};
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::flag::{FlagDecision, FlagExposure};
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
    let decision = Evaluation::new(payload, &context, None).flag(at);
    (payload.features()[at].outcomes()[decision.outcome].value.clone(), decision.reason.name())
}

#[test]
fn a_document_that_is_no_payload_is_refused_whole() {
    for (bytes, expected) in [
        (&b"{"[..], "not JSON: "),
        (b"[]", "expected an object, found the list []"),
        (b"{}", "features: missing; expected an object of features"),
        (br#"{"features": null}"#, "features: missing"),
        (br#"{"features": []}"#, "features: expected an object"),
        (br#"{"features": {}, "savedGroups": []}"#, "savedGroups: expected an object"),
        (
            br#"{"features": {}, "encryptedFeatures": "a.b"}"#,
            "encryptedFeatures: is encrypted, and no key is configured",
        ),
    ] {
        let compiled = compile_bytes(bytes, None);
        assert!(compiled.payload.is_none(), "{expected}");
        assert!(compiled.problems.iter().any(|problem| problem.to_string().starts_with(expected)), "{compiled:?}");
    }
}

#[test]
fn what_is_encrypted_is_read_with_the_key() {
    let key = "AAECAwQFBgcICQoLDA0ODw==";
    let document = json!({"features": {}, "encryptedFeatures": FEATURES_ENCRYPTED});
    let payload = compile(&document, Some(key)).payload.expect("a payload");
    assert_eq!(decided(&payload, "f", &json!({})).0, "ü");
    for (encrypted, key) in
        [(FEATURES_ENCRYPTED, "AAECAwQFBgcICQoLDA0OEA=="), (NO_JSON_ENCRYPTED, key), ("", key), ("!", key)]
    {
        let compiled = compile(&json!({"features": {}, "encryptedFeatures": encrypted}), Some(key));
        assert!(compiled.payload.is_none(), "{encrypted}");
    }
}

#[test]
fn what_is_wrong_is_told_where_it_stands_and_disables_its_feature_alone() {
    let rule =
        |rule: Value| json!({"features": {"checkout": {"rules": [{"force": 1}, rule]}, "other": {"defaultValue": 1}}});
    for (wrong, expected) in [
        (json!({"variations": [0, 1], "weights": "x"}), "weights: expected a list, found the string \"x\""),
        (json!({"variations": [0, 1], "weights": [0.5, null]}), "weights[1]: expected a number, found null"),
        (json!({"variations": {}}), "variations: expected a list"),
        (json!({"variations": [0, 1], "meta": [{}]}), "meta: expected one entry for each of the 2 variations"),
        (json!({"variations": [0, 1], "ranges": [[0, 0.5], [1]]}), "ranges[1]: expected a range"),
        (json!({"variations": [0, 1], "namespace": ["n", 0]}), "namespace: expected a namespace"),
        (json!({"variations": [0, 1], "filters": [{"ranges": []}]}), "filters[0].seed: missing"),
        (json!({"variations": [0, 1], "bucketVersion": -1}), "bucketVersion: expected a whole number"),
        (json!({"force": 1, "condition": "x"}), "condition: expected an object"),
        (json!({"force": 1, "coverage": "all"}), "coverage: expected a number"),
        (json!({"force": 1, "tracks": [{"result": {}}]}), "tracks[0].experiment: missing"),
        (json!({"parentConditions": [{}]}), "parentConditions[0].id: missing"),
        (json!({"key": 5, "variations": [0, 1]}), "key: expected a string"),
        (json!(5), ": expected an object"),
    ] {
        let document = rule(wrong.clone());
        let compiled = payload(&document);
        let path = "features.checkout.rules[1]";
        let expected =
            if expected.starts_with(':') { format!("{path}{expected}") } else { format!("{path}.{expected}") };
        assert!(problems(&document)[0].starts_with(&expected), "{wrong}: {:?}", problems(&document));
        let [disabled] = compiled.disabled() else { panic!("{wrong}") };
        assert_eq!((disabled.key.as_deref(), disabled.position), (Some("checkout"), 0));
        assert!(disabled.problem.starts_with(&expected), "{disabled:?}");
        assert_eq!(decided(&compiled, "other", &json!({})).0, 1);
    }
}

#[test]
fn what_the_sdk_has_a_meaning_for_is_told_and_decided() {
    for (rule, expected, value) in [
        (json!({"force": 1, "soon": 1}), "features.f.rules[0].soon: unknown field", 1),
        (json!({"variations": [3, 3], "weights": [0.2]}), "features.f.rules[0].weights: not 2 weights", 3),
        (json!({"variations": [3, 3], "hashVersion": 7}), "features.f.rules[0].hashVersion: the hash version 7", 0),
        (
            json!({"force": 1, "condition": {"a": {"$near": 1}}}),
            "features.f.rules[0].condition.a.$near: unknown operator",
            0,
        ),
        (
            json!({"force": 1, "condition": {"id": {"$notInGroup": "g"}}}),
            "features.f.rules[0].condition.id.$notInGroup: there",
            1,
        ),
        (
            json!({"contextualVariations": [3, 3], "contextualBanditRef": "b"}),
            "features.f.rules[0].contextualBanditRef: there is no contextual bandit \"b\"",
            3,
        ),
        (
            json!({"parentConditions": [{"id": "x", "condition": {"value": 1}}], "force": 1}),
            "features.f.rules[0].parentConditions[0].id: there",
            0,
        ),
    ] {
        let document = json!({"features": {"f": {"defaultValue": 0, "rules": [rule]}}});
        assert!(problems(&document)[0].starts_with(expected), "{:?}", problems(&document));
        assert_eq!(decided(&payload(&document), "f", &json!({"id": "u1"})).0, value, "{rule}");
    }
}

#[test]
fn an_invalid_bandit_disables_the_features_that_use_it() {
    let rule = |bandit: &str| json!({"rules": [{"contextualVariations": [0, 1], "contextualBanditRef": bandit}]});
    let document = json!({
        "features": {"a": rule("good"), "b": rule("bad")},
        "contextualBandits": {
            "good": {"contexts": [{"leafId": 1, "weights": [1, 0]}]}, "bad": {"contexts": [{"leafId": 1, "weights": "x"}]},
        },
    });
    let payload = payload(&document);
    assert_eq!(payload.features().iter().map(Feature::key).collect::<Vec<_>>(), ["a"]);
    assert_eq!(
        problems(&document)[0],
        "contextualBandits.bad.contexts[0].weights: expected a list, found the string \"x\""
    );
    assert_eq!(
        payload.disabled()[0].problem,
        "features.b.rules[0].contextualBanditRef: the contextual bandit \"bad\" is invalid"
    );
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
    let max = payload::PREREQUISITE_DEPTH_MAX;
    let longest = payload(&chain(max, json!({"defaultValue": true})));
    assert_eq!(decided(&longest, "f001", &attributes), (json!(true), "default_value"));
    let blocked = payload(&chain(3, json!({"defaultValue": false})));
    assert_eq!(decided(&blocked, "f001", &attributes), (Value::Null, "prerequisite"));
    let too_long = payload(&chain(max + 2, json!({"defaultValue": true})));
    let disabled: Vec<_> = too_long.disabled().iter().filter_map(|disabled| disabled.key.as_deref()).collect();
    assert_eq!(disabled, ["f001", "f002"]);
    // A circle ends, and so does a way into one that is longer than any chain may be.
    for length in [1, 2, 200] {
        let circle = payload(&chain(length, json!({"defaultValue": true, "rules": [on("f001")]})));
        assert_eq!(decided(&circle, "f001", &attributes), (Value::Null, "cyclic_prerequisite"), "{length}");
    }
}

#[test]
fn every_outcome_is_listed_in_advance() {
    let payload = payload(&json!({"features": {"f": {"defaultValue": "d", "rules": [
        {"force": "x"},
        {"key": "e", "variations": ["a", "b"], "meta": [{"key": "red"}, {}]},
    ]}}}));
    let feature = &payload.features()[0];
    let shown: Vec<Value> = feature
        .outcomes()
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
        for feature in 0..payload.features().len() {
            evaluation.flag(feature);
            evaluation.flag(feature);
        }
        let exposed: Value = evaluation.exposures().iter().map(|exposure| exposure.experiment).collect();
        assert_eq!(exposed, expected, "{attributes}");
    }
    let attributes = json!({"id": "u1", "plan": "pro"});
    let context = context(&attributes, "");
    let child = payload.feature("child").unwrap();
    let decision = Evaluation::new(&payload, &context, None).flag(child);
    assert!(
        matches!(decision, FlagDecision { reason: edgesplit_engine::reason::Reason::Vendor("experiment"), exposure: true, unit: Some(unit), .. } if unit == "u1")
    );
}

#[test]
fn what_comes_from_outside_decides_only_where_it_may() {
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
        let decision = evaluation.flag(0);
        let value = &payload.features()[0].outcomes()[decision.outcome].value;
        assert_eq!((value, decision.reason.name(), decision.exposure), (&json!(expected), reason, exposure));
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
        let value = payload.features()[0].outcomes()[decision.outcome].value.as_str().unwrap_or_default();
        let changed = evaluation.sticky().unwrap().iter().find(|document| document.is_changed);
        let changed = changed.map_or(Value::Null, |document| document.to_json()["assignments"].clone());
        assert_eq!((value, changed), (expected, written));
    }
    for value in [json!(null), json!({}), json!({"attributeName": "id", "attributeValue": "", "assignments": {}})] {
        assert_eq!(StickyDocument::from_json(&value), None, "{value}");
    }
}

#[test]
fn the_first_redirect_test_that_the_visitor_is_in_decides() {
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
    assert_eq!(payload.disabled().len(), 1);
    assert!(
        payload.disabled()[0].problem.starts_with("experiments[2].variations[1].urlRedirect: expected a whole URL")
    );
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
        let shown = redirect.as_ref().map(|redirect| (redirect.result.experiment.key(), redirect.location.as_deref()));
        assert_eq!(shown, expected, "{url}");
        assert_eq!(evaluation.exposures().len(), usize::from(expected.is_some()), "{url}");
    }
}

#[test]
fn events_are_written_as_the_ingestor_takes_them() {
    let attributes =
        json!({"id": "u1", "device_id": "", "user_id": 5, "country": "DE", "utmSource": "mail", "pageTitle": null});
    let url = "https://shop.example/";
    let (variant, attribute, unit) = (Some("red"), "id", "u1");
    let exposure = FlagExposure { experiment: "e\"1", variant, attribute, unit, outcome: None };
    let events = [EventKind::Exposure(exposure), EventKind::Goal("purchase")].map(|kind| {
        let mut out = Vec::new();
        IngestEvent { kind, attributes: attributes.as_object().unwrap(), url }.write(&mut out);
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
            json!({"experimentId": "e\"1", "variationId": "red", "hashAttribute": "id", "hashValue": "u1"}),
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

/// `{"f":{"defaultValue":"ü"}}` and `{}x`, encrypted by Node's `crypto`.
const FEATURES_ENCRYPTED: &str = "EBESExQVFhcYGRobHB0eHw==.dn+mCWdaqSmwZtJ+VpM4B66uhuSd0k6CKAiAo+4apqE=";
const NO_JSON_ENCRYPTED: &str = "EBESExQVFhcYGRobHB0eHw==.ZgjYVYwzZYhw7oQo5j+xyw==";

/// Puts `odd` in the place of the `at`-th value of `value`, counted depth first. None where there are fewer.
fn replaced(value: &Value, at: &mut usize, odd: &Value) -> Value {
    if *at == 0 {
        *at = usize::MAX;
        return odd.clone();
    }
    *at = at.saturating_sub(usize::from(*at != usize::MAX));
    match value {
        Value::Array(list) => list.iter().map(|value| replaced(value, at, odd)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), replaced(value, at, odd))).collect()
        }
        value => value.clone(),
    }
}

#[test]
fn no_odd_value_anywhere_breaks_more_than_its_feature() {
    let document = json!({
        "features": {
            "a": {"defaultValue": 1, "rules": [
                {"parentConditions": [{"id": "b", "condition": {"value.x": {"$gt": 1}}, "gate": true}], "force": 1, "coverage": 0.5,
                 "range": [0, 0.5], "tracks": [{"experiment": {"key": "t"}, "result": {"key": "1", "hashValue": "u"}}]},
                {"variations": [1, 2], "weights": [0.5, 0.5], "ranges": [[0, 1], [0, 0]], "meta": [{"key": "0"}, {"name": "x"}],
                 "namespace": ["n", 0, 1], "filters": [{"seed": "s", "ranges": [[0, 1]], "attribute": "id", "hashVersion": 2}],
                 "bucketVersion": 1, "minBucketVersion": 1, "hashVersion": 2, "seed": "s", "condition": {"id": {"$inGroup": "g"}}},
                {"contextualVariations": [1, 2], "contextualBanditRef": "c"},
            ]},
            "b": {"defaultValue": {"x": 2}},
            "untouched": {"defaultValue": true},
        },
        "savedGroups": {"g": {"type": "list", "attributeKey": "id", "values": ["u1"]}},
        "contextualBandits": {"c": {"banditVersion": 1, "contexts": [{"leafId": 1, "condition": {"id": "u1"}, "weights": [1, 0]}]}},
        "experiments": [{"key": "r", "variations": [{}, {"urlRedirect": "https://shop.example/b"}], "persistQueryString": true,
                         "urlPatterns": [{"type": "simple", "include": true, "pattern": "/a*"}, {"type": "regex", "pattern": "^x"}]}],
    });
    let odd = [
        json!(null),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("ä("),
        json!([]),
        json!([[null]]),
        json!({}),
        json!({"$a": 1}),
    ];
    let attributes = json!({"id": "u1"});
    let context = context(&attributes, "https://shop.example/a?x=ä%");
    for odd in &odd {
        for nth in 1.. {
            let mut at = nth;
            let document = replaced(&document, &mut at, odd);
            if at != usize::MAX {
                break;
            }
            let Some(payload) = compile(&document, None).payload else { continue };
            let mut evaluation = Evaluation::new(&payload, &context, Some(StickyDocuments::default()));
            let features = payload.features().iter().enumerate();
            let kept = features.filter(|(at, _)| evaluation.feature(*at).reason == Reason::DefaultValue).count();
            evaluation.redirect();
            // The features stand first, and the last of them is no part of the others.
            let is_features = document["features"]["untouched"]["defaultValue"] != json!(true);
            assert!(kept > 0 || is_features, "{document}");
        }
    }
}
