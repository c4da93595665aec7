//! The harness tested by itself: a real Envoy without the filter, and every fault the other tests rely on.
#![allow(missing_docs)]

use edgesplit_testkit::bootstrap::EnvoyOptions;
use edgesplit_testkit::client::{Client, Outgoing};
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::load::{self, Pace};
use edgesplit_testkit::roles::{Collector, ConfigService, Origin};
use edgesplit_testkit::server::Behaviour;
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[test]
fn envoy_proxies_to_the_origin_and_back() {
    let origin = Origin::start().unwrap();
    let envoy = Envoy::start(&EnvoyOptions::new(origin.port()));
    let mut client = envoy.client();
    let reply = client.post("/a?b=c").header("x-user-id", "u1").body("hello").send();
    assert_eq!(reply.status, 200);
    let echo = reply.json();
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["path"], "/a?b=c");
    assert_eq!(echo["body"], "hello");
    assert!(echo["headers"].as_array().unwrap().contains(&json!(["x-user-id", "u1"])), "{echo}");

    origin.respond(|_| Response::new(404).header("set-cookie", "a=1").header("set-cookie", "b=2").body("gone"));
    let reply = client.get("/").send();
    assert_eq!((reply.status, reply.text()), (404, "gone".to_owned()));
    assert_eq!(reply.header_all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(client.request("HEAD", "/").send().body, b"");

    assert_eq!(envoy.counter("http.ingress.downstream_rq_4xx"), 2);
    assert_eq!(envoy.counter("no.such.counter"), 0);
    assert!(envoy.prometheus().contains("envoy_http_downstream_rq_total"));
    assert!(envoy.memory_allocated() > 0 && envoy.memory_resident() > envoy.memory_allocated());
    let (status, log) = envoy.sigterm_and_wait();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn header_bytes_arrive_as_they_were_sent() {
    let origin = Origin::start().unwrap();
    let envoy = Envoy::start(&EnvoyOptions::new(origin.port()));
    let large = format!("large={}", "x".repeat(60_000));
    let reply = envoy
        .client()
        .get("/%7Ea/../b?c=%zz")
        .host("Shop.Example:8080")
        .header("x-user-id", "Zoë 東京")
        .header("x-hostile", b"\xff\xfe\x80 raw")
        .header("cookie", "a=1")
        .header("cookie", &large)
        .header("x-twice", "1")
        .header("x-twice", "2")
        .send();
    assert_eq!(reply.status, 200);
    let request = origin.last_request();
    assert_eq!(request.path, "/%7Ea/../b?c=%zz");
    assert_eq!(request.header("host").as_deref(), Some("Shop.Example:8080"));
    assert_eq!(request.header_bytes("x-user-id"), ["Zoë 東京".as_bytes()]);
    assert_eq!(request.header_bytes("x-hostile"), [b"\xff\xfe\x80 raw"]);
    assert_eq!(request.header_bytes("cookie"), [b"a=1".as_slice(), large.as_bytes()]);
    assert_eq!(request.header_bytes("x-twice"), [b"1", b"2"]);
}

#[test]
fn golden_visitors_come_through_envoy_unharmed() {
    let golden: Value = serde_json::from_str(include_str!("data/golden_decisions.json")).unwrap();
    let origin = Origin::start().unwrap();
    let envoy = Envoy::start(&EnvoyOptions::new(origin.port()));
    let mut client = envoy.client();
    let visitors = golden["visitors"].as_array().unwrap();
    for visitor in visitors {
        let text = |name: &str| visitor[name].as_str();
        let mut outgoing = Outgoing::new(text("method").unwrap(), text("path").unwrap()).host(text("host").unwrap());
        for (header, name) in [("x-user-id", "id"), ("x-country", "country")] {
            if let Some(value) = text(name) {
                outgoing = outgoing.header(header, value);
            }
        }
        assert_eq!(client.send(&outgoing).unwrap().status, 200, "{visitor}");
    }
    let requests = origin.server.take_requests();
    assert_eq!((requests.len(), visitors.len()), (1000, 1000));
    for (request, visitor) in requests.iter().zip(visitors) {
        assert_eq!(request.header("x-user-id").as_deref(), visitor["id"].as_str());
        assert_eq!(request.header("x-country").as_deref(), visitor["country"].as_str());
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            (visitor["method"].as_str().unwrap(), visitor["path"].as_str().unwrap())
        );
    }
}

#[test]
fn faults_of_the_origin_do_what_they_say() {
    let origin = Origin::start().unwrap();
    let envoy = Envoy::start(&EnvoyOptions::new(origin.port()).route_timeout("1s"));
    let mut client = envoy.client();
    let status = |client: &mut Client| client.get("/").try_send().map(|reply| reply.status);
    assert_eq!(status(&mut client), Ok(200));

    for (behaviour, expected) in [
        (Behaviour::Status(418), 418),
        (Behaviour::Garbage, 502),
        (Behaviour::Hang, 504),
        (Behaviour::Reset, 503),
        (Behaviour::Refuse, 503),
        (Behaviour::Slow(Duration::from_millis(20)), 200),
        (Behaviour::Slow(Duration::from_secs(60)), 504),
        (Behaviour::Respond, 200),
    ] {
        origin.server.set(behaviour);
        // A connection in Envoy's pool that the origin has just closed makes the first answer a 503.
        eventually_eq(&format!("{behaviour:?}"), Ok(expected), || status(&mut client));
        assert_eq!(status(&mut client), Ok(expected), "{behaviour:?}");
    }
    let stats = envoy.stats(r"^cluster\.origin\.upstream_(rq_timeout|cx_connect_fail|rq_rx_reset|cx_protocol_error)$");
    assert!(stats["cluster.origin.upstream_rq_timeout"] >= 4, "{stats:?}");
    assert!(stats["cluster.origin.upstream_cx_connect_fail"] >= 1, "{stats:?}");

    origin.server.set(Behaviour::Truncate);
    let error = status(&mut client).unwrap_err();
    assert!(error.contains("no whole answer"), "{error}");

    origin.respond(|_| Response::new(200).body("slowly"));
    origin.server.set(Behaviour::Drip(Duration::from_millis(5)));
    let (start, reply) = (Instant::now(), client.get("/").send());
    assert_eq!(reply.text(), "slowly");
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn server_that_refused_returns_on_its_port() {
    let origin = Origin::start().unwrap();
    let mut client = Client::new(origin.port());
    assert_eq!(client.get("/").send().status, 200);
    for _ in 0..20 {
        origin.server.set(Behaviour::Refuse);
        assert!(client.get("/").try_send().is_err(), "the open connection was to be closed");
        let error = client.get("/").try_send().unwrap_err();
        assert!(error.to_lowercase().contains("refused"), "{error}");
        origin.server.set(Behaviour::Respond);
        assert_eq!(client.get("/").send().status, 200);
    }
    assert_eq!(origin.server.requests().len(), 21);
    assert_eq!(origin.server.connections_opened(), 21);
}

#[test]
fn reset_is_not_an_orderly_end() {
    let origin = Origin::start().unwrap();
    origin.server.set(Behaviour::Reset);
    let error = Client::new(origin.port()).get("/").try_send().unwrap_err();
    assert!(error.contains("reset"), "{error}");
}

#[test]
fn hanging_server_can_answer_again() {
    let origin = Origin::start().unwrap();
    origin.server.set(Behaviour::Hang);
    let mut client = Client::new(origin.port()).deadline(Duration::from_millis(50));
    assert!(client.get("/").try_send().is_err());
    eventually_eq("the request arrives", 1, || origin.server.requests_received());
    origin.server.set(Behaviour::Respond);
    assert_eq!(client.deadline(DEADLINE).get("/").send().status, 200);
}

#[test]
fn connections_spread_evenly_over_the_workers() {
    let origin = Origin::start().unwrap();
    let envoy = Envoy::start(&EnvoyOptions::new(origin.port()).workers(4));
    let mut clients = envoy.clients(8);
    for client in &mut clients {
        assert_eq!(client.get("/").send().status, 200);
    }
    assert_eq!(envoy.connections_per_worker(), [2, 2, 2, 2]);
}

#[test]
fn refused_bootstrap_is_reported_with_its_log() {
    let origin = Origin::start().unwrap();
    let options =
        EnvoyOptions::new(origin.port()).adjust(|bootstrap| bootstrap["static_resources"]["wrong"] = json!(1));
    let error = Envoy::try_start(&options).err().unwrap();
    assert!(error.contains("wrong"), "{error}");
    assert!(Envoy::refuses_to_start(&options).contains("wrong"));
}

#[test]
fn config_service_honours_its_etag() {
    let service = ConfigService::start(&json!({"revision": "r1"})).unwrap();
    let mut client = Client::new(service.port());
    let first = client.get("/experiments.json").send();
    assert_eq!((first.status, first.json()["revision"].as_str()), (200, Some("r1")));
    let etag = first.header("etag").unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    assert_eq!(client.get("/experiments.json").header("if-none-match", &etag).send().status, 304);

    service.set_document(&json!({"revision": "r2"}));
    let second = client.get("/experiments.json").header("if-none-match", &etag).send();
    assert_eq!((second.status, second.json()["revision"].as_str()), (200, Some("r2")));
    service.set_body("not JSON");
    assert_eq!(client.get("/").send().text(), "not JSON");
    assert_eq!((service.sent(), service.not_modified()), (3, 1));
}

#[test]
fn collector_keeps_accepted_events_and_counts_repeats() {
    let collector = Collector::start().unwrap();
    let mut client = Client::new(collector.port());
    let mut post = |key: &str, body: &str| client.post("/v1/events").header("idempotency-key", key).body(body).send();
    let native = r#"{"batch": "b1", "events": [{"id": "1"}, {"id": "2"}]}"#;

    assert_eq!(post("b1", native).status, 202);
    assert_eq!(post("b1", native).status, 202);
    assert_eq!(post("b2", "{\"id\": \"3\"}\n{\"id\": \"4\"}\n").status, 202);
    assert_eq!(post("b3", "{\"id\": \"5\"}").status, 202);
    assert_eq!(collector.events().keys().collect::<Vec<_>>(), ["1", "2", "3", "4", "5"]);
    assert_eq!(collector.repeats(), 2);
    assert_eq!(collector.batches()[0].key.as_deref(), Some("b1"));

    collector.clear();
    collector.refuse_more_than(1);
    assert_eq!(post("b1", native).status, 413);
    assert_eq!(post("b3", "{\"id\": \"5\"}").status, 202);
    collector.ask_to_wait("7");
    assert_eq!(post("b1", native).header("retry-after").as_deref(), Some("7"));
    collector.answer_status(503);
    assert_eq!(post("b1", native).status, 503);
    assert_eq!(collector.calls(), 4);
    assert_eq!(collector.events().keys().collect::<Vec<_>>(), ["5"]);
}

#[test]
fn load_keeps_its_rate_and_counts_failures() {
    let origin = Origin::start().unwrap();
    let pace =
        Pace { connections: 4, rate: 1000.0, duration: Duration::from_secs(1), deadline: Duration::from_secs(5) };
    let report = load::run(origin.port(), pace, |number| Outgoing::get(&format!("/{number}")));
    assert_eq!((report.sent, report.status(200), report.failed()), (1000, 1000, 0), "{:?}", report.errors);
    assert!(report.took >= Duration::from_millis(900), "{:?}", report.took);
    assert!(report.percentile(0.5) <= report.percentile(0.99) && report.percentile(0.99) <= report.max());
    assert_eq!(origin.server.connections_opened(), 4);
    let mut paths: Vec<String> = origin.server.requests().into_iter().map(|request| request.path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 1000, "every request was made once");

    origin.server.set(Behaviour::Refuse);
    let report = load::run(origin.port(), Pace { rate: 100.0, ..pace }, |_| Outgoing::get("/"));
    assert_eq!((report.sent, report.failed()), (100, 100));
}

#[test]
fn dropping_a_server_closes_its_connections_and_its_port() {
    let origin = Origin::start().unwrap();
    let port = origin.port();
    origin.server.set(Behaviour::Hang);
    let mut client = Client::new(port);
    client.connect().unwrap();
    let waiting = std::thread::spawn(move || client.get("/").try_send());
    eventually(DEADLINE, "the request arrives", || (origin.server.requests_received() == 1).then_some(()));
    drop(origin);
    assert!(waiting.join().unwrap().is_err());
    assert!(Client::new(port).connect().is_err());
}
