//! Events in a real Envoy: what is reported, how often, and how it is counted.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_filter::events::event::{derived_id, exposure_fingerprint};
use edgesplit_testkit::client::{Client, Outgoing};
use edgesplit_testkit::http::Response;
use edgesplit_testkit::module_under_test::exposure_memories;
use edgesplit_testkit::roles::Collector;
use edgesplit_testkit::server::Behaviour;
use edgesplit_testkit::stack::{Accounts, Services, document, experiment, merged};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A plugin that reports soon, with the members of `with` on top.
fn plugin(document: Value, with: Value) -> Value {
    let events = json!({"cluster": "collector", "authority": "collector.internal", "path": "/v1/events", "timeout": "2s",
                        "batch": {"max_age": "100ms"}, "retry": {"backoff_min": "50ms", "backoff_max": "150ms", "lease": "5s"}});
    merged(
        json!({"experiments": {"inline": document}, "visitor": {"id": [{"header": "x-user-id"}]}, "events": events}),
        with,
    )
}

fn visit(client: &mut Client, path: &str, id: &str) {
    client.get(path).header("x-user-id", id).send();
}

fn now_ms() -> i128 {
    i128::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn time_ms(event: &Value) -> i128 {
    let time = event["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && &time[19..20] == ".", "{time}");
    OffsetDateTime::parse(time, &Rfc3339).unwrap().unix_timestamp_nanos() / 1_000_000
}

/// The events that were taken.
fn events(collector: &Collector) -> Vec<Value> {
    collector.events().into_values().map(|received| received.event).collect()
}

#[test]
fn exposure_has_every_key_and_is_sent_as_configured() {
    let services = Services::start(&json!({}));
    services.origin.respond(|_| Response::new(203));
    let headers = json!({"headers": {"authorization": "Bearer t"}});
    for (format, content_type) in [
        ("native", "application/json"),
        ("ndjson", "application/x-ndjson"),
        ("cloudevents", "application/cloudevents-batch+json; charset=UTF-8"),
        ("kafka-rest", "application/vnd.kafka.json.v2+json"),
    ] {
        services.collector.clear();
        let with = json!({"visitor": {"attributes": {"country": "header.x-country", "plan": "cookie.plan"}},
                          "events": merged(headers.clone(), json!({"format": format, "dedupe": {"window": "30m"}}))});
        let envoy = services.envoy(&plugin(document(&[experiment("nav", json!({}))]), with));
        let mut client = envoy.client();
        let before = now_ms();
        let request = client.get("/shop/%7Ea?secret=1").host("Shop.Example:8080").header("x-user-id", "Zoë");
        request.header("x-country", "DE").send();
        visit(&mut client, "/", "u2");
        eventually_eq("events", 2, || services.collector.events().len());
        let (mut events, after) = (events(&services.collector), now_ms());
        events.sort_by_key(|event| event["unit"] == "u2");

        let (id, time) = (events[0]["id"].as_str().unwrap(), time_ms(&events[0]));
        // The filter reads the clock on its ticks, which a busy machine delays.
        assert!((before - 5_000..=after).contains(&time), "{before} {time} {after}");
        let window = i64::try_from(time / (30 * 60_000)).unwrap();
        assert_eq!(id, derived_id(exposure_fingerprint("Zoë", "nav", "green", window)).to_string());
        assert!(id.len() == 36 && &id[14..15] == "8" && "89ab".contains(&id[19..20]), "{id}: not a UUIDv8");
        let expected = json!({"id": id, "type": "exposure", "time": events[0]["time"], "unit": "Zoë", "experiment": "nav",
            "variant": "green", "goal": null, "revision": "r1", "host": "shop.example", "path": "/shop/%7Ea", "status": 203,
            "attributes": {"country": "DE"}});
        assert_eq!(events[0], expected);
        assert_eq!(events[1].get("attributes"), None);

        for (request, batch) in services.collector.server.requests().iter().zip(services.collector.batches()) {
            assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/events"));
            assert_eq!(request.header("host").as_deref(), Some("collector.internal"));
            assert_eq!(batch.content_type.as_deref(), Some(content_type));
            assert_eq!(batch.authorization.as_deref(), Some("Bearer t"));
            let key = batch.key.expect("an idempotency-key");
            assert_eq!(key.len(), 36, "{key}");
            match format {
                "native" => assert_eq!(request.json().unwrap()["batch"], json!(key)),
                "ndjson" => assert_eq!(request.body.last(), Some(&b'\n')),
                "cloudevents" => {
                    for event in request.json().unwrap().as_array().unwrap() {
                        let data = &event["data"];
                        let frame = json!({"specversion": "1.0", "source": "/edgesplit", "type": "edgesplit.exposure",
                            "id": data["id"], "time": data["time"], "subject": data["unit"],
                            "datacontenttype": "application/json", "data": data});
                        assert_eq!(*event, frame);
                    }
                }
                _ => {
                    for record in request.json().unwrap()["records"].as_array().unwrap() {
                        assert_eq!(*record, json!({"key": record["value"]["unit"], "value": record["value"]}));
                    }
                }
            }
        }
    }
}

#[test]
fn exposure_is_reported_once_per_window_and_worker() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(document(&[experiment("nav", json!({}))]), json!({})));
    let mut clients = envoy.clients(2);
    for _ in 0..5 {
        visit(&mut clients[0], "/", "u1");
    }
    eventually_eq("the event", 1, || services.collector.events().len());
    visit(&mut clients[0], "/", "u1");
    visit(&mut clients[1], "/", "u1");
    visit(&mut clients[1], "/", "u2");
    let times_u1 = exposure_memories(2);
    eventually_eq("one event a memory", times_u1 + 1, || Accounts::of(&envoy).delivered);
    assert_eq!(Accounts::of(&envoy).emitted, times_u1 + 1);
    let received = services.collector.events();
    let times: BTreeMap<&str, u64> =
        received.values().map(|received| (received.event["unit"].as_str().unwrap(), received.times)).collect();
    assert_eq!(times, BTreeMap::from([("u1", times_u1), ("u2", 1)]), "all of u1's have the same id");

    let with = json!({"events": {"dedupe": {"window": "500ms"}}});
    let envoy = services.envoy(&plugin(document(&[experiment("nav", json!({}))]), with));
    services.collector.clear();
    let mut client = envoy.client();
    eventually(DEADLINE, "a new window has a new id", || {
        visit(&mut client, "/", "u1");
        (services.collector.events().len() >= 3).then_some(())
    });
    let windows: BTreeSet<i128> = events(&services.collector).iter().map(|event| time_ms(event) / 500).collect();
    assert_eq!(windows.len(), events(&services.collector).len());
}

#[test]
fn excluded_visitors_report_no_exposure() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(
        document(&[
            experiment("forced", json!({"forced": {"u1": "control"}})),
            experiment("done", json!({"state": "concluded", "winner": "green"})),
            experiment("paused", json!({"state": "paused"})),
            experiment("nobody", json!({"traffic": 0})),
            experiment("elsewhere", json!({"route": {"paths": ["/elsewhere"]}})),
        ]),
        json!({"paths": {"exclude": ["/static/*"]}}),
    ));
    let mut client = envoy.client();
    for path in ["/", "/static/a.js"] {
        visit(&mut client, path, "u1");
        client.get(path).send();
    }
    // The only exposure, and the sign that everything before it is through.
    visit(&mut client, "/elsewhere", "u1");
    eventually_eq("delivered", 1, || Accounts::of(&envoy).delivered);
    assert_eq!(Accounts::of(&envoy).emitted, 1);
    assert_eq!(events(&services.collector)[0]["experiment"], "elsewhere");
}

#[test]
fn exposure_is_reported_with_the_response_and_its_status() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(document(&[experiment("nav", json!({}))]), json!({})));
    // The client leaves before the response, so no visitor has seen the variant.
    services.origin.server.set(Behaviour::Hang);
    let mut client = envoy.client().deadline(Duration::from_millis(100));
    assert!(client.get("/").header("x-user-id", "gone").try_send().is_err());
    eventually_eq("Envoy knows", 1, || envoy.counter("http.ingress.downstream_rq_rx_reset"));
    // Envoy's own answer for an origin that is down, and two of the origin's.
    services.origin.server.set(Behaviour::Refuse);
    let mut client = envoy.client();
    visit(&mut client, "/", "503");
    for status in [404, 304] {
        services.origin.server.set(Behaviour::Status(status));
        assert_eq!(client.get("/").header("x-user-id", status.to_string()).send().status, status);
    }
    eventually_eq("events", 3, || services.collector.events().len());
    for event in events(&services.collector) {
        assert_eq!(event["unit"], json!(event["status"].to_string()));
    }
    assert_eq!(Accounts::of(&envoy).emitted, 3);
}

#[test]
fn goal_is_reported_for_every_request_of_an_identified_visitor() {
    let services = Services::start(&json!({}));
    services.origin.respond(|request| {
        let status = request.header("x-status").and_then(|status| status.parse().ok());
        Response::new(status.unwrap_or(200))
    });
    let goals = json!({"goals": [
        {"key": "order", "route": {"paths": ["/api/orders"], "methods": ["POST"]}, "statuses": ["2xx", "409"]},
        {"key": "any", "route": {"paths": ["/thanks"]}}]});
    let envoy = services.envoy(&plugin(merged(document(&[]), goals), json!({})));
    let mut client = envoy.client();
    let bot = ("user-agent", "Googlebot/2.1");
    for (method, path, status, header, count) in [
        ("POST", "/api/orders", "201", ("x-user-id", "u1"), 1),
        ("POST", "/api/orders", "200", ("x-user-id", "u1"), 1),
        ("POST", "/api/orders?a=1", "409", ("x-user-id", "u1"), 1),
        ("POST", "/api/orders", "500", ("x-user-id", "u1"), 0),
        ("POST", "/api/orders", "404", ("x-user-id", "u1"), 0),
        ("GET", "/api/orders", "200", ("x-user-id", "u1"), 0),
        ("POST", "/api/orders", "200", ("x-other", "u1"), 0),
        ("POST", "/api/orders", "200", bot, 0),
        ("GET", "/thanks", "500", ("x-user-id", "u1"), 1),
    ] {
        let before = Accounts::of(&envoy).delivered;
        client.request(method, path).header("x-status", status).header(header.0, header.1).send();
        // What is not reported shows as too many, after the last one.
        eventually_eq(&format!("{method} {path} {status}"), before + count, || Accounts::of(&envoy).delivered);
    }
    assert_eq!(Accounts::of(&envoy).emitted, 4);
    let events = events(&services.collector);
    assert_eq!(events.len(), 4, "every one has an id of its own");
    for event in &events {
        assert_eq!((&event["type"], &event["unit"]), (&json!("goal"), &json!("u1")));
        assert!(
            event["experiment"].is_null() && event["variant"].is_null() && event["id"].as_str().unwrap().len() == 36
        );
    }
    let goals: Vec<(&str, u64)> =
        events.iter().map(|event| (event["goal"].as_str().unwrap(), event["status"].as_u64().unwrap())).collect();
    assert_eq!(BTreeSet::from_iter(goals), [("any", 500), ("order", 200), ("order", 201), ("order", 409)].into());
}

#[test]
fn golden_visitors_are_counted_by_experiment_variant_and_reason() {
    let golden: Value = serde_json::from_str(include_str!("data/golden_decisions.json")).unwrap();
    let experiments: Value = serde_json::from_str(include_str!("data/golden_experiments.json")).unwrap();
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(experiments.clone(), golden["plugin"].clone()));
    let mut client = envoy.client();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut exposed = BTreeSet::new();
    for visitor in golden["visitors"].as_array().unwrap() {
        let text = |name: &str| visitor[name].as_str();
        let start = Outgoing::new(text("method").unwrap(), text("path").unwrap()).host(text("host").unwrap());
        let headers = [("x-user-id", text("id")), ("x-country", text("country"))];
        let outgoing = headers.iter().filter_map(|(name, value)| Some((name, (*value)?)));
        let outgoing = outgoing.fold(start, |outgoing, (name, value)| outgoing.header(name, value));
        assert_eq!(client.send(&outgoing).unwrap().status, 200);
        let decisions = visitor["decisions"].as_array().unwrap();
        for (decision, experiment) in decisions.iter().zip(experiments["experiments"].as_array().unwrap()) {
            let reason = decision[1].as_str().unwrap();
            *reasons.entry(format!("edgesplit.demo.decisions.reason.{reason}")).or_default() += 1;
            if reason == "bucketed" {
                let unit = text(experiment["unit"].as_str().unwrap_or("id")).unwrap();
                exposed.insert((experiment["key"].as_str().unwrap(), decision[0].as_str().unwrap(), unit));
            }
        }
    }
    let emitted = exposed.len() as u64;
    eventually_eq("delivered", emitted, || Accounts::of(&envoy).delivered);
    assert_eq!((Accounts::of(&envoy).emitted, services.collector.events().len() as u64), (emitted, emitted));
    // The last visitors may have emitted nothing: their reasons are counted at the next tick.
    eventually_eq("reasons", reasons, || envoy.stats(r"edgesplit\.demo\.decisions\.reason\."));

    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (experiment, variant, _) in exposed {
        *counts.entry((plain(experiment), plain(variant))).or_default() += 1;
    }
    let by_name = counts.iter().map(|((experiment, variant), count)| {
        (format!("edgesplit.demo.exposures.experiment.{experiment}.variant.{variant}"), *count)
    });
    assert_eq!(envoy.stats(r"edgesplit\.demo\.exposures\."), by_name.collect());
    let prometheus = envoy.prometheus();
    for ((experiment, variant), count) in counts {
        let line = format!("edgesplit_demo_exposures{{experiment=\"{experiment}\",variant=\"{variant}\"}} {count}");
        assert!(prometheus.lines().any(|found| found == line), "{line} is not in\n{prometheus}");
    }
}

/// A key as a part of a metric's name.
fn plain(key: &str) -> String {
    key.chars()
        .map(|char| if char.is_ascii_alphanumeric() || char == '-' || char == '_' { char } else { '_' })
        .collect()
}
