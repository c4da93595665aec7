//! The JSON Schemas of the docs say what the parsers do: the same fields, and nothing refused that is taken.
#![allow(missing_docs)]
// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit::native;
use edgesplit::plugin_config::PluginConfig;
use jsonschema::Validator;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn schema(name: &str) -> (Value, Validator) {
    let schema = read(&format!("docs/schema/{name}.schema.json"));
    let validator = jsonschema::validator_for(&schema).unwrap();
    (schema, validator)
}

/// The objects of a schema, each with where it stands in a document and the names of its fields.
fn objects(schema: &Value, place: &[Step], found: &mut Vec<(Vec<Step>, BTreeSet<String>)>) {
    for one in schema["anyOf"].as_array().into_iter().flatten() {
        objects(one, place, found);
    }
    if schema["items"].is_object() {
        objects(&schema["items"], &[place, &[Step::Item]].concat(), found);
    }
    let Some(properties) = schema["properties"].as_object() else { return };
    found.push((place.to_vec(), properties.keys().cloned().collect()));
    for (name, property) in properties {
        objects(property, &[place, &[Step::Field(name.clone())]].concat(), found);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Item,
}

/// A document with nothing but an unknown field at this place.
fn with_unknown(place: &[Step]) -> Value {
    match place {
        [] => json!({"an-unknown-field": 1}),
        [Step::Field(name), rest @ ..] => Value::Object(Map::from_iter([(name.clone(), with_unknown(rest))])),
        [Step::Item, rest @ ..] => json!([with_unknown(rest)]),
    }
}

/// The fields that a parser says it knows where it met one that it does not.
fn known(problems: &[String]) -> BTreeSet<String> {
    let told = problems.iter().find(|problem| problem.contains("an-unknown-field: unknown field"));
    let told = told.unwrap_or_else(|| panic!("no word of the unknown field: {problems:?}"));
    told.split_once("known here: ").unwrap().1.split(", ").map(str::to_owned).collect()
}

fn plugin_problems(document: &Value) -> Vec<String> {
    let problems = PluginConfig::from_value(document).err();
    problems.iter().flat_map(|problems| problems.iter().map(ToString::to_string)).collect()
}

fn experiment_problems(document: &Value) -> Vec<String> {
    let mut document = document.clone();
    // Without them there is no document at all, and nothing more is looked at.
    for (name, value) in [("schema", json!(1)), ("experiments", json!([]))] {
        document.as_object_mut().unwrap().entry(name).or_insert(value);
    }
    native::compile(&document, 64).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn schemas_have_the_fields_that_the_parsers_know() {
    for (name, parse) in
        [("plugin", plugin_problems as fn(&Value) -> Vec<String>), ("experiments", experiment_problems)]
    {
        let mut found = Vec::new();
        objects(&schema(name).0, &[], &mut found);
        assert!(found.len() >= 8, "{name}: {found:?}");
        for (place, mut fields) in found {
            // Each kind of source of an id is told by one of two fields.
            if fields.contains("jwt_claim") {
                fields.extend(["header".to_owned(), "cookie".to_owned()]);
            }
            assert_eq!(fields, known(&parse(&with_unknown(&place))), "{name}: {place:?}");
        }
    }
}

#[test]
fn what_is_taken_is_valid_and_what_a_schema_can_tell_is_refused() {
    let (_, plugin) = schema("plugin");
    let (_, experiments) = schema("experiments");
    let told = |validator: &Validator, document: &Value| -> Vec<String> {
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
    };
    for file in ["examples/experiments.json", "tests/data/golden_experiments.json"] {
        assert_eq!(told(&experiments, &read(file)), [""; 0], "{file}");
    }
    // The documents of the docs.
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let mut checked = 0;
    for block in page.split("\n```json\n").skip(1).filter_map(|rest| rest.split("\n```").next()) {
        let document: Value = serde_json::from_str(block).unwrap();
        let validator = if document["experiments"].is_array() { &experiments } else { &plugin };
        assert_eq!(told(validator, &document), [""; 0], "{block}");
        checked += 1;
    }
    assert!(checked >= 2);
    assert_eq!(
        told(
            &plugin,
            &read("tests/data/golden_decisions.json")["plugin"].as_object().map_or_else(Value::default, |golden| {
                let mut golden = golden.clone();
                golden.insert("experiments".to_owned(), json!({"cluster": "c"}));
                Value::Object(golden)
            })
        ),
        [""; 0]
    );
    // Of what the parser refuses, a schema can tell wrong types, unknown fields and impossible values, but not what one
    // field says about another.
    let refused = read("tests/data/plugin_config_refused.json");
    let refused: Vec<&Value> = refused.as_array().unwrap().iter().filter(|case| case["config"].is_object()).collect();
    let seen = refused.iter().filter(|case| !told(&plugin, &case["config"]).is_empty()).count();
    println!("{seen} of {} refused plugin configurations are refused by the schema too", refused.len());
    assert!(3 * seen > refused.len(), "{seen} of {}", refused.len());
    for wrong in [
        json!({"experiments": [{"key": "a", "state": "runing", "variants": [{"key": "b", "weight": 10000}]}]}),
        json!({"experiments": [{"key": "a", "state": "running", "variants": []}]}),
        json!({"schema": 2, "experiments": []}),
        json!({"experiments": [{"key": "a", "state": "running", "wieght": 1, "variants": [{"key": "b", "weight": 10000}]}]}),
    ] {
        assert!(!told(&experiments, &wrong).is_empty() && !experiment_problems(&wrong).is_empty(), "{wrong}");
    }
}
