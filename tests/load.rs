//! The long one, not part of `make test`: `make load`. A site's traffic through a real Envoy, with the A/B service away for
//! a third of the time. Every request must succeed, every exposure must arrive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::bootstrap::{EnvoyOptions, Plugin};
use edgesplit_testkit::client::Outgoing;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::load::{self, Pace};
use edgesplit_testkit::roles::{Collector, Origin};
use edgesplit_testkit::server::Behaviour;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long the outbox may take to empty once the service is back.
const RECOVERY: Duration = Duration::from_secs(60);

#[test]
#[ignore = "takes minutes: run it with `make load`"]
fn site_survives_an_outage() {
    let number = |name: &str, default: f64| std::env::var(name).map_or(default, |text| text.parse().expect(name));
    let (rate, seconds) = (number("LOAD_RATE", 1_000.0), number("LOAD_SECONDS", 180.0));
    let (duration, outage) = (Duration::from_secs_f64(seconds), Duration::from_secs_f64(seconds / 3.0));

    let origin = Origin::start().unwrap();
    origin.respond(|_| Response::new(200).body("ok"));
    let collector = Collector::start().unwrap();
    let plugin = json!({
        "experiments": {"inline": {"schema": 1, "revision": "load", "experiments": [{
            "key": "load", "state": "running", "variants": [
                {"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]}]}},
        "visitor": {"id": [{"header": "x-user-id"}]},
        "events": {"cluster": "collector", "path": "/v1/events",
                   "outbox": {"max_bytes": 64 << 20, "max_batches": 512},
                   "retry": {"backoff_min": "500ms", "backoff_max": "5s"}},
    });
    let options = EnvoyOptions::new(origin.port()).plugin(Plugin::new(plugin)).collector(collector.port()).workers(2);
    let envoy = Envoy::start(&options);
    let memory_before = envoy.memory_resident();
    let pace = Pace { connections: 16, rate, duration, deadline: Duration::from_secs(10) };
    println!("{rate} requests a second for {seconds} s, the collector away for {outage:.0?} in the middle");

    let (report, memory_peak, queued_peak) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            load::run(envoy.port(), pace, |n| Outgoing {
                headers: vec![(b"x-user-id".to_vec(), format!("visitor-{n}").into_bytes())],
                ..Outgoing::new("GET", "/")
            })
        });
        let start = Instant::now();
        let (mut memory_peak, mut queued_peak, mut away) = (memory_before, 0, false);
        while !load.is_finished() {
            let now_away = (outage..2 * outage).contains(&start.elapsed());
            if now_away != away {
                away = now_away;
                println!("{:>4.0?} the collector is {}", start.elapsed(), if away { "away" } else { "back" });
                collector.server.set(if away { Behaviour::Refuse } else { Behaviour::Respond });
            }
            memory_peak = memory_peak.max(envoy.memory_resident());
            queued_peak = queued_peak.max(envoy.counter("edgesplit.demo.outbox.queued_events"));
            // A pace for looking at the process, not a way to wait for something.
            std::thread::sleep(Duration::from_millis(250));
        }
        (load.join().unwrap(), memory_peak, queued_peak)
    });
    collector.server.set(Behaviour::Respond);
    let done = Instant::now();
    let count = |name: &str| envoy.counter(&format!("edgesplit.demo.{name}"));
    edgesplit_testkit::eventually(RECOVERY, "every exposure arrives", || {
        (count("events.delivered") == report.sent && count("outbox.queued_events") == 0).then_some(())
    });
    let recovered = done.elapsed();
    let memory_after = envoy.memory_resident();

    let events = collector.events();
    println!("requests    {} sent, {} answered 200, {} failed", report.sent, report.status(200), report.failed());
    println!(
        "latency     p50 {:?}  p99 {:?}  p99.9 {:?}  max {:?}",
        report.percentile(0.5),
        report.percentile(0.99),
        report.percentile(0.999),
        report.max()
    );
    println!("exposures   {} arrived, {} of them more than once", events.len(), collector.repeats());
    println!("outbox      {queued_peak} events at most, empty {recovered:.1?} after the last request");
    println!("calls       {} to the collector", collector.calls());
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "memory      {} MiB before, {} MiB at most, {} MiB after",
        mib(memory_before),
        mib(memory_peak),
        mib(memory_after)
    );

    assert_eq!((report.status(200), report.failed()), (report.sent, 0), "{:?}", report.errors);
    assert_eq!(events.len() as u64, report.sent, "every visitor's exposure arrives");
    let accounted: u64 = ["delivered", "rejected", "dropped_overflow", "dropped_expired", "diverted"]
        .map(|what| count(&format!("events.{what}")))
        .iter()
        .sum();
    assert_eq!(count("events.emitted"), accounted + count("outbox.queued_events"), "the identity is exact");
    let bound = memory_before + 3 * (64 << 20);
    assert!(memory_peak < bound, "memory stays within its bound: {} MiB", mib(memory_peak));
}
