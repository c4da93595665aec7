//! Configs whose elements are as large as one may be, each full of one thing that takes long for its bytes.

use super::flags::{eppo, flagd};
use super::{extended, growthbook, list, members, native, optimizely};
use serde_json::{Value, json};

/// How many bytes of an element are filled. It may have 128 KiB.
const FILLED_BYTES: usize = 125_000;

/// How many such elements a config has.
const ELEMENTS: usize = 2;

/// How many evaluators, each as large as an element may be, flags share.
const EVALUATORS: usize = 10;

type Configs = Vec<(&'static str, (&'static str, Value))>;

/// A list of this value, as large as an element may be.
fn filled(value: &Value) -> Value {
    list(FILLED_BYTES / (value.to_string().len() + 1), |_| value.clone())
}

/// A text of this one, as long as an element may be.
fn long(text: &str) -> Value {
    text.repeat(FILLED_BYTES / text.len()).into()
}

/// An object with members of this value, as large as an element may be.
fn wide(value: &Value) -> Value {
    members("m", FILLED_BYTES / (value.to_string().len() + 10), |_| value.clone())
}

pub(super) fn eppo_elements() -> Configs {
    let flags = |allocation: Value, rest: &Value| {
        let allocation = extended(json!({"key": "all", "rules": [], "splits": []}), &allocation);
        eppo(ELEMENTS, |_| extended(json!({"allocations": [allocation]}), rest))
    };
    let splits = |variation: &str| json!({"splits": list(1_500, |_| json!({"variationKey": variation, "shards": []}))});
    let value = list(4_000, |_| json!({"": 1})).to_string();
    let large = json!({"variationType": "JSON", "variations": {"a": {"key": "a", "value": value}}});
    let variations = json!({"variations": members("v", 1_500, |_| json!({"key": "a", "value": "a"}))});
    let pattern = json!({"attribute": "", "operator": "MATCHES", "value": "a{1000}{999}"});
    vec![
        ("splits with a large value", flags(splits("a"), &large)),
        ("splits without a variation", flags(splits("x"), &variations)),
        ("patterns that are too large", flags(json!({"rules": [{"conditions": filled(&pattern)}]}), &json!({}))),
    ]
}

pub(super) fn flagd_elements() -> Configs {
    let or = |expression: Value| json!({"or": filled(&expression)});
    let reference = |at: usize| json!({"$ref": format!("e-{at}")});
    let flags = |expression: Value| flagd(ELEMENTS, |_| or(expression.clone()), &json!({}));
    let evaluators = |targeting: &Value, evaluator: &dyn Fn(usize) -> Value| {
        flagd(2, |_| targeting.clone(), &members("e", EVALUATORS, evaluator))
    };
    let all = json!({"or": list(EVALUATORS, reference)});
    let chain = |at: usize| json!({"or": [reference(at + 1), filled(&json!({"!": 1}))]});
    let others = |at: usize| list(EVALUATORS, |other| reference((at + other) % EVALUATORS));
    let circle = |at: usize| json!({"or": [others(at), list(10_000, |_| json!({"!": 1}))]});
    let names = json!({"or": list(1_000, reference)});
    let named = |flag: usize| if flag == 0 { names.clone() } else { or(reference(999)) };
    let mut variants = flagd(ELEMENTS, |_| json!({"fractional": []}), &json!({}));
    for flag in variants.1["flags"].as_object_mut().unwrap().values_mut() {
        flag["variants"] = extended(wide(&json!(1)), &json!({"a": 1}));
    }
    vec![
        ("operators", flags(json!({"!": 1}))),
        ("unknown operators in one flag", flags(json!({"x": 1}))),
        ("large evaluators of one flag", evaluators(&all, &|_| or(json!({"!": 1})))),
        ("large evaluators in a chain", evaluators(&reference(0), &chain)),
        ("large evaluators in circles", evaluators(&all, &circle)),
        ("evaluators with many names", flagd(1 + ELEMENTS, named, &members("e", 1_000, |_| json!(true)))),
        ("variants in one flag", variants),
    ]
}

pub(super) fn unleash_elements() -> Configs {
    let features = |strategy: Value, segments: Value| {
        let strategies = [extended(json!({"name": "default"}), &strategy)];
        let feature = |number: usize| json!({"name": format!("f{number}"), "enabled": true, "strategies": strategies});
        ("unleash", json!({"features": list(ELEMENTS, feature), "segments": segments}))
    };
    let users = json!({"name": "userWithId", "parameters": {"userIds": long("1,")}});
    let different: String = (0..25_000).map(|at| format!("{:x},", at * 7919 % 62_501)).collect();
    let different = json!({"name": "userWithId", "parameters": {"userIds": different}});
    let parents = filled(&json!({"feature": "x"}));
    let child = |number: usize| json!({"name": format!("f{number}"), "enabled": true, "dependencies": parents});
    let addresses = json!({"name": "remoteAddress", "parameters": {"IPs": long("::,")}});
    vec![
        ("unknown segments", features(json!({"segments": filled(&json!(1))}), json!([]))),
        ("known segments", features(json!({"segments": filled(&json!(1))}), json!([{"id": 1}]))),
        ("users in one text", features(users, json!([]))),
        ("different users in one text", features(different, json!([]))),
        ("unknown parents", ("unleash", json!({"features": list(20, child)}))),
        ("addresses in one text", features(addresses, json!([]))),
    ]
}

pub(super) fn posthog_elements() -> Configs {
    let flags = |properties: Value| {
        let filters = json!({"groups": [{"properties": properties}]});
        let flag = |number: usize| json!({"key": format!("f{number}"), "active": true, "filters": filters});
        ("posthog", json!({"flags": list(ELEMENTS, flag), "cohorts": {}}))
    };
    let dependency = json!({"type": "flag", "key": "f0", "value": true, "operator": "flag_evaluates_to",
        "dependency_chain": filled(&json!("x"))});
    vec![
        ("wrong filters", flags(filled(&json!({})))),
        ("unknown cohorts", flags(filled(&json!({"type": "cohort"})))),
        ("a long chain of unknown flags", flags(json!([dependency]))),
    ]
}

pub(super) fn growthbook_elements() -> Configs {
    let features = |rules: Value| {
        let feature = json!({"defaultValue": 0, "rules": rules});
        ("growthbook", json!({"features": members("f", ELEMENTS, |_| feature.clone())}))
    };
    let patterns = json!({"$or": filled(&json!({"a": {"$regex": "("}}))});
    let contexts = list(4_000, |_| json!({"leafId": 1, "weights": []}));
    let bandit = |rules: usize, variations: usize| {
        let rule = json!({"variations": list(variations, |_| json!(1)), "contextualBanditRef": "b"});
        let feature = json!({"rules": list(rules, |_| rule.clone())});
        ("growthbook", json!({"features": {"f": feature}, "contextualBandits": {"b": {"contexts": contexts}}}))
    };
    vec![
        ("rules", features(filled(&json!({})))),
        ("experiments", features(filled(&json!({"variations": [0, 1]})))),
        ("experiments without variations", features(filled(&json!({"variations": []})))),
        ("contexts of many experiments", bandit(2_000, 2)),
        ("contexts of many variations", bandit(1, 4_000)),
        ("variations", features(json!([{"variations": filled(&json!(1))}]))),
        ("invalid patterns", growthbook(ELEMENTS, |_| json!({"condition": patterns}), &json!({}))),
    ]
}

pub(super) fn optimizely_elements() -> Configs {
    let or =
        |condition: Value, count: usize| std::iter::once("or".into()).chain(vec![condition; count]).collect::<Value>();
    let experiment = json!({"id": "e", "key": "e", "layerId": "l", "status": "Running", "audienceIds": [],
        "forcedVariations": {}, "variations": [{"id": "a", "key": "a"}], "trafficAllocation": [],
        "audienceConditions": or(json!("1"), FILLED_BYTES / 4)});
    let audience =
        |at: usize| json!({"id": at.to_string(), "name": "a", "conditions": or(json!(["not", 1]), 9_000).to_string()});
    let flag = |at: usize| {
        json!({"id": format!("f{at}"), "key": format!("f{at}"), "rolloutId": "", "experimentIds": filled(&json!("1")),
            "variables": []})
    };
    vec![
        ("unknown audiences", optimizely(&json!({"experiments": list(ELEMENTS, |_| experiment.clone())}))),
        ("conditions in one text", optimizely(&json!({"audiences": list(ELEMENTS, audience)}))),
        ("unknown experiments", optimizely(&json!({"featureFlags": list(ELEMENTS, flag)}))),
    ]
}

pub(super) fn native_elements() -> Configs {
    let experiments = |rest: Value| native(ELEMENTS, |_| rest.clone());
    let variants = list(4_000, |at| json!({"key": format!("v{at}"), "weight": at % 2}));
    let headers = json!({"request_headers": members("x", 8_000, |_| "v".into())});
    let set = json!([{"key": "a", "weight": 5000, "baseline": true}, {"key": "b", "weight": 5000, "set": headers}]);
    vec![
        ("variants", experiments(json!({"variants": variants}))),
        ("variants without members", experiments(json!({"variants": list(10_000, |_| json!({}))}))),
        ("request headers of one variant", experiments(json!({"variants": set}))),
        ("forced visitors without a variant", experiments(json!({"forced": wide(&json!("x"))}))),
        ("invalid patterns", experiments(json!({"audience": {"$or": filled(&json!({"a": {"$regex": "("}}))}}))),
        ("hosts", experiments(json!({"route": {"hosts": filled(&json!("*"))}}))),
        ("paths", experiments(json!({"route": {"paths": filled(&json!("*"))}}))),
    ]
}
