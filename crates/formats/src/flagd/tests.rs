use super::Flagd;
use crate::format::{Compiled, Options};
use edgesplit_engine::condition::{StepBudget, request_budget};
use edgesplit_engine::flag::{FlagDecisions, FlagVisitor};
use edgesplit_engine::observer::{Observer, Recorder};
use edgesplit_engine::reason::Reason;
use serde_json::{Value, json};
use std::fmt;

fn compile(definitions: &Value) -> (Compiled, Vec<String>) {
    let compiled = crate::compile_bytes(definitions.to_string().as_bytes(), &Options::new(&Flagd, 64));
    let problems = compiled.problems.iter().map(ToString::to_string).collect();
    (compiled, problems)
}

/// Definitions of one flag with this targeting and evaluators, and two others.
fn definitions(targeting: &Value, evaluators: &Value) -> Value {
    let flag = |targeting: Value| json!({"state": "ENABLED", "variants": {"a": 1, "b": 2, "true": 3}, "defaultVariant": "a", "targeting": targeting});
    json!({"$evaluators": evaluators, "flags": {
        "f": flag(targeting.clone()), "static": flag(json!({})), "targeted": flag(json!({"if": [true, "b"]}))}})
}

/// The variant of the first flag, with the reason and whether it is of an experiment.
fn decided(definitions: &Value, attributes: &Value, steps: &StepBudget) -> (Option<String>, &'static str, bool) {
    let snapshot = compile(definitions).0.snapshot.unwrap();
    let evaluator = snapshot.flag_evaluator.as_deref().unwrap();
    let visitor = FlagVisitor::new(Some("u1"), attributes, steps, 1_999);
    let mut found = FlagDecisions::default();
    evaluator.decide(&[0], &visitor, &mut found);
    let (_, outcome, reason) = found.decided[0];
    let outcome = outcome.map(|outcome| &evaluator.outcomes(0)[outcome]);
    let in_experiment = outcome.is_some_and(|outcome| outcome.in_experiment);
    (outcome.and_then(|outcome| outcome.variant.clone()), reason.name(), in_experiment)
}

/// The result of an expression.
fn result(logic: &Value, attributes: &Value) -> &'static str {
    let name = |result: &str| json!({"if": [{"===": [logic, result]}, "a", "b"]});
    let is = |expected: &str| decided(&definitions(&name(expected), &json!({})), attributes, &request_budget()).0;
    ["yes", "no"].into_iter().find(|expected| is(expected).as_deref() == Some("a")).unwrap_or("neither")
}

#[test]
fn part_with_a_problem_is_disabled_alone() {
    let circle = json!({"x": {"$ref": "y"}, "y": {"!": {"$ref": "x"}}});
    for (targeting, evaluators, expected, problem) in [
        (json!({"if": [{"$ref": "x"}, "b"]}), json!({"x": true}), (Some("b"), "targeting_match"), None),
        (json!({"if": [true, null]}), json!({"unused": "text"}), (Some("a"), "default"), None),
        (json!({"!": [false]}), json!({}), (Some("true"), "targeting_match"), None),
        (json!({"if": [true, "c"]}), json!({}), (None, "error"), None),
        (json!({"if": [{"==": [1]}, "b"]}), json!({}), (None, "error"), None),
        (json!({"like": [1]}), json!({}), (None, "error"), Some("flags.f.targeting.like: unknown operator")),
        (
            json!({"if": [{"a": 1, "b": 2}]}),
            json!({}),
            (None, "error"),
            Some("flags.f.targeting.if[0]: expected an object"),
        ),
        (
            json!({"$ref": "x"}),
            json!({}),
            (None, "error"),
            Some("flags.f.targeting.$ref: there is no usable evaluator"),
        ),
        (json!({"$ref": "x"}), json!({"x": {"no": 1}}), (None, "error"), Some("$evaluators.x.no: unknown operator")),
        (json!({"$ref": "x"}), circle, (None, "error"), Some("$evaluators.y[\"!\"].$ref: there is no usable")),
        (json!("b"), json!({}), (None, "error"), Some("flags.f.targeting: expected an object")),
    ] {
        let definitions = definitions(&targeting, &evaluators);
        let (compiled, problems) = compile(&definitions);
        let (variant, reason, _) = decided(&definitions, &json!({}), &request_budget());
        assert_eq!((variant.as_deref(), reason), expected, "{targeting}");
        assert!(problem.is_some() || problems.is_empty(), "{targeting}: {problems:?}");
        assert!(problem.is_none_or(|start| problems[0].starts_with(start)), "{targeting}: {problems:?}");
        assert_eq!(compiled.snapshot.unwrap().experiments.len(), 3);
    }
}

#[test]
fn flag_of_another_shape_is_disabled() {
    for (member, value, problem) in [
        ("state", json!("ON"), "flags.f.state: expected ENABLED or DISABLED"),
        ("state", json!(null), "flags.f.state: missing"),
        ("variants", json!([]), "flags.f.variants: expected an object"),
        ("defaultVariant", json!(5), "flags.f.defaultVariant: expected a string"),
    ] {
        let mut definitions = definitions(&json!({}), &json!({}));
        definitions["flags"]["f"][member] = value;
        let (compiled, problems) = compile(&definitions);
        let snapshot = compiled.snapshot.unwrap();
        assert_eq!((snapshot.experiments.len(), snapshot.disabled.len()), (2, 1), "{problems:?}");
        assert!(problems[0].starts_with(problem), "{problems:?}");
    }
    let mut definitions = definitions(&json!({}), &json!({}));
    definitions["flags"]["f"]["later"] = json!({"metadata": 1});
    let (compiled, problems) = compile(&definitions);
    assert_eq!((compiled.snapshot.unwrap().experiments.len(), problems), (3, vec![]), "an unknown field has no effect");
}

#[test]
fn flag_with_too_many_variants_is_disabled() {
    let mut definitions = definitions(&json!({}), &json!({}));
    let variants = (0..4_096).map(|at| (format!("v{at}"), json!(at)));
    definitions["flags"]["f"]["variants"].as_object_mut().unwrap().extend(variants);
    let (compiled, problems) = compile(&definitions);
    assert_eq!(compiled.snapshot.unwrap().disabled.len(), 1);
    assert!(problems[0].starts_with("flags.f: 4100 outcomes are too many"), "{problems:?}");
}

#[test]
fn default_variant_that_is_none_refuses_all() {
    let mut definitions = definitions(&json!({}), &json!({}));
    definitions["flags"]["static"]["defaultVariant"] = "c".into();
    let (compiled, problems) = compile(&definitions);
    assert!(compiled.snapshot.is_none());
    assert_eq!(problems, ["flags.static.defaultVariant: expected a key of `variants`, found the string \"c\""]);
}

#[test]
fn experiment_is_a_variant_that_fractional_returned() {
    let shares = json!({"fractional": [["a", 1], ["b", 1]]});
    let of = |targeting: Value| decided(&definitions(&targeting, &json!({})), &json!({}), &request_budget());
    let (variant, reason, in_experiment) = of(shares.clone());
    assert_eq!((reason, in_experiment), ("targeting_match", true));
    let other = if variant.as_deref() == Some("a") { "b" } else { "a" };
    assert!(!of(json!({"if": [{"==": [shares, other]}, "b", other]})).2);
    assert!(!of(json!({"if": [true, "b", shares]})).2, "if is lazy");
}

#[test]
fn values_are_converted_as_by_javascript() {
    let attributes = json!({"zero": 0, "empty": "", "text": "x", "list": [1, "2", null], "deep": {"a": [{"b": "yes"}]},
        "null": null, "version": "v1.2.3"});
    let yes_if = |condition: Value| json!({"if": [condition, "yes", "no"]});
    let var = |name: &str| json!({"var": name});
    for (condition, expected) in [
        (json!({"==": [null, 0]}), "yes"),
        (json!({"==": [null, false]}), "yes"),
        (json!({"==": [null, ""]}), "no"),
        (json!({"==": ["1", 1, true]}), "yes"),
        (json!({"===": [1, 1.0]}), "yes"),
        (json!({"!==": [1, "1"]}), "yes"),
        (json!({"<": [var("text"), 5]}), "no"),
        (json!({"!=": [var("text"), 5]}), "yes"),
        (json!({"<": ["a", "b"]}), "yes"),
        (json!({"<": [1, 2, 2]}), "no"),
        (json!({"<=": [1, 2, 2]}), "yes"),
        (json!({"!": [[]]}), "yes"),
        (json!({"!!": [{}]}), "no"),
        (json!({"==": [{"+": ["1", null, true]}, 2]}), "yes"),
        (json!({"==": [{"-": [3]}, -3]}), "yes"),
        (json!({"==": [{"/": [1, 4]}, 0.25]}), "yes"),
        (json!({"==": [{"%": [7, 4]}, 3]}), "yes"),
        (json!({"==": [{"max": [1, 3, 2]}, 3]}), "yes"),
        (json!({"==": [{"min": [2, 1]}, 1]}), "yes"),
        (json!({"==": [{"cat": ["a", null, 1.0, true]}, "anull1true"]}), "yes"),
        (json!({"==": [{"substr": ["größe", 1, -1]}, "röß"]}), "yes"),
        (json!({"in": ["ö", "größe"]}), "yes"),
        (json!({"in": [2, var("list")]}), "no"),
        (json!({"in": ["x", var("none")]}), "no"),
        (json!({"==": [var("deep.a.0.b"), "yes"]}), "yes"),
        (json!({"==": [{"var": ["none", 5]}, 5]}), "yes"),
        (json!({"missing": ["zero", "empty", "null", "deep.a"]}), "no"),
        (json!({"missing": ["none"]}), "yes"),
        (json!({"missing_some": [1, ["none", "zero"]]}), "no"),
        (json!({"all": [[], true]}), "no"),
        (json!({"all": [var("list"), {"!=": [var(""), 7]}]}), "yes"),
        (json!({"some": [var("list"), {"==": [var(""), 2]}]}), "yes"),
        (json!({"none": [var("none"), true]}), "yes"),
        (
            json!({"==": [{"reduce": [{"map": [{"filter": [var("list"), var("")]}, {"*": [var(""), 2]}]},
            {"+": [var("accumulator"), var("current")]}, 1]}, 7]}),
            "yes",
        ),
        (json!({"==": [{"cat": {"merge": [[1], 2]}}, "1,2"]}), "yes"),
        (json!({"sem_ver": [var("version"), "=", "1.2.3+build"]}), "yes"),
        (json!({"sem_ver": ["1.2", "~", "1.2.9-rc.1"]}), "yes"),
        (json!({"sem_ver": ["2.0.0-rc.1", "<", 2]}), "yes"),
        (json!({"sem_ver": ["1.2-rc", "<", "2"]}), "no"),
        (json!({"starts_with": ["abc", "ab"]}), "yes"),
        (json!({"ends_with": [5, "5"]}), "no"),
        (json!({"==": [var("$flagd.timestamp"), 1]}), "yes"),
        (json!({"==": [var("targetingKey"), "u1"]}), "yes"),
        (json!({"==": [var("id"), "u1"]}), "no"),
    ] {
        assert_eq!(result(&yes_if(condition.clone()), &attributes), expected, "{condition}");
    }
    for failing in [
        json!({"+": ["x"]}),
        json!({"/": [1, 0]}),
        json!({"%": [1]}),
        json!({"max": ["1"]}),
        json!({"min": []}),
        json!({"map": [5, 1]}),
        json!({"substr": [5, 1]}),
        json!({"in": ["a", 5]}),
        json!({"var": ""}),
    ] {
        let targeting = json!({"if": [failing, "a", "b"]});
        let found = decided(&definitions(&targeting, &json!({})), &attributes, &request_budget());
        assert_eq!(found, (None, "error", false), "{failing}");
    }
}

#[test]
fn depth_is_limited() {
    // Each evaluator names the one before, and each is known when the next is read.
    let evaluators: Vec<(String, Value)> = (0..100)
        .map(|at| {
            let inner = if at == 0 { json!(true) } else { json!({"$ref": format!("e{}", at - 1)}) };
            (format!("e{at}"), (0..20).fold(inner, |inner, _| json!({"!": [inner]})))
        })
        .collect();
    let flags = (0..100).map(|at| {
        let targeting = json!({"if": [{"$ref": format!("e{at}")}, "a", "a"]});
        (format!("f{at:02}"), json!({"state": "ENABLED", "variants": {"a": 1}, "targeting": targeting}))
    });
    let definitions = json!({"flags": flags.collect::<serde_json::Map<_, _>>(),
        "$evaluators": evaluators.into_iter().collect::<serde_json::Map<_, _>>()});
    let (compiled, problems) = compile(&definitions);
    assert!(compiled.snapshot.is_some());
    assert!(problems.iter().any(|problem| problem.contains("at most 128 deep")), "{problems:?}");
    assert_eq!(decided(&definitions, &json!({}), &request_budget()).0.as_deref(), Some("a"));
}

#[test]
fn evaluators_that_double_are_read_once() {
    let evaluators = (0..120).map(|at| {
        let inner = json!({"$ref": format!("e{:03}", at + 1)});
        (format!("e{at:03}"), if at == 119 { json!(true) } else { json!({"and": [inner, inner]}) })
    });
    let evaluators = Value::Object(evaluators.collect());
    // The last ones are known when the first ones are read.
    let flags = (0..20).map(|at| {
        let targeting = json!({"if": [{"$ref": format!("e{:03}", 114 - 6 * at)}, "a"]});
        (format!("f{at:02}"), json!({"state": "ENABLED", "variants": {"a": 1}, "targeting": targeting}))
    });
    let definitions = json!({"flags": flags.collect::<serde_json::Map<_, _>>(), "$evaluators": evaluators});
    assert_eq!(compile(&definitions).0.snapshot.unwrap().experiments.len(), 20);
    assert_eq!(decided(&definitions, &json!({}), &request_budget()).0.as_deref(), Some("a"));
}

#[test]
fn work_is_limited() {
    let doubled = json!({"cat": [{"var": "accumulator"}, {"var": "accumulator"}]});
    let list: Vec<usize> = (0..60).collect();
    let targeting = json!({"reduce": [list, doubled, "ab"]});
    let found = decided(&definitions(&targeting, &json!({})), &json!({}), &request_budget());
    assert_eq!(found, (None, Reason::Limit.name(), false));
}

/// Records the checks of a decision.
#[derive(Default)]
struct Recording(Recorder);

impl Observer for Recording {
    fn is_active(&self) -> bool {
        true
    }

    fn check(&mut self, name: &str, passed: bool, detail: fmt::Arguments<'_>) {
        self.0.check(name, passed, detail);
    }
}

impl edgesplit_engine::flag::FlagSink for Recording {
    fn decided(&mut self, _flag: usize, _outcome: Option<usize>, _reason: Reason) {}
}

#[test]
fn conditions_are_explained_with_the_values_they_read() {
    let targeting =
        json!({"if": [{"and": [{">": [{"var": "age"}, 17]}, {"var": "plan"}]}, "b", {"fractional": [["a"]]}]});
    let snapshot = compile(&definitions(&targeting, &json!({}))).0.snapshot.unwrap();
    let (attributes, steps) = (json!({"age": 20}), request_budget());
    let visitor = FlagVisitor::new(Some("u1"), &attributes, &steps, 0);
    let mut recording = Recording::default();
    snapshot.flag_evaluator.as_deref().unwrap().decide(&[0], &visitor, &mut recording);
    let shown: Vec<String> =
        recording.0.0.into_iter().map(|check| format!("{}: {}", check.name, check.detail)).collect();
    assert_eq!(shown, ["condition: age is 20, plan is missing", "fractional: gives \"a\""]);
}
