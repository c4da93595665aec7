//! What Edgesplit costs in a real Envoy, timed: CPU time of the proxy per request, from the kernel's accounting, beside other
//! ways to do it. All proxies run at once and take turns, so that what disturbs the machine disturbs all alike.
//!
//! `make bench` runs it, and writes the table into `docs/performance.md`. `ROUNDS=7 REQUESTS=4000` are the defaults.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../tests/harness/mod.rs"]
#[allow(dead_code)]
mod harness;
mod load;
mod report;

use harness::bootstrap::{EnvoyOptions, Plugin};
use harness::envoy::Envoy;
use harness::http::Response;
use harness::roles::{Collector, Origin};
use load::{Connection, Protocol, Request};
use report::{Contender, Row};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Requests on their way at once, each on a connection of its own.
const CONNECTIONS: usize = 8;

/// Requests of one visitor, the first of which is an exposure of five experiments.
const REQUESTS_PER_VISITOR: u64 = 10;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Five experiments, all on the route.
fn edgesplit(events: bool) -> Value {
    let experiments: Vec<Value> = (0..5)
        .map(|number| {
            json!({"key": format!("experiment-{number}"), "state": "running", "route": {"paths": ["/shop*"]},
                   "variants": [{"key": "control", "weight": 5000, "baseline": true}, {"key": "treatment", "weight": 5000}]})
        })
        .collect();
    let mut plugin = json!({
        "experiments": {"inline": {"schema": 1, "revision": "r1", "experiments": experiments}},
        "visitor": {"id": [{"cookie": "uid"}]},
    });
    if events {
        plugin["events"] = json!({"cluster": "collector"});
    }
    plugin
}

fn wasm(options: EnvoyOptions, module: &str, configuration: Value) -> EnvoyOptions {
    options.plugin(Plugin { module: root(module), ..Plugin::new(configuration) })
}

fn lua(options: EnvoyOptions) -> EnvoyOptions {
    let filter = json!({"name": "envoy.filters.http.lua", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"filename": root("benches/timed/assign.lua")}}});
    options.adjust(move |bootstrap| {
        let filters = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
            ["http_filters"];
        filters.as_array_mut().unwrap().insert(0, filter.clone());
    })
}

/// Answers by Envoy itself, at `/shop/direct`; everything else goes to the origin.
fn with_direct_response(options: EnvoyOptions) -> EnvoyOptions {
    let before = options.adjust.clone();
    options.adjust(move |bootstrap| {
        before(bootstrap);
        let manager =
            &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
        let direct = json!({"match": {"path": "/shop/direct"},
                            "direct_response": {"status": 200, "body": {"inline_string": "ok"}}});
        manager["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap().insert(0, direct);
    })
}

/// Sends `requests` requests, the first by the visitor after `first`; gives the CPU time that one took, in microseconds.
fn measure(cpu_ns: &dyn Fn() -> u64, port: u16, protocol: Protocol, path: &str, first: u64, requests: usize) -> f64 {
    let failed = |error| panic!("port {port}, {protocol:?}, {path}: {error}");
    let mut connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| Connection::open(port, protocol).unwrap_or_else(failed))
        .collect();
    let rounds = requests / CONNECTIONS;
    let before = cpu_ns();
    for round in 0..rounds as u64 {
        for (at, connection) in (0..).zip(&mut connections) {
            let visitor = first + (round / REQUESTS_PER_VISITOR) * CONNECTIONS as u64 + at;
            let cookie = format!("session=8f14e45fceea167a5a36dedd4bea2543; uid=visitor-{visitor}; theme=dark");
            connection.send(&Request { path, cookie: &cookie }).unwrap_or_else(|error| panic!("{error}"));
        }
        for connection in &mut connections {
            connection.receive().unwrap_or_else(|error| panic!("port {port}, {protocol:?}, {path}: {error}"));
        }
    }
    (cpu_ns() - before) as f64 / 1_000.0 / (rounds * CONNECTIONS) as f64
}

fn main() {
    let (rounds, requests) = (number("ROUNDS", 7), number("REQUESTS", 4_000));
    let origin = Origin::start().unwrap();
    origin.respond(|_| Response::new(200).body("ok"));
    let collector = Collector::start().unwrap();
    let plain = || EnvoyOptions::new(origin.port()).workers(1).collector(collector.port());
    let contenders = [
        ("no filter", plain()),
        ("empty filter", wasm(plain(), "dist/bench/empty.wasm", json!({}))),
        ("bare filter", wasm(plain(), "dist/bench/bare.wasm", json!({}))),
        ("Lua, five experiments", lua(plain())),
        ("Edgesplit, events off", wasm(plain(), "dist/edgesplit.wasm", edgesplit(false))),
        ("Edgesplit, events on", wasm(plain(), "dist/edgesplit.wasm", edgesplit(true))),
    ];
    let mut contenders: Vec<Contender> = contenders
        .into_iter()
        .map(|(name, options)| Contender { name, envoy: Envoy::start(&with_direct_response(options)), rows: Vec::new() })
        .collect();

    let settings = [
        ("HTTP/1.1, direct response", Protocol::Http1, "/shop/direct"),
        ("HTTP/2, direct response", Protocol::Http2, "/shop/direct"),
        ("HTTP/1.1, to the origin", Protocol::Http1, "/shop/1"),
        ("HTTP/2, to the origin", Protocol::Http2, "/shop/1"),
    ];
    let mut visitor = 0;
    for (setting, protocol, path) in settings {
        for contender in &mut contenders {
            contender.rows.push(Row { setting, micros: Vec::new() });
        }
        for round in 0..=rounds {
            eprintln!("{setting}: round {round} of {rounds}{}", if round == 0 { " (warm-up)" } else { "" });
            for contender in &mut contenders {
                let envoy = &contender.envoy;
                let micros = measure(&|| envoy.cpu_ns(), envoy.port(), protocol, path, visitor, requests);
                if let Some(row) = contender.rows.last_mut().filter(|_| round > 0) {
                    row.micros.push(micros);
                }
            }
            visitor += requests as u64;
        }
    }
    report::write(&contenders, rounds, requests, &root("docs"));
}
