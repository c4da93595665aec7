//! Calls that a real Envoy cannot make, and the causes that the log names.

use super::plugin;
use edgesplit_testkit::envoy::{Directory, Envoy, find_binary};
use edgesplit_testkit::http::Response;
use edgesplit_testkit::stack::{Services, document, experiment, merged};
use edgesplit_testkit::{DEADLINE, eventually};
use serde_json::{Value, json};
use std::process::Command;

/// A plugin that fetches its experiments, with the members of `experiments` on top.
fn fetching(experiments: Value) -> Value {
    let fetched =
        json!({"cluster": "experiments", "authority": "experiments.internal", "path": "/e.json", "refresh": "1s"});
    json!({"experiments": merged(fetched, experiments), "visitor": {"id": [{"header": "x-user-id"}]}})
}

#[track_caller]
fn assert_logs(envoy: &Envoy, cause: &str) {
    eventually(DEADLINE, cause, || envoy.log().contains(cause).then_some(()));
}

/// Changes the cluster of the experiments.
fn adjust_cluster(bootstrap: &mut Value, adjust: impl Fn(&mut Value)) {
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
    adjust(clusters.iter_mut().find(|cluster| cluster["name"] == "experiments").unwrap());
}

#[test]
fn document_over_the_limit_of_envoy_names_the_limit() {
    let services = Services::start(&document(&[]));
    let body = " ".repeat(33 << 20);
    services.configs.server.respond(move |_| Response::new(200).body(body.clone()));
    let envoy = services.envoy(&fetching(json!({"max_bytes": 32 << 20, "timeout": "20s"})));
    assert_logs(&envoy, "was reset: the answer broke off, or is larger than the 32 MiB that the proxy accepts");
    eventually(DEADLINE, "it is counted", || (envoy.counter("edgesplit.demo.config.fetch_failure") >= 1).then_some(()));
}

#[test]
fn log_distinguishes_the_causes_of_failed_calls() {
    let services = Services::start(&document(&[]));
    let missing = services.envoy(&fetching(json!({"cluster": "absent"})));
    assert_logs(&missing, "there is no cluster \"absent\"");
    let nowhere = |bootstrap: &mut Value| {
        adjust_cluster(bootstrap, |cluster| {
            cluster["type"] = json!("STRICT_DNS");
            cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"] =
                json!("nowhere.invalid");
        });
    };
    let unresolved = Envoy::start(&services.options(&fetching(json!({}))).adjust(nowhere));
    assert_logs(&unresolved, "cluster \"experiments\" has no healthy host: its name does not resolve");
    let closed =
        Envoy::start(&services.options(&fetching(json!({}))).adjust(|bootstrap| {
            adjust_cluster(bootstrap, |cluster| {
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
                    ["port_value"] = json!(1);
            });
        }));
    assert_logs(&closed, "no connection to cluster \"experiments\": ");
}

#[test]
fn validate_mode_of_envoy_has_no_warning_of_the_filter() {
    let services = Services::start(&document(&[experiment("nav", json!({}))]));
    let events = merged(plugin(document(&[]), json!({})), fetching(json!({})));
    let directory = Directory::new().unwrap();
    let file = directory.file("envoy.json");
    std::fs::write(&file, services.options(&events).bootstrap().to_string()).unwrap();
    let output = Command::new(find_binary().unwrap())
        .args(["--mode", "validate", "--log-level", "warn", "--component-log-level", "wasm:info", "--config-path"])
        .arg(&file)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(!log.contains("cluster") && !log.contains("wasm log"), "{log}");
}
