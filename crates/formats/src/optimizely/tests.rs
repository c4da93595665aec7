//! Behaviour that the SDKs' public cases do not reach: holdouts of single rules, bandits, single conditions (`audience`),
//! and the effect of a wrong part on the rest of a datafile (`isolation`).

mod audience;
mod isolation;
mod reports;

use super::*;
use crate::Options;
use edgesplit_engine::attribute::Attributes;
use edgesplit_engine::observer::{Check, Recorder};
use serde_json::json;

/// An experiment or a rule with one variation, `VARIATION-of-ID`, for a share of visitors.
fn rule(id: &str, share: u32) -> Value {
    json!({
        "id": id, "key": format!("key-{id}"), "layerId": format!("layer-{id}"), "status": "Running",
        "audienceIds": [], "forcedVariations": {},
        "variations": [{"id": format!("9{id}"), "key": format!("in-{id}"), "featureEnabled": true, "variables": []}],
        "trafficAllocation": [{"entityId": format!("9{id}"), "endOfRange": share}],
    })
}

/// The same with some members replaced.
fn with(mut value: Value, members: Value) -> Value {
    for (name, member) in members.as_object().unwrap() {
        value[name] = member.clone();
    }
    value
}

fn paused(rule: Value) -> Value {
    with(rule, json!({"status": "Paused"}))
}

fn holdout(id: &str, members: Value) -> Value {
    let mut holdout = rule(id, 10_000);
    for name in ["layerId", "forcedVariations"] {
        holdout.as_object_mut().unwrap().remove(name);
    }
    holdout["variations"][0]["featureEnabled"] = false.into();
    with(holdout, members)
}

/// A datafile with one flag that has experiment 1, and rollout 5 with rules 2 and 3.
fn document(members: Value) -> Value {
    let document = json!({
        "version": "4", "accountId": "10", "projectId": "11", "revision": "12", "sendFlagDecisions": true,
        "audiences": [], "attributes": [], "events": [], "groups": [],
        "experiments": [rule("1", 10_000)],
        "rollouts": [{"id": "5", "experiments": [rule("2", 10_000), rule("3", 10_000)]}],
        "featureFlags": [{
            "id": "4", "key": "flag", "experimentIds": ["1"], "rolloutId": "5",
            "variables": [{"id": "6", "key": "size", "type": "integer", "defaultValue": "7"}],
        }],
    });
    with(document, members)
}

fn compiled(document: &Value) -> Datafile {
    let compiled = compile(document);
    compiled.datafile.unwrap_or_else(|| panic!("{:?}", compiled.problems))
}

/// The rule, the variation's key and the reason for the flag at `position`.
fn decided<'a>(datafile: &'a Datafile, position: usize, attributes: &impl Attributes) -> [Option<&'a str>; 3] {
    let flag = &datafile.flags[position];
    let decision = datafile.decide(flag, "user", attributes, &mut ());
    let outcome = &flag.outcomes()[decision.outcome];
    [outcome.experiment.as_deref(), outcome.variant.as_deref(), Some(decision.reason.name())]
}

/// The variation's key and the reason for the flag of `document`.
fn outcome(document: &Value) -> (Option<String>, &'static str) {
    let datafile = compiled(document);
    let decision = datafile.decide(&datafile.flags[0], "user", &json!({}), &mut ());
    (datafile.flags[0].outcomes()[decision.outcome].variant.clone(), decision.reason.name())
}

#[test]
fn experiments_come_before_the_rollout() {
    let rollout = |first: Value, second: Value| json!([{"id": "5", "experiments": [first, second]}]);
    let nobody = json!({"audienceIds": ["nobody"]});
    let without_rules = json!([{"id": "4", "key": "flag", "experimentIds": [], "rolloutId": "", "variables": []}]);
    let audiences = json!([{"id": "nobody", "name": "", "conditions": "[\"or\"]"}]);
    let cases = [
        (json!({}), (Some("in-1"), "feature_test")),
        (
            json!({"experiments": [with(rule("1", 0), json!({"forcedVariations": {"user": "in-1"}}))]}),
            (Some("in-1"), "forced"),
        ),
        (json!({"experiments": [rule("1", 0)]}), (Some("in-2"), "rollout")),
        (json!({"experiments": [paused(rule("1", 10_000))]}), (Some("in-2"), "rollout")),
        (json!({"experiments": [with(rule("1", 10_000), nobody.clone())]}), (Some("in-2"), "rollout")),
        // The status of a rollout has no effect.
        (
            json!({"experiments": [rule("1", 0)], "rollouts": rollout(paused(rule("2", 10_000)), rule("3", 0))}),
            (Some("in-2"), "rollout"),
        ),
        (
            json!({"experiments": [rule("1", 0)], "rollouts": rollout(rule("2", 0), rule("3", 10_000))}),
            (Some("in-3"), "rollout"),
        ),
        (
            json!({"experiments": [rule("1", 0)], "rollouts": rollout(with(rule("2", 0), nobody), rule("3", 0))}),
            (None, "traffic"),
        ),
        (json!({"experiments": [rule("1", 0)], "rollouts": []}), (None, "traffic")),
        (json!({"featureFlags": without_rules}), (None, "no_rule")),
    ];
    for (members, (variant, reason)) in cases {
        let document = with(document(members.clone()), json!({"audiences": audiences}));
        assert_eq!(outcome(&document), (variant.map(str::to_owned), reason), "{members}");
    }
}

#[test]
fn visitor_outside_a_rules_traffic_goes_on_to_the_last_rule() {
    let rules = json!([rule("2", 0), rule("21", 10_000), rule("3", 10_000)]);
    let document = document(json!({"experiments": [rule("1", 0)], "rollouts": [{"id": "5", "experiments": rules}]}));
    assert_eq!(outcome(&document), (Some("in-3".to_owned()), "rollout"));
}

#[test]
fn holdouts_come_before_all_else_and_rule_holdouts_before_their_rule() {
    let spares = |name: &str| {
        let mut holdout = holdout("7", json!({}));
        holdout[name] = true.into();
        holdout
    };
    let local = |rules: Value, members: Value| with(holdout("8", json!({"includedRules": rules})), members);
    let spared = local(json!(["2"]), json!({"excludeTargetedDeliveries": true}));
    let cases = [
        (json!({"holdouts": [holdout("7", json!({}))]}), "in-7", "holdout"),
        (json!({"holdouts": [holdout("7", json!({"includedFlags": ["other"]}))]}), "in-7", "holdout"),
        (json!({"holdouts": [holdout("7", json!({"status": "Concluded"}))]}), "in-1", "feature_test"),
        (json!({"holdouts": [holdout("7", json!({"trafficAllocation": []}))]}), "in-1", "feature_test"),
        // The SDKs do not know the member in snake case.
        (json!({"holdouts": [spares("exclude_targeted_deliveries")]}), "in-7", "holdout"),
        (json!({"holdouts": [spares("excludeTargetedDeliveries")]}), "in-2", "rollout"),
        (json!({"localHoldouts": [local(json!(["1"]), json!({}))]}), "in-8", "holdout"),
        // Also where the rule itself does not run.
        (
            json!({"localHoldouts": [local(json!(["1"]), json!({}))], "experiments": [paused(rule("1", 0))]}),
            "in-8",
            "holdout",
        ),
        (json!({"localHoldouts": [local(json!(["2"]), json!({}))]}), "in-1", "feature_test"),
        (json!({"localHoldouts": [local(json!([]), json!({}))]}), "in-1", "feature_test"),
        (json!({"localHoldouts": [local(json!(["2"]), json!({}))], "experiments": [rule("1", 0)]}), "in-8", "holdout"),
        // Only a holdout of everything can spare deliveries.
        (json!({"localHoldouts": [spared], "experiments": [rule("1", 0)]}), "in-8", "holdout"),
        (
            json!({"localHoldouts": [local(json!(["1"]), json!({"excludeTargetedDeliveries": true}))]}),
            "in-8",
            "holdout",
        ),
    ];
    for (members, variant, reason) in cases {
        assert_eq!(outcome(&document(members.clone())), (Some(variant.to_owned()), reason), "{members}");
    }
}

#[test]
fn bandits_are_passed_over() {
    let bandit = with(rule("1", 10_000), json!({"cmab": {"attributeIds": [], "trafficAllocation": 10_000}}));
    let document = |bandit: Value, rollouts: Value| document(json!({"experiments": [bandit], "rollouts": rollouts}));
    let rollout = json!([{"id": "5", "experiments": [rule("2", 10_000)]}]);
    assert_eq!(outcome(&document(bandit.clone(), rollout.clone())), (Some("in-2".to_owned()), "rollout"));
    assert_eq!(outcome(&document(bandit.clone(), json!([]))), (None, "cmab"));
    let forced = with(bandit, json!({"forcedVariations": {"user": "in-1"}}));
    assert_eq!(outcome(&document(forced, rollout)), (Some("in-1".to_owned()), "forced"));
}

#[test]
fn feature_rollout_includes_everyone_else() {
    let experiment = with(rule("1", 0), json!({"type": "fr"}));
    let datafile = compiled(&document(json!({"experiments": [experiment]})));
    assert_eq!(decided(&datafile, 0, &json!({})), [Some("key-1"), Some("in-3"), Some("feature_test")]);
    // A variation of the experiment's own gives way to the rollout's of the same key, as in the SDKs.
    let mut own = with(rule("1", 10_000), json!({"type": "fr"}));
    own["variations"][0]["key"] = "in-3".into();
    let datafile = compiled(&document(json!({"experiments": [own]})));
    let decision = datafile.decide(&datafile.flags[0], "user", &json!({}), &mut ());
    assert_eq!(datafile.flags[0].impression(decision.outcome).unwrap().variation_id.as_deref(), Some("93"));
}

#[test]
fn groups_exclude_unless_they_overlap() {
    let group = |policy: &str, to: &str| {
        let allocation = json!([{"entityId": to, "endOfRange": 10_000}]);
        let experiments = json!([rule("1", 10_000), rule("12", 10_000)]);
        let group = json!({"id": "g", "policy": policy, "trafficAllocation": allocation, "experiments": experiments});
        document(json!({"experiments": [], "groups": [group], "rollouts": []}))
    };
    assert_eq!(outcome(&group("random", "1")), (Some("in-1".to_owned()), "feature_test"));
    assert_eq!(outcome(&group("random", "12")), (None, "group"));
    assert_eq!(outcome(&group("random", "")), (None, "group"));
    assert_eq!(outcome(&group("overlapping", "")), (Some("in-1".to_owned()), "feature_test"));
}

#[test]
fn experiments_that_no_flag_uses_are_decided_under_their_own_keys() {
    let other = with(rule("13", 10_000), json!({"key": "flag"}));
    let mut without_flag = rule("14", 10_000);
    without_flag["variations"][0]["featureEnabled"] = false.into();
    let document = document(json!({"experiments": [rule("1", 10_000), other, without_flag]}));
    let result = compile(&document);
    let errors: Vec<String> = result.problems.iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["experiments[1].key: a flag has this key too, and is what is decided under it"]);
    let datafile = result.datafile.unwrap();
    let positions: Vec<_> = datafile.flags.iter().map(|flag| (flag.key.as_str(), flag.position)).collect();
    assert_eq!(positions, [("flag", 0), ("key-14", 2)]);
    assert_eq!(datafile.disabled.iter().map(|disabled| disabled.position).collect::<Vec<_>>(), [1]);
    assert_eq!(decided(&datafile, 1, &json!({})), [Some("key-14"), Some("in-14"), Some("experiment")]);
    let impression = datafile.flags[1].impression(1).unwrap();
    assert_eq!((impression.flag_key.as_str(), impression.rule_type.name()), ("", "experiment"));
    assert!(impression.enabled);
    assert_eq!(datafile.flags[1].outcomes()[1].value, Value::Null);
}

#[test]
fn variables_are_read_by_their_types() {
    let cases = [
        ("integer", "", "42", json!(42)),
        ("integer", "", "4.2", json!(4)),
        ("integer", "", "x", json!(null)),
        ("double", "", "4", json!(4.0)),
        ("double", "", "nan", json!(null)),
        ("boolean", "", "true", json!(true)),
        ("boolean", "", "True", json!(null)),
        ("json", "", "{\"a\": [1]}", json!({"a": [1]})),
        ("string", "json", "[]", json!([])),
        ("json", "", "{", json!(null)),
        ("string", "", "{", json!("{")),
        ("later", "", "x", json!("x")),
    ];
    for (kind, sub_type, text, expected) in cases {
        let variable = json!({"id": "6", "key": "v", "type": kind, "subType": sub_type, "defaultValue": text});
        let flag = json!({"id": "4", "key": "flag", "experimentIds": ["1"], "rolloutId": "5", "variables": [variable]});
        let result = compile(&document(json!({"featureFlags": [flag]})));
        let datafile = result.datafile.unwrap();
        assert_eq!(datafile.flags[0].outcomes()[0].value, json!({"v": expected}), "{kind} {text}");
        let paths: Vec<&str> = result.problems.iter().map(|problem| problem.path.as_str()).collect();
        let wrong: &[&str] = if expected.is_null() { &["featureFlags[0].variables[0].defaultValue"] } else { &[] };
        assert_eq!(paths, wrong, "{kind} {text}");
    }
    // A variation that turns the flag off does not set its variables.
    for (enabled, expected) in [(true, 9), (false, 7)] {
        let mut experiment = rule("1", 10_000);
        experiment["variations"][0]["variables"] = json!([{"id": "6", "value": "9"}]);
        experiment["variations"][0]["featureEnabled"] = enabled.into();
        let datafile = compiled(&document(json!({"experiments": [experiment]})));
        assert_eq!(datafile.flags[0].outcomes()[1].value, json!({"size": expected}));
    }
}

#[test]
fn bucketing_id_is_hashed_but_not_whitelisted() {
    let mut experiment = rule("1", 5_000);
    experiment["forcedVariations"] = json!({"user": "in-1"});
    let datafile = compiled(&document(json!({"experiments": [experiment], "rollouts": []})));
    let flag = &datafile.flags[0];
    let decide = |user: &str, attributes: &Value| datafile.decide(flag, user, attributes, &mut ()).reason.name();
    let of = |id: &str| decide("other", &json!({"$opt_bucketing_id": id}));
    let (inside, outside) =
        (0..99).map(|id| id.to_string()).partition::<Vec<String>, _>(|id| decide(id, &json!({})) == "feature_test");
    assert!(inside.len() > 20 && outside.len() > 20);
    assert!(inside.iter().all(|id| of(id) == "feature_test") && outside.iter().all(|id| of(id) == "traffic"));
    assert_eq!(decide("user", &json!({"$opt_bucketing_id": outside[0]})), "forced");
    assert_eq!(
        decide("other", &json!({"$opt_bucketing_id": "user"})),
        decide("user2", &json!({"$opt_bucketing_id": "user"}))
    );
    // A value that is not a text does not count.
    assert_eq!(decide(&outside[0], &json!({"$opt_bucketing_id": 5})), "traffic");
}

#[test]
fn datafile_of_another_version_is_refused() {
    for (bytes, problem) in [
        ("{", "not JSON: EOF while parsing an object at line 1 column 1"),
        ("[]", "expected an object, found the list []"),
        ("{}", "version: missing"),
        (r#"{"version": 4}"#, "version: expected version \"4\", found the number 4"),
        (r#"{"version": "3"}"#, "version: expected version \"4\", found the string \"3\""),
    ] {
        let compiled = crate::compile_bytes(bytes.as_bytes(), &Options::new(&Optimizely, 64));
        assert!(compiled.snapshot.is_none());
        assert_eq!(compiled.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [problem]);
    }
}

/// The checks of the only flag of `datafile`, each with `-` in front if it kept the visitor out.
fn checks(datafile: &Datafile, attributes: &Value) -> Vec<String> {
    let mut recorder = Recorder::default();
    datafile.decide(&datafile.flags[0], "user", attributes, &mut recorder);
    let text = |check: Check| format!("{}{} {}", if check.passed { "" } else { "-" }, check.name, check.detail);
    recorder.0.into_iter().map(text).collect()
}

#[test]
fn checks_name_the_rule_the_condition_and_its_value() {
    let condition =
        |name: &str, value: Value| json!({"type": "custom_attribute", "name": name, "match": "exact", "value": value});
    let audience = json!(["and", condition("plan", json!("pro")), ["not", condition("country", json!("DE"))]]);
    let datafile = compiled(&document(json!({
        "typedAudiences": [{"id": "a", "conditions": audience}],
        "experiments": [with(rule("1", 10_000), json!({"audienceIds": ["a"]}))],
        "holdouts": [holdout("8", json!({"trafficAllocation": []}))],
    })));
    let checks = |attributes: &Value| checks(&datafile, attributes);
    let missed = checks(&json!({"plan": "free", "country": "DE"}));
    assert_eq!(missed[0], "holdout key-8 bucket 9619");
    assert_eq!(missed[1], "experiment key-1: running ");
    assert_eq!(
        missed[2],
        r#"-experiment key-1: audience plan is "free", expected "pro"; country is "DE", expected not "DE""#
    );
    assert!(missed[3].starts_with("rule key-2: traffic bucket ") && missed[3].ends_with(" is variation in-2"));
    let met = checks(&json!({"plan": "pro", "country": "AT"}));
    assert_eq!(met[2], "experiment key-1: audience ");
    assert!(met[3].starts_with("experiment key-1: traffic bucket "), "{met:?}");
}
