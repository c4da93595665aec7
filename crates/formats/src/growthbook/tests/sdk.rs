//! Where the SDK's public cases do not reach: limits, redirect tests that share a key, types and names.

use super::*;
use crate::diagnostics::Node;
use crate::format::Options;
use edgesplit_engine::flag::{FlagEvaluator, FlagSink, FlagVisitor};
use edgesplit_engine::observer::Observer;
use std::fmt;

#[test]
fn disabled_feature_disables_all_that_depend_on_it() {
    let on = |id: &str| json!({"parentConditions": [{"id": id, "condition": {"value": true}}], "force": 1});
    let redirect = |key: &str, id: &str| {
        json!({"key": key, "variations": [{}, {"urlRedirect": "https://shop.example/new"}], "urlPatterns": [],
               "parentConditions": [{"id": id, "condition": {}}]})
    };
    let document = json!({"features": {
        "broken": {"rules": [{"force": 1, "condition": []}]},
        "child": {"rules": [{"force": 2}, on("broken")]},
        "circle-a": {"rules": [on("circle-b"), on("grandchild")]},
        "circle-b": {"rules": [on("circle-a")]},
        "grandchild": {"rules": [on("child")]},
        "other": {"rules": [on("unknown")]},
    }, "experiments": [redirect("lost", "grandchild"), redirect("kept", "other")]});
    let payload = payload(&document);
    let disabled: Vec<_> = payload.disabled.iter().filter_map(|disabled| disabled.key.as_deref()).collect();
    assert_eq!(disabled, ["broken", "child", "circle-a", "circle-b", "grandchild", "lost"]);
    assert_eq!(decided(&payload, "other", &json!({})), (Value::Null, "default_value"));
    let of_grandchild = "features.grandchild: depends on the feature \"child\", which is disabled";
    assert!(problems(&document).iter().any(|problem| problem == of_grandchild));
}

#[test]
fn pattern_over_a_limit_disables_its_part() {
    let large = format!("(?:{}){{200}}", "[a-z]{200}".repeat(20));
    let feature = json!({"rules": [{"force": 1, "condition": {"$not": {"name": {"$regex": large}}}}]});
    let test = |pattern: &str| {
        json!({"key": "e", "variations": [{}, {"urlRedirect": "https://shop.example/new"}],
               "urlPatterns": [{"type": "regex", "include": true, "pattern": "/"}, {"type": "regex", "include": false, "pattern": pattern}]})
    };
    let tests = [test(&large), test("("), test(r"\101")];
    let payload = payload(&json!({"features": {"f": feature}, "experiments": tests}));
    assert_eq!((payload.features.len(), payload.redirects.len()), (0, 1));
    assert_eq!(payload.redirects[0].position, 1);
}

#[test]
fn patterns_of_all_tests_share_a_limit() {
    let pattern = format!("{}[a-z]{{2900}}", "a".repeat(50));
    let target = json!({"type": "regex", "include": true, "pattern": pattern});
    let test = |number: usize, targets: usize| {
        json!({"key": number.to_string(), "variations": [{}, {"urlRedirect": "https://shop.example/new"}],
               "urlPatterns": vec![target.clone(); targets]})
    };
    for (tests, targets, expected) in [(20, 20, (16, 4)), (2, 100, (0, 2))] {
        let tests: Vec<Value> = (0..tests).map(|number| test(number, targets)).collect();
        let payload = payload(&json!({"features": {}, "experiments": tests}));
        assert_eq!((payload.redirects.len(), payload.disabled.len()), expected, "{targets} each");
    }
}

#[test]
fn coverage_of_null_is_zero() {
    let rule = |coverage: Value| json!({"variations": [1, 2], "coverage": coverage});
    let force = |coverage: Value| json!({"force": 1, "coverage": coverage});
    let count = |rule: Value| {
        let payload = payload(&json!({"features": {"f": {"defaultValue": 0, "rules": [rule]}}}));
        (0..10_000).filter(|id| decided(&payload, "f", &json!({"id": format!("u{id}")})).0 != 0).count()
    };
    assert_eq!((count(rule(json!(null))), count(rule(json!(0)))), (0, 0));
    // One bucket of 1,000, since the SDK compares the bucket 0 with null.
    let first_bucket = count(force(json!(null)));
    assert!((1..30).contains(&first_bucket), "{first_bucket}");
    assert_eq!(count(force(json!(0))), 0);
}

#[test]
fn dotted_names_are_paths_in_conditions_only() {
    let document = json!({"features": {
        "condition": {"rules": [{"force": 1, "condition": {"company.size": 5}}]},
        "hash": {"rules": [{"variations": [1, 1], "hashAttribute": "company.size"}]},
    }});
    let payload = payload(&document);
    let found = |attributes: Value| ["condition", "hash"].map(|key| decided(&payload, key, &attributes).0 == json!(1));
    assert_eq!(found(json!({"company": {"size": 5}})), [true, false]);
    assert_eq!(found(json!({"company.size": 5})), [false, true]);
}

#[test]
fn tests_of_one_experiment_are_all_in_force() {
    let test = |pattern: &str| {
        json!({"key": "e", "variations": [{}, {"urlRedirect": "https://shop.example/new"}], "weights": [0, 1],
               "urlPatterns": [{"type": "simple", "include": true, "pattern": pattern}]})
    };
    let rule = json!({"key": "e", "variations": [1, 2], "weights": [0, 1]});
    let document = json!({"features": {"e": {"rules": [rule]}}, "experiments": [test("/a"), test("/b")]});
    let compiled = crate::compile_at(Node::root(&document), &Options::new(&GrowthBook, 64));
    assert_eq!(compiled.problems.errors(), 0, "{:?}", compiled.problems);
    let snapshot = compiled.snapshot.unwrap();
    let pairs = snapshot.experiments.iter().filter_map(|it| it.variants.last());
    let pairs: Vec<_> =
        pairs.map(|it| (it.assignment.as_deref().unwrap(), it.cache_pair.as_deref().unwrap())).collect();
    assert_eq!(pairs, [("e=1", "e.1"), ("e=1", "e.1.shared"), ("e=1", "e.1.shared")]);
}

#[test]
fn refused_redirect_is_not_reported() {
    struct Sink {
        allows: bool,
        exposed: Vec<String>,
    }
    impl Observer for Sink {
        fn check(&mut self, _name: &str, _passed: bool, _detail: fmt::Arguments<'_>) {}
    }
    impl FlagSink for Sink {
        fn decided(&mut self, _flag: usize, _outcome: Option<usize>, _reason: edgesplit_engine::reason::Reason) {}
        fn redirected(&mut self, _location: &str) -> bool {
            self.allows
        }
        fn exposed(&mut self, exposure: &FlagExposure<'_>) {
            self.exposed.push(exposure.experiment.to_owned());
        }
    }
    let document = json!({"features": {"f": {"rules": [{"key": "feature", "variations": [1, 2]}]}}, "experiments": [
        {"key": "redirect", "variations": [{}, {"urlRedirect": "https://other.example/new"}], "weights": [0, 1],
         "urlPatterns": [{"type": "simple", "include": true, "pattern": "/"}]},
    ]});
    let evaluator = payload(&document);
    let attributes = json!({"id": "u1", "url": "https://shop.example/"});
    for (allows, expected) in [(true, vec!["feature", "redirect"]), (false, vec!["feature"])] {
        let steps = &request_budget();
        let visitor = FlagVisitor::new(Some("u1"), &attributes, steps, 0);
        let mut sink = Sink { allows, exposed: Vec::new() };
        evaluator.decide(&[0, 1], &visitor, &mut sink);
        assert_eq!(sink.exposed, expected);
    }
}
