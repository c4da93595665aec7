//! The Kubernetes manifests of `examples/` are valid by the published CRDs, and their plugin configurations by the filter.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::plugin_config::PluginConfig;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Kinds whose CRDs are not in `tests/data/crds`, because nothing in them concerns the filter.
const ELSEWHERE: [&str; 1] = ["DestinationRule"];

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every manifest of the examples, with its file.
fn manifests() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for folder in ["examples/istio", "examples/envoy-gateway"] {
        for entry in std::fs::read_dir(project(folder)).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let documents: Vec<Value> =
                serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            found.extend(documents.into_iter().map(|document| (file.display().to_string(), document)));
        }
    }
    found
}

fn crd(kind: &str) -> Option<Validator> {
    let text = std::fs::read(project("tests/data/crds").join(format!("{kind}.json"))).ok()?;
    Some(jsonschema::validator_for(&serde_json::from_slice(&text).unwrap()).unwrap())
}

/// The plugin configurations in a manifest.
fn configurations(manifest: &Value) -> Vec<&Value> {
    match manifest["kind"].as_str() {
        Some("WasmPlugin") => vec![&manifest["spec"]["pluginConfig"]],
        Some("TrafficExtension") => vec![&manifest["spec"]["wasm"]["pluginConfig"]],
        Some("EnvoyExtensionPolicy") => {
            manifest["spec"]["wasm"].as_array().unwrap().iter().map(|one| &one["config"]).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn manifests_are_valid_for_their_crds_and_for_the_filter() {
    let (mut checked, mut configured) = (BTreeMap::<String, usize>::new(), 0);
    for (file, manifest) in manifests() {
        let kind = manifest["kind"].as_str().unwrap_or_else(|| panic!("{file}: no kind"));
        match crd(kind) {
            Some(crd) => {
                let problems: Vec<String> =
                    crd.iter_errors(&manifest).map(|error| format!("{}: {error}", error.instance_path())).collect();
                assert_eq!(problems, [""; 0], "{file}: {kind}");
            }
            None => assert!(ELSEWHERE.contains(&kind), "{file}: there is no CRD of {kind}"),
        }
        for configuration in configurations(&manifest) {
            // Istio and Envoy Gateway hand it over as JSON text.
            let parsed = PluginConfig::parse(configuration.to_string().as_bytes());
            let problems = parsed.err().map(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(problems, None, "{file}");
            configured += 1;
        }
        *checked.entry(kind.to_owned()).or_default() += 1;
    }
    for kind in ["TrafficExtension", "WasmPlugin", "ServiceEntry", "EnvoyExtensionPolicy"] {
        assert!(checked.contains_key(kind), "{kind}: {checked:?}");
    }
    assert!(configured >= 5, "{configured}");
}

/// A manifest that a cluster would refuse is refused here.
#[test]
fn crds_refuse_invalid_manifests() {
    let all = manifests();
    let of = |kind: &str| all.iter().find(|(_, manifest)| manifest["kind"] == kind).unwrap().1.clone();
    for (kind, pointer, odd) in [
        ("TrafficExtension", "/spec/wasm/failStrategy", json!("RELOAD")),
        ("TrafficExtension", "/spec/wasm/url", json!("")),
        ("TrafficExtension", "/spec/wasm/phase", json!("STATS")),
        ("TrafficExtension", "/spec/phase", json!("STAT")),
        ("TrafficExtension", "/spec/pluginConfig", json!({})),
        ("TrafficExtension", "/spec/lua", json!({"inlineCode": "-- beside wasm"})),
        ("TrafficExtension", "/spec/targetRefs", json!([{"kind": "Gateway", "name": "g"}])),
        ("WasmPlugin", "/spec/failStrategy", json!("RELOAD")),
        ("WasmPlugin", "/spec/phase", json!("STAT")),
        ("WasmPlugin", "/spec/url", json!("")),
        ("WasmPlugin", "/spec/sha256", json!("sha256:00")),
        ("WasmPlugin", "/spec/pluginConfig", json!("{}")),
        ("WasmPlugin", "/spec/match/0/mode", json!("INBOUND")),
        ("WasmPlugin", "/spec/pluginname", json!("shop")),
        ("WasmPlugin", "/spec/targetRefs", json!([{"kind": "Gateway", "name": "g"}])),
        ("ServiceEntry", "/spec/hosts", json!([])),
        ("ServiceEntry", "/spec/ports/0/number", json!(0)),
        ("ServiceEntry", "/spec/resolution", json!("dns")),
        ("EnvoyExtensionPolicy", "/spec/wasm/0/code/type", json!("HTTP")),
        ("EnvoyExtensionPolicy", "/spec/wasm/0/failOpen", json!("no")),
        ("EnvoyExtensionPolicy", "/spec/targetRefs/0/kind", json!("Ingress")),
        (
            "EnvoyExtensionPolicy",
            "/spec/backends",
            json!([{"name": "Collector", "backendRef": {"name": "c", "port": 80}}]),
        ),
        ("EnvoyExtensionPolicy", "/spec/backends", json!([{"name": "collector"}])),
    ] {
        let mut manifest = of(kind);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        manifest.pointer_mut(parent).unwrap_or_else(|| panic!("{kind} has no {parent}"))[name] = odd;
        assert!(!crd(kind).unwrap().is_valid(&manifest), "{kind} with another {pointer}");
    }
}

/// Every plugin that shares a sidecar has names of its own.
#[test]
fn plugins_of_one_sidecar_have_different_names() {
    let both: Vec<Value> = manifests()
        .into_iter()
        .filter(|(file, manifest)| file.ends_with("two-plugins.yaml") && manifest["kind"] == "TrafficExtension")
        .map(|(_, manifest)| manifest)
        .collect();
    let [one, other] = both.as_slice() else { panic!("two plugins") };
    let [one, other] = [one, other].map(|manifest| &manifest["spec"]["wasm"]);
    assert_ne!(one["pluginName"], other["pluginName"]);
    let parsed = |wasm: &Value| PluginConfig::from_value(&wasm["pluginConfig"]).unwrap().request;
    let (one, other) = (parsed(one), parsed(other));
    assert_ne!(one.assignments_header, other.assignments_header);
    assert_ne!(one.cache_key.header, other.cache_key.header);
}
