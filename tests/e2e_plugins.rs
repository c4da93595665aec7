//! Several plugins in one process that share one namespace of shared data, as all plugins of an Istio sidecar do.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::bootstrap::Plugin;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::module_under_test::exposure_memories;
use edgesplit_testkit::roles::{Collector, ConfigService};
use edgesplit_testkit::server::Behaviour;
use edgesplit_testkit::stack::{Services, document, echoed, experiment};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The configuration of one of them: services of its own, and header names of its own.
fn configuration(name: &str, experiments: &str, collector: &str) -> Value {
    json!({
        "experiments": {"cluster": experiments, "refresh": "200ms"},
        "visitor": {"id": [{"header": "x-user-id"}]},
        "request": {"assignments_header": format!("x-{name}-assignments"), "cache_key": {"header": format!("x-{name}-cache-key")}},
        "events": {"cluster": collector, "batch": {"max_age": "100ms"}, "retry": {"backoff_min": "100ms", "backoff_max": "300ms"}},
    })
}

/// The experiments and units of the events that a collector has taken.
fn taken(collector: &Collector) -> (BTreeSet<String>, usize) {
    let events = collector.events();
    let experiments = events.values().map(|taken| taken.event["experiment"].as_str().unwrap_or_default().to_owned());
    (experiments.collect(), events.len())
}

#[test]
fn plugins_of_one_namespace_have_experiments_outboxes_and_metrics_of_their_own() {
    let services = Services::start(&document(&[experiment("results", json!({}))]));
    let (shop_configs, shop_collector) =
        (ConfigService::start(&document(&[experiment("button", json!({}))])).unwrap(), Collector::start().unwrap());
    let ports = [("shop-experiments", shop_configs.port()), ("shop-collector", shop_collector.port())];
    // No vm_id, as in Istio: the namespace of all plugins.
    let named = |name: &str, experiments: &str, collector: &str| Plugin {
        name: name.to_owned(),
        vm_id: String::new(),
        ..Plugin::new(configuration(name, experiments, collector))
    };
    let search = services.proxy_options().plugin(named("search", "experiments", "collector"));
    let shop = services.proxy_options().plugin(named("shop", "shop-experiments", "shop-collector"));
    let filters = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
    let second = shop.bootstrap().pointer(filters).unwrap()[0].clone();
    let envoy =
        Envoy::start(&search.adjust(move |bootstrap| {
            bootstrap.pointer_mut(filters).unwrap().as_array_mut().unwrap().insert(1, second.clone());
            let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
            for (name, port) in ports {
                let text = clusters[0].to_string().replace("\"origin\"", &format!("\"{name}\""));
                let mut cluster: Value = serde_json::from_str(&text).unwrap();
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
                    ["port_value"] = json!(port);
                clusters.push(cluster);
            }
        }));
    let mut clients = envoy.clients(2);
    for client in &mut clients {
        eventually(DEADLINE, "the worker has the experiments of both", || {
            let reply = client.get("/").header("x-user-id", "first").send();
            let both = ["search", "shop"].map(|name| echoed(&reply, &format!("x-{name}-assignments")));
            (both == [["results=green"], ["button=green"]]).then_some(())
        });
    }

    let exposures = 100 + exposure_memories(2);
    // One collector is away, and does not hold up the other's events.
    shop_collector.server.set(Behaviour::Refuse);
    for visitor in 0..100 {
        let reply = clients[visitor % 2].get("/").header("x-user-id", format!("visitor-{visitor}")).send();
        assert_eq!(echoed(&reply, "x-shop-cache-key"), ["button.green"]);
        assert_eq!(echoed(&reply, "x-search-cache-key"), ["results.green"]);
    }
    let count = |name: &str, what: &str| envoy.counter(&format!("edgesplit.{name}.{what}"));
    eventually(DEADLINE, "the one delivers, the other waits", || {
        let delivers = count("search", "events.delivered") == exposures && count("search", "outbox.queued_events") == 0;
        (delivers && count("shop", "outbox.queued_events") >= 100).then_some(())
    });
    shop_collector.server.set(Behaviour::Respond);
    eventually_eq("the other delivers, too", exposures, || count("shop", "events.delivered"));
    for (name, collector, experiment) in
        [("search", &services.collector, "results"), ("shop", &shop_collector, "button")]
    {
        // The first visitor met both workers, and each VM reported it under the same id.
        assert_eq!(taken(collector), (BTreeSet::from([experiment.to_owned()]), 101), "{name}");
        assert_eq!(count(name, &format!("exposures.experiment.{experiment}.variant.green")), exposures, "{name}");
        assert_eq!(count(name, "errors.events_lost") + count(name, "errors.shared_data_corrupt"), 0, "{name}");
    }
    // A change of one's experiments is not the other's.
    shop_configs.set_document(&document(&[experiment("basket", json!({}))]));
    for client in &mut clients {
        eventually(DEADLINE, "the worker has the new experiments", || {
            let reply = client.get("/").header("x-user-id", "first").send();
            assert_eq!(echoed(&reply, "x-search-assignments"), ["results=green"]);
            (echoed(&reply, "x-shop-assignments") == ["basket=green"]).then_some(())
        });
    }
}
