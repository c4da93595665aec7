//! The load as Artillery makes it (`examples/load/`), through a real Envoy with the filter and through one without: `make artillery`.
//! The collector goes away for a third of the time. No request may fail, and every exposure has to arrive.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::bootstrap::{EnvoyOptions, Plugin};
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::roles::{Collector, Origin};
use edgesplit_testkit::server::Behaviour;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the outbox may take to empty once the service is back.
const RECOVERY: Duration = Duration::from_secs(60);

const PERCENTILES: [&str; 5] = ["min", "median", "p95", "p99", "max"];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map_or(default, |text| text.parse().expect(name))
}

/// Runs the scenario against this port, and `meanwhile` again and again until it ends. Gives Artillery's own report.
fn artillery(name: &str, port: u16, rate: u64, seconds: u64, mut meanwhile: impl FnMut(Duration)) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/load");
    let report = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("artillery-{name}.json"));
    let mut run = Command::new(folder.join("node_modules/.bin/artillery"))
        .args(["run", "--quiet", "--target", &format!("http://127.0.0.1:{port}"), "--output"])
        .arg(&report)
        .arg("artillery.yaml")
        .current_dir(&folder)
        .envs([("RATE", rate.to_string()), ("SECONDS", seconds.to_string())])
        .env("ARTILLERY_DISABLE_TELEMETRY", "true")
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("artillery: {error}: run `make artillery`"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = run.try_wait().unwrap() {
            break status;
        }
        meanwhile(start.elapsed());
        // A pace for looking at it, not a way to wait for something.
        std::thread::sleep(Duration::from_millis(250));
    };
    assert!(status.success(), "artillery ended with {status}");
    serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap()
}

fn counter(report: &Value, name: &str) -> u64 {
    report["aggregate"]["counters"][name].as_u64().unwrap_or(0)
}

/// How many requests a second Artillery came to.
fn pace(report: &Value) -> f64 {
    let at = |name: &str| report["aggregate"][name].as_f64().unwrap_or_default();
    counter(report, "http.requests") as f64 * 1_000.0 / (at("lastCounterAt") - at("firstCounterAt")).max(1.0)
}

#[test]
#[ignore = "takes minutes, and npm: run it with `make artillery`"]
fn site_survives_an_outage() {
    let (rate, seconds) = (number("LOAD_RATE", 1_000), number("LOAD_SECONDS", 180));
    let outage = Duration::from_secs(seconds / 3);
    let origin = Origin::start().unwrap();
    origin.respond(|_| Response::new(200).body("ok"));
    let collector = Collector::start().unwrap();
    let experiments = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/experiments.json")).unwrap();
    let experiments: Value = serde_json::from_slice(&experiments).unwrap();
    let plugin = json!({
        "experiments": {"inline": experiments}, "visitor": {"id": [{"header": "x-user-id"}]},
        "events": {"cluster": "collector", "path": "/v1/events",
                   "outbox": {"max_bytes": 64 << 20, "max_batches": 512},
                   "retry": {"backoff_min": "500ms", "backoff_max": "5s"}},
    });

    let bare = Envoy::start(&EnvoyOptions::new(origin.port()).workers(2));
    let without = artillery("without", bare.port(), rate, seconds, |_| {
        origin.server.take_requests();
    });
    drop(bare);
    let options = EnvoyOptions::new(origin.port()).plugin(Plugin::new(plugin)).collector(collector.port()).workers(2);
    let envoy = Envoy::start(&options);
    let count = |name: &str| envoy.counter(&format!("edgesplit.demo.{name}"));
    let (mut away, mut queued_peak) = (false, 0);
    let with = artillery("with", envoy.port(), rate, seconds, |elapsed| {
        origin.server.take_requests();
        collector.server.take_requests();
        queued_peak = queued_peak.max(count("outbox.queued_events"));
        let now_away = (outage..2 * outage).contains(&elapsed);
        if now_away != away {
            away = now_away;
            collector.server.set(if away { Behaviour::Refuse } else { Behaviour::Respond });
        }
    });
    collector.server.set(Behaviour::Respond);
    edgesplit_testkit::eventually(RECOVERY, "every exposure arrives", || {
        (count("events.delivered") == count("events.emitted") && count("outbox.queued_events") == 0).then_some(())
    });

    let mut table = String::from("| | without the filter | with it, and an outage |\n|---|---|---|\n");
    for (what, name) in [("requests", "http.requests"), ("answered 200", "http.codes.200"), ("failed", "vusers.failed")]
    {
        writeln!(table, "| {what} | {} | {} |", counter(&without, name), counter(&with, name)).unwrap();
    }
    // A busy machine keeps Artillery from its pace.
    writeln!(table, "| a second | {:.0} | {:.0} |", pace(&without), pace(&with)).unwrap();
    for name in PERCENTILES {
        let of = |report: &Value| report["aggregate"]["summaries"]["http.response_time"][name].as_f64().unwrap_or(0.0);
        writeln!(table, "| {name}, ms | {} | {} |", of(&without), of(&with)).unwrap();
    }
    let received = collector.events().len() as u64;
    println!("{rate} visitors a second for {seconds} s, the collector away for {outage:?}\n\n{table}");
    println!("{} events emitted, {queued_peak} waited at the peak, {received} received", count("events.emitted"));
    for report in [&without, &with] {
        assert_eq!(counter(report, "vusers.failed"), 0, "{}", report["aggregate"]["counters"]);
        assert_eq!(counter(report, "http.codes.200"), counter(report, "http.requests"));
        assert!(counter(report, "http.requests") >= rate * seconds * 9 / 10, "Artillery came nowhere near the rate");
    }
    assert!(queued_peak > 0, "the outage was one");
    assert_eq!(received, count("events.emitted"), "every exposure arrived");
}
