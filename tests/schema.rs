//! The JSON Schemas and the reference: up to date, as wide as the examples, and as strict as the readers as far as a
//! schema can express it.
#![allow(missing_docs)]
// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::diagnostics::Problems;
use edgesplit_formats::native;
use jsonschema::Validator;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const BUDGET: u64 = 64;

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn read(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn validator(document: &str) -> Validator {
    jsonschema::validator_for(&read(&format!("docs/schema/{document}.schema.json"))).unwrap()
}

fn schema_errors(validator: &Validator, document: &Value) -> Vec<String> {
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn shown(problems: &Problems) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn plugin_errors(document: &Value) -> Vec<String> {
    PluginConfig::from_value(document).err().map_or_else(Vec::new, |problems| shown(&problems))
}

fn experiment_errors(document: &Value) -> Vec<String> {
    shown(&native::compile(document, BUDGET).problems)
}

fn printed(args: &[&str]) -> String {
    let output = Command::new(edgesplit_testkit::command::program()).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn committed_schemas_are_up_to_date() {
    for name in ["plugin", "experiments"] {
        let file = format!("docs/schema/{name}.schema.json");
        assert_eq!(printed(&["schema", name]), text(&file), "edgesplit schema {name} > {file}");
        assert!(jsonschema::meta::is_valid(&read(&file)));
    }
}

#[test]
fn reference_is_up_to_date() {
    let reference = text("docs/reference.md");
    for name in ["plugin", "experiments"] {
        let table = printed(&["schema", name, "--markdown"]);
        assert!(reference.contains(&table), "docs/reference.md differs from edgesplit schema {name} --markdown");
        let incomplete: Vec<&str> = table.lines().filter(|row| row.contains("| |")).collect();
        assert_eq!(incomplete, [""; 0], "every field has allowed values and a description");
    }
    for field in ["experiments[].variants[].set.request_headers", "events.retry.backoff_max", "visitor.mint.same_site"]
    {
        assert!(reference.contains(&format!("\n| `{field}` |")), "{field}");
    }
}

#[test]
fn full_documents_are_accepted() {
    assert_eq!(plugin_errors(&full_plugin()), [""; 0]);
    assert_eq!(schema_errors(&validator("plugin"), &full_plugin()), [""; 0]);
    assert_eq!(experiment_errors(&full_experiments()), [""; 0]);
    assert_eq!(schema_errors(&validator("experiments"), &full_experiments()), [""; 0]);
}

#[test]
fn invalid_experiments_are_refused_by_schema_and_reader() {
    let validator = validator("experiments");
    for (pointer, value) in [
        ("/schema", json!(2)),
        ("/revision", json!(1)),
        ("/holdout/share", json!(10001)),
        ("/goals/0/statuses/0", json!("6xx")),
        ("/goals/0/route/methods/0", json!("")),
        ("/experiments/0/key", json!("")),
        ("/experiments/0/state", json!("on")),
        ("/experiments/0/unit", json!("")),
        ("/experiments/0/layer/slots/0", json!(-1)),
        ("/experiments/0/layer/slot", json!(1)),
        ("/experiments/0/route/path", json!([])),
        ("/experiments/0/route/paths/0", json!("a")),
        ("/experiments/0/route/hosts/0", json!("https://h")),
        ("/experiments/0/audience/country", json!({"$near": 1})),
        ("/experiments/0/traffic", json!("all")),
        ("/experiments/0/traffic/0/from", json!("tomorrow")),
        ("/experiments/0/starts", json!(5)),
        ("/experiments/0/forced/qa", json!(1)),
        ("/experiments/0/sticky", json!("yes")),
        ("/experiments/0/sticky_version", json!(1.5)),
        ("/experiments/0/guardrail/confidence", json!(1)),
        ("/experiments/0/variants/0/weight", json!("5000")),
        ("/experiments/0/variants/1/set/request_headers", json!({"Host": "h"})),
        ("/experiments/0/variants/1/set/request_headers", json!({"X-Forwarded-For": "h"})),
        ("/experiments/0/variants/1/set/response_headers", json!({"set-cookie": "a=b"})),
        ("/experiments/0/variants/1/set/response_headers", json!({"x": "a\nb"})),
        ("/experiments/0/variants/1/set/redirect", json!("//evil.example")),
        ("/experiments/0/variants/1/set/path/with", json!("b")),
        ("/colour", json!(1)),
    ] {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let mut document = full_experiments();
        match document.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
            object => object[name] = value,
        }
        assert_ne!(schema_errors(&validator, &document), [""; 0], "{pointer}: the schema");
        assert_ne!(experiment_errors(&document), [""; 0], "{pointer}: the reader");
    }
}

/// Editors complete and check the examples: each names its schema, and is valid.
#[test]
fn examples_name_their_schemas() {
    let experiments = read("examples/experiments.json");
    assert_eq!(experiments["$schema"], "../docs/schema/experiments.schema.json");
    assert_eq!(schema_errors(&validator("experiments"), &experiments), [""; 0]);
    let yaml = text("examples/clickhouse/plugin.yaml");
    assert!(yaml.starts_with("# yaml-language-server: $schema=../../docs/schema/plugin.schema.json\n"), "{yaml}");
    let plugin: Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!((schema_errors(&validator("plugin"), &plugin), plugin_errors(&plugin)), (vec![], vec![]));
}

#[test]
fn every_example_is_valid() {
    let (plugin, experiments) = (validator("plugin"), validator("experiments"));
    for file in ["examples/experiments.json", "tests/data/golden_experiments.json"] {
        assert_eq!(schema_errors(&experiments, &read(file)), [""; 0], "{file}");
    }
    let mut golden = read("tests/data/golden_decisions.json")["plugin"].as_object().cloned().unwrap_or_else(Map::new);
    golden.insert("experiments".to_owned(), json!({"cluster": "c"}));
    assert_eq!(schema_errors(&plugin, &Value::Object(golden)), [""; 0]);
    let mut checked = 0;
    for page in [
        "README.md",
        "docs/configuration.md",
        "docs/optimizely.md",
        "docs/growthbook.md",
        "docs/caches.md",
        "docs/events.md",
    ] {
        let text = text(page);
        for block in text.split("\n```json\n").skip(1).filter_map(|rest| rest.split("\n```").next()) {
            let value: Value = serde_json::from_str(block).unwrap();
            let document = if value["experiments"].is_array() { &experiments } else { &plugin };
            assert_eq!(schema_errors(document, &value), [""; 0], "{page}: {block}");
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked}");
}

#[test]
fn conditions_have_the_same_operators_and_operands() {
    let (validator, schema) = (validator("experiments"), read("docs/schema/experiments.schema.json"));
    let with = |audience: Value| {
        let variants = json!([{"key": "a", "weight": 10000}]);
        json!({"schema": 1, "experiments": [{"key": "a", "state": "running", "audience": audience, "variants": variants}]})
    };
    let unknown = experiment_errors(&with(json!({"a": {"$near": 1}})));
    let known = unknown[0].split_once("known here: ").unwrap().1;
    // Saved groups are a vendor's: a native document has none.
    let known: BTreeSet<&str> = known.split(", ").filter(|name| !name.ends_with("Group")).collect();
    let operators = schema["definitions"]["operators"]["properties"].as_object().unwrap();
    assert_eq!(operators.keys().map(String::as_str).collect::<BTreeSet<_>>(), known);

    let values = [
        json!(null),
        json!(true),
        json!(1),
        json!("a"),
        json!("("),
        json!("string"),
        json!([]),
        json!(["a", 1]),
        json!([["a"]]),
        json!([{"a": 1}]),
        json!({}),
        json!({"a": 1}),
        json!({"$eq": 1}),
        json!({"$near": 1}),
        json!({"$eq": 1, "a": 1}),
    ];
    let mut conditions: Vec<Value> = values.to_vec();
    for value in &values {
        conditions.push(json!({ "a": value }));
        for name in operators.keys() {
            conditions.push(json!({"a": {name: value}}));
            conditions.push(json!({"$or": [{"b": {"$not": {name: value}}}]}));
        }
        for name in ["$and", "$or", "$nor", "$not", "$groups", "$savedGroup", "$where"] {
            conditions.push(json!({ name: value }));
        }
    }
    let mut refused = 0;
    for condition in &conditions {
        let document_with = with(condition.clone());
        let by_schema = schema_errors(&validator, &document_with);
        let mut by_parser = experiment_errors(&document_with);
        // A schema cannot express whether a pattern can be compiled.
        by_parser.retain(|problem| !problem.contains(": as a pattern"));
        let is_null = condition.is_null();
        assert_eq!(by_schema.is_empty(), by_parser.is_empty() || is_null, "{condition}: {by_schema:?} {by_parser:?}");
        refused += usize::from(!by_schema.is_empty());
    }
    println!("{} conditions, {refused} refused by both", conditions.len());
    assert!(refused > 200 && refused < conditions.len());
}

#[test]
fn refused_configurations_are_refused_by_the_schema() {
    let plugin = validator("plugin");
    let rows = read("tests/data/plugin_config_refused.json");
    let rows = rows.as_array().unwrap();
    let missed: Vec<&str> = (rows.iter())
        .filter(|row| schema_errors(&plugin, &row["config"]).is_empty())
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    println!("{} of {} refused by the schema too", rows.len() - missed.len(), rows.len());
    // The bounds of durations, and rules across fields.
    let expected = [
        "neither cluster nor inline",
        "inline null and no cluster",
        "cluster name that is no host",
        "authority without cluster",
        "path without cluster",
        "headers without cluster",
        "header given twice",
        "duration of nothing",
        "duration too long",
        "duration beyond 64 bits",
        "duration below a millisecond",
        "scheme without a cluster",
        "routes for native experiments",
        "goals for native experiments",
        "key for native experiments",
        "generation for a format without",
        "id of two sources",
        "id of no source",
        "id from an owned header",
        "id from a claim of nothing",
        "id from a claim of an owned header",
        "mint age below a second",
        "mint same_site none, not secure",
        "mint prefix __Host- with a domain",
        "mint partitioned, not secure",
        "mint over the consent cookie",
        "attribute from an owned parameter",
        "bot patterns without end",
        "owned pattern of the client's headers",
        "owned pattern of the proxy's headers",
        "one header in two spellings",
        "id from an owned header in another spelling",
        "one header for two things",
        "cache key of nothing",
        "sticky over the minted id",
        "sticky over the consent",
        "sticky over an id",
        "one parameter for two things",
        "attribute from the preview parameter",
        "debug header without previews",
        "events of Optimizely for others",
        "batch over the outbox",
        "dedupe window of nothing",
        "lease as long as the timeout",
        "back-off upside down",
    ];
    assert_eq!(missed, expected);
}

/// Everything that may be written; limits so wide that any of them can be the default.
fn full_plugin() -> Value {
    let endpoint =
        json!({"cluster": "c", "authority": "c.internal", "path": "/v1", "headers": {"authorization": "Bearer x"}});
    let merged = |mut a: Value, b: Value| {
        a.as_object_mut().unwrap().extend(b.as_object().unwrap().clone());
        a
    };
    let cookie = |name: &str| {
        json!({"cookie": name, "max_age": "2h", "path": "/shop", "domain": "shop.example", "same_site": "strict",
               "secure": true, "http_only": true})
    };
    json!({
        "experiments": merged(endpoint.clone(), json!({
            "format": "growthbook", "refresh": "30s", "timeout": "3s", "max_bytes": 4096, "inline": {"features": {}},
            "decryption_key": "AAECAwQFBgcICQoLDA0ODw==",
            "routes": [{"keys": ["a*"], "hosts": ["h"], "paths": ["/a*"], "methods": ["GET"], "baseline": "control"}],
            "goals": [{"key": "g", "route": {"hosts": ["h"], "paths": ["/"], "methods": ["POST"]}, "statuses": ["2xx"]}],
        })),
        "visitor": {
            "id": [{"header": "x-user-id"}, {"cookie": "uid", "jwt_claim": "sub"}],
            "mint": cookie("v"), "attributes": {"country": "header.x-country"},
            "consent": {"cookie": "consent", "contains": "experiments"}, "honor": ["dnt"], "bots": "include",
            "bot_patterns": ["probe"], "expire_cookies": false,
        },
        "paths": {"include": ["/shop*"], "exclude": ["/shop/health"]},
        "request": {
            "assignments_header": "x-a", "assignments_max_bytes": 8192, "cache_key": {"header": "x-k", "query": "__ab", "budget": 8},
            "sticky": cookie("s"), "preview": {"parameter": "show", "secret": "never shown to a person"},
        },
        "effects": {"request_headers": ["x-*", "accept"], "response_headers": ["vary"], "paths": false,
                    "redirect_hosts": ["*.shop.example"]},
        "response": {"downstream_caching": "unchanged", "debug_header": "x-debug"},
        "events": merged(endpoint.clone(), json!({
            "format": "ndjson", "timeout": "3s",
            "batch": {"max_events": 2, "max_bytes": 4096, "max_age": "2s"},
            "dedupe": {"window": "1h", "max_entries": 7},
            "outbox": {"max_bytes": 1 << 30, "max_batches": 7, "max_age": "2h", "on_full": "drop_newest"},
            "retry": {"backoff_min": "500ms", "backoff_max": "2h", "lease": "1h"}, "fallback": endpoint,
        })),
        "$schema": "plugin.schema.json",
    })
}

fn full_experiments() -> Value {
    let route = json!({"hosts": ["shop.example"], "paths": ["/a*"], "methods": ["GET"]});
    json!({
        "$schema": "experiments.schema.json", "schema": 1, "revision": "r1", "holdout": {"key": "q4", "share": 500},
        "experiments": [{
            "key": "a", "state": "running", "winner": "green", "salt": "s", "unit": "cookie.u",
            "layer": {"name": "l", "slots": [0, 5000]}, "route": route, "audience": {"country": "DE"},
            "traffic": [{"from": "2026-12-01T00:00:00Z", "share": 1000}],
            "starts": "2026-12-01T00:00:00Z", "ends": "2027-12-01T00:00:00Z", "forced": {"qa": "green"},
            "sticky": true, "sticky_version": 3,
            "guardrail": {"min_exposures": 500, "max_5xx_ratio_increase": 0.5, "confidence": 0.999},
            "variants": [
                {"key": "control", "weight": 10000, "baseline": true, "set": {"response_headers": {"x-b": "2"}}},
                {"key": "green", "weight": 0, "set": {
                    "request_headers": {"x-a": "1"}, "response_headers": {"x-b": "2"},
                    "path": {"prefix": "/a", "with": "/b"}, "redirect": "https://shop.example/"}},
            ],
        }, {
            "key": "b", "state": "concluded", "winner": "green", "variants": [{"key": "green", "weight": 10000}],
        }],
        "goals": [{"key": "g", "route": route, "statuses": ["2xx"]}],
    })
}
