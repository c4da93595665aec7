//! Optimizely's own cases, as far as they are public: what its SDKs' tests assert (`vectors.json`), what its Python SDK
//! decided for random visitors (`oracle.json`), and the events it sent. They are read from `$EDGESPLIT_CONFORMANCE`, by
//! default `../shared/conformance` next to the project.
#![allow(missing_docs)]
// Helpers of a test fail by panicking, as the test itself does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_formats::events::EventWire;
use edgesplit_formats::optimizely::{Datafile, Event, EventKind, Optimizely, compile};
use edgesplit_testkit::conformance::{self, CaseTest};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    conformance::main(&[
        CaseTest { name: "optimizely::sdk_tests", vendor: "optimizely", run: sdk_tests },
        CaseTest { name: "optimizely::python_sdk_decisions", vendor: "optimizely", run: python_sdk_decisions },
        CaseTest { name: "optimizely::python_sdk_event", vendor: "optimizely", run: python_sdk_event },
        CaseTest { name: "optimizely::java_sdk_event_shape", vendor: "optimizely", run: java_sdk_event_shape },
    ])
}

fn read(folder: &Path, name: &str) -> Value {
    let path = folder.join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The reasons of decisions.
const REASONS: [&str; 12] = [
    "feature_test",
    "experiment",
    "rollout",
    "forced",
    "holdout",
    "cmab",
    "no_rule",
    "not_running",
    "audience",
    "group",
    "traffic",
    "disabled",
];

/// Compiles every datafile once.
struct Datafiles<'a> {
    folder: &'a Path,
    compiled: HashMap<String, Datafile>,
}

impl Datafiles<'_> {
    fn get(&mut self, name: &str) -> &Datafile {
        self.compiled.entry(name.to_owned()).or_insert_with(|| {
            let compiled = compile(&read(&self.folder.join("datafiles"), name));
            compiled.datafile.unwrap_or_else(|| panic!("{name}: {:?}", compiled.problems))
        })
    }
}

/// What is decided about a flag, in the words of the SDKs' `decide`.
fn decide(datafile: &Datafile, key: &str, user_id: &str, attributes: &Value) -> Value {
    let Some(flag) = datafile.flags.iter().find(|flag| flag.key == key) else {
        return json!({"variationKey": null, "enabled": false, "ruleKey": null, "variables": {}});
    };
    let decision = datafile.decide(flag, user_id, attributes, &mut ());
    let outcome = &flag.outcomes()[decision.outcome];
    assert!(REASONS.contains(&decision.reason.name()), "{:?}", decision.reason);
    assert_eq!(
        outcome.in_experiment,
        outcome.variant.is_some() && matches!(decision.reason.name(), "feature_test" | "forced")
    );
    json!({
        "variationKey": outcome.variant,
        "enabled": flag.impression(decision.outcome).unwrap().enabled,
        "ruleKey": outcome.experiment,
        "variables": outcome.value,
    })
}

/// Equal as Python compares: 1 is 1.0.
fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_equal(a, b)))
        }
        _ => a == b,
    }
}

/// What came out of a section: how many cases ran, and which failed. None is skipped.
#[derive(Default)]
struct Tally {
    sections: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Tally {
    fn check(&mut self, section: &str, case: &Value, actual: &Value) {
        *self.sections.entry(section.to_owned()).or_default() += 1;
        if !is_equal(actual, &case["expected"]) {
            self.failures.push(format!("{section}: got {actual} for {case}"));
        }
    }

    fn report(self, name: &str) {
        for (section, count) in &self.sections {
            println!("{name} {section}: {count} cases");
        }
        let total: usize = self.sections.values().sum();
        let shown: Vec<&str> = self.failures.iter().take(20).map(String::as_str).collect();
        println!("{name}: {} of {total} pass, none skipped", total - self.failures.len());
        assert!(shown.is_empty(), "{} of {total} failed, such as\n{}", self.failures.len(), shown.join("\n"));
    }
}

/// Runs cases that name a datafile and an operation.
fn run(cases: &Value, datafiles: &mut Datafiles<'_>, tally: &mut Tally) {
    for case in cases.as_array().unwrap() {
        let text = |name: &str| case[name].as_str().unwrap_or_default();
        let datafile = datafiles.get(text("datafile"));
        let (user_id, attributes) = (text("userId"), &case["attributes"]);
        let actual = match text("op") {
            "decide" => decide(datafile, text("flagKey"), user_id, attributes),
            "is_feature_enabled" => {
                json!({"enabled": decide(datafile, text("flagKey"), user_id, attributes)["enabled"]})
            }
            "get_variation" => {
                json!({"variationKey": datafile.variation(text("experimentKey"), user_id, attributes)})
            }
            "bucket_ignoring_audiences" => {
                json!({"variationKey": datafile.bucketed_variation(text("experimentKey"), user_id)})
            }
            op => panic!("unknown operation {op:?}"),
        };
        tally.check(text("op"), case, &actual);
    }
}

/// A datafile with one experiment, for cases that have no more than that.
fn one_experiment(id: &str, allocation: &Value) -> Value {
    let entities = allocation.as_array().unwrap().iter().filter_map(|range| range["entityId"].as_str());
    let variations: Vec<Value> =
        entities.filter(|id| !id.is_empty()).map(|id| json!({"id": id, "key": id, "variables": []})).collect();
    json!({
        "version": "4", "accountId": "1", "projectId": "1", "revision": "1",
        "audiences": [], "attributes": [], "events": [], "groups": [], "featureFlags": [], "rollouts": [],
        "experiments": [{"id": id, "key": "e", "layerId": "1", "status": "Running", "audienceIds": [],
                         "forcedVariations": {}, "variations": variations, "trafficAllocation": allocation}],
    })
}

fn sdk_tests(folder: &Path) {
    let vectors = read(folder, "vectors.json");
    let mut tally = Tally::default();
    for case in vectors["bucket_value"].as_array().unwrap() {
        let [bucketing_id, entity_id] = ["bucketingId", "entityId"].map(|name| case[name].as_str().unwrap());
        // The bucket is the one whose range leads somewhere.
        let expected = case["expected"].as_u64().unwrap();
        let allocation = json!([
            {"entityId": "", "endOfRange": expected},
            {"entityId": "bucket", "endOfRange": expected + 1},
            {"entityId": "", "endOfRange": 10000},
        ]);
        let datafile = compile(&one_experiment(entity_id, &allocation)).datafile.unwrap();
        let hit = datafile.bucketed_variation("e", bucketing_id) == Some("bucket");
        tally.check("bucket_value", case, &hit.then_some(expected).into());
    }
    for case in vectors["bucket_to_entity"].as_array().unwrap() {
        let [bucketing_id, entity_id] = ["bucketingId", "entityId"].map(|name| case[name].as_str().unwrap());
        let datafile = compile(&one_experiment(entity_id, &case["trafficAllocation"])).datafile.unwrap();
        let actual = datafile.bucketed_variation("e", bucketing_id);
        let mut case = case.clone();
        if case["expected"] == "" {
            case["expected"] = Value::Null; // an empty id means no variation
        }
        tally.check("bucket_to_entity", &case, &actual.into());
    }
    let mut datafiles = Datafiles { folder, compiled: HashMap::new() };
    run(&vectors["datafile_cases"], &mut datafiles, &mut tally);
    tally.report("vectors.json");
}

fn python_sdk_decisions(folder: &Path) {
    let oracle = read(folder, "oracle.json");
    let mut datafiles = Datafiles { folder, compiled: HashMap::new() };
    let mut tally = Tally::default();
    run(&oracle["cases"], &mut datafiles, &mut tally);
    tally.report("oracle.json");
}

/// Attributes have no order: the SDK uses the order of a map.
fn sort_attributes(attributes: &mut Value) {
    attributes.as_array_mut().unwrap().sort_by_key(|attribute| attribute["key"].to_string());
}

/// The names of the attributes.
fn names(attributes: &Value) -> impl Iterator<Item = &str> {
    attributes.as_object().into_iter().flat_map(Map::keys).map(String::as_str)
}

fn python_sdk_event(folder: &Path) {
    let case = read(folder, "impression_event.json");
    let mut datafiles = Datafiles { folder, compiled: HashMap::new() };
    let text = |name: &str| case[name].as_str().unwrap();
    let datafile = datafiles.get(text("datafile"));
    let flag = datafile.flags.iter().find(|flag| flag.key == text("flagKey")).unwrap();
    let decision = datafile.decide(flag, text("userId"), &case["attributes"], &mut ());
    assert!(decision.exposure);
    let event = Event {
        user_id: text("userId"),
        attributes: &datafile.project.visitor_attributes(&case["attributes"], names(&case["attributes"])),
        kind: EventKind::Impression(flag.impression(decision.outcome).unwrap()),
        uuid: text("uuid"),
        time_ms: case["time_ms"].as_i64().unwrap(),
    };
    let mut expected = case["expected_request"]["body"].clone();
    expected["client_name"] = "edgesplit".into();
    expected["client_version"] = env!("CARGO_PKG_VERSION").into();
    let mut actual = batch(datafile, &event);
    for body in [&mut actual, &mut expected] {
        sort_attributes(&mut body["visitors"][0]["attributes"]);
    }
    assert_eq!(actual, expected);
    println!("impression_event.json: 1 of 1 pass");
}

fn batch(datafile: &Datafile, event: &Event<'_>) -> Value {
    let (mut visitor, mut head, mut body) = (Vec::new(), Vec::new(), Vec::new());
    event.write(&mut visitor);
    assert!(!visitor.contains(&b'\n'));
    datafile.project.write_batch_head(&mut head);
    Optimizely.write_body(&head, &mut [visitor.as_slice()].into_iter(), &mut body);
    serde_json::from_slice(&body).unwrap()
}

/// The names of all members, as paths: lists add nothing.
fn shape(value: &Value, path: &str, names: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                names.push(format!("{path}.{name}"));
                shape(value, &format!("{path}.{name}"), names);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| shape(element, path, names)),
        _ => {}
    }
    names.sort();
    names.dedup();
}

/// The Java SDK's samples are made by hand, so it is their shape that counts.
fn java_sdk_event_shape(folder: &Path) {
    let mut datafiles = Datafiles { folder, compiled: HashMap::new() };
    let datafile = datafiles.get("java_valid-project-config-v4.json");
    let attributes = json!({"house": "Gryffindor"});
    let id = datafile.project.conversion_id("basic_event").unwrap();
    let flag = datafile.flags.iter().find(|flag| flag.key == "multi_variate_feature").unwrap();
    let decision = datafile.decide(flag, "Harry Potter", &attributes, &mut ());
    for (name, kind) in [
        ("event-impression-java.json", EventKind::Impression(flag.impression(decision.outcome).unwrap())),
        ("event-conversion-java.json", EventKind::Conversion { id, key: "basic_event" }),
    ] {
        let event = Event {
            user_id: "Harry Potter",
            attributes: &datafile.project.visitor_attributes(&attributes, names(&attributes)),
            kind,
            uuid: "uuid",
            time_ms: 12345,
        };
        let body = batch(datafile, &event);
        let (mut actual, mut expected) = (Vec::new(), Vec::new());
        shape(&body, "", &mut actual);
        shape(&read(folder, name), "", &mut expected);
        // The sample fills in every field of the Java SDK's classes: `type` repeats the key, no event of this module has a
        // revenue, and nothing is held back as in the old `is_campaign_holdback`.
        let unknown = [".events.type", "is_campaign_holdback", ".events.revenue"];
        let is_known = |name: &&String| !unknown.iter().any(|end| name.ends_with(end)) && !name.contains(".metadata");
        assert_eq!(
            actual.iter().filter(is_known).collect::<Vec<_>>(),
            expected.iter().filter(is_known).collect::<Vec<_>>(),
            "{name}"
        );
        println!("{name}: 1 of 1 pass");
    }
}
