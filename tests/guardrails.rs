//! Guardrails over the native workers of one proxy: their counts are added up, and a variant is off for all of them or for
//! none. Hours of traffic run in seconds, and the same every time.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "the host is shared with other tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_filter::request::{Flow, handle_request};
use edgesplit_filter::response::handle_response;
use edgesplit_filter::worker::Worker;
use edgesplit_testkit::module::recording_host::RecordingHost;
use edgesplit_testkit::random::Random;
use serde_json::{Value, json};

const WORKERS: usize = 4;

/// The key of the visitor's variant in the assignments header.
fn assigned(host: &RecordingHost) -> Option<&'static str> {
    let written = host.written.borrow();
    let header = written.iter().find(|line| line.starts_with("x-ab-assignments"))?;
    Some(if header.contains("=green") { "green" } else { "control" })
}

fn plugin(revision: &str, guardrail: &Value) -> Vec<u8> {
    let experiment = |key: &str, guardrail: &Value| {
        json!({"key": key, "state": "running", "guardrail": guardrail, "route": {"paths": [format!("/{key}")]},
               "variants": [{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]})
    };
    let experiments =
        [experiment("guarded", guardrail), experiment("alike", guardrail), experiment("free", &Value::Null)];
    let inline = json!({"schema": 1, "revision": revision, "experiments": experiments});
    let plugin = json!({"experiments": {"inline": inline}, "visitor": {"id": [{"header": "x-user-id"}]},
                        "response": {"downstream_caching": "unchanged"}});
    plugin.to_string().into_bytes()
}

/// A proxy: workers over the same shared data, and visitors without end.
struct Proxy {
    host: RecordingHost,
    workers: Vec<Worker>,
    random: Random,
    visits: u64,
}

impl Proxy {
    fn new(revision: &str, guardrail: &Value, seed: u64) -> Proxy {
        let host = RecordingHost::default();
        let workers = (0..WORKERS).map(|_| Self::worker(&host, revision, guardrail)).collect();
        Proxy { host, workers, random: Random(seed), visits: 0 }
    }

    fn worker(host: &RecordingHost, revision: &str, guardrail: &Value) -> Worker {
        Worker::configure(host, "test", &plugin(revision, guardrail)).unwrap()
    }

    /// A new visitor at some worker, a tenth of a second after the last one. `errors` gives each variant's rate of failures.
    fn visit(&mut self, path: &str, errors: impl Fn(Option<&str>) -> f64) -> Option<&'static str> {
        let id = format!("visitor-{}", self.visits + 1);
        self.visit_by(&id, path, errors)
    }

    /// The next request, by the visitor with this id.
    fn visit_by(&mut self, id: &str, path: &str, errors: impl Fn(Option<&str>) -> f64) -> Option<&'static str> {
        let headers = [(":authority", "h"), (":path", path), (":method", "GET"), ("x-user-id", id)];
        self.request(&headers, errors)
    }

    /// The next request, with these headers.
    fn request(&mut self, headers: &[(&str, &str)], errors: impl Fn(Option<&str>) -> f64) -> Option<&'static str> {
        self.visits += 1;
        let at = self.visits as usize % WORKERS;
        self.host.request = HeaderBlock::from_pairs(headers);
        self.host.written.borrow_mut().clear();
        self.host.asked.borrow_mut().clear();
        self.host.clock_ms.set(self.host.clock_ms.get() + 100);
        let Flow::Continue(pending) = handle_request(&mut self.workers[at], &self.host) else { panic!("answered") };
        let variant = assigned(&self.host);
        let status = if self.random.fraction() < errors(variant) { "503" } else { "200" };
        self.host.response = HeaderBlock::from_pairs(&[(":status", status)]);
        handle_response(&mut self.workers[at], &self.host, pending);
        for worker in &mut self.workers {
            worker.tick(&self.host);
        }
        variant
    }
}

#[test]
fn failing_variant_is_off_for_all_workers_until_the_next_revision() {
    let guardrail = json!({"min_exposures": 50});
    let mut proxy = Proxy::new("r1", &guardrail, 1);
    let broken = |variant: Option<&str>| if variant == Some("green") { 1.0 } else { 0.0 };
    let mut last_green = 0;
    for visit in 0..1_000 {
        match proxy.visit("/guarded", broken) {
            Some("green") => last_green = visit,
            Some(_) => {}
            None => assert!(visit > 100, "off before anybody could know"),
        }
        // An experiment with equal variants stays on, and so does one without a guardrail.
        assert!(proxy.visit("/alike", |_| 0.0).is_some());
        assert!(proxy.visit("/free", broken).is_some());
    }
    assert!((90..130).contains(&last_green), "50 of each take about 100 visits, and then it is off: {last_green}");
    let log = proxy.host.log.borrow().clone();
    let logged: Vec<&String> = log.iter().filter(|line| line.starts_with("guardrail: ")).collect();
    assert_eq!(logged.len(), 1, "logged once per proxy, not by each worker: {log:?}");
    assert!(logged[0].contains("variant \"green\" of experiment \"guarded\" is switched off"), "{logged:?}");

    // A VM that starts later, after a crash for one, knows at once.
    proxy.workers[0] = Proxy::worker(&proxy.host, "r1", &guardrail);
    let given: Vec<_> = (0..100).map(|_| proxy.visit("/guarded", broken)).collect();
    assert!(given.contains(&Some("control")) && given.contains(&None) && !given.contains(&Some("green")));

    for worker in &mut proxy.workers {
        *worker = Proxy::worker(&proxy.host, "r2", &guardrail);
    }
    let given: Vec<_> = (0..1_000).map(|_| proxy.visit("/guarded", |_| 0.0)).collect();
    assert!(given.contains(&Some("green")) && !given.contains(&None), "another revision begins anew");
}

/// Their responses are shown to no visitor, and count for no variant: neither here nor in the metrics.
#[test]
fn requests_that_show_no_page_never_switch_a_variant_off() {
    for more in [[(":authority", "h-shadow"), (":method", "GET")], [(":authority", "h"), (":method", "HEAD")]] {
        let mut proxy = Proxy::new("r1", &json!({"min_exposures": 50}), 1);
        let broken = |variant: Option<&str>| if variant == Some("green") { 1.0 } else { 0.0 };
        for visit in 0..1_000 {
            let id = format!("v{visit}");
            let headers = [&more[..], &[(":path", "/guarded"), ("x-user-id", &id)]].concat();
            assert!(proxy.request(&headers, broken).is_some(), "{more:?}: off after {visit} requests");
        }
    }
}

#[test]
fn equal_error_rates_never_switch_a_variant_off() {
    let mut visits = [0_u32; 2];
    for seed in 1..=100 {
        let errors = [0.0, 0.001, 0.02, 0.2][seed as usize % 4];
        let mut proxy = Proxy::new("r1", &json!({}), seed);
        // Another hundred visitors in every run.
        proxy.visits = seed * 10_000;
        for _ in 0..2_000 {
            let variant = proxy.visit("/guarded", |_| errors);
            visits[usize::from(variant == Some("green"))] += 1;
            assert!(variant.is_some(), "run {seed}: off, at {errors}");
        }
    }
    assert!(visits.iter().all(|visits| *visits > 90_000), "{visits:?}");
}

#[test]
fn one_visitor_cannot_switch_a_variant_off() {
    let honest = |proxy: &mut Proxy, requests: u32| {
        for _ in 0..requests {
            assert!(proxy.visit("/guarded", |_| 0.0).is_some());
        }
    };
    let fails = |_: Option<&str>| 1.0;
    let mut proxy = Proxy::new("r1", &json!({"min_exposures": 50}), 1);
    honest(&mut proxy, 200);
    let id = (0..).map(|number| format!("attacker-{number}"));
    let id = { id }.find(|id| proxy.visit_by(id, "/guarded", |_| 0.0) == Some("green")).unwrap();
    for _ in 0..40 {
        assert_eq!(proxy.visit_by(&id, "/guarded", fails), Some("green"));
    }
    honest(&mut proxy, 400);
    // As many requests by visitors of their own.
    let broken = |variant: Option<&str>| if variant == Some("green") { 1.0 } else { 0.0 };
    let greens = (0..400).filter(|_| proxy.visit("/guarded", broken) == Some("green")).count();
    assert!((20..100).contains(&greens), "{greens}");

    // Nor does one who makes the baseline look better.
    let mut proxy = Proxy::new("r1", &json!({"min_exposures": 50}), 1);
    let mut ids = (0..).map(|number| format!("attacker-{number}"));
    let id = ids.find(|id| proxy.visit_by(id, "/guarded", |_| 0.0) == Some("control")).unwrap();
    for _ in 0..4_000 {
        assert_eq!(proxy.visit_by(&id, "/guarded", |_| 0.0), Some("control"));
    }
    for _ in 0..400 {
        assert!(proxy.visit("/guarded", |_| 0.4).is_some());
    }
}

#[test]
fn damaged_shared_data_is_replaced() {
    let mut proxy = Proxy::new("r1", &json!({"min_exposures": 50}), 1);
    for visit in 0..400 {
        if visit == 30 {
            let mut shared = proxy.host.shared.borrow_mut();
            let (_, (value, _)) = shared.iter_mut().find(|(key, _)| key.ends_with("/guardrails")).expect("counts");
            value.push(0);
        }
        assert!(proxy.visit("/guarded", |_| 0.1).is_some());
    }
}
