//! The counted cost of a request: calls of the host, callbacks, instructions and allocations of the wasm module in an
//! interpreter, and calls of the host and allocations of the native module in a host of its own. The counts are the same on
//! every machine, so a change that raises the cost fails here. `benches/budget.json` is the budget; `UPDATE_BUDGET=1` writes
//! it anew.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_testkit::envoy::Directory;
use edgesplit_testkit::module::recording_host::RecordingHost;
use edgesplit_testkit::module::{Compiled, ModuleVm, Work};
use edgesplit_testkit::module_under_test::native_module;
use edgesplit_testkit::native_process::{NativeProcess, StepCost, compile, lines};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How much more than the budget a figure may be before it fails: compilers differ a little.
const TOLERANCE: f64 = 1.05;

/// Requests before the one that is counted.
const WARM_UP: u32 = 50;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// `matching` experiments on `/shop`, and others elsewhere until there are `all`.
fn experiments(matching: usize, all: usize) -> Value {
    let experiments: Vec<Value> = (0..all)
        .map(|number| {
            // Spread over the config, as they would be.
            let matches = number % (all / matching) == 0 && number / (all / matching) < matching;
            let path = if matches { "/shop*".to_owned() } else { format!("/elsewhere/{number}*") };
            json!({"key": format!("experiment-{number}"), "state": "running", "route": {"paths": [path]},
                   "variants": [{"key": "control", "weight": 5000, "baseline": true}, {"key": "treatment", "weight": 5000}]})
        })
        .collect();
    json!({"schema": 1, "revision": "r1", "experiments": experiments})
}

fn plugin(matching: usize, all: usize, events: bool) -> Value {
    let mut plugin = json!({
        "experiments": {"inline": experiments(matching, all)},
        "visitor": {"id": [{"cookie": "uid"}], "mint": {"cookie": "ab_visitor", "secure": false}},
    });
    if events {
        plugin["events"] = json!({"cluster": "collector"});
    }
    plugin
}

/// What a browser sends: 13 headers.
fn request(path: &str, cookie: &str) -> HeaderBlock {
    HeaderBlock::from_pairs(&[
        (":authority", "shop.example"),
        (":path", path),
        (":method", "GET"),
        (":scheme", "https"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://shop.example/"),
        ("cookie", cookie),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "3f5a3c5e-1c9b-4b7e-9a53-0a0d3c1f7c11"),
        ("x-forwarded-for", "203.0.113.7"),
    ])
}

fn response() -> HeaderBlock {
    HeaderBlock::from_pairs(&[
        (":status", "200"),
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "5124"),
        ("date", "Mon, 23 Nov 2026 08:00:00 GMT"),
        ("server", "envoy"),
        ("x-envoy-upstream-service-time", "12"),
    ])
}

/// One phase of a request.
#[derive(Debug, Clone, Default)]
struct Phase {
    host_calls: Vec<&'static str>,
    work: Work,
    allocations: u64,
}

/// A request as the proxy plays it: its headers, the response's, its end.
fn one(vm: &mut ModuleVm, host: &RecordingHost, stream: u32) -> [Phase; 2] {
    let mut before = vm.allocations();
    let mut phase = |vm: &mut ModuleVm| {
        let after = vm.allocations();
        let allocations = after.zip(before).map_or(0, |(after, before)| after - before);
        before = after;
        Phase { host_calls: host.asked.take(), work: vm.work(), allocations }
    };
    vm.request(host, stream).unwrap();
    let request = phase(vm);
    vm.response(host, stream).unwrap();
    [request, phase(vm)]
}

/// The modules under test.
struct Modules {
    /// The module that ships, and the one that counts allocations.
    wasm: [Compiled; 2],
    native: PathBuf,
    /// The program that plays the native module's requests.
    player: PathBuf,
}

/// The cost of the same request in the native module.
fn native_cost(
    modules: &Modules,
    plugin: &Value,
    path: &str,
    cookie: &dyn Fn(u32) -> String,
) -> BTreeMap<String, Value> {
    let mut process = NativeProcess::start(&modules.player, &modules.native, 1, 1);
    let mut play = |command: &str, numbers: &[u64], text: &[u8]| {
        // Every call of a service starts, as number 1.
        process.play(command, numbers, text, &mut |_| 1).unwrap()
    };
    play("config", &[0], plugin.to_string().as_bytes());
    let mut phases = Vec::new();
    for number in 2..=WARM_UP {
        if number == WARM_UP {
            play("tick", &[0], b"");
        }
        let request = play("request", &[0, number.into(), 0], &lines(&request(path, &cookie(number))));
        phases = vec![request, play("response", &[0, number.into(), 200], &lines(&response()))];
    }
    let mut figures = BTreeMap::new();
    for (phase, StepCost { host_calls, allocations }) in ["request", "response"].into_iter().zip(phases) {
        figures.insert(format!("native.{phase}.host_calls"), json!(host_calls));
        figures.insert(format!("native.{phase}.allocations"), json!(allocations));
    }
    figures
}

/// What one kind of request costs once everything is warm.
fn cost(modules: &Modules, plugin: &Value, path: &str, cookie: &dyn Fn(u32) -> String) -> BTreeMap<String, Value> {
    let mut figures = native_cost(modules, plugin, path, cookie);
    for (compiled, counts_allocations) in modules.wasm.iter().zip([false, true]) {
        let mut host = RecordingHost { response: response(), ..RecordingHost::default() };
        let mut vm = ModuleVm::start(compiled, &host, "bench").unwrap();
        assert!(vm.configure(&host, plugin.to_string().as_bytes()).unwrap(), "{:?}", host.log.borrow());
        for stream in 2..WARM_UP {
            host.request = request(path, &cookie(stream));
            one(&mut vm, &host, stream);
        }
        vm.tick(&host).unwrap();
        vm.work();
        host.asked.take();
        host.request = request(path, &cookie(WARM_UP));
        for (name, phase) in ["request", "response"].into_iter().zip(one(&mut vm, &host, WARM_UP)) {
            if counts_allocations {
                figures.insert(format!("{name}.allocations"), json!(phase.allocations));
            } else {
                figures.insert(format!("{name}.host_calls"), json!(phase.host_calls.len()));
                figures.insert(format!("{name}.callbacks"), json!(phase.work.callbacks));
                figures.insert(format!("{name}.instructions"), json!(phase.work.instructions));
            }
        }
    }
    figures
}

/// A kind of requests: its name, how many experiments match of how many, whether there are events, the path, the cookies.
type Kind<'a> = (&'static str, (usize, usize), bool, &'a str, &'a dyn Fn(u32) -> String);

/// The kinds of requests, by their names.
fn costs() -> BTreeMap<&'static str, BTreeMap<String, Value>> {
    let wasm = ["dist/edgesplit.wasm", "dist/test/edgesplit-hooks.wasm"].map(|file| Compiled::load(&root(file)));
    let folder = Directory::new().unwrap();
    let modules = Modules { wasm, native: native_module(), player: compile("player", &folder) };
    let known = |_: u32| "session=8f14e45fceea167a5a36dedd4bea2543; uid=visitor-4711; theme=dark".to_owned();
    let always_new =
        |number: u32| format!("session=8f14e45fceea167a5a36dedd4bea2543; uid=visitor-{number}; theme=dark");
    let unidentified = |_: u32| "session=8f14e45fceea167a5a36dedd4bea2543; theme=dark".to_owned();
    let rows: [Kind<'_>; 8] = [
        ("no experiment on the route", (5, 5), true, "/about?ref=1", &known),
        ("known visitor, 5 of 5, no events", (5, 5), false, "/shop/1?ref=1", &known),
        ("known visitor, 5 of 5", (5, 5), true, "/shop/1?ref=1", &known),
        ("known visitor, 5 of 100", (5, 100), true, "/shop/1?ref=1", &known),
        ("known visitor, 5 of 1,000", (5, 1_000), true, "/shop/1?ref=1", &known),
        ("known visitor, 1 of 1", (1, 1), true, "/shop/1?ref=1", &known),
        ("first visit, 5 of 5", (5, 5), true, "/shop/1?ref=1", &always_new),
        ("minted visitor, 5 of 5", (5, 5), true, "/shop/1?ref=1", &unidentified),
    ];
    let rows = rows.map(|(name, (matching, all), events, path, cookie)| {
        (name, cost(&modules, &plugin(matching, all, events), path, cookie))
    });
    let mut sticky = plugin(5, 5, true);
    sticky["request"] = json!({"sticky": {}});
    for experiment in sticky["experiments"]["inline"]["experiments"].as_array_mut().unwrap() {
        experiment["sticky"] = json!(true);
    }
    let pairs: String = (0..5).map(|number| format!("~experiment-{number}.0.control")).collect();
    let remembered = move |number: u32| format!("{}; ab_sticky=1{pairs}", known(number));
    let mut preview = plugin(5, 5, true);
    preview["request"] = json!({"preview": {"parameter": "__ab_preview", "secret": "a secret of 22 bytes"}});
    let token = edgesplit_filter::request_context::preview::make(
        b"a secret of 22 bytes",
        u64::from(u32::MAX),
        None,
        &[("experiment-0", "treatment")],
    );
    let link = format!("/shop/1?__ab_preview={}", token.unwrap());
    let more = [
        ("known visitor, 5 of 5, sticky", cost(&modules, &sticky, "/shop/1?ref=1", &remembered)),
        ("preview, 5 of 5", cost(&modules, &preview, &link, &known)),
    ];
    rows.into_iter().chain(more).collect()
}

#[test]
fn requests_cost_no_more_than_their_budget() {
    let costs = costs();
    let file = root("benches/budget.json");
    if std::env::var_os("UPDATE_BUDGET").is_some() {
        std::fs::write(&file, format!("{:#}\n", json!(costs))).unwrap();
    }
    let budget: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let mut over = Vec::new();
    let columns = ["host_calls", "callbacks", "instructions", "allocations", "native host_calls", "native allocations"];
    println!("{:44} {}", "", columns.join("  "));
    for (name, figures) in &costs {
        for phase in ["request", "response"] {
            let shown = columns.map(|column| {
                let figure = match column.split_once(' ') {
                    Some((module, count)) => format!("{module}.{phase}.{count}"),
                    None => format!("{phase}.{column}"),
                };
                format!("{:>width$}", figures[&figure].to_string(), width = column.len())
            });
            println!("{:44} {}", format!("{name}: {phase}"), shown.join("  "));
        }
        for (figure, found) in figures {
            let allowed = budget[name][figure].as_f64().unwrap_or_else(|| panic!("the budget has no {name}.{figure}"));
            let tolerance = if figure.ends_with("instructions") { TOLERANCE } else { 1.0 };
            if found.as_f64().unwrap() > allowed * tolerance {
                over.push(format!("{name}: {figure} is {found}, the budget {allowed}"));
            }
        }
    }
    assert!(over.is_empty(), "dearer than benches/budget.json allows:\n{}", over.join("\n"));

    let figure = |name: &str, figure: &str| costs[name][figure].as_f64().unwrap();
    // The promised limits, which the budget file cannot change.
    assert!(figure("known visitor, 5 of 5", "request.host_calls") <= 3.0);
    assert!(figure("known visitor, 5 of 5", "response.host_calls") <= 2.0);
    assert!(figure("no experiment on the route", "request.host_calls") <= 1.0);
    assert!(figure("no experiment on the route", "response.host_calls") == 0.0);
    let whole = |name: &str| figure(name, "request.instructions") + figure(name, "response.instructions");
    assert!(whole("known visitor, 5 of 1,000") <= 1.15 * whole("known visitor, 5 of 5"));
}

/// Every callback that is exported is called, and every call costs.
#[test]
fn only_callbacks_in_use_are_exported() {
    let host = RecordingHost::default();
    let vm = ModuleVm::start(&Compiled::built(), &host, "bench").unwrap();
    let mut exports = vm.exports();
    exports.sort();
    let expected = [
        "_initialize",
        "memory",
        "proxy_abi_version_0_2_1",
        "proxy_on_configure",
        "proxy_on_context_create",
        "proxy_on_delete",
        "proxy_on_done",
        "proxy_on_http_call_response",
        "proxy_on_memory_allocate",
        "proxy_on_request_headers",
        "proxy_on_response_headers",
        "proxy_on_tick",
        "proxy_on_vm_start",
    ];
    assert_eq!(exports, expected);
}

/// The largest linear memory that a VM may have with 1,000 experiments.
const MEMORY_BYTES_MAX: usize = 8 << 20;

/// 1,000 experiments in about 1 MB.
fn large_config(revision: &str) -> Vec<u8> {
    let mut config = experiments(5, 1_000);
    config["revision"] = json!(revision);
    for experiment in config["experiments"].as_array_mut().unwrap() {
        experiment["audience"] = json!({"country": {"$nin": ["US", "CA", "MX"]}, "plan": {"$ne": "free"}});
        experiment["forced"] = json!({"qa-1": "treatment"});
        experiment["description"] = json!("x".repeat(700));
    }
    let bytes = config.to_string().into_bytes();
    assert!((900_000..1_200_000).contains(&bytes.len()), "{} bytes", bytes.len());
    bytes
}

#[test]
fn new_experiments_never_block_a_worker() {
    let host = RecordingHost {
        request: request("/shop/1", "uid=visitor-1"),
        response: response(),
        ..RecordingHost::default()
    };
    let mut vm = ModuleVm::start(&Compiled::built(), &host, "bench").unwrap();
    let plugin = json!({"experiments": {"cluster": "experiments"}, "visitor": {"id": [{"cookie": "uid"}]}});
    assert!(vm.configure(&host, plugin.to_string().as_bytes()).unwrap());
    let after_start = vm.memory_bytes();
    for (revision, token) in [("r1", 1), ("r2", 2)] {
        let mut steps = Vec::new();
        vm.work();
        vm.reply(&host, token, HeaderBlock::from_pairs(&[(":status", "200")]), large_config(revision)).unwrap();
        steps.push(vm.work().instructions);
        while vm.tick_period_ms() < 100 {
            vm.tick(&host).unwrap();
            steps.push(vm.work().instructions);
        }
        let (all, largest) = (steps.iter().sum::<u64>(), steps.iter().max().copied().unwrap());
        let place = steps.iter().position(|step| *step == largest).unwrap() + 1;
        println!(
            "{revision}: {all} instructions in {} callbacks, {largest} at most in one, the {place}th",
            steps.len()
        );
        // All of it takes some 50 ms: a fifth is what a worker may stand still.
        assert!(largest * 5 < all, "{largest} of {all} instructions in one callback");
        // The next fetch: the clock stands still, so a new interval is made by a VM that starts.
        if revision == "r1" {
            assert!(vm.request(&host, 7).unwrap());
            vm.response(&host, 7).unwrap();
            assert!(
                host.written.borrow().iter().any(|header| header.starts_with("x-ab-assignments")),
                "it is in force"
            );
            host.clock_ms.set(host.clock_ms.get() + 3_600_000);
            vm.tick(&host).unwrap();
        }
    }
    println!("linear memory: {after_start} bytes after the start, {} with 1,000 experiments", vm.memory_bytes());
    assert!(vm.memory_bytes() <= MEMORY_BYTES_MAX, "{} bytes", vm.memory_bytes());
}

/// Plays requests of ever new visitors, ticks in between, and gives the memory before and after.
fn memory_over(requests: u32) -> (usize, usize) {
    let mut host = RecordingHost { response: response(), ..RecordingHost::default() };
    let mut vm = ModuleVm::start(&Compiled::built(), &host, "bench").unwrap();
    assert!(vm.configure(&host, plugin(5, 5, true).to_string().as_bytes()).unwrap());
    let mut before = 0;
    for stream in 2..requests {
        host.request = request("/shop/1", &format!("uid=visitor-{}", stream % 50_000));
        one(&mut vm, &host, stream);
        if stream % 100 == 0 {
            host.clock_ms.set(host.clock_ms.get() + 100);
            vm.tick(&host).unwrap();
            // All calls are answered.
            for token in host.take_calls() {
                vm.reply(&host, token, HeaderBlock::from_pairs(&[(":status", "204")]), Vec::new()).unwrap();
            }
            host.written.take();
        }
        // The memory of repeats is full by then: 100,000 exposures are remembered.
        if stream == requests / 4 {
            before = vm.memory_bytes();
        }
    }
    (before, vm.memory_bytes())
}

#[test]
#[ignore = "takes minutes: run it with `make bench`"]
fn memory_does_not_grow_with_requests() {
    let (before, after) = memory_over(1_000_000);
    println!("linear memory: {before} bytes after 250,000 requests, {after} after 1,000,000");
    assert_eq!(before, after);
}
