//! Documents as services really send them: an older one after a newer one, and one with a byte-order mark.

use super::plugin;
use edgesplit_testkit::client::Client;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::stack::{Services, document, echoed, experiment, merged};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

fn with_revision(revision: &str) -> Value {
    merged(document(&[experiment(revision, json!({}))]), json!({"revision": revision}))
}

/// An Envoy that fetches the experiments several times a second.
fn fetching(services: &Services, experiments: Value) -> Envoy {
    let fetched =
        json!({"cluster": "experiments", "authority": "experiments.internal", "path": "/e.json", "refresh": "200ms"});
    services.envoy(&plugin(
        json!(null),
        json!({"experiments": merged(merged(fetched, experiments), json!({"inline": null}))}),
    ))
}

/// The assignments by the worker of this connection.
fn assignments(client: &mut Client) -> String {
    echoed(&client.get("/").header("x-user-id", "u1").send(), "x-ab-assignments").join(" and ")
}

fn config(envoy: &Envoy, name: &str) -> u64 {
    envoy.counter(&format!("edgesplit.demo.config.{name}"))
}

#[test]
fn service_that_serves_older_documents_in_between_is_noticed() {
    let services = Services::start(&json!({}));
    let flap = || {
        let number = AtomicU64::new(0);
        services.configs.server.respond(move |_| {
            let revision = if number.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { "r10" } else { "r9" };
            Response::json(200, &with_revision(revision))
        });
    };
    flap();
    let envoy = fetching(&services, json!({}));
    eventually(DEADLINE, "every change is counted", || (config(&envoy, "changes") >= 5).then_some(()));

    // Two that fetch in turn could each get the same revision every time.
    drop(envoy);
    flap();
    let monotonic = fetching(&services, json!({"monotonic": true}));
    let mut client = monotonic.client();
    eventually_eq("the newer one", "r10=green".to_owned(), || assignments(&mut client));
    let refused = || (config(&monotonic, "rejected") >= 3).then_some(());
    eventually(DEADLINE, "the older one is refused", || {
        assert_eq!(assignments(&mut client), "r10=green");
        refused()
    });
    assert!(config(&monotonic, "changes") <= 1);
}

#[test]
fn document_with_a_byte_order_mark_is_read() {
    let services = Services::start(&json!({}));
    services.configs.set_body(format!("\u{feff}{}", with_revision("r1")));
    let envoy = fetching(&services, json!({}));
    let mut client = envoy.client();
    eventually_eq("the document", "r1=green".to_owned(), || assignments(&mut client));
    assert_eq!(config(&envoy, "rejected"), 0);
}
