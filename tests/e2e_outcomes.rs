//! What every answer of the A/B service, or none, does to a batch: in a real Envoy, with the accounts exact after each.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::client::{Client, Outgoing};
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::load::{self, Pace};
use edgesplit_testkit::server::Behaviour;
use edgesplit_testkit::stack::{Accounts, Services, document, experiment, merged};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A plugin that reports soon, with the members of `with` on top of its events.
fn plugin(with: Value) -> Value {
    let events = json!({"cluster": "collector", "timeout": "2s", "batch": {"max_age": "100ms"},
                        "retry": {"backoff_min": "50ms", "backoff_max": "150ms", "lease": "5s"}});
    let experiments = document(&[experiment("nav", json!({}))]);
    json!({"experiments": {"inline": experiments}, "visitor": {"id": [{"header": "x-user-id"}]},
           "events": merged(events, with)})
}

/// An exposure of a visitor of this name.
fn visit(client: &mut Client, id: &str) {
    assert_eq!(client.get("/").header("x-user-id", id).send().status, 200);
}

/// Waits until nothing is queued and every event is accounted for, and gives the accounts.
#[track_caller]
fn settled(envoy: &Envoy, emitted: u64) -> Accounts {
    let rest = |accounts: &Accounts| (accounts.emitted, accounts.accounted(), accounts.queued);
    eventually_eq("settled", (emitted, emitted, 0), || rest(&Accounts::of(envoy)));
    Accounts::of(envoy)
}

#[test]
fn batches_are_kept_or_dropped_by_status() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(json!({})));
    let (collector, mut client) = (&services.collector, envoy.client());
    let mut expected = Accounts::default();
    let faults: [(&str, &dyn Fn()); 6] = [
        ("a reset", &|| collector.server.set(Behaviour::Reset)),
        ("no answer in time", &|| collector.server.set(Behaviour::Hang)),
        ("no connection", &|| collector.server.set(Behaviour::Refuse)),
        ("no HTTP", &|| collector.server.set(Behaviour::Garbage)),
        ("a redirect", &|| collector.server.set(Behaviour::Status(302))),
        ("an informal answer", &|| collector.server.set(Behaviour::Status(599))),
    ];
    for (name, fault) in faults {
        fault();
        let attempts =
            || envoy.counter("cluster.collector.upstream_cx_connect_fail") + collector.server.requests_received();
        let before = attempts();
        visit(&mut client, name);
        // The second try comes after a back-off.
        eventually(DEADLINE, name, || (attempts() >= before + 2).then_some(()));
        assert_eq!(Accounts::of(&envoy).delivered, expected.delivered, "{name}");
        collector.server.set(Behaviour::Respond);
        expected = Accounts { emitted: expected.emitted + 1, delivered: expected.delivered + 1, ..expected };
        assert_eq!(settled(&envoy, expected.emitted), expected, "{name}");
    }
    for (status, is_kept) in [
        (401, true),
        (403, true),
        (404, true),
        (408, true),
        (425, true),
        (429, true),
        (500, true),
        (502, true),
        (503, true),
        (400, false),
        (402, false),
        (405, false),
        (409, false),
        (410, false),
        (422, false),
        (413, false),
    ] {
        collector.clear();
        collector.answer_status(status);
        visit(&mut client, &status.to_string());
        expected.emitted += 1;
        if is_kept {
            eventually(DEADLINE, "it is tried again", || (collector.calls() >= 2).then_some(()));
            assert_eq!(Accounts::of(&envoy).delivered, expected.delivered, "{status}");
            collector.answer_status(204);
            expected.delivered += 1;
        } else {
            expected.rejected += 1;
        }
        assert_eq!(settled(&envoy, expected.emitted), expected, "{status}");
        let keys: BTreeSet<_> = collector.batches().into_iter().map(|batch| batch.key).collect();
        assert_eq!(keys.len(), 1, "every try of {status} has the same key");
        if !is_kept {
            assert_eq!(collector.calls(), 1, "{status}");
        }
    }
}

#[test]
fn retry_after_delays_delivery_up_to_its_limit() {
    let date = || httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(4));
    type Case = (fn() -> String, u128, u128);
    // A delay is honored up to ten times `backoff_max`: here 5 s.
    let retry = json!({"retry": {"backoff_min": "50ms", "backoff_max": "500ms"}});
    let cases: [Case; 4] = [
        (|| "2".to_owned(), 2_000, 12_000),
        (date, 2_900, 13_000),
        (|| "86400".to_owned(), 5_000, 15_000),
        (|| "soon".to_owned(), 50, 10_000),
    ];
    for (retry_after, least, most) in cases {
        let services = Services::start(&json!({}));
        let envoy = services.envoy(&plugin(retry.clone()));
        let asked = AtomicBool::new(false);
        services.collector.answer(move |_| match asked.swap(true, Ordering::Relaxed) {
            false => Response::new(429).header("retry-after", retry_after()),
            true => Response::new(202),
        });
        let mut client = envoy.client();
        visit(&mut client, "u1");
        eventually_eq("asked to wait", 1, || envoy.counter("cluster.collector.upstream_rq_429"));
        // A fresh event waits as well.
        visit(&mut client, "u2");
        assert_eq!(settled(&envoy, 2).delivered, 2);
        let batches = services.collector.batches();
        let waited = batches[1].arrived - batches[0].arrived;
        assert!((least..most).contains(&waited.as_millis()), "{}: {waited:?}", retry_after());
    }
}

#[test]
fn batch_that_is_too_large_is_split_until_it_fits() {
    let services = Services::start(&json!({}));
    let collector = &services.collector;
    let envoy = services.envoy(&plugin(json!({"batch": {"max_age": "1s"}})));
    let mut client = envoy.client();
    // One event is too large even alone; which one does not depend on where it stands.
    collector.answer(|batch| {
        let is_large = batch.events.iter().any(|event| event["unit"] == "u5");
        Response::new(if batch.events.len() > 2 || is_large { 413 } else { 202 })
    });
    for number in 0..16 {
        visit(&mut client, &format!("u{number}"));
    }
    let accounts = settled(&envoy, 16);
    assert_eq!((accounts.delivered, accounts.rejected), (15, 1));
    let received = collector.events();
    let units: BTreeSet<&str> = received.values().filter_map(|received| received.event["unit"].as_str()).collect();
    assert!(units.len() == 15 && !units.contains("u5"), "{units:?}");
    assert_eq!(collector.repeats(), 0);
    let mut parts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for batch in collector.batches() {
        let ids: Vec<Value> = batch.events.iter().map(|event| event["id"].clone()).collect();
        let known = parts.entry(batch.key.unwrap()).or_insert_with(|| ids.clone());
        assert_eq!(*known, ids, "a key stands for one set of events");
    }
    assert!(parts.len() >= 8, "{parts:?}");
}

#[test]
fn counts_are_exact_under_all_faults_at_once() {
    let services = Services::start(&json!({}));
    let limits = json!({"timeout": "400ms", "batch": {"max_events": 7, "max_age": "50ms"}, "outbox": {"max_batches": 6},
                        "retry": {"backoff_min": "1ms", "backoff_max": "40ms", "lease": "410ms"}});
    let envoy = Envoy::start(&services.options(&plugin(limits)).workers(4));
    let calls = AtomicUsize::new(0);
    services.collector.answer(move |batch| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        Response::new(match call % 9 {
            2 => 503,
            4 if batch.events.len() > 1 => 413,
            5 => 400,
            7 => 429,
            _ => 202,
        })
    });
    let pace = Pace { connections: 8, rate: 600.0, duration: Duration::from_secs(8), deadline: DEADLINE };
    let report = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            load::run(envoy.port(), pace, |number| Outgoing::get("/").header("x-user-id", number.to_string()))
        });
        let faults = [
            Behaviour::Hang,
            Behaviour::Respond,
            Behaviour::Refuse,
            Behaviour::Respond,
            Behaviour::Reset,
            Behaviour::Respond,
            Behaviour::Truncate,
            Behaviour::Respond,
        ];
        for fault in faults.into_iter().cycle() {
            let start = Instant::now();
            services.collector.server.set(fault);
            eventually(DEADLINE, "it lasts", || (start.elapsed() >= Duration::from_millis(300)).then_some(()));
            if load.is_finished() && fault == Behaviour::Respond {
                break;
            }
        }
        load.join().unwrap()
    });
    assert_eq!((report.status(200), report.failed()), (4_800, 0), "{:?}", report.errors);
    let accounts = settled(&envoy, 4_800);
    assert!(accounts.delivered > 0 && accounts.rejected > 0 && accounts.dropped_overflow > 0, "{accounts:?}");
    // What was accepted and counted as anything else is an answer that was lost, never the other way round.
    assert!(services.collector.events().len() as u64 >= accounts.delivered, "{accounts:?}");
    for name in ["shared_data", "shared_data_corrupt", "events_lost", "buffer_full"] {
        assert_eq!(envoy.counter(&format!("edgesplit.demo.errors.{name}")), 0, "{name}");
    }
}

#[test]
fn events_for_a_cluster_that_does_not_exist_are_kept() {
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(json!({"cluster": "nowhere"})));
    let mut client = envoy.client();
    for number in 0..10 {
        visit(&mut client, &number.to_string());
    }
    eventually(DEADLINE, "it is tried", || (envoy.counter("edgesplit.demo.errors.dispatch") >= 2).then_some(()));
    eventually_eq("all are queued", (10, 10), || {
        let accounts = Accounts::of(&envoy);
        (accounts.emitted, accounts.queued)
    });
    let accounts = Accounts::of(&envoy);
    assert_eq!(accounts, Accounts { emitted: 10, queued: 10, ..Accounts::default() });
    eventually(DEADLINE, "they are sealed", || {
        (envoy.counter("edgesplit.demo.outbox.queued_bytes") > 1_000).then_some(())
    });
}
