//! The native format: valid, refused and disabled input.

use super::*;
use crate::format::Options;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::{DecisionInput, evaluate};
use edgesplit_engine::guardrail::GUARDED_VARIANTS_MAX;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::route::RequestLine;
use edgesplit_engine::snapshot::Snapshot;
use serde_json::{Value, json};

mod strictness;

const BUDGET: u64 = 64;

/// A valid experiment with `more` on top of it.
fn experiment(key: &str, more: Value) -> Value {
    let mut experiment = json!({
        "key": key, "state": "running",
        "variants": [{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]
    });
    if let (Some(experiment), Some(more)) = (experiment.as_object_mut(), more.as_object()) {
        experiment.extend(more.clone());
    }
    experiment
}

fn config(experiments: Vec<Value>) -> Value {
    json!({"schema": 1, "revision": "r1", "experiments": experiments})
}

fn problems(compiled: &Compiled) -> Vec<String> {
    compiled.problems.iter().map(ToString::to_string).collect()
}

fn decided(snapshot: &Snapshot, unit: &str, now_ms: i64) -> Vec<(Option<String>, Reason)> {
    let steps = request_budget();
    let visit = DecisionInput::unrestricted(now_ms, &steps);
    let line = RequestLine { host: b"h".into(), path: b"/", method: b"GET" };
    let attributes = json!({ "id": unit });
    let decisions = snapshot.experiments.iter().map(|experiment| {
        let decision = evaluate(snapshot, experiment, &line, &visit, &attributes, &mut ());
        (decision.variant.and_then(|at| Some(experiment.variants.get(at)?.key.clone())), decision.reason)
    });
    decisions.collect()
}

#[test]
fn required_fields_alone_take_the_defaults() {
    let value = json!({"schema": 1, "experiments": [
        {"key": "a", "state": "running", "variants": [{"key": "on", "weight": 10000}]}
    ]});
    let compiled = compile(&value, BUDGET);
    assert_eq!(problems(&compiled), [""; 0]);
    let snapshot = compiled.snapshot.unwrap();
    let a = &snapshot.experiments[0];
    assert_eq!((a.traffic_salt.text(), a.variant_salt.text()), ("a/traffic/", "a/variant/"));
    assert_eq!((&a.unit, a.traffic_share(0)), (&AttributeName::Id, 10_000));
    assert_eq!(a.variants[0].cache_pair.as_deref(), Some("a.on"), "what is not marked a baseline is none");
    assert_eq!(decided(&snapshot, "u1", 0), [(Some("on".to_owned()), Reason::Bucketed)]);
    assert_eq!(snapshot.revision, None);
}

#[test]
fn redirect_must_lead_elsewhere() {
    for (paths, to, expected) in [
        (json!(["/old"]), "/new", true),
        (json!(["/new"]), "/new", false),
        (json!(["/new"]), "/new#top", false),
        (json!(["/new"]), "/new?v=2", true),
        (json!(["/new", "/old"]), "/new", true),
        (json!(["/new*"]), "/new", true),
        (json!([]), "/new", true),
    ] {
        let variants = json!([{"key": "a", "weight": 5000, "baseline": true},
                              {"key": "b", "weight": 5000, "set": {"redirect": to}}]);
        let more = json!({"route": {"paths": paths}, "variants": variants});
        let compiled = compile(&config(vec![experiment("a", more.clone())]), BUDGET);
        assert_eq!(problems(&compiled).is_empty(), expected, "{more}: {:?}", problems(&compiled));
    }
}

#[test]
fn sticky_is_a_version_or_nothing() {
    for (more, expected) in [
        (json!({}), None),
        (json!({"sticky": null, "sticky_version": 3}), None),
        (json!({"sticky": false, "sticky_version": 3}), None),
        (json!({"sticky": true}), Some(0)),
        (json!({"sticky": true, "sticky_version": null}), Some(0)),
        (json!({"sticky": true, "sticky_version": 4_294_967_295_u32}), Some(u32::MAX)),
    ] {
        let compiled = compile(&config(vec![experiment("a", more.clone())]), BUDGET);
        assert_eq!(problems(&compiled), [""; 0], "{more}");
        assert_eq!(compiled.snapshot.unwrap().experiments[0].sticky, expected, "{more}");
    }
}

#[test]
fn invalid_document_is_refused() {
    for (bytes, expected) in [
        (&b"<html>"[..], "not JSON: expected value at line 1 column 1"),
        (b"", "not JSON: EOF"),
        (b"{\"schema\": 1, \"experiments\": [", "not JSON: EOF"),
        (b"[]", "expected an object, found the list []"),
        (b"{\"schema\": 2, \"experiments\": []}", "schema: expected the number 1, found the number 2"),
        (b"{\"schema\": \"1\", \"experiments\": []}", "schema: "),
        (b"{\"schema\": 1}", "experiments: missing"),
        (b"{\"schema\": 1, \"experiments\": {}}", "experiments: expected a list"),
        (b"{\"schema\": 1, \"experiments\": [], \"holdout\": {\"key\": \"q4\"}}", "holdout.share: missing"),
        (b"{\"schema\": 1, \"experiments\": [], \"revision\": 7}", "revision: expected a string"),
    ] {
        let compiled = crate::compile_bytes(bytes, &Options::new(&Native, BUDGET));
        assert!(compiled.snapshot.is_none(), "{}", String::from_utf8_lossy(bytes));
        let found = problems(&compiled);
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn invalid_experiment_is_disabled_alone() {
    let variants = |variants: Value| json!({ "variants": variants });
    for (more, expected) in [
        (json!({"key": ""}), "experiments[1].key: expected a key"),
        (json!({"key": 7}), "experiments[1].key: expected a key of 1 to 256 bytes, found the number 7"),
        (json!({"key": "good"}), "experiments[1].key: duplicate key"),
        (json!({"state": "on"}), "experiments[1].state: expected one of running, paused, concluded"),
        (json!({"state": "concluded"}), "experiments[1].winner: missing"),
        (json!({"state": "concluded", "winner": "blue"}), "experiments[1].winner: expected the key of a variant"),
        (json!({"winner": "blue"}), "experiments[1].winner: expected the key of a variant"),
        (json!({"salt": 1}), "experiments[1].salt: expected a string"),
        (json!({"unit": ""}), "experiments[1].unit: expected the name of an attribute"),
        (json!({"layer": {"name": "l"}}), "experiments[1].layer.slots: missing"),
        (json!({"layer": {"name": "l", "slots": [5, 5]}}), "experiments[1].layer.slots: expected two whole numbers"),
        (
            json!({"layer": {"name": "l", "slots": [0, 10001]}}),
            "experiments[1].layer.slots[1]: expected a whole number",
        ),
        (
            json!({"layer": {"name": "taken", "slots": [4999, 6000]}}),
            "experiments[1].layer.slots: slots [4999, 6000) overlap",
        ),
        (json!({"route": {"paths": ["checkout"]}}), "experiments[1].route.paths[0]: expected a path"),
        (json!({"route": {"hosts": ["https://h"]}}), "experiments[1].route.hosts[0]: expected a host"),
        (json!({"route": {"methods": [""]}}), "experiments[1].route.methods[0]: expected a method"),
        (json!({"audience": {"country": {"$near": 1}}}), "experiments[1].audience.country.$near"),
        (json!({"traffic": 10001}), "experiments[1].traffic: expected a whole number from 0 to 10000"),
        (json!({"traffic": "all"}), "experiments[1].traffic: expected a share"),
        (
            json!({"traffic": [{"from": "tomorrow", "share": 1}]}),
            "experiments[1].traffic[0].from: expected a time in RFC 3339",
        ),
        (
            json!({"traffic": [{"from": "2026-12-02T00:00:00Z", "share": 1}, {"from": "2026-12-01T00:00:00Z", "share": 2}]}),
            "experiments[1].traffic[1].from: steps have to be sorted by time",
        ),
        (json!({"starts": 5}), "experiments[1].starts: expected a time"),
        (
            json!({"starts": "2026-12-02T00:00:00Z", "ends": "2026-12-01T00:00:00Z"}),
            "experiments[1].ends: not after `starts`",
        ),
        (json!({"forced": {"qa": "blue"}}), "experiments[1].forced.qa: expected the key of a variant (control, green)"),
        (json!({"guardrail": true}), "experiments[1].guardrail: expected an object"),
        (
            json!({"guardrail": {"min_exposures": 9}}),
            "experiments[1].guardrail.min_exposures: expected a whole number from 10 to",
        ),
        (
            json!({"guardrail": {"max_5xx_ratio_increase": "1%"}}),
            "experiments[1].guardrail.max_5xx_ratio_increase: expected a number from 0 to 1, found",
        ),
        (
            json!({"guardrail": {"confidence": 1}}),
            "experiments[1].guardrail.confidence: expected a number from 0.8 to 0.999999, found the number 1",
        ),
        (
            json!({"guardrail": {}, "variants": [{"key": "green", "weight": 10000}]}),
            "experiments[1].guardrail: one of the variants has to be the `baseline`",
        ),
        (json!({"sticky": "yes"}), "experiments[1].sticky: expected true or false"),
        (json!({"sticky_version": -1}), "experiments[1].sticky_version: expected a whole number"),
        (variants(json!([])), "experiments[1].variants: expected at least one variant"),
        (
            variants(json!([{"key": "a", "weight": 9999}])),
            "experiments[1].variants: weights add up to 9999, not to 10000",
        ),
        (variants(json!([{"key": "a"}])), "experiments[1].variants[0].weight: missing"),
        (variants(json!([{"key": "a", "weight": -1}])), "experiments[1].variants[0].weight: expected a whole number"),
        (
            variants(json!([{"key": "a", "weight": 5000}, {"key": "a", "weight": 5000}])),
            "experiments[1].variants[1].key: duplicate key",
        ),
        (
            variants(json!([
                {"key": "a", "weight": 5000, "baseline": true},
                {"key": "b", "weight": 5000, "baseline": true}
            ])),
            "experiments[1].variants[1].baseline: another variant",
        ),
        (
            variants(json!([{"key": "a", "weight": 10000, "set": {"request_headers": {"x y": "1"}}}])),
            "experiments[1].variants[0].set.request_headers[\"x y\"]: not a header name",
        ),
        (
            variants(json!([{"key": "a", "weight": 10000, "set": {"request_headers": {"Host": "h"}}}])),
            "experiments[1].variants[0].set.request_headers.Host: no variant may set this header",
        ),
        (
            variants(json!([{"key": "a", "weight": 10000, "set": {"response_headers": {"x": "a\nb"}}}])),
            "experiments[1].variants[0].set.response_headers.x: expected a header value without control characters",
        ),
        (
            variants(json!([{"key": "a", "weight": 10000, "set": {"path": {"prefix": "/a", "with": "b"}}}])),
            "experiments[1].variants[0].set.path.with: expected a path",
        ),
        (
            variants(json!([{"key": "a", "weight": 10000, "set": {"redirect": "//evil.example"}}])),
            "experiments[1].variants[0].set.redirect: expected a URL",
        ),
    ] {
        let good = experiment("good", json!({"layer": {"name": "taken", "slots": [0, 5000]}}));
        let compiled =
            compile(&config(vec![good, experiment("bad", more.clone()), experiment("last", json!({}))]), BUDGET);
        let found = problems(&compiled);
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{more}: {expected}: {found:?}");
        let snapshot = compiled.snapshot.unwrap();
        let keys: Vec<&str> = snapshot.experiments.iter().map(|experiment| experiment.key.as_str()).collect();
        assert_eq!(keys, ["good", "last"], "{more}");
        assert_eq!(snapshot.disabled.len(), 1, "{more}");
        assert!(found.contains(&snapshot.disabled[0].problem), "{more}");
    }
}

#[test]
fn duplicate_key_disables_the_later_experiment() {
    let compiled = compile(&config(vec![experiment("a", json!({})), experiment("a", json!({}))]), BUDGET);
    let snapshot = compiled.snapshot.unwrap();
    assert_eq!((snapshot.experiments.len(), snapshot.disabled.len()), (1, 1));
    assert_eq!(snapshot.disabled[0].key, None);
}

#[test]
fn concluded_experiment_frees_its_slots() {
    let slots = json!({"layer": {"name": "l", "slots": [0, 5000]}});
    let concluded = json!({"state": "concluded", "winner": "green", "layer": {"name": "l", "slots": [0, 5000]}});
    let compiled = compile(&config(vec![experiment("old", concluded), experiment("new", slots)]), BUDGET);
    assert_eq!(problems(&compiled), [""; 0]);
}

#[test]
fn budget_disables_the_later_experiment() {
    let everywhere = |key: &str| experiment(key, json!({}));
    let on = |key: &str, path: &str| experiment(key, json!({ "route": {"paths": [path]} }));
    for (experiments, budget, disabled) in [
        (vec![everywhere("a"), everywhere("b"), everywhere("c")], 8, vec![]),
        (vec![everywhere("a"), everywhere("b"), everywhere("c")], 7, vec!["c"]),
        // Routes that never meet do not multiply, even if both meet a third.
        (vec![everywhere("a"), on("b", "/b*"), on("c", "/c*"), on("d", "/d*")], 4, vec![]),
        (vec![everywhere("a"), on("b", "/b*"), on("c", "/b/c*"), on("d", "/d*")], 4, vec!["c"]),
        // An experiment that is over does not count against those after it.
        (vec![everywhere("a"), everywhere("b"), everywhere("c"), on("d", "/d*")], 2, vec!["b", "c", "d"]),
        // No visitor is in a paused experiment, and every visitor has the same variant of a concluded one.
        (vec![everywhere("a"), experiment("p", json!({"state": "paused"})), everywhere("b")], 4, vec![]),
        (
            vec![everywhere("a"), experiment("p", json!({"state": "concluded", "winner": "green"})), everywhere("b")],
            4,
            vec![],
        ),
        // Without a baseline every variant has its own pair.
        (
            vec![experiment("a", json!({"variants": [{"key": "x", "weight": 5000}, {"key": "y", "weight": 5000}]}))],
            2,
            vec!["a"],
        ),
    ] {
        let compiled = compile(&config(experiments.clone()), budget);
        let found = problems(&compiled);
        let snapshot = compiled.snapshot.unwrap();
        let keys: Vec<&str> = snapshot.disabled.iter().filter_map(|disabled| disabled.key.as_deref()).collect();
        assert_eq!(keys, disabled, "budget {budget}: {experiments:?}");
        assert!(found.iter().all(|problem| problem.contains("budget of cache-key combinations")), "{found:?}");
    }
}

#[test]
fn guarded_variants_are_limited() {
    let experiment = |n: usize, state: &str| {
        experiment(
            &format!("e{n}"),
            json!({"state": state, "winner": "green", "guardrail": {}, "route": {"paths": [format!("/p{n}")]}}),
        )
    };
    let running = GUARDED_VARIANTS_MAX / 2;
    let mut experiments: Vec<Value> = (0..running).map(|n| experiment(n, "running")).collect();
    experiments.extend([experiment(running, "paused"), experiment(running + 1, "concluded")]);
    assert_eq!(problems(&compile(&config(experiments.clone()), BUDGET)), [""; 0]);
    experiments.push(experiment(running + 2, "running"));
    let compiled = compile(&config(experiments), BUDGET);
    assert_eq!(
        problems(&compiled),
        ["experiments[130].guardrail: more than 256 variants of running experiments would be under guardrails"]
    );
    assert_eq!(compiled.snapshot.unwrap().disabled.len(), 1);
}

#[test]
fn budget_allows_many_separate_routes() {
    let experiments =
        (0..1_000).map(|n| experiment(&format!("e{n}"), json!({"route": {"paths": [format!("/p{n}/*")]}})));
    let compiled = compile(&config(experiments.collect()), BUDGET);
    assert_eq!(problems(&compiled), [""; 0]);
    assert_eq!(compiled.snapshot.unwrap().experiments.len(), 1_000);
}

#[test]
fn schedule_and_traffic_steps_follow_the_clock() {
    let steps =
        json!([{"from": "2026-12-01T00:00:00+01:00", "share": 0}, {"from": "2026-12-08T00:00:00Z", "share": 10000}]);
    let more = json!({"traffic": steps, "starts": "2026-11-01T00:00:00Z", "ends": "2026-12-24T00:00:00Z"});
    let compiled = compile(&config(vec![experiment("a", more)]), BUDGET);
    assert_eq!(problems(&compiled), [""; 0]);
    let snapshot = compiled.snapshot.unwrap();
    const HOUR: i64 = 3_600_000;
    let (november, december, second, christmas) =
        (1_793_491_200_000, 1_796_083_200_000, 1_796_688_000_000, 1_798_070_400_000);
    for (now_ms, expected) in [
        (november - 1, Reason::NotStarted),
        (november, Reason::Traffic),
        (december - HOUR, Reason::Traffic),
        (second - 1, Reason::Traffic),
        (second, Reason::Bucketed),
        (christmas - 1, Reason::Bucketed),
        (christmas, Reason::Ended),
    ] {
        assert_eq!(decided(&snapshot, "u1", now_ms)[0].1, expected, "{now_ms}");
    }
    assert_eq!(snapshot.experiments[0].traffic[0].from_ms, december - HOUR, "offsets count");
}

#[test]
fn forced_units_and_winners_precede_bucketing() {
    let forced = experiment("forced", json!({"forced": {"qa": "green"}, "traffic": 0}));
    let won = experiment("won", json!({"state": "concluded", "winner": "green", "ends": "2020-01-01T00:00:00Z"}));
    let paused = experiment("paused", json!({"state": "paused", "forced": {"qa": "green"}}));
    let snapshot = compile(&config(vec![forced, won, paused]), BUDGET).snapshot.unwrap();
    let green = || Some("green".to_owned());
    assert_eq!(
        decided(&snapshot, "qa", 0),
        [(green(), Reason::Forced), (green(), Reason::Winner), (None, Reason::Paused)]
    );
    assert_eq!(decided(&snapshot, "", 0), [(None, Reason::NoUnit), (green(), Reason::Winner), (None, Reason::Paused)]);
    assert_eq!(decided(&snapshot, "u1", 0)[0], (None, Reason::Traffic));
}

#[test]
fn invalid_goal_is_left_out() {
    let mut value = config(vec![]);
    value["goals"] = json!([
        {"key": "buy", "route": {"paths": ["/api/orders"], "methods": ["POST"]}, "statuses": ["2xx", "304", 418]},
        {"key": "buy"}, {"key": "any"}, {"statuses": ["2xx"]}, {"key": "odd", "statuses": ["ok", "6xx"]}
    ]);
    let compiled = compile(&value, BUDGET);
    let found = problems(&compiled);
    for expected in ["goals[1].key: duplicate", "goals[3].key: missing", "goals[4].statuses[0]: expected a status"] {
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected}: {found:?}");
    }
    let snapshot = compiled.snapshot.unwrap();
    let keys: Vec<&str> = snapshot.goals.iter().map(|goal| goal.key.as_str()).collect();
    assert_eq!(keys, ["buy", "any"]);
    let counts = |status| snapshot.goals[0].statuses.iter().any(|class| class.contains(status));
    assert_eq!([200, 299, 304, 418, 199, 300, 404].map(counts), [true, true, true, true, false, false, false]);
}
