//! Under the capability restriction of `envoy/capabilities.json`, in a real Envoy, the filter does what it does. This is the
//! short of it: `make matrix` runs all end-to-end tests under the list.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::bootstrap::restrict;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::module_under_test::skips_native;
use edgesplit_testkit::stack::{Accounts, Services, document, echoed, experiment};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::path::Path;

fn capabilities() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy/capabilities.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// An Envoy whose filter has the capabilities `allowed`.
fn restricted(services: &Services, configuration: &Value, allowed: &Value) -> Envoy {
    let allowed = allowed.clone();
    Envoy::start(&services.options(configuration).adjust(move |bootstrap| restrict(bootstrap, &allowed)))
}

#[test]
fn listed_capabilities_are_sufficient() {
    let set = |effects: Value| json!({"variants": [{"key": "green", "weight": 10_000, "set": effects}]});
    let experiments = document(&[
        experiment(
            "nav",
            set(json!({"request_headers": {"x-nav": "2"}, "response_headers": {"x-shown": "green"},
                                     "path": {"prefix": "/old", "with": "/new"}})),
        ),
        experiment(
            "away",
            json!({"route": {"paths": ["/away"]}, "variants": [
            {"key": "green", "weight": 10_000, "set": {"redirect": "/there"}}]}),
        ),
    ]);
    let services = Services::start(&experiments);
    let configuration = json!({
        "experiments": {"cluster": "experiments", "refresh": "200ms"},
        "visitor": {"id": [{"header": "x-user-id"}], "mint": {"secure": false}},
        "events": {"cluster": "collector", "batch": {"max_age": "100ms"}, "retry": {"backoff_min": "100ms", "backoff_max": "300ms"}}});
    let envoy = restricted(&services, &configuration, &capabilities());
    for mut client in envoy.clients(2) {
        eventually(DEADLINE, "the experiments are fetched", || {
            let reply = client.get("/old/1").send();
            (!echoed(&reply, "x-nav").is_empty()).then_some(())
        });
        let reply = client.get("/old/1").header("x-ab-assignments", "forged").send();
        assert_eq!(echoed(&reply, "x-ab-assignments"), ["nav=green"]);
        assert_eq!(reply.json()["path"], "/new/1");
        assert_eq!(reply.header("x-shown").as_deref(), Some("green"));
        assert!(reply.header("set-cookie").is_some_and(|cookie| cookie.starts_with("ab_visitor=")));
        let posted = client.post("/away").header("x-user-id", "u1").send();
        assert_eq!((client.get("/away").send().status, posted.status), (302, 307));
    }
    services.collector.answer_status(503);
    envoy.client().get("/").header("x-user-id", "u2").send();
    eventually(DEADLINE, "an event waits", || {
        (Accounts::of(&envoy).queued > 0 && services.collector.calls() > 1).then_some(())
    });
    services.collector.answer_status(202);
    eventually_eq("all is delivered", true, || {
        let accounts = Accounts::of(&envoy);
        accounts.emitted > 0 && accounts.emitted == accounts.delivered
    });
    let log = envoy.log();
    assert!(!["panicked", "Wasm VM failed", "Deprecated field"].iter().any(|sign| log.contains(sign)), "{log}");
}

#[test]
fn unlisted_capabilities_are_refused() {
    if skips_native("capabilities") {
        return;
    }
    let services = Services::start(&json!({}));
    let configuration = json!({"experiments": {"inline": document(&[experiment("nav", json!({}))])},
                               "visitor": {"id": [{"header": "x-user-id"}]}});
    let mut fewer = capabilities();
    fewer["allowed_capabilities"].as_object_mut().unwrap().remove("proxy_add_header_map_value");
    let envoy = restricted(&services, &configuration, &fewer);
    let reply = envoy.client().get("/").header("x-user-id", "u1").send();
    // The request goes on, without what the filter may not write.
    assert_eq!((reply.status, echoed(&reply, "x-ab-assignments").len()), (200, 0));
}
