#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::{Unleash, metrics};
use crate::format::{Compiled, Options};
use crate::re2::{self, Engine};
use crate::{compile_bytes, find};
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::DecisionInput;
use edgesplit_engine::decide_flags;
use edgesplit_engine::flag::{FlagDecisions, FlagVisitor};
use edgesplit_engine::hash::murmur3;
use js_regex::JsRegex;
use serde_json::{Value, json};

fn compile(payload: &Value) -> (Compiled, Vec<String>) {
    let options = Options::new(find("unleash").unwrap(), 64);
    let compiled = compile_bytes(payload.to_string().as_bytes(), &options);
    let problems = compiled.problems.iter().map(ToString::to_string).collect();
    (compiled, problems)
}

/// The reason and the variant of each feature that is not disabled.
fn decisions(payload: &Value, id: &str) -> Vec<(String, String, Option<String>)> {
    let snapshot = compile(payload).0.snapshot.unwrap();
    let (steps, attributes, mut found) = (request_budget(), json!({"plan": "pro"}), FlagDecisions::default());
    let (id, attributes) = (Some(id), &attributes);
    let visitor = FlagVisitor::new(id, attributes, &steps, 0);
    let rules = snapshot.flag_evaluator.as_deref().unwrap();
    let candidates: Vec<u32> = (0..).take(snapshot.experiments.len()).collect();
    let input = DecisionInput::unrestricted(0, &steps);
    decide_flags(&snapshot, rules, &candidates, &input, &visitor, &mut found);
    let row = |(flag, outcome, reason): &(usize, Option<usize>, edgesplit_engine::reason::Reason)| {
        let variant = rules.outcomes(*flag)[outcome.unwrap()].variant.clone();
        (snapshot.experiments[snapshot.flag(*flag).unwrap()].key.clone(), reason.name().to_owned(), variant)
    };
    found.decided.iter().map(row).collect()
}

#[test]
fn hashes_are_those_of_the_sdks() {
    for (group, value, share, variant) in
        [("nav", "u1", 84, 486), ("nav", "größe 7", 76, 723), ("shop", "s-42", 17, 700)]
    {
        assert_eq!(murmur3(0, &[group, ":", value]) % 100 + 1, share, "{group}:{value}");
        assert_eq!(murmur3(86_028_157, &[group, ":", value]) % 1000 + 1, variant, "{group}:{value}");
    }
}

#[test]
fn problems_disable_only_the_features_that_they_touch() {
    let default = json!([{"name": "default"}]);
    let constraint = |value: Value| json!([{"name": "default", "constraints": [value]}]);
    let payload = json!({"version": 2, "unknown": 1, "features": [
        {"name": "good", "enabled": true, "strategies": default, "later": {}},
        {"name": "wrong", "enabled": 1, "strategies": default},
        {"enabled": true},
        7,
        {"name": "child", "enabled": true, "dependencies": [{"feature": "wrong"}]},
        {"name": "orphan", "enabled": true, "dependencies": [{"feature": "none"}]},
        {"name": "operator", "enabled": true, "strategies": constraint(json!({"contextName": "plan", "operator": "INN", "values": ["pro"]}))},
        {"name": "number", "enabled": true, "strategies": constraint(json!({"contextName": "age", "operator": "NUM_GT", "value": "x"}))},
        {"name": "segment", "enabled": true, "strategies": [{"name": "default", "segments": [3]}]},
        {"name": "weight", "enabled": true, "strategies": default, "variants": [{"name": "a", "weight": -1}]},
        {"name": "version", "enabled": true, "strategies": constraint(json!({"contextName": "v", "operator": "SEMVER_EQ", "value": "v1.0.0", "inverted": true}))},
    ], "segments": [{"id": 4, "constraints": {}}, {"constraints": []}]});
    let (compiled, problems) = compile(&payload);
    assert_eq!(
        problems,
        [
            "segments[0].constraints: expected a list, found the object {}",
            "segments[1].id: missing",
            "features[1].enabled: expected true or false, found the number 1",
            "features[2].name: missing",
            "features[3]: expected an object, found the number 7",
            "features[6].strategies[0].constraints[0].operator: unknown operator \"INN\"; the feature is off",
            "features[7].strategies[0].constraints[0].value: NUM_GT cannot read \"x\"; the feature is off",
            "features[8].strategies[0].segments[0]: there is no segment 3; the feature is off",
            "features[9].variants[0].weight: expected a whole number from 0 to 2147483647, found the number -1",
            "features[4].dependencies[0].feature: the feature \"wrong\" is disabled, and this one with it",
            "features[5].dependencies[0].feature: there is no feature \"none\"; this one is off",
        ]
    );
    let disabled = compiled.snapshot.unwrap().disabled;
    let mut disabled: Vec<usize> = disabled.iter().map(|one| one.position).collect();
    disabled.sort_unstable();
    assert_eq!(disabled, [1, 2, 3, 4, 9]);
    let decided = decisions(&payload, "u1");
    let found: Vec<(&str, &str)> = decided.iter().map(|(key, reason, _)| (&**key, &**reason)).collect();
    assert_eq!(
        found,
        [
            ("good", "enabled"),
            ("orphan", "dependency"),
            ("operator", "no_match"),
            ("number", "no_match"),
            ("segment", "no_match"),
            ("version", "no_match"),
        ]
    );
}

#[test]
fn payloads_of_another_shape_are_refused() {
    for payload in [json!({}), json!({"features": {}}), json!({"toggles": []}), json!([])] {
        let (compiled, problems) = compile(&payload);
        assert!(compiled.snapshot.is_none() && problems.len() == 1, "{payload}: {problems:?}");
    }
    assert!(compile(&json!({"features": []})).0.snapshot.is_some());
}

#[test]
fn draws_lead_to_no_variant_unless_there_is_one() {
    let variants = |weights: &[u32]| -> Value {
        let variant =
            |(at, weight): (usize, &u32)| json!({"name": at.to_string(), "weight": weight, "stickiness": "random"});
        weights.iter().enumerate().map(variant).collect()
    };
    let payload = json!({"features": [
        {"name": "several", "enabled": true, "variants": variants(&[1, 1])},
        {"name": "one", "enabled": true, "variants": variants(&[0, 5])},
        {"name": "none", "enabled": true, "variants": variants(&[0, 0])},
    ]});
    let found: Vec<Option<String>> = decisions(&payload, "u1").into_iter().map(|(_, _, variant)| variant).collect();
    assert_eq!(found, [None, Some("1".to_owned()), None]);
}

#[test]
fn patterns_are_those_of_re2() {
    let steps = request_budget();
    for (pattern, text, expected) in [
        ("^[[:alpha:]]+$", "Abc", true),
        ("^(?i)abc$", "aBC", true),
        ("(?m)^foo$", "x\nfoo\ny", true),
        ("^foo$", "x\nfoo\ny", false),
        ("(?s)a.b", "a\nb", true),
        ("a.b", "a\nb", false),
        (r"\Aab\z", "ab", true),
        ("(?P<name>a)b", "ab", true),
        (r"\s", "\u{a0}", false),
        ("[]a]", "]", true),
    ] {
        let (translated, ignore_case) = re2::translate(pattern, false, Engine::Re2).unwrap().unwrap();
        let regex = JsRegex::compile(&translated, ignore_case).unwrap();
        assert_eq!(regex.is_match(text, &steps), Ok(expected), "{pattern}");
    }
    for invalid in ["(", "(?=a)b", "(?<!a)b", r"(a)\1x", "a**", r"\y"] {
        let translated = re2::translate(invalid, false, Engine::Re2).ok().flatten();
        assert!(translated.is_none_or(|(pattern, _)| JsRegex::compile(&pattern, false).is_err()), "{invalid}");
    }
    for unsupported in [r"\pL", "a(?i)b", "(?i:a)", "[[:none:]]"] {
        assert!(re2::translate(unsupported, false, Engine::Re2).is_err(), "{unsupported}");
    }
}

#[test]
fn counts_are_those_of_the_batch() {
    use crate::events::EventWire;
    let mut events = Vec::new();
    for (at, (feature, variant)) in [("nav", "b"), ("nav", "a"), ("nav", "b"), ("q\"", "ü")].into_iter().enumerate() {
        let mut event = Vec::new();
        metrics::write(feature, variant, 1_795_392_000_000 + 7 * ((at as i64 + 1) % 4), &mut event);
        events.push(event);
    }
    let mut body = Vec::new();
    Unleash.write_body(metrics::HEAD, &mut events.iter().map(Vec::as_slice), &mut body);
    let toggles = json!({"nav": {"yes": 3, "no": 0, "variants": {"a": 1, "b": 2}},
                         "q\"": {"yes": 1, "no": 0, "variants": {"ü": 1}}});
    let bucket = json!({"start": "2026-11-23T00:00:00.000Z", "stop": "2026-11-23T00:00:00.021Z", "toggles": toggles});
    let expected = json!({"appName": "edgesplit", "instanceId": "edgesplit", "bucket": bucket});
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    // No frame is longer than the filter allows.
    for count in [1, 4] {
        let mut body = Vec::new();
        Unleash.write_body(metrics::HEAD, &mut events.iter().take(count).map(Vec::as_slice), &mut body);
        let events: usize = events.iter().take(count).map(|event| event.len() + 1).sum();
        assert!(body.len() <= metrics::HEAD.len() + events + 64);
    }
}
