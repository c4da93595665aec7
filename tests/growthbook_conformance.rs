//! GrowthBook's own cases: every section of its `cases.json`, spec 0.8.0. The layout of the rows and their comparison are those of
//! `packages/sdk-js/test/json.test.ts` in GrowthBook's repository.
//!
//! They are read from `$EDGESPLIT_CONFORMANCE`, by default `../shared/conformance` next to the project.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_engine::condition::{StepBudget, request_budget};
use edgesplit_formats::conditions;
use edgesplit_formats::diagnostics::{Node, Problems};
use edgesplit_formats::growthbook::hash::{bucket_ranges, choose_variation, equal_weights, hash, in_namespace};
use edgesplit_formats::growthbook::sticky::{StickyDocument, StickyDocuments};
use edgesplit_formats::growthbook::{self, Context, Evaluation, ExperimentResult, FeatureDecision, Overrides, Payload};
use edgesplit_formats::growthbook::{decrypt::decrypt, url::query_override};
use edgesplit_testkit::conformance::{self, CaseTest};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

/// Cases that cannot pass, by section and name, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

type Check = fn(&[Value]) -> (Value, Value);

/// The sections, each with what gives the actual and the expected outcome of a row.
const SECTIONS: [(&str, Check); 13] = [
    ("evalCondition", eval_condition),
    ("hash", hashes),
    ("getBucketRange", bucket_range),
    ("feature", feature),
    ("run", run),
    ("chooseVariation", choose),
    ("getQueryStringOverride", query_string_override),
    ("inNamespace", namespace),
    ("getEqualWeights", weights),
    ("decrypt", decrypted),
    ("stickyBucket", sticky_bucket),
    ("urlRedirect", url_redirect),
    ("contextualBandit", feature),
];

fn main() -> ExitCode {
    conformance::main(&[CaseTest { name: "growthbook::cases", vendor: "growthbook", run: run_cases }])
}

fn run_cases(folder: &Path) {
    let file = folder.join("cases.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let cases: Value = serde_json::from_str(&text).expect("the cases are JSON");
    for section in cases.as_object().expect("sections").keys() {
        let known = SECTIONS.iter().any(|(name, _)| name == section);
        assert!(known || section == "specVersion", "the section {section} is not run");
    }

    let mut failures = Vec::new();
    for (section, check) in SECTIONS {
        let rows = cases[section].as_array().expect("a list of cases");
        assert!(!rows.is_empty(), "no case in {section}");
        let (mut skipped, before) = (0, failures.len());
        for (number, row) in rows.iter().enumerate() {
            let row = row.as_array().expect("a row");
            let name = row[0].as_str().unwrap_or_default();
            if let Some((_, _, reason)) = EXCEPTIONS.iter().find(|case| (case.0, case.1) == (section, name)) {
                println!("skipped: {section}: {name}: {reason}");
                skipped += 1;
                continue;
            }
            let (actual, expected) = check(row);
            if rounded(&actual) != rounded(&expected) {
                failures.push(format!("{section}[{number}] {name}\n  expected {expected}\n  found    {actual}"));
            }
        }
        let failed = failures.len() - before;
        println!("{section}: {} of {} cases run, {failed} failed", rows.len() - skipped, rows.len());
    }
    assert!(failures.is_empty(), "{} failed\n{}", failures.len(), failures.join("\n"));
}

/// Numbers are compared up to the eighth place, and 1 is 1.0.
fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!((number.as_f64().unwrap() * 1e8 + 1e-3).floor() / 1e8),
        Value::Array(elements) => elements.iter().map(rounded).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), rounded(value))).collect(),
        value => value.clone(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn float(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn pair(value: &Value) -> (f64, f64) {
    (float(&value[0]), float(&value[1]))
}

/// `[name, condition, attributes, expected, saved groups?]`
fn eval_condition(row: &[Value]) -> (Value, Value) {
    let empty = json!({});
    let groups = row.get(4).filter(|groups| !groups.is_null()).unwrap_or(&empty);
    let condition = conditions::compile(&Node::root(&row[1]), groups, &mut Problems::new());
    (condition.matches(&row[2], &request_budget()).expect("within the limits").into(), row[3].clone())
}

/// `[seed, value, version, expected]`
fn hashes(row: &[Value]) -> (Value, Value) {
    (json!(hash(text(&row[0]), text(&row[1]), float(&row[2]))), row[3].clone())
}

/// `[name, [variations, coverage, weights], expected]`
fn bucket_range(row: &[Value]) -> (Value, Value) {
    let weights: Option<Vec<f64>> = row[1][2].as_array().map(|weights| weights.iter().map(float).collect());
    let count = float(&row[1][0]) as usize;
    (json!(bucket_ranges(count, row[1][1].as_f64().unwrap_or(1.0), weights.as_deref())), row[2].clone())
}

/// `[name, bucket, ranges, expected]`
fn choose(row: &[Value]) -> (Value, Value) {
    let ranges: Vec<_> = row[2].as_array().expect("ranges").iter().map(pair).collect();
    let chosen = choose_variation(float(&row[1]), &ranges);
    (chosen.map_or(json!(-1), |chosen| json!(chosen)), row[3].clone())
}

/// `[name, key, url, variations, expected]`
fn query_string_override(row: &[Value]) -> (Value, Value) {
    (json!(query_override(text(&row[1]), text(&row[2]), float(&row[3]) as usize)), row[4].clone())
}

/// `[name, id, [namespace, from, to], expected]`
fn namespace(row: &[Value]) -> (Value, Value) {
    let range = (float(&row[2][1]), float(&row[2][2]));
    (in_namespace(text(&row[1]), text(&row[2][0]), range).into(), row[3].clone())
}

/// `[variations, expected]`
fn weights(row: &[Value]) -> (Value, Value) {
    (json!(equal_weights(float(&row[0]).max(0.0) as usize)), row[1].clone())
}

/// `[name, encrypted, key, expected]`
fn decrypted(row: &[Value]) -> (Value, Value) {
    (json!(decrypt(text(&row[1]), text(&row[2]))), row[3].clone())
}

/// What the SDK is constructed with.
struct Sdk {
    payload: Payload,
    problems: Vec<String>,
    attributes: Value,
    url: String,
    variations: HashMap<String, i64>,
    context: Value,
    steps: StepBudget,
}

impl Sdk {
    fn new(context: &Value) -> Sdk {
        let empty = json!({});
        let part = |name: &str| context.get(name).unwrap_or(&empty).clone();
        let document = json!({
            "features": part("features"), "savedGroups": part("savedGroups"), "contextualBandits": part("contextualBandits"),
            "experiments": context.get("experiments").cloned().unwrap_or(json!([])),
        });
        let compiled = growthbook::compile(&document, None);
        let forced = part("forcedVariations");
        let forced = forced.as_object().expect("an object").iter();
        Sdk {
            problems: compiled.problems.iter().map(ToString::to_string).collect(),
            payload: compiled.payload.expect("a payload"),
            attributes: part("attributes"),
            url: context["url"].as_str().unwrap_or_default().to_owned(),
            variations: forced.map(|(key, number)| (key.clone(), number.as_i64().expect("a number"))).collect(),
            context: context.clone(),
            steps: request_budget(),
        }
    }

    fn context(&self) -> Context<'_, Value> {
        let overrides = Overrides {
            enabled: self.context["enabled"] != json!(false),
            qa_mode: self.context["qaMode"] == json!(true),
            query_string: true,
            variations: Some(&self.variations),
            outcomes: &[],
        };
        Context { attributes: &self.attributes, url: &self.url, overrides, steps: &self.steps }
    }

    /// The value that a decision about the feature `key` stands for.
    fn value(&self, key: &str, decision: &FeatureDecision<'_>) -> Value {
        let feature = self.payload.feature(key).map(|at| &self.payload.features[at]);
        feature.map_or(Value::Null, |feature| feature.outcomes[decision.outcome].value.clone())
    }
}

/// `[name, context, key, expected]`
fn feature(row: &[Value]) -> (Value, Value) {
    let sdk = Sdk::new(&row[1]);
    let context = sdk.context();
    let key = text(&row[2]);
    let decision =
        Evaluation::new(&sdk.payload, &context, None).feature(sdk.payload.feature(key).unwrap_or(usize::MAX));
    let value = sdk.value(key, &decision);
    let on = !matches!(value, Value::Null | Value::Bool(false)) && value != json!("") && value.as_f64() != Some(0.0);
    let mut actual = json!({
        "value": value, "on": on, "off": !on, "source": camel(decision.reason.name()), "ruleId": decision.rule,
    });
    let mut expected = row[3].clone();
    let expected = expected.as_object_mut().expect("an object");
    expected.entry("ruleId").or_insert(json!(""));
    // The SDK hands the rule back as an experiment. What is decided of that is its key and its bandit's weights; the rest
    // is the rule's own text.
    if let Some(experiment) = expected.get_mut("experiment").and_then(Value::as_object_mut) {
        let bandit_has_weights = experiment.contains_key("contextualBandit");
        experiment.retain(|name, _| {
            matches!(name.as_str(), "key" | "contextualBandit") || (bandit_has_weights && name == "weights")
        });
    }
    if let Some(result) = &decision.result {
        actual["experiment"] = json!({"key": result.experiment.key});
        if let Some(bandit) = bandit(result) {
            actual["experiment"]["weights"] = bandit["variationWeights"].clone();
            actual["experiment"]["contextualBandit"] = bandit;
        }
        actual["experimentResult"] = experiment_result(result, key, &value);
    }
    with_texts(expected);
    if actual != Value::Object(expected.clone()) && !sdk.problems.is_empty() {
        println!("{}: problems: {:?}", row[0], sdk.problems);
    }
    (actual, Value::Object(expected.clone()))
}

/// The value that was hashed is text here.
fn with_texts(expected: &mut Map<String, Value>) {
    if let Some(value) = expected.get_mut("experimentResult").and_then(|result| result.get_mut("hashValue"))
        && !value.is_string()
    {
        *value = value.to_string().into();
    }
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &part[..1].to_uppercase() + &part[1..])
}

fn bandit(result: &ExperimentResult<'_>) -> Option<Value> {
    let bandit = result.bandit?;
    let mut shown = json!({"leafId": bandit.leaf, "variationWeights": bandit.weights});
    if let Some(version) = bandit.version {
        shown["banditVersion"] = version.clone();
    }
    Some(shown)
}

fn experiment_result(result: &ExperimentResult<'_>, feature: &str, value: &Value) -> Value {
    let mut shown = json!({
        "featureId": feature,
        "value": value,
        "variationId": result.variation,
        "inExperiment": result.in_experiment,
        "hashUsed": result.hash_used,
        "hashAttribute": result.attribute,
        "hashValue": result.unit.as_deref().unwrap_or_default(),
        "key": result.experiment.variation_key(result.variation),
        "stickyBucketUsed": result.sticky_bucket_used,
    });
    if let Some(bucket) = result.bucket {
        shown["bucket"] = json!(bucket);
    }
    if let Some(name) = result.experiment.variation_name(result.variation) {
        shown["name"] = json!(name);
    }
    if let Some(Value::Object(bandit)) = bandit(result) {
        shown.as_object_mut().expect("an object").extend(bandit);
    }
    shown
}

/// `[name, context, experiment, value, in experiment, hash used]`
fn run(row: &[Value]) -> (Value, Value) {
    let sdk = Sdk::new(&row[1]);
    let groups = row[1].get("savedGroups").cloned().unwrap_or(json!({}));
    let mut problems = Problems::new();
    let compiled = sdk.payload.experiment(Node::root(&row[2]), &groups, &mut problems);
    let (experiment, outcomes) = compiled.unwrap_or_else(|| panic!("{}: {problems:?}", row[0]));
    let context = sdk.context();
    let result = Evaluation::new(&sdk.payload, &context, None).run(&experiment).expect("within the limits");
    let value = outcomes.get(result.variation).map_or(Value::Null, |outcome| outcome.value.clone());
    (json!([value, result.in_experiment, result.hash_used]), Value::from(&row[3..6]))
}

/// `[name, context, documents, key, expected result, expected documents]`
fn sticky_bucket(row: &[Value]) -> (Value, Value) {
    let sdk = Sdk::new(&row[1]);
    let mut documents = StickyDocuments::default();
    for document in row[2].as_array().expect("documents").iter().filter_map(StickyDocument::from_json) {
        // The SDK asks its store for the documents of this visitor only.
        let is_own = |name: &str| name == document.attribute && sdk.attributes[name] == json!(document.unit);
        if sdk.payload.sticky_attributes().any(is_own) {
            documents.add(document);
        }
    }
    let context = sdk.context();
    let mut evaluation = Evaluation::new(&sdk.payload, &context, Some(documents));
    let key = text(&row[3]);
    let decision = evaluation.feature(sdk.payload.feature(key).expect("a feature"));
    let value = sdk.value(key, &decision);
    let result = decision.result.as_ref().map_or(Value::Null, |result| experiment_result(result, key, &value));
    let documents = evaluation.sticky().expect("documents").iter();
    let documents: Map<String, Value> = documents.map(|document| (document.key(), document.to_json())).collect();
    (json!([result, documents]), Value::from(&row[4..6]))
}

/// `[name, context, expected results]`
fn url_redirect(row: &[Value]) -> (Value, Value) {
    let sdk = Sdk::new(&row[1]);
    let context = sdk.context();
    let redirect = Evaluation::new(&sdk.payload, &context, None).redirect();
    let shown = redirect.iter().map(|redirect| {
        json!({
            "inExperiment": redirect.result.in_experiment,
            "urlRedirect": redirect.variation_url,
            "urlWithParams": redirect.location,
        })
    });
    (shown.collect(), row[2].clone())
}
