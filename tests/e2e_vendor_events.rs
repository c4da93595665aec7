//! Events in a real Envoy as the vendors' services take them.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::eventually_eq;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::roles::Batch;
use edgesplit_testkit::stack::{Accounts, Services, merged, texts};
use edgesplit_testkit::vendors::{evaluated, payload, plugin, probe, until_served, visitors};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bodies that the collector accepted.
fn bodies(services: &Services) -> Vec<Value> {
    services.collector.server.requests().iter().filter_map(|request| request.json()).collect()
}

/// Sends two requests of each visitor. Gives the variants of experiments that they saw: id, experiment, variant.
fn shown(services: &Services, envoy: &Envoy, format: &str, payload: &Value) -> BTreeSet<(String, String, String)> {
    until_served(envoy);
    let mut visitors = visitors();
    // One worker: events are deduplicated by worker.
    let mut client = envoy.client();
    for visitor in visitors.iter().chain(&visitors) {
        assert_eq!(client.send(&visitor.request()).unwrap().status, 200);
    }
    visitors.push(probe());
    let results = evaluated(format, payload, &visitors);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut expected = BTreeSet::new();
    for (visitor, result) in visitors.iter().zip(&results) {
        let decisions = result["decisions"].as_array().unwrap().iter();
        for decision in decisions.filter(|decision| decision["in_experiment"] == true) {
            let experiment = decision["experiment"].as_str().map_or_else(|| text(&decision["key"]), str::to_owned);
            expected.insert((visitor.id.clone(), experiment, text(&decision["variant"])));
        }
    }
    Accounts::at_rest(envoy, |accounts| accounts.emitted > 0 && accounts.delivered == accounts.emitted);
    assert!(services.collector.calls() > 0);
    expected
}

#[test]
fn optimizely_gets_its_own_batches() {
    let services = Services::start(&payload("optimizely"));
    services.collector.answer_status(204);
    let events =
        json!({"cluster": "collector", "format": "optimizely", "path": "/v1/events", "batch": {"max_age": "200ms"}});
    let envoy = Envoy::start(&services.options(&plugin("optimizely", json!({"events": events}))).workers(1));
    let expected = shown(&services, &envoy, "optimizely", &payload("optimizely"));
    let mut found = BTreeSet::new();
    let mut uuids = BTreeSet::new();
    for request in services.collector.server.requests() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/events"));
        assert_eq!(texts(&request, "content-type"), ["application/json"]);
    }
    for body in bodies(&services) {
        assert_eq!(
            (&body["account_id"], &body["project_id"], &body["revision"]),
            (&json!("12001"), &json!("21001"), &json!("42"))
        );
        assert_eq!((&body["anonymize_ip"], &body["enrich_decisions"]), (&json!(true), &json!(true)));
        for visitor in body["visitors"].as_array().unwrap() {
            let snapshot = &visitor["snapshots"][0];
            let (decision, event) = (&snapshot["decisions"][0], &snapshot["events"][0]);
            assert_eq!((&event["key"], &event["entity_id"]), (&json!("campaign_activated"), &decision["campaign_id"]));
            assert!(uuids.insert(event["uuid"].as_str().unwrap().to_owned()), "a uuid is one event's");
            let metadata = &decision["metadata"];
            if metadata["rule_type"] != "rollout" {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let of = (text(&visitor["visitor_id"]), text(&metadata["rule_key"]), text(&metadata["variation_key"]));
                assert!(found.insert(of), "an exposure comes once: {visitor}");
            }
        }
    }
    println!("{} impressions, {} of them in experiments", uuids.len(), found.len());
    assert_eq!(found, expected);
    assert_eq!(Accounts::of(&envoy).delivered, uuids.len() as u64);
}

#[test]
fn growthbook_gets_its_own_events() {
    let services = Services::start(&payload("growthbook"));
    services.collector.answer_status(200);
    let events = json!({"cluster": "collector", "format": "growthbook", "path": "/track?client_key=sdk-abc",
                        "batch": {"max_age": "200ms"}});
    let envoy = Envoy::start(&services.options(&plugin("growthbook", json!({"events": events}))).workers(1));
    let expected = shown(&services, &envoy, "growthbook", &payload("growthbook"));
    for request in services.collector.server.requests() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/track?client_key=sdk-abc"));
        assert_eq!(texts(&request, "content-type"), ["text/plain"]);
    }
    let mut found = BTreeSet::new();
    for body in bodies(&services) {
        for event in body.as_array().unwrap() {
            assert_eq!(event["event_name"], "Experiment Viewed");
            let properties = &event["properties_json"];
            let text =
                |name: &str| properties[name].as_str().unwrap_or_else(|| panic!("no {name}: {event}")).to_owned();
            assert_eq!(text("hashAttribute"), "id");
            assert!(found.insert((text("hashValue"), text("experimentId"), text("variationId"))), "once: {event}");
        }
    }
    println!("{} experiments viewed", found.len());
    assert_eq!(found, expected);
}

#[test]
fn refused_redirect_of_a_test_is_not_reported() {
    let test = |key: &str, to: &str| {
        json!({"key": key, "variations": [{}, {"urlRedirect": to}], "weights": [0, 1],
               "urlPatterns": [{"type": "simple", "include": true, "pattern": format!("/{key}")}]})
    };
    let tests = [test("away", "https://elsewhere.example/"), test("near", "http://shop.example/new")];
    let services = Services::start(&json!({"features": {}, "experiments": tests}));
    let events = json!({"cluster": "collector", "format": "growthbook", "batch": {"max_age": "100ms"}});
    let envoy = Envoy::start(&services.options(&plugin("growthbook", json!({"events": events}))).workers(1));
    let mut client = envoy.client();
    let mut status = |path| client.get(path).host("shop.example").header("x-user-id", "u1").send().status;
    eventually_eq("the redirect is in force", 302, || status("/near"));
    assert_eq!(status("/away"), 200);
    eventually_eq("delivered", 1, || Accounts::of(&envoy).delivered);
    let viewed = bodies(&services).pop().unwrap();
    assert_eq!(viewed[0]["properties_json"]["experimentId"], "near");
    eventually_eq("the refusal", 1, || envoy.counter("edgesplit.demo.errors.effect_refused"));
}

#[test]
fn events_of_an_eu_project_carry_its_authority() {
    for (region, expected) in [("EU", "eu.logx.optimizely.com"), ("US", "logx.optimizely.com")] {
        let services = Services::start(&merged(payload("optimizely"), json!({"region": region})));
        let events = json!({"cluster": "collector", "authority": "logx.optimizely.com", "format": "optimizely",
                            "path": "/v1/events", "batch": {"max_age": "100ms"}});
        let envoy = Envoy::start(&services.options(&plugin("optimizely", json!({"events": events}))).workers(1));
        shown(&services, &envoy, "optimizely", &payload("optimizely"));
        assert!(services.collector.server.requests().iter().all(|request| texts(request, "host") == [expected]));
    }
}

/// Sends the events of all visitors to a service that refuses the first call. Gives the bodies that it accepted, whose events
/// are all that were emitted, and the variants that the visitors saw.
fn delivered(format: &str, payload: &Value, path: &str) -> (Vec<Value>, BTreeSet<(String, String, String)>, u64) {
    let services = Services::start(payload);
    let calls = AtomicUsize::new(0);
    services
        .collector
        .answer(move |_| Response::new(if calls.fetch_add(1, Ordering::Relaxed) == 0 { 503 } else { 202 }));
    let events = json!({"cluster": "collector", "format": format, "path": path, "headers": {"authorization": "KEY"},
                        "batch": {"max_age": "200ms"}, "retry": {"backoff_min": "50ms", "backoff_max": "150ms"}});
    let envoy = Envoy::start(&services.options(&plugin(format, json!({"events": events}))).workers(1));
    let expected = shown(&services, &envoy, format, payload);
    for request in services.collector.server.requests() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", path));
        assert_eq!(texts(&request, "content-type"), ["application/json"]);
        assert_eq!(texts(&request, "authorization"), ["KEY"]);
    }
    let batches = services.collector.batches();
    assert_eq!(batches.iter().filter(|batch| !batch.accepted()).count(), 1, "one refusal");
    let accounts = Accounts::of(&envoy);
    assert_eq!((accounts.delivered, accounts.accounted()), (accounts.emitted, accounts.emitted));
    assert_eq!(accounts.emitted, expected.len() as u64);
    let accepted = batches.into_iter().filter(Batch::accepted);
    (accepted.flat_map(|batch| batch.events).collect(), expected, accounts.delivered)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

#[test]
fn posthog_gets_its_own_batches() {
    let (bodies, expected, delivered) = delivered("posthog", &payload("posthog"), "/batch/?token=phc_project");
    let (mut found, mut uuids) = (BTreeSet::new(), BTreeSet::new());
    for body in bodies {
        assert_eq!(body["api_key"], "phc_project");
        for event in body["batch"].as_array().unwrap() {
            assert_eq!(event["event"], "$feature_flag_called");
            assert!(uuids.insert(text(&event["uuid"])), "a uuid is one event's");
            assert!(text(&event["timestamp"]).ends_with('Z'));
            let properties = &event["properties"];
            assert_eq!(properties["locally_evaluated"], true);
            let [flag, variant] = ["$feature_flag", "$feature_flag_response"].map(|name| text(&properties[name]));
            found.insert((text(&event["distinct_id"]), flag, variant));
        }
    }
    assert_eq!((found, uuids.len() as u64), (expected, delivered));
}

#[test]
fn unleash_gets_counts() {
    let (bodies, expected, delivered) = delivered("unleash", &payload("unleash"), "/api/client/metrics");
    let (mut counts, mut total) = (BTreeMap::<_, u64>::new(), 0);
    for body in bodies {
        assert_eq!((&body["appName"], &body["instanceId"]), (&json!("edgesplit"), &json!("edgesplit")));
        let bucket = &body["bucket"];
        assert!(text(&bucket["start"]) <= text(&bucket["stop"]), "{bucket}");
        for (feature, toggle) in bucket["toggles"].as_object().unwrap() {
            total += toggle["yes"].as_u64().unwrap();
            assert_eq!(toggle["no"], 0);
            for (variant, count) in toggle["variants"].as_object().unwrap() {
                *counts.entry((feature.clone(), variant.clone())).or_default() += count.as_u64().unwrap();
            }
        }
    }
    let mut seen = BTreeMap::<_, u64>::new();
    for (_, feature, variant) in expected {
        *seen.entry((feature, variant)).or_default() += 1;
    }
    assert_eq!((counts, total), (seen, delivered));
}

/// Eppo's sample in Datadog's dialect.
fn datadog_payload() -> Value {
    let mut payload = payload("eppo");
    for flag in payload["flags"].as_object_mut().unwrap().values_mut() {
        let total = flag.as_object_mut().unwrap().remove("totalShards").unwrap();
        if flag["variationType"] == "JSON" {
            for variation in flag["variations"].as_object_mut().unwrap().values_mut() {
                variation["value"] = serde_json::from_str(variation["value"].as_str().unwrap()).unwrap();
            }
        }
        let allocations = flag["allocations"].as_array_mut().unwrap().iter_mut();
        let splits = allocations.flat_map(|allocation| allocation["splits"].as_array_mut().unwrap());
        for shard in splits.flat_map(|split| split["shards"].as_array_mut().unwrap()) {
            shard["totalShards"] = total.clone();
        }
    }
    payload
}

#[test]
fn datadog_gets_exposures() {
    let (bodies, expected, delivered) = delivered("eppo", &datadog_payload(), "/api/v2/exposures");
    let attributes: BTreeMap<String, Value> =
        visitors().into_iter().map(|visitor| (visitor.id, visitor.attributes.into_iter().collect())).collect();
    let (mut found, mut count) = (BTreeSet::new(), 0);
    for body in bodies {
        assert_eq!((&body["context"]["service"], &body["context"]["env"]), (&json!("edgesplit"), &json!("Production")));
        for exposure in body["exposures"].as_array().unwrap() {
            assert!(exposure["timestamp"].is_u64(), "{exposure}");
            let id = text(&exposure["subject"]["id"]);
            if id != probe().id {
                assert_eq!(exposure["subject"]["attributes"], attributes[&id]);
            }
            let [flag, allocation, variant] =
                ["flag", "allocation", "variant"].map(|name| text(&exposure[name]["key"]));
            found.insert((id, format!("{flag}-{allocation}"), variant));
            count += 1;
        }
    }
    assert_eq!((found, count), (expected, delivered));
}

/// The answers of the vendors' services, and the accounts of the events.
#[test]
fn vendor_replies_are_handled_by_status() {
    for (format, answers) in [
        ("optimizely", [(204, "delivered"), (400, "rejected"), (429, "queued")]),
        ("growthbook", [(200, "delivered"), (400, "rejected"), (500, "queued")]),
    ] {
        for (status, outcome) in answers {
            let services = Services::start(&payload(format));
            services.collector.answer_status(status);
            let events = json!({"cluster": "collector", "format": format, "batch": {"max_age": "100ms"}});
            let envoy = services.envoy(&plugin(format, json!({"events": events})));
            until_served(&envoy);
            let mut client = envoy.client();
            client.get("/").header("x-user-id", "visitor-1").header("x-country", "DE").send();
            eventually_eq(&format!("{format}: {status}: {outcome}"), true, || {
                let accounts = Accounts::of(&envoy);
                let count = match outcome {
                    "delivered" => accounts.delivered,
                    "rejected" => accounts.rejected,
                    _ => accounts.queued,
                };
                services.collector.calls() > 0 && accounts.emitted > 0 && count == accounts.emitted
            });
        }
    }
}
