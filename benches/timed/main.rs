//! What Edgesplit costs in a real Envoy, timed: CPU time of the proxy per request, from the kernel's accounting, beside other
//! ways to do it. All proxies run at once and take turns of 400 requests: a disturbance of the machine affects all alike.
//!
//! `make bench` runs it, and writes the table into `docs/performance.md`. `HEATS=9 ROUNDS=13` are the defaults.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod load;
mod report;

use edgesplit_testkit::bootstrap::{EnvoyOptions, Plugin};
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::roles::{Collector, Origin};
use load::{Connection, Protocol, Request};
use report::{Contender, Row};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Requests on their way at once, each on a connection of its own.
const CONNECTIONS: u64 = 8;

/// Requests of one visitor, the first of which is an exposure of five experiments.
const REQUESTS_PER_VISITOR: u64 = 10;

/// Rounds before anything is timed.
const WARM_UP: u64 = 10;

/// Visitors that a connection brings in one turn of a proxy.
const VISITORS_PER_TURN: u64 = 5;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// How the proxies are spoken to, and what for.
#[derive(Clone, Copy)]
struct Setting {
    name: &'static str,
    protocol: Protocol,
    path: &'static str,
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
    options.plugin(Plugin { module: root(module), ..Plugin::unchecked(configuration) })
}

/// Inserts a filter in front of the others.
fn with_filter(options: EnvoyOptions, filter: Value) -> EnvoyOptions {
    options.adjust(move |bootstrap| {
        let filters = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
            ["http_filters"];
        filters.as_array_mut().unwrap().insert(0, filter.clone());
    })
}

fn lua(options: EnvoyOptions) -> EnvoyOptions {
    let script = json!({"filename": root("benches/timed/assign.lua")});
    let kind = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";
    with_filter(options, json!({"name": "lua", "typed_config": {"@type": kind, "default_source_code": script}}))
}

/// A dynamic module of Envoy.
fn native(options: EnvoyOptions, module: &str, configuration: Value) -> EnvoyOptions {
    let filter = json!({"name": "native", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"module": {"local": {"filename": root(module)}}},
        "filter_name": "demo",
        "filter_config": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": configuration}}});
    with_filter(options, filter)
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

/// A turn of one proxy: requests on each connection, the next as soon as the last is answered. So the proxy always has some to
/// do. One that has to wait for requests falls asleep and is woken again, more or less often as chance has it, and that costs
/// as much as a filter.
fn turn(connections: &mut [Connection], path: &str, first_visitor: u64) -> std::io::Result<()> {
    let requests = VISITORS_PER_TURN * REQUESTS_PER_VISITOR;
    for number in 0..=requests {
        let first = first_visitor + number / REQUESTS_PER_VISITOR * CONNECTIONS;
        for (visitor, connection) in (first..).zip(&mut *connections) {
            if number > 0 {
                connection.receive()?;
            }
            if number < requests {
                let cookie = format!("session=8f14e45fceea167a5a36dedd4bea2543; uid=visitor-{visitor}; theme=dark");
                connection.send(&Request { path, cookie: &cookie })?;
            }
        }
    }
    Ok(())
}

/// The proxies in one setting, each with its connections.
struct Race<'a> {
    contenders: &'a [Contender],
    setting: &'a Setting,
    connections: Vec<Vec<Connection>>,
    next_visitor: &'a mut u64,
    /// Whose turn was the first in the last round.
    first: usize,
}

impl<'a> Race<'a> {
    fn new(contenders: &'a [Contender], setting: &'a Setting, next_visitor: &'a mut u64) -> Race<'a> {
        let connections = contenders.iter().map(|contender| {
            let open = || Connection::open(contender.port, setting.protocol);
            (0..CONNECTIONS).map(|_| open().unwrap_or_else(|error| failed(contender, setting, &error))).collect()
        });
        Race { connections: connections.collect(), contenders, setting, next_visitor, first: 0 }
    }

    /// A turn of each; gives the CPU time that a request took each of them, in microseconds.
    fn round(&mut self) -> Vec<f64> {
        let visitors = CONNECTIONS * VISITORS_PER_TURN;
        let first = *self.next_visitor;
        *self.next_visitor += visitors;
        let mut micros = vec![0.0; self.contenders.len()];
        // Another one goes first each time: a proxy that runs after a similar one finds the caches filled.
        self.first = (self.first + 1) % self.contenders.len();
        let order = (self.first..self.contenders.len()).chain(0..self.first);
        for at in order {
            let contender = &self.contenders[at];
            // What a proxy does while the others have their turns, its ticks, is not what a request costs.
            let before = cpu_ns(contender.pid);
            turn(&mut self.connections[at], self.setting.path, first)
                .unwrap_or_else(|error| failed(contender, self.setting, &error));
            micros[at] = (cpu_ns(contender.pid) - before) as f64 / 1_000.0 / (visitors * REQUESTS_PER_VISITOR) as f64;
        }
        micros
    }
}

fn failed(contender: &Contender, setting: &Setting, error: &std::io::Error) -> ! {
    panic!("{}, {}: {error}", contender.name, setting.name)
}

/// CPU time that all threads of a process took so far, in nanoseconds, from the kernel's accounting. Linux only.
fn cpu_ns(process: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("/proc lists the threads");
    let times = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    times.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// An edge worker that does the same with Optimizely's SDK, and with a `queue` reports as well. `None`, and why, where it cannot
/// be had.
fn workerd(origin: u16, queue: Option<u16>) -> Option<Contender> {
    let folder = root("benches/workerd");
    let binary = folder.join("node_modules/.bin/workerd");
    if !binary.is_file() || !folder.join("bundle.mjs").is_file() {
        eprintln!("without workerd: `make bench` installs it where there is npm");
        return None;
    }
    // A port that is free now: the worker cannot be asked which one it took.
    let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let child = Command::new(folder.join("node_modules/workerd/bin/workerd"))
        .arg("serve")
        .arg(folder.join("config.capnp"))
        .arg(if queue.is_some() { "withEvents" } else { "config" })
        .args([format!("--external-addr=origin=127.0.0.1:{origin}"), format!("--socket-addr=http=127.0.0.1:{port}")])
        .args(queue.map(|queue| format!("--external-addr=queue=127.0.0.1:{queue}")))
        .spawn()
        .ok()?;
    let process = Killed(child);
    let serves = || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
    edgesplit_testkit::eventually(edgesplit_testkit::DEADLINE, "workerd serves", serves);
    let pid = process.0.id();
    let name = if queue.is_some() { "workerd, events on" } else { "workerd, events off" };
    Some(Contender { name, port, pid, _process: Box::new(process), rows: Vec::new() })
}

/// A process that ends with its owner.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keeps a process with all its threads on one core.
fn pin(process: u32, core: &str) -> bool {
    let pinned = Command::new("taskset").args(["-a", "-p", "-c", core, &process.to_string()]).output();
    pinned.is_ok_and(|output| output.status.success())
}

fn main() {
    let (heats, rounds) = (number("HEATS", 9), number("ROUNDS", 13));
    let origin = Origin::start().unwrap();
    origin.respond(|_| Response::new(200).body("ok"));
    let collector = Collector::start().unwrap();
    let queue = Origin::start().unwrap();
    queue.respond(|_| Response::new(204));
    let mut next_visitor = 0;
    let mut all: Vec<Contender> = Vec::new();
    // Two processes of the same proxy differ by a fifth of what a filter costs, for as long as they live: it depends on where
    // the kernel has put their memory. So there are many of each.
    for number in 1..=heats {
        eprintln!("heat {number} of {heats}");
        let contenders = heat(&origin, &collector, &queue, rounds, &mut next_visitor);
        if all.is_empty() {
            all = contenders;
        } else {
            for (contender, more) in all.iter_mut().zip(contenders) {
                for (row, more) in contender.rows.iter_mut().zip(more.rows) {
                    row.micros.extend(more.micros);
                }
            }
        }
        all.iter_mut().for_each(|contender| contender._process = Box::new(()));
    }
    report::write(&all, heats, rounds, CONNECTIONS * VISITORS_PER_TURN * REQUESTS_PER_VISITOR, &root("docs"));
}

/// Starts all proxies, has them run in every setting, and gives what came out.
fn heat(origin: &Origin, collector: &Collector, queue: &Origin, rounds: u64, next_visitor: &mut u64) -> Vec<Contender> {
    let plain = || EnvoyOptions::new(origin.port()).workers(1).collector(collector.port());
    let contenders = [
        ("no filter", plain()),
        ("empty filter", wasm(plain(), "dist/bench/empty.wasm", json!({}))),
        ("bare filter", wasm(plain(), "dist/bench/bare.wasm", json!({}))),
        ("Lua, five experiments", lua(plain())),
        ("Edgesplit, events off", wasm(plain(), "dist/edgesplit.wasm", edgesplit(false))),
        ("Edgesplit, events on", wasm(plain(), "dist/edgesplit.wasm", edgesplit(true))),
        ("bare native module", native(plain(), "dist/bench/libbare.so", json!({}))),
        ("native Edgesplit, events off", native(plain(), "dist/libedgesplit.so", edgesplit(false))),
        ("native Edgesplit, events on", native(plain(), "dist/libedgesplit.so", edgesplit(true))),
    ];
    let mut contenders: Vec<Contender> = contenders
        .into_iter()
        .map(|(name, options)| {
            let envoy = Envoy::start(&with_direct_response(options));
            Contender { name, port: envoy.port(), pid: envoy.pid(), _process: Box::new(envoy), rows: Vec::new() }
        })
        .collect();
    let workers: Vec<Contender> =
        [None, Some(queue.port())].into_iter().filter_map(|queue| workerd(origin.port(), queue)).collect();

    // Proxies on one core, load and origin on the other: then none of them waits for another's.
    let pinned = contenders.iter().all(|contender| pin(contender.pid, "1")) && pin(std::process::id(), "0");
    if !pinned {
        eprintln!("cannot pin processes to cores (`taskset`): figures will vary more");
    }
    let setting = |name, protocol, path| Setting { name, protocol, path };
    let settings = [
        setting("HTTP/1.1, direct response", Protocol::Http1, "/shop/direct"),
        setting("HTTP/2, direct response", Protocol::Http2, "/shop/direct"),
        setting("HTTP/1.1, to the origin", Protocol::Http1, "/shop/1"),
        setting("HTTP/2, to the origin", Protocol::Http2, "/shop/1"),
    ];
    for setting in &settings {
        race(&mut contenders, setting, rounds, next_visitor);
    }
    if !workers.is_empty() {
        // They have the last setting that they can do: HTTP/1.1, to the origin, beside those that do the same.
        for mut worker in workers {
            pin(worker.pid, "1");
            worker.rows.extend(settings.iter().map(|setting| Row { setting: setting.name, micros: Vec::new() }));
            contenders.push(worker);
        }
        let setting = Setting { name: "HTTP/1.1, to the origin, beside workerd", ..settings[2] };
        race(&mut contenders, &setting, rounds, next_visitor);
        let reported = queue.server.take_requests().pop().expect("the edge worker reports");
        let reported: Value = serde_json::from_slice(&reported.body).expect("the edge worker reports in JSON");
        assert_eq!(reported["visitors"].as_array().map(Vec::len), Some(5), "five impressions a request: {reported}");
    }
    contenders
}

/// Has all take turns in `setting`, and notes what came out.
fn race(contenders: &mut [Contender], setting: &Setting, rounds: u64, next_visitor: &mut u64) {
    let mut race = Race::new(contenders, setting, next_visitor);
    eprintln!("{}: {WARM_UP} rounds to warm up, then {rounds}", setting.name);
    for _ in 0..WARM_UP {
        race.round();
    }
    let mut micros = vec![Vec::new(); race.contenders.len()];
    for _ in 0..rounds {
        for (micros, one) in micros.iter_mut().zip(race.round()) {
            micros.push(one);
        }
    }
    for (contender, micros) in contenders.iter_mut().zip(micros) {
        contender.rows.push(Row { setting: setting.name, micros });
    }
}
