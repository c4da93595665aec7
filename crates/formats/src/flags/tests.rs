use crate::effect_policy::{EffectPolicy, EffectRules};
use crate::format::{FlagRoute, Options};
use crate::growthbook::GrowthBook;
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::{Effects, Snapshot};
use serde_json::{Value, json};

fn options(is_given: bool) -> Options {
    let rules = EffectRules::default();
    let reserved_request_headers = vec!["x-user-id".to_owned()];
    let effects = EffectPolicy { rules, is_given, reserved_request_headers, ..EffectPolicy::default() };
    Options { effects, ..Options::new(&GrowthBook, 64) }
}

/// The snapshot of a payload with these features, and the problems.
fn compiled(features: &Value, options: &Options) -> (Snapshot, Vec<String>) {
    let compiled = crate::compile_bytes(json!({ "features": features }).to_string().as_bytes(), options);
    (compiled.snapshot.expect("a snapshot"), compiled.problems.iter().map(ToString::to_string).collect())
}

fn header(name: &str, value: &str) -> Value {
    json!({"edgesplit": {"request_headers": {name: value}}})
}

/// The effects and cache-key pairs of the flag, without repetitions.
fn labels(snapshot: &Snapshot) -> Vec<(Effects, Option<String>)> {
    let variants = snapshot.experiments.iter().flat_map(|experiment| &experiment.variants);
    let mut labels: Vec<(Effects, Option<String>)> = Vec::new();
    for label in variants.map(|variant| (variant.effects.clone(), variant.cache_pair.clone())) {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

#[test]
fn labels_follow_from_effects_and_not_from_positions() {
    let force = |country: &str, value: Value| json!({"condition": {"country": country}, "force": value});
    let (german, french) = (force("DE", header("x-price", "19")), force("FR", header("x-price", "21")));
    let austrian = force("AT", header("x-price", "20"));
    let of = |rules: Vec<&Value>| {
        labels(&compiled(&json!({"price": {"defaultValue": 1, "rules": rules}}), &options(true)).0)
    };
    let before = of(vec![&german, &french]);
    let after = of(vec![&austrian, &french, &german]);
    assert_eq!((before.len(), after.len()), (3, 4));
    for (effects, pair) in &before {
        assert!(after.contains(&(effects.clone(), pair.clone())), "{pair:?} in {after:?}");
        assert_eq!(after.iter().filter(|(_, other)| other == pair).count(), 1, "{pair:?}");
    }
}

#[test]
fn variants_of_one_key_with_different_effects_have_different_labels() {
    let experiment = |key: &str, value: &str| json!({"key": key, "hashAttribute": "id", "variations": ["plain", header("x-a", value)], "coverage": 0.5});
    let features = json!({"f": {"defaultValue": "plain", "rules": [experiment("a", "1"), experiment("b", "2")]}});
    let (snapshot, _) = compiled(&features, &options(true));
    let labels = labels(&snapshot);
    let pairs: Vec<&str> = labels.iter().filter_map(|(_, pair)| pair.as_deref()).collect();
    assert_eq!((labels.len(), pairs.len(), pairs[0]), (4, 3, "f.0"), "{labels:?}");
    assert!(pairs[1].starts_with("f.1.") && pairs[2].starts_with("f.1.") && pairs[1] != pairs[2], "{pairs:?}");
}

#[test]
fn effects_need_the_block_of_the_plugin_configuration() {
    let features = json!({"f": {"defaultValue": header("x-a", "1"), "rules": [{"force": header("x-a", "2")}]}});
    let (snapshot, problems) = compiled(&features, &options(false));
    assert_eq!(labels(&snapshot), [(Effects::default(), None)]);
    assert_eq!(snapshot.owned_request_headers.names(), [""; 0]);
    assert_eq!(problems, ["features.f.edgesplit: not in force: the plugin configuration has no `effects`"]);
    let (snapshot, problems) = compiled(&features, &options(true));
    assert_eq!((snapshot.owned_request_headers.names(), problems.as_slice()), (&["x-a".to_owned()][..], &[][..]));
}

#[test]
fn effects_with_an_error_are_left_out_and_the_flag_is_decided() {
    for (value, expected) in [
        (header("X_User_Id", "1"), "request_headers.x_user_id: no variant may set this header"),
        (header("cookie", "a=b"), "request_headers.cookie: no variant may set this header"),
        (header("accept", "1"), "request_headers.accept: not allowed"),
        (json!({"edgesplit": {"path": {"prefix": "/a", "with": "/../admin"}}}), "path.with: an empty or a dot segment"),
    ] {
        let features = json!({"f": {"defaultValue": value, "rules": [{"force": header("x-a", "2")}]}});
        let (snapshot, problems) = compiled(&features, &options(true));
        assert_eq!((snapshot.experiments.len(), snapshot.disabled.len()), (1, 0));
        assert_eq!(labels(&snapshot).len(), 2, "the other outcome keeps its effects");
        assert_eq!(snapshot.owned_request_headers.names(), ["x-a"]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(&format!("features.f.edgesplit.{expected}")), "{problems:?}");
    }
}

#[test]
fn a_baseline_changes_no_requests() {
    let route = FlagRoute { keys: Vec::new(), route: Route::default(), baseline: Some("0".to_owned()) };
    let options = Options { routes: vec![route], ..options(true) };
    let rule = json!({"key": "e", "hashAttribute": "id", "variations": [header("x-a", "1"), header("x-a", "2")]});
    let (snapshot, problems) = compiled(&json!({"f": {"defaultValue": 0, "rules": [rule]}}), &options);
    let baselines = snapshot.experiments[0].variants.iter().filter(|variant| variant.baseline);
    assert!(baselines.clone().count() > 0);
    assert!(baselines.into_iter().all(|variant| !variant.effects.change_request() && variant.cache_pair.is_none()));
    assert!(problems[0].starts_with("features.f.edgesplit: a baseline may set only response_headers"), "{problems:?}");
}
