//! The work of the built module between two chances to serve a request, counted: the instructions of each callback while a
//! config of any format comes into force and is freed again. The configs are large, or hostile: each would hold a worker
//! for long if some part of its compilation were not done in steps.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod elements;
mod flags;

use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_testkit::module::recording_host::RecordingHost;
use edgesplit_testkit::module::{Compiled, ModuleVm};
use serde_json::{Map, Value, json};
use std::path::Path;

/// How many instructions one callback may take, counted as `Work` does, which counts branches that are not taken too. V8
/// takes about 10 ms for 300 million.
const INSTRUCTIONS_MAX: u64 = 250_000_000;

/// How many callbacks a config may take, to come into force and to be freed.
const CALLBACKS_MAX: usize = 3_000;
const FREED_CALLBACKS: usize = 150;

/// The members `name-0` to `name-<count>` of an object.
fn members(name: &str, count: usize, value: impl Fn(usize) -> Value) -> Value {
    Value::Object((0..count).map(|number| (format!("{name}-{number}"), value(number))).collect::<Map<_, _>>())
}

fn list(count: usize, value: impl Fn(usize) -> Value) -> Value {
    (0..count).map(value).collect()
}

fn extended(mut object: Value, more: &Value) -> Value {
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

/// A config of native experiments with these members.
fn native(count: usize, rest: impl Fn(usize) -> Value) -> (&'static str, Value) {
    let experiment = |number: usize| {
        let experiment = json!({"key": format!("e{number}"), "state": "running", "variants": [
            {"key": "control", "weight": 5000, "baseline": true}, {"key": "treatment", "weight": 5000}]});
        extended(experiment, &rest(number))
    };
    ("native", json!({"schema": 1, "experiments": list(count, experiment)}))
}

fn native_configs() -> Vec<(&'static str, (&'static str, Value))> {
    let paths = |number: usize, count| json!({"paths": list(count, |at| format!("/p{number}*/x{at}*").into())});
    vec![
        (
            "experiments",
            native(4_000, |number| json!({"route": paths(number, 1), "audience": {"country": {"$in": ["DE", "AT"]}}})),
        ),
        ("experiments with many paths", native(10, |number| json!({"route": paths(number, 4_000)}))),
        ("experiments on one route", native(3_000, |_| json!({"route": {"paths": ["/a/b/c"]}}))),
        (
            "long lists",
            native(10, |_| json!({"audience": {"plan": {"$in": list(20_000, |at| (at * 7919 % 20_011).into())}}})),
        ),
        (
            "lists of texts",
            native(
                10,
                |_| json!({"audience": {"plan": {"$in": list(12_000, |at| format!("v{}", at * 7919 % 12_007).into())}}}),
            ),
        ),
        (
            "large patterns",
            native(10, |_| json!({"audience": {"$or": list(4_000, |_| json!({"a": {"$regex": "[a-z]{2500}"}}))}})),
        ),
        (
            "patterns that are too large",
            native(10, |_| json!({"audience": {"$or": list(4_000, |_| json!({"a": {"$regex": "[a-z]{9000}"}}))}})),
        ),
        ("unknown fields", native(10, |_| members("paths", 8_000, |_| json!(1)))),
        ("unknown operators", native(10, |_| json!({"audience": members("a", 4_000, |_| json!({"$inn": 1}))}))),
        ("wrong variants", native(10, |_| json!({"variants": list(40_000, |_| json!(1))}))),
        ("wrong elements", ("native", json!({"schema": 1, "experiments": list(50_000, |_| json!(1))}))),
        (
            "unknown members",
            (
                "native",
                extended(
                    members("m", 900, |_| list(1_000, |at| at.to_string().into())),
                    &json!({"schema": 1, "experiments": []}),
                ),
            ),
        ),
        (
            "request headers",
            native(40, |number| {
                let set = json!({"request_headers": members(&format!("x-a{number}"), 100, |_| "v".into())});
                json!({"variants": [{"key": "control", "weight": 5000, "baseline": true}, {"key": "b", "weight": 5000, "set": set}]})
            }),
        ),
        ("a long list", ("native", list(500_000, |at| (at % 1_000).into()))),
        ("a text", ("native", "x".repeat(2_000_000).into())),
    ]
}

/// A GrowthBook payload of features that have one rule each with these members, and with these members itself.
fn growthbook(count: usize, rule: impl Fn(usize) -> Value, rest: &Value) -> (&'static str, Value) {
    let feature = |number: usize| {
        let experiment = json!({"key": format!("e{number}"), "variations": [false, true], "weights": [0.5, 0.5]});
        json!({"defaultValue": false, "rules": [extended(experiment, &rule(number))]})
    };
    ("growthbook", extended(json!({"features": members("f", count, feature)}), rest))
}

fn growthbook_configs() -> Vec<(&'static str, (&'static str, Value))> {
    let none = json!({});
    let ids = |count: usize| list(count, |at| format!("visitor-{}", at * 7919 % 100_003).into());
    let plain = growthbook(4_000, |_| json!({"condition": {"country": "DE"}}), &none);
    let group = json!({"g": {"type": "condition", "condition": {"$or": list(4_000, |at| json!({"a": at}))}}});
    let target = |at: usize| json!({"include": true, "type": "regex", "pattern": format!("^/[a-z]{{900}}{at}$")});
    let test = |number: usize| {
        json!({"key": format!("t{number}"), "variations": [{}, {"urlRedirect": "https://h/x"}],
        "weights": [0.5, 0.5], "urlPatterns": list(1_500, target)})
    };
    let parent = |id: usize| json!([{"id": format!("f-{id}"), "condition": {"value": {"$in": [true, 1]}}}]);
    let outcomes = json!({"features": {
        "wide": {"defaultValue": 0, "rules": list(4_000, |at| json!({"force": at}))},
        "deep": {"defaultValue": 0, "rules": list(1_500, |_| json!({"force": 1, "parentConditions": [{"id": "wide", "condition": {"value": {"$gt": 3}}}]}))}}});
    vec![
        ("encrypted features", ("growthbook", json!({"encryptedFeatures": encrypted(&plain.1["features"])}))),
        ("features", plain),
        (
            "saved groups",
            growthbook(
                2_000,
                |number| json!({"condition": {"id": {"$inGroup": format!("g-{number}")}}}),
                &json!({"savedGroups": members("g", 8_000, |_| ids(3))}),
            ),
        ),
        (
            "a large saved group",
            growthbook(
                2,
                |_| json!({"condition": {"id": {"$inGroup": "g"}}}),
                &json!({"savedGroups": {"g": ids(60_000)}}),
            ),
        ),
        (
            "a large typed group",
            growthbook(
                2,
                |_| json!({"condition": {"$savedGroup": {"id": "g"}}}),
                &json!({"savedGroups": {"g": {"type": "list", "attributeKey": "id", "values": ids(60_000)}}}),
            ),
        ),
        (
            "a condition named often",
            growthbook(
                1_000,
                |_| json!({"condition": {"$and": list(5, |_| json!({"$savedGroup": {"id": "g"}}))}}),
                &json!({ "savedGroups": group }),
            ),
        ),
        ("prerequisites", growthbook(5_000, |number| json!({"parentConditions": parent(number - number % 20)}), &none)),
        ("a circle", growthbook(5_000, |number| json!({"parentConditions": parent((number + 1) % 5_000)}), &none)),
        ("a long chain", growthbook(5_000, |number| json!({"parentConditions": parent(number + 1)}), &none)),
        ("a prerequisite with many outcomes", ("growthbook", outcomes)),
        (
            "attributes of sticky buckets",
            growthbook(5_000, |number| json!({"hashAttribute": format!("a{number}")}), &none),
        ),
        ("redirect tests", growthbook(1, |_| none.clone(), &json!({"experiments": list(8, test)}))),
        (
            "contextual bandits",
            growthbook(1, |_| none.clone(), &json!({"contextualBandits": members("b", 8_000, |_| json!({}))})),
        ),
    ]
}

/// Encrypted as GrowthBook does it, by the key below.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODw==";

fn encrypted(value: &Value) -> String {
    use aes::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
    use base64::{Engine, engine::general_purpose::STANDARD};
    let key: [u8; 16] = STANDARD.decode(KEY).unwrap().try_into().unwrap();
    let cipher = cbc::Encryptor::<aes::Aes128>::new(&key.into(), &[0; 16].into());
    let text = cipher.encrypt_padded_vec::<Pkcs7>(value.to_string().as_bytes());
    format!("{}.{}", STANDARD.encode([0; 16]), STANDARD.encode(text))
}

fn optimizely(rest: &Value) -> (&'static str, Value) {
    let datafile = json!({"version": "4", "accountId": "1", "projectId": "1", "revision": "1", "attributes": [],
        "events": [], "audiences": [], "groups": [], "rollouts": [], "featureFlags": [], "experiments": []});
    ("optimizely", extended(datafile, rest))
}

fn optimizely_configs() -> Vec<(&'static str, (&'static str, Value))> {
    let rule = |number: usize| {
        let variation = |id: &str, is_on| json!({"id": format!("{id}{number}"), "key": id, "featureEnabled": is_on});
        json!({"id": format!("e{number}"), "key": format!("e{number}"), "layerId": "l", "status": "Running",
            "audienceIds": [], "forcedVariations": {}, "variations": [variation("off", false), variation("on", true)],
            "trafficAllocation": [{"entityId": format!("on{number}"), "endOfRange": 10000}]})
    };
    let flag = |number: usize, experiment: usize, variables: &Value| {
        json!({"id": format!("f{number}"), "key": format!("f{number}"),
        "rolloutId": "r", "experimentIds": [format!("e{experiment}")], "variables": variables})
    };
    let none = json!([]);
    let rollout = json!([{"id": "r", "experiments": list(100, |at| rule(90_000 + at))}]);
    let variables =
        list(900, |at| json!({"id": format!("v{at}"), "key": format!("v{at}"), "type": "string", "defaultValue": "x"}));
    let values = list(900, |at| json!({"id": format!("v{at}"), "value": "y"}));
    let heavy = |number: usize| {
        let mut rule = rule(number);
        rule["variations"][1]["variables"] = values.clone();
        rule
    };
    let group = |number: usize| {
        json!({"id": format!("g{number}"), "policy": "random", "trafficAllocation": [],
        "experiments": list(100, |at| rule(100 * number + at))})
    };
    vec![
        (
            "flags with experiments",
            optimizely(
                &json!({"featureFlags": list(5_000, |number| flag(number, number, &none)), "experiments": list(5_000, rule)}),
            ),
        ),
        ("experiments in groups", optimizely(&json!({"groups": list(60, group)}))),
        (
            "flags of one experiment",
            optimizely(
                &json!({"featureFlags": list(1_000, |number| flag(number, 0, &none)), "experiments": [rule(0)], "rollouts": rollout}),
            ),
        ),
        (
            "many holdouts",
            optimizely(
                &json!({"featureFlags": list(2_000, |number| flag(number, 0, &none)), "experiments": [rule(0)], "holdouts": list(2_000, |at| rule(1_000 + at))}),
            ),
        ),
        (
            "many variables",
            optimizely(
                &json!({"featureFlags": list(20, |number| flag(number, number, &variables)), "experiments": list(20, heavy), "holdouts": list(50, |at| rule(1_000 + at))}),
            ),
        ),
        (
            "audiences",
            optimizely(
                &json!({"audiences": list(8_000, |at| json!({"id": at.to_string(), "name": "a", "conditions": "[\"or\", {\"name\": \"plan\", \"type\": \"custom_attribute\", \"match\": \"exact\", \"value\": \"pro\"}]"}))}),
            ),
        ),
        (
            "attributes and events",
            optimizely(
                &json!({"attributes": list(10_000, |at| json!({"id": at.to_string(), "key": format!("a{at}")})), "events": list(10_000, |at| json!({"id": at.to_string(), "key": format!("k{at}"), "experimentIds": []}))}),
            ),
        ),
        (
            "wrong elements",
            optimizely(&json!({"featureFlags": list(50_000, |_| json!(1)), "experiments": list(50_000, |_| json!(1))})),
        ),
    ]
}

/// Fetches `config` in a VM, and lets another one pick it up, then replaces it by an empty one. Gives the instructions of
/// each callback.
fn callbacks(module: &Compiled, format: &str, config: &Value) -> Vec<u64> {
    let mut plugin = json!({"experiments": {"format": format, "cluster": "experiments"}, "effects": {},
        "visitor": {"id": [{"cookie": "uid"}]}});
    if format == "growthbook" {
        plugin["experiments"]["decryption_key"] = KEY.into();
    }
    let host = RecordingHost::default();
    let start = || {
        let mut vm = ModuleVm::start(module, &host, "bench").unwrap();
        assert!(vm.configure(&host, plugin.to_string().as_bytes()).unwrap(), "{:?}", host.log.borrow());
        (vm, *host.take_calls().end())
    };
    let ((mut first, token), (mut second, _)) = (start(), start());
    let mut work = Vec::new();
    let ticks = |vm: &mut ModuleVm, work: &mut Vec<u64>, count: usize| {
        for _ in 0..count {
            vm.tick(&host).unwrap();
            work.push(vm.work().instructions);
        }
    };
    let settle = |vm: &mut ModuleVm, work: &mut Vec<u64>| {
        // Ticks are frequent until the config is in force, or for a while after it was refused.
        for _ in 0..CALLBACKS_MAX {
            let is_refused = host.log.borrow().iter().any(|line| line.contains("experiments are refused"));
            if vm.tick_period_ms() == 100 || is_refused {
                return;
            }
            ticks(vm, work, 1);
        }
        panic!("the config is not in force after {CALLBACKS_MAX} callbacks");
    };
    let fetched = |vm: &mut ModuleVm, work: &mut Vec<u64>, token: u32, config: &Value| {
        vm.work();
        vm.reply(&host, token, HeaderBlock::from_pairs(&[(":status", "200")]), config.to_string().into_bytes())
            .unwrap();
        work.push(vm.work().instructions);
        settle(vm, work);
    };
    fetched(&mut first, &mut work, token, config);
    second.work();
    ticks(&mut second, &mut work, 1);
    settle(&mut second, &mut work);
    host.clock_ms.set(host.clock_ms.get() + 3_600_000);
    ticks(&mut first, &mut work, 1);
    let empty = [
        native(0, |_| Value::Null),
        growthbook(0, |_| Value::Null, &json!({})),
        optimizely(&json!({})),
        ("unleash", json!({"version": 2, "features": []})),
        ("posthog", json!({"flags": [], "cohorts": {}})),
        flags::eppo(0, |_| Value::Null),
        flags::flagd(0, |_| Value::Null, &json!({})),
    ];
    let (_, empty) = empty.into_iter().find(|(name, _)| *name == format).unwrap();
    host.log.borrow_mut().clear();
    let token = *host.take_calls().end();
    fetched(&mut first, &mut work, token, &empty);
    ticks(&mut first, &mut work, FREED_CALLBACKS);
    work
}

fn check(configs: Vec<(&str, (&str, Value))>) {
    let module = Compiled::built();
    let mut over = Vec::new();
    for (name, (format, config)) in configs {
        if std::env::var("ONLY").is_ok_and(|only| !name.contains(&only)) {
            continue;
        }
        if let Ok(folder) = std::env::var("CONFIGS") {
            // For `benches/steps.mjs`, which times them.
            std::fs::write(Path::new(&folder).join(format!("{format}, {name}.json")), config.to_string()).unwrap();
            continue;
        }
        let work = callbacks(&module, format, &config);
        let largest = work.iter().max().copied().unwrap();
        let place = work.iter().position(|callback| *callback == largest).unwrap() + 1;
        let all = work.iter().sum::<u64>();
        println!(
            "{format}, {name}: {all} instructions in {} callbacks, at most {largest}, in the {place}th",
            work.len()
        );
        if largest > INSTRUCTIONS_MAX {
            over.push(format!("{format}, {name}: {largest} instructions in callback {place} of {}", work.len()));
        }
    }
    assert!(over.is_empty(), "over {INSTRUCTIONS_MAX} instructions in one callback:\n{}", over.join("\n"));
}

#[test]
fn native_configs_never_hold_a_worker() {
    check(native_configs());
    check(elements::native_elements());
}

#[test]
fn growthbook_payloads_never_hold_a_worker() {
    check(growthbook_configs());
    check(elements::growthbook_elements());
}

#[test]
fn optimizely_datafiles_never_hold_a_worker() {
    check(optimizely_configs());
    check(elements::optimizely_elements());
}

#[test]
fn unleash_features_never_hold_a_worker() {
    check(flags::unleash_configs());
    check(elements::unleash_elements());
}

#[test]
fn posthog_flags_never_hold_a_worker() {
    check(flags::posthog_configs());
    check(elements::posthog_elements());
}

#[test]
fn eppo_payloads_never_hold_a_worker() {
    check(flags::eppo_configs());
    check(elements::eppo_elements());
}

#[test]
fn flagd_definitions_never_hold_a_worker() {
    check(flags::flagd_configs());
    check(elements::flagd_elements());
}
