//! Streams that end in unusual ways: each emits one exposure or none, depending on whether the page was shown.

use super::{envoy_with, exposures, plugin, responses, routes};
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::server::Behaviour;
use edgesplit_testkit::stack::{Services, document, experiment};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn start(services: &Services, route: Value) -> Envoy {
    envoy_with(services, &plugin(document(&[experiment("nav", json!({}))]), json!({})), route)
}

fn get(envoy: &Envoy, id: &str) -> u16 {
    envoy.client().get("/").header("x-user-id", id).send().status
}

/// Waits until the exposures of all earlier requests have arrived, and gives the lines of `expected` a chance to be wrong.
#[track_caller]
fn assert_exposures(services: &Services, envoy: &Envoy, expected: &[&str]) {
    services.origin.server.set(Behaviour::Respond);
    services.origin.respond(|_| Response::new(200));
    // Both workers: an event of either is then not far away.
    for mut client in envoy.clients(2) {
        client.get("/").header("x-user-id", "~last").send();
    }
    let mut expected: Vec<String> = expected.iter().map(|&line| line.to_owned()).collect();
    expected.push("~last nav=green / 200".to_owned());
    eventually(DEADLINE, "the last exposure", || {
        services
            .collector
            .batches()
            .iter()
            .any(|batch| batch.events.iter().any(|event| event["unit"] == "~last"))
            .then_some(())
    });
    eventually_eq("exposures", expected, || exposures(services));
}

#[test]
fn client_that_leaves_before_the_response_is_not_exposed() {
    let services = Services::start(&json!({}));
    let envoy = start(&services, json!({}));
    services.origin.server.set(Behaviour::Hang);
    let mut impatient = envoy.client().deadline(Duration::from_millis(200));
    assert!(impatient.get("/").header("x-user-id", "gone").try_send().is_err());
    drop(impatient);
    eventually_eq("Envoy has noticed", 1, || {
        envoy
            .counter("http.ingress.downstream_rq_rx_reset")
            .max(envoy.counter("http.ingress.downstream_cx_destroy_remote_active_rq"))
    });
    assert_exposures(&services, &envoy, &[]);
    eventually_eq("responses", vec![("2xx".to_owned(), 2)], || responses(&envoy, "nav", "green"));
}

#[test]
fn error_in_the_place_of_the_page_is_exposed_with_its_status() {
    let services = Services::start(&json!({}));
    let envoy = start(&services, json!({"timeout": "1s"}));
    for (behaviour, id, status) in [
        (Behaviour::Reset, "a", 503),
        (Behaviour::Hang, "b", 504),
        (Behaviour::Refuse, "c", 503),
        (Behaviour::Garbage, "d", 502),
    ] {
        services.origin.server.set(behaviour);
        assert_eq!(get(&envoy, id), status, "{behaviour:?}");
    }
    services.origin.server.set(Behaviour::Respond);
    services.origin.respond(|_| Response::new(500));
    assert_eq!(get(&envoy, "e"), 500);
    // The response began, and was cut off.
    services.origin.server.set(Behaviour::Truncate);
    assert!(envoy.client().get("/").header("x-user-id", "f").try_send().is_err());
    let expected = [("a", 503), ("b", 504), ("c", 503), ("d", 502), ("e", 500), ("f", 500)];
    let expected = expected.map(|(id, status)| format!("{id} nav=green / {status}"));
    assert_exposures(&services, &envoy, &expected.each_ref().map(String::as_str));
}

#[test]
fn retried_request_is_exposed_once_with_the_last_status() {
    let services = Services::start(&json!({}));
    let envoy = start(&services, json!({"retry_policy": {"retry_on": "5xx", "num_retries": 2}}));
    let asked = AtomicU64::new(0);
    services.origin.respond(move |_| Response::new(if asked.fetch_add(1, Ordering::Relaxed) == 0 { 503 } else { 200 }));
    assert_eq!(get(&envoy, "u1"), 200);
    assert_eq!(services.origin.server.requests_received(), 2);
    assert_exposures(&services, &envoy, &["u1 nav=green / 200"]);
}

#[test]
fn hedged_request_is_exposed_once() {
    let services = Services::start(&json!({}));
    let route = json!({"hedge_policy": {"hedge_on_per_try_timeout": true},
                       "retry_policy": {"retry_on": "5xx", "num_retries": 2, "per_try_timeout": "1s"}});
    let envoy = start(&services, route);
    let asked = AtomicU64::new(0);
    services.origin.respond(move |_| {
        if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_secs(3));
        }
        Response::new(200)
    });
    assert_eq!(get(&envoy, "u1"), 200);
    assert_eq!(services.origin.server.requests_received(), 2);
    assert_exposures(&services, &envoy, &["u1 nav=green / 200"]);
}

/// A copy goes to a second Envoy with the filter; its answer is dropped.
#[test]
fn mirrored_request_is_exposed_where_it_is_shown_only() {
    let services = Services::start(&json!({}));
    let with = json!({"visitor": {"mint": {"secure": false}}});
    let plugin = plugin(document(&[experiment("nav", json!({}))]), with);
    let target = services.envoy(&plugin);
    let port = target.port();
    let front =
        Envoy::start(
            &services.options(&plugin).adjust(move |bootstrap| {
                let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
                let mut cluster = clusters[0].clone();
                cluster["name"] = json!("mirror");
                cluster["load_assignment"]["cluster_name"] = json!("mirror");
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
                    ["port_value"] = json!(port);
                clusters.push(cluster);
                routes(bootstrap)[0]["route"]["request_mirror_policies"] = json!([{"cluster": "mirror"}]);
            }),
        );
    assert_eq!(get(&front, "u1"), 200);
    assert_eq!(front.client().get("/").send().status, 200);
    eventually_eq("the copies have arrived", 4, || services.origin.server.requests_received());
    eventually_eq("minted ids", 1, || front.counter("edgesplit.demo.mint.minted"));
    eventually_eq("refusals", 1, || target.counter("edgesplit.demo.mint.refused_not_navigation"));
    eventually_eq("exposures", 2, || exposures(&services).len());
    get(&target, "~last");
    eventually_eq("exposures", 3, || exposures(&services).len());
    assert_eq!(services.collector.repeats(), 0);
}
