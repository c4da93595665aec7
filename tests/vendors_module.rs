//! A sample of the vendors' own cases through the built module, as far as a request can say what a case asks for. All of
//! them run natively in `optimizely_conformance.rs` and `growthbook_conformance.rs`, which say where they come from.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_engine::assignments::assignment_pair;
use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_testkit::conformance::{self, CaseTest};
use edgesplit_testkit::module::recording_host::RecordingHost;
use edgesplit_testkit::module::{Compiled, ModuleVm};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The time of a host whose clock has not moved.
const CLOCK_START_MS: i64 = 1_795_392_000_000;

static MODULE: LazyLock<Compiled> = LazyLock::new(|| Compiled::built());

fn main() -> ExitCode {
    conformance::main(&[
        CaseTest { name: "module::optimizely_decisions", vendor: "optimizely", run: optimizely_decisions },
        CaseTest { name: "module::growthbook_features", vendor: "growthbook", run: growthbook_features },
        CaseTest { name: "module::eppo_flags", vendor: "eppo", run: |folder| flags("eppo", folder) },
        CaseTest { name: "module::flagd_flags", vendor: "flagd", run: |folder| flags("flagd", folder) },
    ])
}

fn read(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A VM that decides by one payload.
struct Vm {
    vm: ModuleVm,
    host: RecordingHost,
    /// The attributes that it knows, each with the header that carries it.
    headers: BTreeMap<String, String>,
    stream: u32,
}

impl Vm {
    fn new(format: &str, payload: &Value, attributes: &BTreeSet<&String>) -> Vm {
        Vm::at(CLOCK_START_MS, format, payload, attributes)
    }

    /// A VM that is started at this time.
    fn at(now_ms: i64, format: &str, payload: &Value, attributes: &BTreeSet<&String>) -> Vm {
        let headers: BTreeMap<String, String> =
            attributes.iter().enumerate().map(|(at, name)| ((*name).clone(), format!("x-a-{at}"))).collect();
        let aliases: Map<String, Value> =
            headers.iter().map(|(name, header)| (name.clone(), json!(format!("header.{header}")))).collect();
        let plugin = json!({
            "experiments": {"inline": payload, "format": format},
            "visitor": {"id": [{"header": "x-id"}], "attributes": aliases, "bots": "include"},
        });
        let host =
            RecordingHost { response: HeaderBlock::from_pairs(&[(":status", "200")]), ..RecordingHost::default() };
        host.clock_ms.set(now_ms - CLOCK_START_MS);
        let mut vm = ModuleVm::start(&MODULE, &host, "demo").unwrap();
        assert!(vm.configure(&host, plugin.to_string().as_bytes()).unwrap(), "{:?}", host.log.borrow());
        Vm { vm, host, headers, stream: 1 }
    }

    /// The assignments of a visitor.
    fn assignments(&mut self, id: &str, attributes: &Map<String, Value>) -> Vec<String> {
        let mut pairs = vec![(":method", "GET"), (":path", "/"), (":authority", "shop.example"), ("x-id", id)];
        for (name, value) in attributes {
            pairs.push((&self.headers[name], value.as_str().unwrap()));
        }
        self.host.request = HeaderBlock::from_pairs(&pairs);
        self.stream += 1;
        self.host.written.borrow_mut().clear();
        self.vm.request(&self.host, self.stream).unwrap();
        self.vm.response(&self.host, self.stream).unwrap();
        let written = self.host.written.borrow();
        let header = written.iter().find_map(|line| line.strip_prefix("x-ab-assignments: "));
        header.map(|text| text.split(", ").map(str::to_owned).collect()).unwrap_or_default()
    }
}

/// Whether headers can carry these attributes as they are: text, not empty, without what a header trims or forbids.
fn fits_headers(attributes: &Value) -> bool {
    let fits = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| !text.is_empty() && text.trim() == text && text.is_ascii() && !text.contains('\n'))
    };
    attributes.as_object().is_none_or(|attributes| attributes.values().all(fits))
}

fn optimizely_decisions(folder: &Path) {
    let oracle = read(&folder.join("oracle.json"));
    let mut by_datafile = BTreeMap::<&str, Vec<&Value>>::new();
    let mut skipped = BTreeMap::<&str, usize>::new();
    for case in oracle["cases"].as_array().unwrap() {
        let attributes = &case["attributes"];
        let is_special = attributes.as_object().is_some_and(|all| all.keys().any(|name| name.starts_with('$')));
        let reason = if case["op"] != "decide" {
            "an operation of the SDK that no request asks for"
        } else if case["userId"].as_str().is_none_or(|id| id.is_empty() || id.trim() != id || !id.is_ascii()) {
            "an id that no header carries"
        } else if is_special || !fits_headers(attributes) {
            "attributes that are no text"
        } else {
            by_datafile.entry(case["datafile"].as_str().unwrap()).or_default().push(case);
            continue;
        };
        *skipped.entry(reason).or_default() += 1;
    }
    let (mut ran, mut shown) = (0, 0);
    let none = Map::new();
    for (datafile, cases) in by_datafile {
        let payload = read(&folder.join("datafiles").join(datafile));
        // What decides as an experiment; rollouts are in no assignment.
        let groups =
            payload["groups"].as_array().into_iter().flatten().flat_map(|group| group["experiments"].as_array());
        let experiments: BTreeSet<&str> = (payload["experiments"].as_array().into_iter().chain(groups).flatten())
            .filter_map(|experiment| experiment["key"].as_str())
            .collect();
        let attributes = |case: &&Value| case["attributes"].as_object().unwrap_or(&none).clone();
        let all: Vec<Map<String, Value>> = cases.iter().map(attributes).collect();
        let mut vm = Vm::new("optimizely", &payload, &all.iter().flat_map(Map::keys).collect());
        for (case, attributes) in cases.iter().zip(&all) {
            let expected = &case["expected"];
            let flag = case["flagKey"].as_str().unwrap();
            let in_experiment = expected["ruleKey"].as_str().is_some_and(|rule| experiments.contains(rule));
            let pair =
                expected["variationKey"].as_str().filter(|_| in_experiment).map(|key| assignment_pair(flag, key));
            let found = vm.assignments(case["userId"].as_str().unwrap(), attributes);
            let of_flag = found.into_iter().find(|found| found.starts_with(&assignment_pair(flag, "")));
            assert_eq!(of_flag, pair, "{case}");
            ran += 1;
            shown += usize::from(pair.is_some());
        }
    }
    println!("oracle: {ran} cases through the module, {shown} of them in experiments; skipped: {skipped:?}");
    assert!(ran > 500 && shown > 100, "{ran} {shown}");
}

fn growthbook_features(folder: &Path) {
    let cases = read(&folder.join("cases.json"));
    let mut skipped = BTreeMap::<&str, usize>::new();
    let (mut ran, mut shown) = (0, 0);
    for case in cases["feature"].as_array().unwrap() {
        let (context, key, expected) = (&case[1], case[2].as_str().unwrap(), &case[3]);
        let has = |name: &str| context.get(name).is_some_and(|value| !value.is_null());
        let reason = if has("forcedVariations") || has("forcedFeatureValues") || has("url") {
            "the context of a page, which a proxy has none of"
        } else if !fits_headers(&context["attributes"]) {
            "attributes that are no text"
        } else {
            ""
        };
        if !reason.is_empty() {
            *skipped.entry(reason).or_default() += 1;
            continue;
        }
        let mut attributes = context["attributes"].as_object().cloned().unwrap_or_default();
        let id = attributes.remove("id").and_then(|id| Some(id.as_str()?.to_owned())).unwrap_or_default();
        let mut payload = json!({"features": context["features"]});
        if has("savedGroups") {
            payload["savedGroups"] = context["savedGroups"].clone();
        }
        let mut vm = Vm::new("growthbook", &payload, &attributes.keys().collect());
        let found = vm.assignments(&id, &attributes);
        let result = &expected["experimentResult"];
        let pair = (expected["source"] == "experiment" && result["inExperiment"] == true)
            .then(|| assignment_pair(key, result["key"].as_str().unwrap()));
        let of_feature = found.into_iter().find(|found| found.starts_with(&assignment_pair(key, "")));
        assert_eq!(of_feature, pair, "{case}");
        ran += 1;
        shown += usize::from(pair.is_some());
    }
    println!("feature: {ran} cases through the module, {shown} of them in experiments; skipped: {skipped:?}");
    assert!(ran > 15 && shown > 3, "{ran} {shown}");
}

/// The cases of a vendor whose rules are decided flag by flag, with texts alone: each file has a payload, a visitor and a time.
fn flags(vendor: &str, folder: &Path) {
    let text = std::fs::read_to_string(folder.join("cases.jsonl")).expect("cases");
    let mut by_payload = BTreeMap::<(String, String), Vec<Value>>::new();
    let mut skipped = 0;
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (id, attributes) = (&case["input"]["id"], &case["input"]["attributes"]);
        let has_id = id.as_str().is_some_and(|id| !id.is_empty() && id.trim() == id && id.is_ascii());
        if has_id && attributes.get("id").is_none() && fits_headers(attributes) {
            let names = ["config", "now"].map(|name| case[name].as_str().unwrap().to_owned());
            by_payload.entry(names.into()).or_default().push(case);
        } else {
            skipped += 1;
        }
    }
    let (mut ran, mut shown) = (0, 0);
    for ((payload, now), cases) in by_payload {
        let now_ms = 1_000 * OffsetDateTime::parse(&now, &Rfc3339).unwrap().unix_timestamp();
        let attributes = |case: &Value| case["input"]["attributes"].as_object().cloned().unwrap_or_default();
        let all: Vec<Map<String, Value>> = cases.iter().map(attributes).collect();
        let names = all.iter().flat_map(Map::keys).collect();
        let mut vm = Vm::at(now_ms, vendor, &read(&folder.join(payload)), &names);
        for (case, attributes) in cases.iter().zip(&all) {
            let (key, expected) = (case["key"].as_str().unwrap(), &case["expect"]);
            let variant = expected["variant"].as_str().filter(|_| expected["in_experiment"] == true);
            let pair = variant.map(|variant| assignment_pair(key, variant));
            let found = vm.assignments(case["input"]["id"].as_str().unwrap(), attributes);
            let of_flag = found.into_iter().find(|found| found.starts_with(&assignment_pair(key, "")));
            assert_eq!(of_flag, pair, "{case}");
            ran += 1;
            shown += usize::from(pair.is_some());
        }
    }
    println!("{vendor}: {ran} cases through the module, {shown} of them in experiments; {skipped} skipped: no texts");
    assert!(ran > 30 && shown > 20, "{ran} {shown}");
}
