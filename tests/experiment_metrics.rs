//! The metrics of an experiment: decisions by reason, weights, and goals by variant.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_filter::request::{Flow, handle_request};
use edgesplit_filter::response::handle_response;
use edgesplit_filter::worker::Worker;
use edgesplit_testkit::module::recording_host::RecordingHost;
use edgesplit_testkit::stack::{experiment, merged};
use serde_json::{Value, json};

const WINDOW_MS: i64 = 30 * 60_000;

/// A worker with its host.
struct Vm {
    host: RecordingHost,
    worker: Worker,
}

impl Vm {
    fn new(experiments: &[Value], with: Value) -> Vm {
        let goals = json!([{"key": "purchase", "route": {"paths": ["/api/orders"]}, "statuses": ["2xx"]},
                           {"key": "any order", "route": {"paths": ["/api/*"]}}]);
        let document = json!({"schema": 1, "revision": "r1", "experiments": experiments, "goals": goals});
        let plugin = json!({
            "experiments": {"inline": document},
            "visitor": {"id": [{"cookie": "uid"}], "attributes": {"country": "header.x-country"}},
            "events": {"cluster": "collector"},
        });
        let host = RecordingHost::default();
        let worker = Worker::configure(&host, "test", merged(plugin, with).to_string().as_bytes()).unwrap();
        Vm { host, worker }
    }

    /// A request with a country, and its response with this status.
    fn request(&mut self, path: &str, uid: &str, country: &str, status: &str) {
        let cookie = format!("uid={uid}");
        let headers = [(":path", path), (":method", "GET"), ("cookie", &cookie), ("x-country", country)];
        self.host.request = HeaderBlock::from_pairs(&headers);
        self.host.response = HeaderBlock::from_pairs(&[(":status", status)]);
        let Flow::Continue(plan) = handle_request(&mut self.worker, &self.host) else { panic!("answered") };
        handle_response(&mut self.worker, &self.host, plan);
    }

    fn tick(&mut self, later_ms: i64) {
        self.host.clock_ms.set(self.host.clock_ms.get() + later_ms);
        self.worker.tick(&self.host);
    }

    /// The metrics whose names begin with `prefix`, by the rest of the name.
    fn counts(&self, prefix: &str) -> Value {
        let prefix = format!("edgesplit.test.{prefix}.");
        let counted = self.host.counted.borrow();
        counted
            .iter()
            .filter_map(|(name, count)| Some((name.strip_prefix(&prefix)?.to_owned(), json!(count))))
            .collect()
    }
}

fn all_in(key: &str, with: Value) -> Value {
    let variants = json!([{"key": "a", "weight": 0, "baseline": true}, {"key": "b", "weight": 10_000}]);
    experiment(key, merged(json!({"variants": variants, "route": {"paths": ["/shop*"]}}), with))
}

#[test]
fn decisions_are_counted_by_experiment_and_reason() {
    let none = json!({"traffic": 0});
    let german = json!({"audience": {"country": "DE"}});
    let mut vm = Vm::new(
        &[all_in("nav", german), all_in("button", none), all_in("other", json!({"state": "paused"}))],
        json!({}),
    );
    vm.tick(100);
    vm.host.asked.take();
    for country in ["DE", "DE", "FR"] {
        vm.request("/shop", "u1", country, "200");
    }
    vm.request("/shop", "", "DE", "200");
    vm.request("/about", "u1", "DE", "200");
    assert!(!vm.host.asked.borrow().iter().any(|call| call.contains("metric")), "{:?}", vm.host.asked.borrow());
    vm.tick(100);
    assert_eq!(
        vm.counts("decisions.experiment"),
        json!({"nav.reason.bucketed": 2, "nav.reason.audience": 1, "nav.reason.no_unit": 1,
               "button.reason.traffic": 3, "button.reason.no_unit": 1})
    );
    let all = vm.counts("decisions.reason");
    assert_eq!([&all["bucketed"], &all["traffic"], &all["no_unit"], &all["paused"]], [2, 3, 2, 5]);
    vm.request("/shop", "u1", "DE", "200");
    vm.tick(100);
    assert_eq!(vm.counts("decisions.experiment.nav.reason")["bucketed"], 3);
    let weights =
        json!({"nav.variant.a": 0, "nav.variant.b": 10_000, "button.variant.a": 0, "button.variant.b": 10_000});
    assert_eq!(vm.counts("weights.experiment"), weights);
}

#[test]
fn goal_counts_for_the_variants_of_its_visitor() {
    let forced = json!({"forced": {"u1": "b"}});
    let concluded = json!({"state": "concluded", "winner": "b"});
    let german = json!({"audience": {"country": "DE"}});
    let experiments = [
        all_in("nav", json!({})),
        all_in("german", german),
        all_in("forced", forced),
        all_in("concluded", concluded),
        all_in("paused", json!({"state": "paused"})),
        all_in("off", json!({"traffic": 0})),
    ];
    let mut vm = Vm::new(&experiments, json!({}));
    vm.tick(100);
    let goals = |vm: &mut Vm| {
        vm.tick(100);
        vm.counts("goals.experiment")
    };
    vm.request("/api/orders", "u1", "DE", "500");
    let any = json!({"nav.variant.b.goal.any_order": 1, "german.variant.b.goal.any_order": 1});
    assert_eq!(goals(&mut vm), any, "the status counts");
    for _ in 0..3 {
        vm.request("/api/orders", "u1", "DE", "201");
    }
    let once = json!({"nav.variant.b.goal.purchase": 1, "german.variant.b.goal.purchase": 1});
    assert_eq!(goals(&mut vm), merged(any, once), "once per visitor");
    for (uid, country) in [("u2", "FR"), ("", "DE")] {
        vm.request("/api/orders", uid, country, "200");
    }
    let counts = goals(&mut vm);
    assert_eq!(counts["nav.variant.b.goal.purchase"], 2, "an id, and no other request: {counts}");
    assert_eq!(counts["forced.variant.b.goal.purchase"], 1, "u2 is not forced: {counts}");
    assert_eq!(counts["german.variant.b.goal.purchase"], 1, "u2 is not in the audience: {counts}");
    vm.tick(WINDOW_MS);
    vm.request("/api/orders", "u1", "DE", "200");
    assert_eq!(goals(&mut vm)["nav.variant.b.goal.purchase"], 3, "another window");
}

#[test]
fn goal_follows_the_sticky_variant() {
    let variants = json!([{"key": "a", "weight": 5_000, "baseline": true}, {"key": "b", "weight": 5_000}]);
    let sticky = experiment("nav", json!({"sticky": true, "variants": variants, "route": {"paths": ["/shop*"]}}));
    let mut vm = Vm::new(&[sticky], json!({"request": {"sticky": {}}}));
    vm.tick(100);
    for visitor in 0..20 {
        let uid = format!("v{visitor}; ab_sticky=1~nav.0.b");
        vm.request("/api/orders", &uid, "DE", "200");
    }
    vm.tick(100);
    assert_eq!(vm.counts("goals.experiment.nav.variant"), json!({"b.goal.any_order": 20, "b.goal.purchase": 20}));
}

#[test]
fn goal_counts_for_the_variants_that_a_vendor_would_report() {
    let rule = |key: &str, coverage: f64| {
        json!({"key": key, "seed": key, "hashAttribute": "id", "hashVersion": 2, "coverage": coverage,
               "weights": [0.0, 1.0], "variations": ["grey", "green"]})
    };
    let features = json!({
        "button": {"defaultValue": "grey", "rules": [rule("button-test", 1.0)]},
        "none": {"defaultValue": "grey", "rules": [rule("none-test", 0.0)]},
        "forced": {"defaultValue": "grey", "rules": [{"force": "green"}]},
    });
    let goals = json!([{"key": "purchase", "route": {"paths": ["/api/orders"]}}]);
    let routes = json!([{"keys": ["*"], "paths": ["/shop*"]}]);
    let payload = json!({"features": features});
    let experiments = json!({"format": "growthbook", "inline": payload, "goals": goals, "routes": routes});
    let plugin =
        json!({"experiments": experiments, "visitor": {"id": [{"cookie": "uid"}]}, "events": {"cluster": "c"}});
    let host = RecordingHost::default();
    let worker = Worker::configure(&host, "test", plugin.to_string().as_bytes()).unwrap();
    let mut vm = Vm { host, worker };
    vm.tick(100);
    vm.request("/shop", "u1", "DE", "200");
    vm.request("/api/orders", "u1", "DE", "200");
    vm.request("/api/orders", "u1", "DE", "200");
    vm.tick(100);
    let exposures = vm.counts("exposures.experiment");
    assert_eq!(exposures.as_object().unwrap().len(), 1, "{exposures}");
    let (shown, _) = exposures.as_object().unwrap().iter().next().unwrap();
    assert_eq!(vm.counts("goals.experiment"), json!({format!("{shown}.goal.purchase"): 1}));
}

#[test]
fn experiments_beyond_the_limit_of_a_goal_are_counted() {
    let limit = edgesplit_filter::request::GOAL_EXPERIMENTS_MAX;
    let variants = json!({"variants": [{"key": "b", "weight": 10_000, "baseline": true}]});
    let experiments: Vec<Value> =
        (0..limit + 5).map(|number| all_in(&format!("e{number:04}"), variants.clone())).collect();
    let mut vm = Vm::new(&experiments, json!({"request": {"assignments_max_bytes": 65_536}}));
    vm.tick(100);
    vm.request("/api/other", "u1", "DE", "200");
    vm.tick(100);
    assert_eq!(vm.counts("goals.experiment").as_object().unwrap().len(), limit);
    assert_eq!(vm.counts("decisions.reason")["limit"], 5);
}
