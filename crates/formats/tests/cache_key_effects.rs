//! Two requests with the same cache key get the same effects, in every version of a config. Otherwise a cache would serve
//! one visitor's page to another.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_engine::assignments;
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::{DecisionInput, Units, evaluate_on_route};
use edgesplit_engine::decide_flags;
use edgesplit_engine::flag::{FlagDecisions, FlagVisitor};
use edgesplit_engine::snapshot::{Choice, Effects, Snapshot};
use edgesplit_formats::effect_policy::EffectPolicy;
use edgesplit_formats::growthbook::GrowthBook;
use edgesplit_formats::native::Native;
use edgesplit_formats::optimizely::Optimizely;
use edgesplit_formats::{FormatRef, Options, compile_bytes};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

const SEEDS: u32 = 40;
const VERSIONS: usize = 12;
const VISITORS: usize = 60;

/// A linear congruential generator. The seed replays a failure.
struct Rng(u32);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) as usize % end
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

struct Visitor {
    id: String,
    country: &'static str,
}

impl Attributes for Visitor {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        match name {
            AttributeName::Id => AttributeValue::Text(Cow::Borrowed(&self.id)),
            AttributeName::Named(name) if name == "id" => AttributeValue::Text(Cow::Borrowed(&self.id)),
            AttributeName::Named(name) if name == "country" => AttributeValue::Text(Cow::Borrowed(self.country)),
            _ => AttributeValue::Missing,
        }
    }
}

/// The changes of a request, as the filter makes them: of several with one name, the last counts.
#[derive(Debug, Default, Clone, PartialEq)]
struct Changes {
    headers: BTreeMap<String, String>,
    path: Vec<u8>,
    redirect: Option<String>,
    assignments: BTreeMap<String, String>,
}

fn changes(snapshot: &Snapshot, choices: &[Choice]) -> Changes {
    let mut all = Changes { path: b"/shop/a".to_vec(), ..Changes::default() };
    for (experiment, variant) in choices.iter().map(|choice| snapshot.choice(*choice).unwrap()) {
        let Effects { request_headers, path, redirect, .. } = &variant.effects;
        all.headers.extend(request_headers.iter().cloned());
        if let Some(Ok(rewritten)) = path.as_ref().and_then(|path| path.rewritten(&all.path)) {
            all.path = rewritten;
        }
        all.redirect = all.redirect.or_else(|| redirect.clone());
        // Baselines look like no experiment.
        if let Some(assignment) = variant.assignment.clone().filter(|_| !variant.baseline) {
            all.assignments.insert(experiment.key.clone(), assignment);
        }
    }
    all
}

fn decided(snapshot: &Snapshot, visitor: &Visitor) -> Vec<Choice> {
    let steps = request_budget();
    let input = DecisionInput::unrestricted(0, &steps);
    let numbers: Vec<u32> = (0..).take(snapshot.experiments.len()).collect();
    let Some(evaluator) = snapshot.flag_evaluator.as_deref() else {
        let units = Units::new(snapshot, &input, visitor);
        let decide = |(number, experiment)| {
            let variant = evaluate_on_route(snapshot, experiment, &input, &units, &mut ()).variant?;
            Some(Choice { experiment: number, variant })
        };
        return snapshot.experiments.iter().enumerate().filter_map(decide).collect();
    };
    let flag_visitor = FlagVisitor::new(Some(&visitor.id), visitor, &steps, 0);
    let mut decisions = FlagDecisions::default();
    decide_flags(snapshot, evaluator, &numbers, &input, &flag_visitor, &mut decisions);
    let mut choices: Vec<Choice> = (decisions.decided.iter())
        .filter_map(|(flag, variant, _)| Some(Choice { experiment: snapshot.flag(*flag)?, variant: (*variant)? }))
        .collect();
    choices.sort_unstable_by_key(|choice| choice.experiment);
    choices
}

/// Decides visitors with all `versions`, and returns how many cache keys and effects there were.
fn check(format: FormatRef, versions: &[Value], seed: u32) -> (usize, usize) {
    let effects = EffectPolicy { is_given: true, ..EffectPolicy::default() };
    let options = Options { effects, ..Options::new(format, 1_000_000) };
    let mut by_key: HashMap<String, Changes> = HashMap::new();
    let mut different: Vec<String> = Vec::new();
    for version in versions {
        let compiled = compile_bytes(version.to_string().as_bytes(), &options);
        let snapshot = compiled.snapshot.unwrap_or_else(|| panic!("{:?}", compiled.problems));
        for number in 0..VISITORS {
            let visitor = Visitor { id: format!("v{number}"), country: ["DE", "FR", "AT"][number % 3] };
            let mut choices = decided(&snapshot, &visitor);
            let found = changes(&snapshot, &choices);
            different.push(format!("{found:?}"));
            let (_, cache_key) = assignments::texts(&snapshot, &mut choices);
            let known = by_key.entry(cache_key.clone()).or_insert_with(|| found.clone());
            assert_eq!(*known, found, "seed {seed}, cache key {cache_key:?}, of {version}");
        }
    }
    different.sort_unstable();
    different.dedup();
    (by_key.len(), different.len())
}

fn set(rng: &mut Rng, header: &str) -> Value {
    match rng.below(5) {
        0 => json!({"request_headers": {header: rng.below(3).to_string()}}),
        1 => json!({"request_headers": {header: "1", "x-shared": rng.below(2).to_string()}}),
        2 => json!({"path": {"prefix": "/shop", "with": format!("/shop-{}", rng.below(2))}}),
        3 => json!({"redirect": format!("/new-{}", rng.below(2))}),
        _ => json!({"response_headers": {"x-shown": rng.below(2).to_string()}}),
    }
}

/// A rule of an experiment or a rollout, for one country or all.
fn optimizely_rule(rng: &mut Rng, id: usize) -> Value {
    let variation = |rng: &mut Rng, at: usize| {
        let effects = if rng.below(3) == 0 { Value::Null } else { set(rng, "x-price") };
        json!({"id": format!("{id}{at}"), "key": (["a", "b"][at]), "featureEnabled": rng.below(4) > 0,
               "variables": [{"id": "v", "value": effects.to_string()}]})
    };
    json!({"id": id.to_string(), "key": *rng.pick(&["x", "y"]), "layerId": "l", "status": "Running",
           "audienceIds": *rng.pick(&[&[][..], &["DE"], &["FR"]]), "forcedVariations": {},
           "variations": [variation(rng, 0), variation(rng, 1)],
           "trafficAllocation": [{"entityId": format!("{id}0"), "endOfRange": 4_000}, {"entityId": format!("{id}1"), "endOfRange": 8_000}]})
}

#[test]
fn optimizely_keys_follow_from_effects() {
    let (mut keys, mut effects) = (0, 0);
    let audience = |country: &str| json!({"id": country, "conditions": ["or", {"type": "custom_attribute", "name": "country", "match": "exact", "value": country}]});
    for seed in 0..SEEDS {
        let mut rng = Rng(seed);
        // The experiments and the rollout of each of two flags.
        let mut rules: [Vec<Value>; 4] = Default::default();
        let mut versions = Vec::new();
        for id in 10..10 + VERSIONS {
            let list = &mut rules[rng.below(4)];
            match rng.below(4) {
                0 if !list.is_empty() => list.rotate_left(1),
                1 if list.len() > 2 => drop(list.remove(0)),
                _ => list.insert(rng.below(list.len() + 1), optimizely_rule(&mut rng, id)),
            }
            let [price, menu, price_rollout, menu_rollout] = &rules;
            let flag = |key: &str, experiments: &[Value]| {
                let ids: Vec<&Value> = experiments.iter().map(|experiment| &experiment["id"]).collect();
                json!({"id": key, "key": key, "experimentIds": ids, "rolloutId": key,
                       "variables": [{"id": "v", "key": "edgesplit", "type": "json", "defaultValue": "null"}]})
            };
            versions.push(json!({
                "version": "4", "accountId": "1", "projectId": "2", "revision": "3", "attributes": [], "events": [], "groups": [],
                "audiences": [], "typedAudiences": [audience("DE"), audience("FR")], "experiments": ([&price[..], &menu[..]].concat()),
                "rollouts": [{"id": "price", "experiments": price_rollout}, {"id": "menu", "experiments": menu_rollout}],
                "featureFlags": [flag("price", price), flag("menu", menu)],
            }));
        }
        let found = check(&Optimizely, &versions, seed);
        (keys, effects) = (keys + found.0, effects + found.1);
    }
    println!("{keys} keys, {effects} effects");
    assert!(effects > 200, "a mixed lot: {effects}");
}

#[test]
fn growthbook_keys_follow_from_effects() {
    let (mut keys, mut effects) = (0, 0);
    for seed in 0..SEEDS {
        let mut rng = Rng(seed);
        let value = |rng: &mut Rng| match rng.below(3) {
            0 => json!("plain"),
            _ => json!({"edgesplit": set(rng, "x-price")}),
        };
        let rule = |rng: &mut Rng| match rng.below(3) {
            0 => json!({"condition": {"country": *rng.pick(&["DE", "FR"])}, "force": value(rng)}),
            1 => json!({"force": value(rng), "coverage": 0.5, "hashAttribute": "id"}),
            _ => json!({"key": *rng.pick(&["a", "b"]), "hashAttribute": "id", "coverage": 0.7,
                        "variations": [value(rng), value(rng)], "weights": [0.5, 0.5]}),
        };
        let mut rules: BTreeMap<&str, Vec<Value>> = BTreeMap::from([("price", vec![]), ("menu", vec![])]);
        let mut versions = Vec::new();
        for _ in 0..VERSIONS {
            let name = *rng.pick(&["price", "menu"]);
            let list = rules.get_mut(name).unwrap();
            match rng.below(4) {
                0 if !list.is_empty() => list.rotate_left(1),
                1 if list.len() > 3 => drop(list.remove(0)),
                _ => list.insert(rng.below(list.len() + 1), rule(&mut rng)),
            }
            let feature = |rules: &Vec<Value>| json!({"defaultValue": "none", "rules": rules});
            let features: BTreeMap<&str, Value> = rules.iter().map(|(name, rules)| (*name, feature(rules))).collect();
            versions.push(json!({ "features": features }));
        }
        let found = check(&GrowthBook, &versions, seed);
        (keys, effects) = (keys + found.0, effects + found.1);
    }
    println!("{keys} keys, {effects} effects");
    assert!(effects > 200, "a mixed lot: {effects}");
}

/// The effects of a native variant belong to its key. Only one experiment may set a header or the path: their order
/// decides between several.
#[test]
fn native_keys_follow_from_variants() {
    let (mut keys, mut effects) = (0, 0);
    for seed in 0..SEEDS {
        let mut rng = Rng(seed);
        let experiment = |rng: &mut Rng, number: usize| {
            let header = format!("x-{number}");
            let path = |with: &str| json!({"path": {"prefix": "/shop", "with": with}});
            let (green, blue) = match number {
                0 => (path("/green"), path("/blue")),
                1 => (json!({"redirect": "/new"}), json!({})),
                _ => (json!({"request_headers": {&header: "1"}}), json!({"request_headers": {&header: "2"}})),
            };
            let weight = rng.below(5_000);
            json!({"key": format!("e{number}"), "state": *rng.pick(&["running", "running", "paused"]),
                   "traffic": rng.below(10_001), "variants": [
                {"key": "control", "weight": 5_000 - weight, "baseline": true, "set": {"response_headers": {"x-b": "1"}}},
                {"key": "green", "weight": 2_500, "set": green}, {"key": "blue", "weight": 2_500 + weight, "set": blue}]})
        };
        let mut experiments: Vec<Value> = Vec::new();
        let mut versions = Vec::new();
        for number in 0..VERSIONS {
            let new = experiment(&mut rng, number);
            match rng.below(3) {
                0 if !experiments.is_empty() => experiments.rotate_left(1),
                1 if experiments.len() > 4 => drop(experiments.remove(0)),
                _ => experiments.insert(rng.below(experiments.len() + 1), new),
            }
            versions.push(json!({"schema": 1, "experiments": experiments}));
        }
        let found = check(&Native, &versions, seed);
        (keys, effects) = (keys + found.0, effects + found.1);
    }
    println!("{keys} keys, {effects} effects");
    assert!(effects > 200, "a mixed lot: {effects}");
}
