//! The JSON Schemas say what the parsers do. Both are walked and probed side by side, field by field: what a schema
//! refuses the parser refuses, and the other way round but for what no schema can say, which is listed here.
#![allow(missing_docs)]
// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::native;
use jsonschema::Validator;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

const BUDGET: u64 = 64;

fn read(path: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A document's schema beside its parser.
struct Document {
    schema: Value,
    validator: Validator,
    /// What the parser has to say.
    problems: fn(&Value) -> Vec<(String, String)>,
    /// What the parser makes of it, to be compared.
    parsed: fn(&Value) -> Option<String>,
    /// A document with every field.
    full: Value,
}

fn pairs(problems: &edgesplit_formats::diagnostics::Problems) -> Vec<(String, String)> {
    problems.iter().map(|problem| (problem.path.clone(), problem.message.clone())).collect()
}

fn plugin() -> Document {
    let schema = read("docs/schema/plugin.schema.json");
    Document {
        validator: jsonschema::validator_for(&schema).unwrap(),
        schema,
        problems: |document| {
            PluginConfig::from_value(document).err().map_or_else(Vec::new, |problems| pairs(&problems))
        },
        parsed: |document| {
            let mut config = PluginConfig::from_value(document).ok()?;
            // Whether a default is written out makes a difference here, and is meant to.
            config.request.cache_key.is_budget_given = false;
            Some(format!("{config:?}"))
        },
        full: full_plugin(),
    }
}

fn experiments() -> Document {
    let schema = read("docs/schema/experiments.schema.json");
    Document {
        validator: jsonschema::validator_for(&schema).unwrap(),
        schema,
        problems: |document| pairs(&native::compile(document, BUDGET).problems),
        parsed: |document| {
            let compiled = native::compile(document, BUDGET);
            compiled.snapshot.filter(|_| compiled.problems.errors() == 0).map(|snapshot| format!("{snapshot:?}"))
        },
        full: full_experiments(),
    }
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
            "assignments_header": "x-a", "cache_key": {"header": "x-k", "query": "__ab", "budget": 8},
            "sticky": cookie("s"), "preview": {"parameter": "show", "secret": "never shown"},
        },
        "response": {"downstream_caching": "unchanged", "debug_header": "x-debug"},
        "events": merged(endpoint.clone(), json!({
            "format": "ndjson", "timeout": "3s",
            "batch": {"max_events": 2, "max_bytes": 4096, "max_age": "2s"},
            "dedupe": {"window": "1h", "max_entries": 7},
            "outbox": {"max_bytes": 1 << 30, "max_batches": 7, "max_age": "2h", "on_full": "drop_newest"},
            "retry": {"backoff_min": "500ms", "backoff_max": "2h", "lease": "1h"}, "fallback": endpoint,
        })),
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
                {"key": "control", "weight": 10000, "baseline": true, "set": {
                    "request_headers": {"x-a": "1"}, "response_headers": {"x-b": "2"},
                    "path": {"prefix": "/a", "with": "/b"}, "redirect": "https://shop.example/"}},
                {"key": "green", "weight": 0},
            ],
        }, {
            "key": "b", "state": "concluded", "winner": "green", "variants": [{"key": "green", "weight": 10000}],
        }],
        "goals": [{"key": "g", "route": route, "statuses": ["2xx"]}],
    })
}

/// A place in a document that has a schema.
struct Place {
    /// As a JSON pointer.
    pointer: String,
    schema: Value,
}

impl Place {
    /// As problems name it.
    fn path(&self) -> String {
        let names = self.pointer.split('/').skip(1).map(|name| match name.parse::<usize>() {
            Ok(index) => format!("[{index}]"),
            Err(_) => format!(".{name}"),
        });
        names.collect::<String>().trim_start_matches('.').to_owned()
    }

    /// Names of fields, where it is an object that has no others.
    fn fields(&self) -> Option<BTreeSet<String>> {
        let properties = self.schema["properties"].as_object().filter(|_| self.schema["additionalProperties"] == false);
        properties.map(|properties| properties.keys().cloned().collect())
    }

    /// What both have to tell apart here: values of other kinds, at the bounds and beyond them, choices, and patterns'
    /// cases as people misspell them.
    fn probes(&self, here: &Value) -> Vec<Value> {
        let mut probes = vec![
            json!(null),
            json!(true),
            json!("?"),
            json!(""),
            json!("a b"),
            json!(-1),
            json!(0.5),
            json!([]),
            json!({}),
        ];
        // Durations and times that read as such and are impossible.
        probes.extend(["0ms", "0.5ms", "999999h", "2026-13-01T00:00:00Z"].map(|text| json!(text)));
        for (bound, outside) in [("minimum", -1), ("maximum", 1)] {
            if let Some(bound) = self.schema[bound].as_i64() {
                probes.extend([json!(bound), json!(bound + outside)]);
            }
        }
        probes.extend(self.schema["enum"].as_array().into_iter().flatten().cloned());
        for text in [here.as_str(), self.schema["default"].as_str()].into_iter().flatten() {
            for (before, after) in [
                ("", ""),
                ("/", ""),
                (" ", ""),
                ("", " "),
                ("", "é"),
                ("", "\n"),
                ("", "#"),
                ("", "?"),
                ("", ";"),
                ("-", ""),
                ("", "*"),
            ] {
                probes.push(json!(format!("{before}{text}{after}")));
            }
            probes.push(json!(text.to_uppercase()));
        }
        probes
    }
}

impl Document {
    /// Every place at which the full document has a value, but conditions, which have their own test.
    fn places(&self) -> Vec<Place> {
        let mut found = Vec::new();
        self.walk(&self.schema, &self.full, String::new(), &mut found);
        found
    }

    fn walk(&self, schema: &Value, value: &Value, pointer: String, found: &mut Vec<Place>) {
        if let Some(reference) = schema["$ref"].as_str() {
            if !reference.ends_with("/condition") {
                self.walk(
                    self.schema.pointer(reference.trim_start_matches('#')).expect(reference),
                    value,
                    pointer,
                    found,
                );
            }
            return;
        }
        for branch in schema["anyOf"].as_array().into_iter().flatten().filter(|branch| branch.get("required").is_none())
        {
            let kind = if value.is_array() { "array" } else { "integer" };
            if branch.get("type").is_none() || branch["type"] == kind {
                self.walk(branch, value, pointer.clone(), found);
            }
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            if let Some(schema) = schema["properties"].get(name) {
                self.walk(schema, value, format!("{pointer}/{name}"), found);
            }
        }
        for (index, value) in
            value.as_array().into_iter().flatten().enumerate().filter(|_| schema.get("items").is_some())
        {
            self.walk(&schema["items"], value, format!("{pointer}/{index}"), found);
        }
        found.push(Place { pointer, schema: schema.clone() });
    }

    /// The full document with another value there.
    fn with(&self, place: &Place, value: Value) -> Value {
        let mut document = self.full.clone();
        *document.pointer_mut(&place.pointer).unwrap() = value;
        document
    }

    /// The full document without what stands there, if it is a member of an object.
    fn without(&self, place: &Place) -> Option<Value> {
        let (parent, name) = place.pointer.rsplit_once('/')?;
        let mut document = self.full.clone();
        document.pointer_mut(parent)?.as_object_mut()?.remove(name)?;
        Some(document)
    }

    fn refused_by_schema(&self, document: &Value) -> Vec<String> {
        self.validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }
}

#[test]
fn the_committed_schemas_are_what_the_command_prints() {
    for name in ["plugin", "experiments"] {
        let output = Command::new(edgesplit_testkit::command::program()).args(["schema", name]).output().unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{name}.schema.json"));
        let committed = std::fs::read_to_string(&file).unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            committed,
            "edgesplit schema {name} > {}",
            file.display()
        );
        assert!(jsonschema::meta::is_valid(&read(&format!("docs/schema/{name}.schema.json"))));
    }
}

#[test]
fn the_reference_is_what_the_command_prints() {
    let reference = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md")).unwrap();
    for name in ["plugin", "experiments"] {
        let arguments = ["schema", name, "--markdown"];
        let output = Command::new(edgesplit_testkit::command::program()).args(arguments).output().unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(
            reference.contains(&table),
            "docs/reference.md has another table than edgesplit {}",
            arguments.join(" ")
        );
        // Every field has a row, and says what it is.
        let odd: Vec<&str> = table.lines().filter(|row| row.ends_with("| |") || row.matches('|').count() < 5).collect();
        assert_eq!(odd, [""; 0]);
    }
    for field in ["experiments[].variants[].set.request_headers", "events.retry.backoff_max", "visitor.mint.same_site"]
    {
        assert!(reference.contains(&format!("\n| `{field}` |")), "{field}");
    }
}

#[test]
fn schemas_have_exactly_the_fields_that_the_parsers_know() {
    for document in [plugin(), experiments()] {
        assert_eq!((document.problems)(&document.full), [], "the full document is well");
        assert_eq!(document.refused_by_schema(&document.full), [""; 0]);
        let places = document.places();
        let mut objects = 0;
        let mut shown = BTreeMap::<BTreeSet<String>, BTreeSet<String>>::new();
        for place in &places {
            let Some(fields) = place.fields() else { continue };
            let mut value = document.full.pointer(&place.pointer).unwrap().clone();
            let members = value.as_object_mut().unwrap();
            shown.entry(fields.clone()).or_default().extend(members.keys().cloned());
            members.insert("an-unknown-field".to_owned(), json!(1));
            let unknown = document.with(place, value);
            assert!(!document.refused_by_schema(&unknown).is_empty(), "{}", place.pointer);
            let told = (document.problems)(&unknown).into_iter().find(|(path, _)| path.ends_with("an-unknown-field"));
            let (_, message) = told.unwrap_or_else(|| panic!("{}: no word of the unknown field", place.pointer));
            let known = message.split_once("known here: ").unwrap().1.split(", ").map(str::to_owned).collect();
            assert_eq!(fields, known, "{}", place.pointer);
            objects += 1;
        }
        assert!(objects >= 12, "{objects}");
        for (fields, shown) in shown {
            assert_eq!(fields, shown, "the full document shows every field, so that every field is probed");
        }
    }
}

/// What parsers say where no schema could: how long a duration is, and what names and fields have to do with each other.
const BEYOND_SCHEMAS: [&str; 9] = [
    // A warning, and taken all the same.
    "missing; read as schema",
    "expected a duration from",
    "expected a duration of whole",
    "expected a time in RFC 3339",
    "expected the key of a variant",
    "expected two whole numbers [from, to)",
    "weights add up",
    "one of the variants has to be the `baseline`",
    "is more than",
];

#[test]
fn schemas_refuse_what_the_parsers_refuse_and_nothing_else() {
    let mut needed = BTreeSet::new();
    for document in [plugin(), experiments()] {
        let (mut probed, mut refused, mut disagreements) = (0, 0, Vec::new());
        for place in document.places().iter().filter(|place| !place.pointer.is_empty()) {
            let probes = place.probes(document.full.pointer(&place.pointer).unwrap()).into_iter();
            let probes = probes.map(|probe| (format!("{} = {probe}", place.path()), document.with(place, probe)));
            let without = document.without(place).map(|without| (format!("no {}", place.path()), without));
            for (case, probing) in probes.chain(without) {
                let by_schema = document.refused_by_schema(&probing);
                let by_parser = (document.problems)(&probing);
                probed += 1;
                refused += usize::from(!by_schema.is_empty() && !by_parser.is_empty());
                let mut sayable = by_parser.clone();
                sayable.retain(|(_, message)| match BEYOND_SCHEMAS.iter().find(|beyond| message.contains(**beyond)) {
                    Some(beyond) => {
                        if by_schema.is_empty() {
                            needed.insert(*beyond);
                        }
                        false
                    }
                    None => true,
                });
                if !by_schema.is_empty() && by_parser.is_empty() {
                    disagreements.push(format!("only the schema refuses {case}: {by_schema:?}"));
                }
                if by_schema.is_empty() && !sayable.is_empty() {
                    disagreements.push(format!("only the parser refuses {case}: {sayable:?}"));
                }
            }
        }
        println!("{probed} probes, {refused} of them refused by both");
        assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
        assert!(probed > 300 && refused > 100 && refused < probed);
    }
    assert_eq!(needed, BEYOND_SCHEMAS.into_iter().collect(), "each is needed");
}

#[test]
fn defaults_are_what_stands_there_if_nothing_does() {
    for document in [plugin(), experiments()] {
        let mut compared = 0;
        for place in document.places() {
            let Some(default) = place.schema.get("default") else { continue };
            let without = document.without(&place).unwrap();
            let with = document.with(&place, default.clone());
            let (without, with) = ((document.parsed)(&without), (document.parsed)(&with));
            assert_eq!(with, without, "{}", place.pointer);
            // A field that others need cannot be left out here.
            compared += usize::from(with.is_some());
        }
        println!("{compared} defaults");
        assert!(compared >= 20, "{compared}");
    }
}

#[test]
fn conditions_have_the_operators_of_the_engine_and_their_operands() {
    let document = experiments();
    let with = |audience: Value| {
        let variants = json!([{"key": "a", "weight": 10000}]);
        json!({"schema": 1, "experiments": [{"key": "a", "state": "running", "audience": audience, "variants": variants}]})
    };
    let told = (document.problems)(&with(json!({"a": {"$near": 1}})));
    let known = told[0].1.split_once("known here: ").unwrap().1;
    // Saved groups are a vendor's: a native document has none.
    let known: BTreeSet<&str> = known.split(", ").filter(|name| !name.ends_with("Group")).collect();
    let operators = document.schema["definitions"]["operators"]["properties"].as_object().unwrap();
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
        let by_schema = document.refused_by_schema(&document_with);
        let mut by_parser = (document.problems)(&document_with);
        // Whether a pattern can be compiled no schema can say.
        by_parser.retain(|(_, message)| !message.starts_with("as a pattern"));
        let is_null = condition.is_null();
        assert_eq!(by_schema.is_empty(), by_parser.is_empty() || is_null, "{condition}: {by_schema:?} {by_parser:?}");
        refused += usize::from(!by_schema.is_empty());
    }
    println!("{} conditions, {refused} refused by both", conditions.len());
    assert!(refused > 200 && refused < conditions.len());
}

#[test]
fn every_example_is_valid() {
    let (plugin, experiments) = (plugin(), experiments());
    for file in ["examples/experiments.json", "tests/data/golden_experiments.json"] {
        assert_eq!(experiments.refused_by_schema(&read(file)), [""; 0], "{file}");
    }
    let mut golden = read("tests/data/golden_decisions.json")["plugin"].as_object().cloned().unwrap_or_else(Map::new);
    golden.insert("experiments".to_owned(), json!({"cluster": "c"}));
    assert_eq!(plugin.refused_by_schema(&Value::Object(golden)), [""; 0]);
    let mut checked = 0;
    for page in [
        "README.md",
        "docs/configuration.md",
        "docs/optimizely.md",
        "docs/growthbook.md",
        "docs/caches.md",
        "docs/events.md",
    ] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        for block in text.split("\n```json\n").skip(1).filter_map(|rest| rest.split("\n```").next()) {
            let value: Value = serde_json::from_str(block).unwrap();
            let document = if value["experiments"].is_array() { &experiments } else { &plugin };
            assert_eq!(document.refused_by_schema(&value), [""; 0], "{page}: {block}");
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked}");
}

#[test]
fn refused_configurations_are_refused_but_for_what_no_schema_can_say() {
    let plugin = plugin();
    let rows = read("tests/data/plugin_config_refused.json");
    let rows = rows.as_array().unwrap();
    let missed: Vec<&str> = (rows.iter())
        .filter(|row| plugin.refused_by_schema(&row["config"]).is_empty())
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    println!("{} of {} refused by the schema too", rows.len() - missed.len(), rows.len());
    // How long a duration is, and what two fields say about each other.
    let expected = [
        "cluster name that is no host",
        "header given twice",
        "duration of nothing",
        "duration too long",
        "duration beyond 64 bits",
        "duration below a millisecond",
        "id from an owned header",
        "id from a claim of an owned header",
        "mint age below a second",
        "mint prefix __Host- with a domain",
        "mint over the consent cookie",
        "attribute from an owned parameter",
        "one header for two things",
        "sticky over the minted id",
        "sticky over the consent",
        "sticky over an id",
        "one parameter for two things",
        "attribute from the preview parameter",
        "batch over the outbox",
        "dedupe window of nothing",
        "lease as long as the timeout",
        "back-off upside down",
    ];
    assert_eq!(missed, expected);
}
