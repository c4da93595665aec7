//! The outbox in a real Envoy: outages, bounds, repeats and the end of the process, with accounts that are exact.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_filter::events::event::{derived_id, exposure_fingerprint};
use edgesplit_testkit::client::{Client, Outgoing};
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::load::{self, Pace};
use edgesplit_testkit::module_under_test::skips_native;
use edgesplit_testkit::roles::Collector;
use edgesplit_testkit::server::Behaviour;
use edgesplit_testkit::stack::{Accounts, Services, document, experiment, merge, merged};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A plugin that reports soon, with the members of `with` on top of its events.
fn plugin(with: Value) -> Value {
    let events = json!({"cluster": "collector", "timeout": "1s", "batch": {"max_age": "100ms"},
                        "retry": {"backoff_min": "100ms", "backoff_max": "300ms", "lease": "2s"}});
    let experiments = document(&[experiment("nav", json!({}))]);
    json!({"experiments": {"inline": experiments}, "visitor": {"id": [{"header": "x-user-id"}]},
           "events": merged(events, with)})
}

fn visit(client: &mut Client, id: &str) {
    assert_eq!(client.get("/").header("x-user-id", id).send().status, 200);
}

/// Waits until every event is accounted for, and gives the accounts.
#[track_caller]
fn at_rest(envoy: &Envoy, emitted: u64, queued: impl Fn(u64) -> bool) -> Accounts {
    Accounts::at_rest(envoy, |accounts| {
        accounts.emitted == emitted && accounts.accounted() == emitted && queued(accounts.queued)
    })
}

/// The visitors whose events were taken.
fn visitors(collector: &Collector) -> BTreeSet<String> {
    let events = collector.events().into_values();
    events.map(|received| received.event["unit"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_outage_of_20_s_costs_no_request_anything_and_no_exposure_is_lost() {
    const BEFORE: Duration = Duration::from_secs(2);
    const OUTAGE: Duration = Duration::from_secs(20);
    let services = Services::start(&json!({}));
    let retry = json!({"timeout": "5s", "retry": {"backoff_min": "500ms", "backoff_max": "2s", "lease": "10s"}});
    let envoy = services.envoy(&plugin(merged(json!({"batch": {"max_age": "500ms"}}), retry)));
    let pace =
        Pace { connections: 8, rate: 200.0, duration: BEFORE + OUTAGE + BEFORE, deadline: Duration::from_secs(10) };
    let refused = || envoy.counter("cluster.collector.upstream_cx_connect_fail");
    let visitor = |number: u64| Outgoing::get("/").header("x-user-id", format!("visitor-{number}"));

    let report = std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run(envoy.port(), pace, visitor));
        let start = Instant::now();
        let passed = |time: Duration| eventually(time * 2, "time passes", || (start.elapsed() >= time).then_some(()));
        passed(BEFORE);
        services.collector.server.set(Behaviour::Refuse);
        passed(BEFORE + OUTAGE);
        let probes = refused();
        services.collector.server.set(Behaviour::Respond);
        // One a back-off of 500 ms to 2 s, beside those that were under way when it began.
        assert!((5..=40 + 8).contains(&probes), "{probes} probes in {OUTAGE:?}");
        load.join().unwrap()
    });
    let count = 4_800;
    assert_eq!((report.sent, report.status(200), report.failed()), (count, count, 0), "{:?}", report.errors);
    // A call to the service may take 5 s. A busy machine delays some answers by itself.
    assert!(report.percentile(0.99) < Duration::from_secs(2), "{:?}", report.percentile(0.99));
    assert!(report.max() < Duration::from_secs(5), "{:?}", report.max());

    let accounts = at_rest(&envoy, count, |queued| queued == 0);
    assert_eq!(accounts, Accounts { emitted: count, delivered: count, ..Accounts::default() });
    let events = services.collector.events();
    assert_eq!(events.len() as u64, count);
    for (id, received) in events {
        let event = received.event;
        let seconds = time::OffsetDateTime::parse(
            event["time"].as_str().unwrap(),
            &time::format_description::well_known::Rfc3339,
        );
        let window = seconds.unwrap().unix_timestamp() / (720 * 3600);
        let fingerprint = exposure_fingerprint(event["unit"].as_str().unwrap(), "nav", "green", window);
        assert_eq!(id, derived_id(fingerprint).to_string());
    }
}

#[test]
fn hanging_service_delays_no_request() {
    let services = Services::start(&json!({}));
    services.collector.server.set(Behaviour::Hang);
    let timeouts = json!({"timeout": "4s", "retry": {"backoff_min": "1ms", "backoff_max": "1ms", "lease": "5s"}});
    let envoy = services.envoy(&plugin(timeouts));
    let pace = Pace { connections: 4, rate: 100.0, duration: Duration::from_secs(3), deadline: DEADLINE };
    let report = load::run(envoy.port(), pace, |number| Outgoing::get("/").header("x-user-id", number.to_string()));
    assert_eq!((report.status(200), report.failed()), (300, 0), "{:?}", report.errors);
    assert!(report.max() < Duration::from_secs(4), "a call to the service takes 4 s: {:?}", report.max());
    eventually(DEADLINE, "a call is under way", || (services.collector.server.requests_received() >= 1).then_some(()));
    services.collector.server.set(Behaviour::Respond);
    assert_eq!(at_rest(&envoy, 300, |queued| queued == 0).delivered, 300);
}

#[test]
fn full_outbox_drops_by_policy_and_counts_every_event() {
    let by_batches = json!({"batch": {"max_events": 5}, "outbox": {"max_batches": 3}});
    let by_bytes = json!({"batch": {"max_bytes": 1500}, "outbox": {"max_bytes": 5000}});
    for (limits, on_full) in [
        (&by_batches, "drop_oldest"),
        (&by_batches, "drop_newest"),
        (&by_bytes, "drop_oldest"),
        (&by_bytes, "drop_newest"),
    ] {
        let services = Services::start(&json!({}));
        services.collector.server.set(Behaviour::Refuse);
        let envoy = services.envoy(&plugin(merged(limits.clone(), json!({"outbox": {"on_full": on_full}}))));
        // From both workers, one visitor after the other.
        let mut clients = envoy.clients(2);
        let name = |number: usize| format!("{number:03}");
        // What is on its way is not dropped. Once the service is known to be down that is one batch at most; before, it may be
        // all of the first, and on a fast machine they are all there are.
        visit(&mut clients[0], "before");
        eventually(DEADLINE, "the service is known to be down", || {
            (envoy.counter("cluster.collector.upstream_cx_connect_fail") > 0).then_some(())
        });
        at_rest(&envoy, 1, |queued| queued == 1);
        for number in 0..80 {
            visit(&mut clients[number % 2], &name(number));
        }
        let queued_max = if limits == &by_batches { 15 } else { 80 };
        let full = at_rest(&envoy, 81, |queued| (1..=queued_max).contains(&queued));
        assert_eq!(full.queued + full.dropped_overflow, 81, "{full:?}");
        let bytes = envoy.counter("edgesplit.demo.outbox.queued_bytes");
        assert!((500..=5_000).contains(&bytes), "{bytes} bytes in {full:?}");

        services.collector.server.set(Behaviour::Respond);
        let end = at_rest(&envoy, 81, |queued| queued == 0);
        assert_eq!(end, Accounts { delivered: full.queued, queued: 0, ..full }, "{limits} {on_full}");
        let kept = visitors(&services.collector);
        assert_eq!(kept.len() as u64, end.delivered);
        // Whole batches are dropped, and which worker's come first is anybody's guess.
        let has = |numbers: [usize; 2]| numbers.iter().any(|number| kept.contains(&name(*number)));
        let (first, last) = (has([0, 1]), has([78, 79]));
        match on_full {
            // What is on its way is not dropped, so on a slow machine some of the first may be left; the order in which
            // batches go is held by the outbox's own tests.
            "drop_oldest" => assert!(last, "{limits}: {kept:?}"),
            // A last batch that is small may still fit in where others did not.
            _ => assert!(first, "{limits}: {kept:?}"),
        }
    }
}

#[test]
fn overflow_goes_to_the_fallback_once() {
    let full = json!({"batch": {"max_events": 5}, "outbox": {"max_batches": 3}});
    for (limits, stays) in [(full, true), (json!({"outbox": {"max_age": "1s"}}), false)] {
        let (services, backup) = (Services::start(&json!({})), Collector::start().unwrap());
        services.collector.server.set(Behaviour::Refuse);
        let fallback = json!({"fallback": {"cluster": "backup", "authority": "backup.internal", "path": "/backup"}});
        let backup_cluster = services.proxy_options().collector(backup.port()).bootstrap();
        let mut backup_cluster = backup_cluster["static_resources"]["clusters"][2].clone();
        merge(&mut backup_cluster, json!({"name": "backup", "load_assignment": {"cluster_name": "backup"}}));
        let options = services.options(&plugin(merged(limits.clone(), fallback))).adjust(move |bootstrap| {
            let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
            clusters.push(backup_cluster.clone());
        });
        let envoy = Envoy::start(&options);
        let mut clients = envoy.clients(2);
        for number in 0..80 {
            visit(&mut clients[number % 2], &number.to_string());
        }
        let full = at_rest(&envoy, 80, |queued| (queued > 0) == stays);
        assert_eq!((full.diverted + full.queued, full.diverted > 0), (80, true), "{limits}: {full:?}");
        eventually_eq("the fallback has them", full.diverted, || backup.events().len() as u64);
        assert!(backup.repeats() == 0 && backup.batches().iter().all(|batch| batch.path == "/backup"));

        services.collector.server.set(Behaviour::Respond);
        let end = at_rest(&envoy, 80, |queued| queued == 0);
        assert_eq!(end, Accounts { delivered: full.queued, queued: 0, ..full }, "{limits}");
        let (delivered, diverted) = (visitors(&services.collector), visitors(&backup));
        assert!(delivered.is_disjoint(&diverted) && delivered.len() + diverted.len() == 80, "{limits}");
    }
}

#[test]
fn expired_batches_are_dropped_and_counted() {
    let services = Services::start(&json!({}));
    services.collector.answer_status(503);
    let envoy = services.envoy(&plugin(json!({"outbox": {"max_age": "5s"}})));
    let mut clients = envoy.clients(2);
    for number in 0..10 {
        visit(&mut clients[number % 2], &number.to_string());
    }
    let accounts = at_rest(&envoy, 10, |queued| queued == 0);
    assert_eq!(accounts, Accounts { emitted: 10, dropped_expired: 10, ..Accounts::default() });
    services.collector.answer_status(202);
    visit(&mut clients[0], "fresh");
    assert_eq!(at_rest(&envoy, 11, |queued| queued == 0).delivered, 1);
    assert_eq!(visitors(&services.collector), BTreeSet::from(["fresh".to_owned()]));
}

#[test]
fn lost_reply_leads_to_a_retry_with_the_same_key_and_ids() {
    let services = Services::start(&json!({}));
    // The collector takes the batch, and its answer breaks off.
    services.collector.server.set(Behaviour::Truncate);
    let envoy = services.envoy(&plugin(json!({})));
    visit(&mut envoy.client(), "u1");
    eventually(DEADLINE, "it is sent again", || (services.collector.calls() >= 2).then_some(()));
    services.collector.server.set(Behaviour::Respond);
    let accounts = at_rest(&envoy, 1, |queued| queued == 0);
    assert_eq!(accounts.delivered, 1, "{accounts:?}");
    assert_eq!(services.collector.events().len(), 1);
    assert!(services.collector.repeats() >= 1);
    let keys: BTreeSet<_> = services.collector.batches().into_iter().map(|batch| batch.key).collect();
    assert_eq!(keys.len(), 1);
}

#[test]
fn unavailable_service_gets_one_call_per_backoff() {
    const BACKOFF_MIN: Duration = Duration::from_millis(400);
    let services = Services::start(&json!({}));
    services.collector.answer_status(503);
    let retry = json!({"retry": {"backoff_min": "400ms", "backoff_max": "800ms"}, "batch": {"max_events": 1}});
    let envoy = services.envoy(&plugin(retry));
    let mut clients = envoy.clients(2);
    let (start, mut count) = (Instant::now(), 0);
    while count < 30 || services.collector.calls() < 5 {
        visit(&mut clients[count % 2], &count.to_string());
        count += 1;
        // The next visitor comes when the filter has counted this one.
        eventually_eq("emitted", count as u64, || Accounts::of(&envoy).emitted);
    }
    let (calls, down) = (services.collector.calls() as u128, start.elapsed());
    // Both workers may find out by themselves, with all that they sealed at the same tick.
    assert!(calls <= down.as_millis() / BACKOFF_MIN.as_millis() + 4, "{calls} calls in {down:?} for {count} batches");
    services.collector.answer_status(202);
    assert_eq!(at_rest(&envoy, count as u64, |queued| queued == 0).delivered, count as u64);
}

#[test]
fn buffered_events_arrive_after_sigterm() {
    if skips_native("call at the end of the process") {
        return;
    }
    let services = Services::start(&json!({}));
    let envoy = services.envoy(&plugin(json!({"batch": {"max_age": "1h", "max_events": 2}})));
    let mut clients = envoy.clients(2);
    // A last call reaches the wire on a connection that is open: each worker needs one.
    for (worker, client) in clients.iter_mut().enumerate() {
        for number in 0..2 {
            visit(client, &format!("early-{worker}-{number}"));
        }
    }
    eventually_eq("the full batches", 4, || Accounts::of(&envoy).delivered);
    for (worker, client) in clients.iter_mut().enumerate() {
        visit(client, &format!("late-{worker}"));
    }
    assert_eq!(services.collector.events().len(), 4);
    let (status, log) = envoy.sigterm_and_wait();
    assert!(status.success(), "{status}: {log}");
    eventually_eq("the buffered ones", 6, || services.collector.events().len());
}
