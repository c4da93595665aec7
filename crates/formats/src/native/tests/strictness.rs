//! Input that must not widen an experiment.

use super::*;

#[test]
fn unknown_fields_that_widen_nothing_are_warnings() {
    let mut value = config(vec![experiment("a", json!({"colour": 1, "guardrail": {"confidenc": 1}}))]);
    value["later"] = json!(true);
    value["goals"] = json!([{"key": "g", "state": 1}]);
    let compiled = compile(&value, BUDGET);
    assert_eq!(compiled.problems.errors(), 0);
    let found = problems(&compiled);
    for start in [
        "later: unknown field; known here: $schema, ",
        "experiments[0].colour: unknown field; ",
        "experiments[0].guardrail.confidenc: unknown field, did you mean `confidence`? ",
        "goals[0].state: unknown field, did you mean `statuses`? ",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(start)), "{start}: {found:?}");
    }
    let snapshot = compiled.snapshot.unwrap();
    assert_eq!((snapshot.experiments.len(), snapshot.goals.len()), (1, 1));
}

#[test]
fn unknown_fields_that_could_widen_an_experiment_disable_it() {
    let set = |set: Value| json!({"variants": [{"key": "a", "weight": 10000, "set": set}]});
    for (more, path) in [
        (json!({"route": {"path": ["/a"]}}), "experiments[0].route.path: unknown field, did you mean `paths`?"),
        (json!({"layer": {"name": "l", "slots": [0, 1], "slot": 1}}), "experiments[0].layer.slot: unknown field"),
        (
            json!({"traffic": [{"from": "2026-12-01T00:00:00Z", "share": 1, "to": 2}]}),
            "experiments[0].traffic[0].to: unknown field",
        ),
        (json!({"variants": [{"key": "a", "weight": 10000, "wight": 1}]}), "experiments[0].variants[0].wight: unknown"),
        (set(json!({"headers": {}})), "experiments[0].variants[0].set.headers: unknown field"),
        (
            set(json!({"path": {"prefix": "/a", "with": "/b", "to": 1}})),
            "experiments[0].variants[0].set.path.to: unknown field",
        ),
    ] {
        let compiled = compile(&config(vec![experiment("a", more.clone()), experiment("b", json!({}))]), BUDGET);
        let found = problems(&compiled);
        assert!(found[0].starts_with(path), "{more}: {found:?}");
        let snapshot = compiled.snapshot.unwrap();
        assert_eq!((snapshot.experiments.len(), snapshot.disabled.len()), (1, 1), "{more}");
    }
    // A goal with an unknown field in its route is left out.
    let mut value = config(vec![]);
    value["goals"] = json!([{"key": "g", "route": {"path": ["/a"]}}]);
    assert_eq!(compile(&value, BUDGET).snapshot.unwrap().goals, []);
}

#[test]
fn baseline_sets_only_response_headers() {
    let baseline = |set: Value| {
        let variants = json!([{"key": "a", "weight": 10000, "baseline": true, "set": set}]);
        problems(&compile(&config(vec![experiment("e", json!({"variants": variants}))]), BUDGET))
    };
    assert_eq!(baseline(json!({"response_headers": {"x-a": "1"}, "request_headers": {}})), [""; 0]);
    for (name, value) in [
        ("request_headers", json!({"x-a": "1"})),
        ("path", json!({"prefix": "/a", "with": "/b"})),
        ("redirect", json!("/a")),
    ] {
        let start = format!("experiments[0].variants[0].set.{name}: a baseline may set only response_headers");
        let found = baseline(json!({ name: value }));
        assert!(found.len() == 1 && found[0].starts_with(&start), "{found:?}");
    }
}
