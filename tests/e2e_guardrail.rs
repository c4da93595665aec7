//! The guardrail in a real Envoy: a variant that answers with errors is off within seconds, on all workers, and stays off.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::client::Client;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::{Request, Response};
use edgesplit_testkit::stack::{Services, document, experiment};
use edgesplit_testkit::{DEADLINE, eventually, eventually_eq};
use serde_json::{Value, json};
use std::time::Instant;

const GUARDED: [&str; 2] = ["broken", "well"];

fn experiments(revision: &str) -> Value {
    let halves = json!([{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]);
    let guarded = |key: &str| {
        let route = json!({"paths": [format!("/{key}")]});
        experiment(key, json!({"route": route, "variants": halves, "guardrail": {"min_exposures": 50}}))
    };
    let unguarded = experiment("free", json!({"route": {"paths": ["/free"]}, "variants": halves}));
    let [broken, well] = GUARDED.map(guarded);
    let mut document = document(&[broken, well, unguarded]);
    document["revision"] = revision.into();
    document
}

/// Fails for `green` of two experiments, and sometimes for all visitors of the third.
fn answer(request: &Request) -> Response {
    let assignments = request.header("x-ab-assignments").unwrap_or_default();
    let number: u32 = request.header("x-user-id").unwrap_or_default()[1..].parse().unwrap_or(0);
    let fails = match request.path.as_str() {
        "/broken" | "/free" => assignments.ends_with("=green"),
        _ => number.is_multiple_of(7),
    };
    Response::new(if fails { 500 } else { 200 }).header("x-assigned", assignments)
}

/// New visitors in turn on both workers: what each was given.
struct Visitors {
    clients: Vec<Client>,
    visits: usize,
}

impl Visitors {
    fn get(&mut self, path: &str) -> String {
        self.visits += 1;
        let workers = self.clients.len();
        let id = format!("v{}", self.visits);
        let reply = self.clients[self.visits / 3 % workers].get(path).header("x-user-id", id).send();
        reply.header("x-assigned").unwrap_or_default()
    }
}

fn is_off(envoy: &Envoy, experiment: &str) -> Option<u64> {
    let name = format!("edgesplit.demo.guardrail.off.experiment.{experiment}.variant.green");
    envoy.stats("guardrail").get(&name).copied()
}

#[test]
fn broken_variant_is_off_within_seconds_and_others_stay_on() {
    let services = Services::start(&experiments("r1"));
    services.origin.respond(answer);
    let envoy = services.envoy(&json!({
        "experiments": {"cluster": "experiments", "path": "/experiments.json", "refresh": "1s"},
        "visitor": {"id": [{"header": "x-user-id"}]}}));
    let mut visitors = Visitors { clients: envoy.clients(2), visits: 0 };
    eventually(DEADLINE, "both workers have the experiments", || {
        let given: Vec<String> = (0..6).map(|_| visitors.get("/free")).collect();
        given.iter().all(|given| !given.is_empty()).then_some(())
    });
    for experiment in GUARDED {
        eventually_eq("the gauge is there before anything happens", Some(0), || is_off(&envoy, experiment));
    }

    let began = Instant::now();
    let mut seen = 0;
    eventually(DEADLINE, "green of `broken` is off", || {
        for path in ["/broken", "/well", "/free"] {
            seen += usize::from(visitors.get(path) == "broken=green");
        }
        (is_off(&envoy, "broken") == Some(1)).then_some(())
    });
    println!("off after {:.1} s and {seen} visitors who were given it", began.elapsed().as_secs_f64());
    assert!(seen >= 50, "so few visitors switch no variant off: {seen}");
    // The other worker follows with its next exchange, half a second later.
    let mut in_a_row = 0;
    eventually(DEADLINE, "no worker gives it any more", || {
        in_a_row = if visitors.get("/broken") == "broken=green" { 0 } else { in_a_row + 1 };
        (in_a_row > 50).then_some(())
    });

    // It stays off: no visitor gets it again, while its baseline and the other experiments continue.
    let given: Vec<[String; 3]> =
        (0..400).map(|_| ["/broken", "/well", "/free"].map(|path| visitors.get(path))).collect();
    for (at, expected) in
        [(0, ["", "broken=control"]), (1, ["well=control", "well=green"]), (2, ["free=control", "free=green"])]
    {
        for what in expected {
            let count = given.iter().filter(|given| given[at] == what).count();
            assert!((120..280).contains(&count), "{what:?}: {count} of 400");
        }
        assert!(given.iter().all(|given| expected.contains(&given[at].as_str())), "nothing else is given");
    }
    assert_eq!((is_off(&envoy, "broken"), is_off(&envoy, "well")), (Some(1), Some(0)));

    // Every response to a visitor with a variant counts, by class.
    let asked = services.origin.server.requests();
    for (experiment, variant, class) in
        [("broken", "green", "5xx"), ("broken", "control", "2xx"), ("well", "green", "5xx"), ("free", "green", "5xx")]
    {
        let given = format!("{experiment}={variant}");
        let was_given = |request: &&Request| request.header("x-ab-assignments").as_deref() == Some(&given);
        let is_error = |request: &&Request| answer(request).status == 500;
        let expected = asked.iter().filter(was_given).filter(|one| is_error(one) == (class == "5xx")).count() as u64;
        let name = format!("edgesplit.demo.responses.experiment.{experiment}.variant.{variant}.class.{class}");
        eventually_eq(&name, expected, || envoy.counter(&name));
    }
    assert!(envoy.counter("edgesplit.demo.decisions.reason.guardrail") >= 120);
    let log = envoy.log();
    let logged =
        log.matches("guardrail: variant \"green\" of experiment \"broken\" is switched off on this proxy").count();
    assert_eq!(logged, 1, "logged once, not by every worker");
    assert_eq!(log.matches("guardrail: variant").count(), 1, "no other");

    // With the next revision everything begins anew.
    services.origin.respond(|request| {
        Response::new(200).header("x-assigned", request.header("x-ab-assignments").unwrap_or_default())
    });
    services.configs.set_document(&experiments("r2"));
    eventually(DEADLINE, "green of `broken` is given again", || {
        (visitors.get("/broken") == "broken=green").then_some(())
    });
    eventually_eq("the gauge shows it", Some(0), || is_off(&envoy, "broken"));
    // The other worker follows a little later: by then half of all are given it, not a quarter.
    eventually(DEADLINE, "both workers give it", || {
        let again = (0..200).filter(|_| visitors.get("/broken") == "broken=green").count();
        (again > 75).then_some(())
    });
}
