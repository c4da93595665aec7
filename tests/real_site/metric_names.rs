//! Metrics of experiments that come and go over the life of one Envoy.

use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::eventually_eq;
use edgesplit_testkit::stack::{Services, document, echoed, experiment};
use serde_json::{Value, json};

/// Experiments in one document: two such documents have more than a VM has names for.
const EXPERIMENTS: usize = 2_500;

fn season(name: &str) -> Value {
    let variants = json!([{"key": "a", "weight": 10000, "baseline": true}]);
    let experiments: Vec<Value> = (0..EXPERIMENTS)
        .map(|number| experiment(&format!("{name}{number:04}"), json!({"variants": variants})))
        .collect();
    document(&experiments)
}

#[test]
fn ended_experiments_leave_their_names_to_new_ones() {
    let services = Services::start(&season("e"));
    let fetched =
        json!({"cluster": "experiments", "authority": "experiments.internal", "path": "/e.json", "refresh": "200ms"});
    let with = json!({"experiments": fetched, "request": {"assignments_max_bytes": 65536},
                      "visitor": {"id": [{"header": "x-user-id"}]}, "events": {"cluster": "collector"}});
    let envoy = Envoy::start(&services.options(&with).workers(1));
    let mut client = envoy.client();
    for name in ["e", "f"] {
        services.configs.set_document(&season(name));
        eventually_eq("the season begins", true, || {
            let reply = client.get("/").header("x-user-id", "u1").send();
            echoed(&reply, "x-ab-assignments").join("").contains(&format!("{name}2499=a"))
        });
        let counted = || envoy.stats(&format!(r"edgesplit\.demo\.exposures\.experiment\.{name}\d+\.variant\.a$")).len();
        eventually_eq("every experiment has a metric", EXPERIMENTS, counted);
    }
    assert_eq!(envoy.stats(r"exposures\.experiment\._other").len(), 0);
    // A response to the season before may take its names into use again, for a second.
    eventually_eq("every experiment has a metric of responses", EXPERIMENTS, || {
        client.get("/").header("x-user-id", "u1").send();
        envoy.stats(r"edgesplit\.demo\.responses\.experiment\.f\d+\.variant\.a\.class\.2xx$").len()
    });
}
