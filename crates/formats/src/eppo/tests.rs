use super::Eppo;
use super::format::Payload;
use crate::events::{EventKind, EventWire, VendorEvent};
use crate::format::{Compiled, Options};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::{StepBudget, request_budget};
use edgesplit_engine::flag::{FlagDecisions, FlagExposure, FlagVisitor, Outcome};
use edgesplit_engine::reason::Reason;
use serde_json::{Value, json};

/// A flag with two variations, one allocation and this difference.
fn flag(change: impl FnOnce(&mut Value)) -> Value {
    let ranges = |start: u32, end: u32| json!([{"salt": "s", "ranges": [{"start": start, "end": end}]}]);
    let mut flag = json!({
        "key": "f", "enabled": true, "variationType": "STRING", "totalShards": 10_000,
        "variations": {"a": {"key": "a", "value": "A"}, "b": {"key": "b", "value": "B"}},
        "allocations": [{
            "key": "all", "doLog": true,
            "rules": [{"conditions": [{"attribute": "plan", "operator": "MATCHES", "value": "^p"}]}],
            "splits": [
                {"variationKey": "a", "shards": ranges(0, 5_000), "extraLogging": {"owner": "team"}},
                {"variationKey": "b", "shards": ranges(5_000, 10_000)},
            ],
        }],
    });
    change(&mut flag);
    flag
}

/// The same in Datadog's dialect.
fn datadog(change: impl FnOnce(&mut Value)) -> Value {
    flag(|flag| {
        flag.as_object_mut().unwrap().remove("totalShards");
        for split in flag["allocations"][0]["splits"].as_array_mut().unwrap() {
            split["shards"][0]["totalShards"] = 10_000.into();
            split.as_object_mut().unwrap().remove("extraLogging");
            split["serialId"] = 7.into();
        }
        change(flag);
    })
}

fn compile(payload: &Value) -> (Compiled, Vec<String>) {
    let compiled = crate::compile_bytes(payload.to_string().as_bytes(), &Options::new(&Eppo, 64));
    let problems = compiled.problems.iter().map(ToString::to_string).collect();
    (compiled, problems)
}

/// The variant of the flag `f` for visitors with the plan `pro`, with the reason, and the problems.
fn decided(flag: &Value, steps: &StepBudget) -> (Option<String>, &'static str, Vec<String>) {
    decided_with(flag, "pro", steps)
}

/// The same for visitors with this plan.
fn decided_with(flag: &Value, plan: &str, steps: &StepBudget) -> (Option<String>, &'static str, Vec<String>) {
    let (compiled, problems) = compile(&json!({"createdAt": "r", "flags": {"f": flag}}));
    let snapshot = compiled.snapshot.unwrap();
    let evaluator = snapshot.flag_evaluator.as_deref().unwrap();
    if snapshot.experiments.is_empty() {
        return (None, Reason::Disabled.name(), problems);
    }
    let attributes = json!({"plan": plan});
    let visitor = FlagVisitor::new(Some("u1"), &attributes, steps, 0);
    let mut found = FlagDecisions::default();
    evaluator.decide(&[0], &visitor, &mut found);
    let (_, outcome, reason) = found.decided[0];
    let variant = outcome.and_then(|outcome| evaluator.outcomes(0)[outcome].variant.clone());
    (variant, reason.name(), problems)
}

#[test]
fn part_with_a_problem_is_disabled_alone() {
    let condition = "flags.f.allocations[0].rules[0].conditions[0]";
    type Case<'a> = (&'a str, fn(&mut Value), [(Option<&'a str>, &'a str); 2], Option<String>);
    let cases: [Case<'_>; 10] = [
        ("nothing", |_| {}, [(Some("a"), "targeting_match"); 2], None),
        ("unknown field", |flag| flag["new"] = 1.into(), [(Some("a"), "targeting_match"); 2], None),
        (
            "missing field",
            |flag| drop(flag.as_object_mut().unwrap().remove("enabled")),
            [(None, "disabled"), (None, "default")],
            Some("flags.f.enabled: missing".to_owned()),
        ),
        (
            "wrong type",
            |flag| flag["allocations"] = "x".into(),
            [(None, "disabled"), (None, "default")],
            Some("flags.f.allocations: expected a list".to_owned()),
        ),
        (
            "unknown type",
            |flag| flag["variationType"] = "DATE".into(),
            [(None, "disabled"), (None, "default")],
            Some("flags.f.variationType: unknown type".to_owned()),
        ),
        (
            "unknown operator",
            |flag| flag["allocations"][0]["rules"][0]["conditions"][0]["operator"] = "LIKE".into(),
            [(None, "default"); 2],
            Some(format!("{condition}.operator: unknown operator")),
        ),
        (
            "invalid pattern",
            |flag| flag["allocations"][0]["rules"][0]["conditions"][0]["value"] = "(?=p)".into(),
            [(None, "default"); 2],
            Some(format!("{condition}.value: as a pattern")),
        ),
        (
            "unsupported pattern",
            |flag| flag["allocations"][0]["rules"][0]["conditions"][0]["value"] = "\\p{Greek}".into(),
            [(None, "disabled"), (None, "default")],
            Some(format!("{condition}.value: as a pattern")),
        ),
        (
            "value of another type",
            |flag| flag["variations"]["a"]["value"] = 5.into(),
            [(None, "error"); 2],
            Some("flags.f.variations.a.value: expected STRING".to_owned()),
        ),
        (
            "variation that is not there",
            |flag| flag["allocations"][0]["splits"][0]["variationKey"] = "c".into(),
            [(None, "error"); 2],
            Some("flags.f.allocations[0].splits[0].variationKey: expected a key".to_owned()),
        ),
    ];
    for (name, change, expected, problem) in cases {
        for (flag, (variant, reason)) in [flag(change), datadog(change)].iter().zip(expected) {
            let (found, found_reason, problems) = decided(flag, &request_budget());
            assert_eq!((found.as_deref(), found_reason), (variant, reason), "{name}: {problems:?}");
            assert_eq!(problems.len(), usize::from(problem.is_some()), "{name}: {problems:?}");
            assert!(problem.as_ref().is_none_or(|start| problems[0].starts_with(start)), "{name}: {problems:?}");
        }
    }
    let wrong = flag(|flag| flag["variations"]["b"]["value"] = 5.into());
    assert_eq!(decided(&wrong, &request_budget()).1, "targeting_match", "Eppo's other splits work");
}

#[test]
fn patterns_are_those_of_rusts_engine() {
    for (pattern, text, expected) in [
        ("^[a&~-]+$", "a-&~", true),
        ("^[[:alpha:]-]$", "-", true),
        (r"^\s+$", "\u{b}\u{85}\u{a0}\u{2003}\u{3000}", true),
        (r"^[\s]$", "\u{a0}", true),
        (r"\S", "\u{a0}", false),
        (r"\s", "\u{feff}", false),
    ] {
        let flag = flag(|flag| {
            let condition = json!({"attribute": "plan", "operator": "MATCHES", "value": pattern});
            flag["allocations"][0]["rules"][0]["conditions"] = json!([condition]);
        });
        let (variant, ..) = decided_with(&flag, text, &request_budget());
        assert_eq!(variant.is_some(), expected, "{pattern}");
    }
    for unsupported in ["[a-z&&b-z]", "[a~~b]", "[a-z--b]", "[a[0-9]]"] {
        let flag = flag(|flag| flag["allocations"][0]["rules"][0]["conditions"][0]["value"] = unsupported.into());
        assert_eq!(decided(&flag, &request_budget()).1, "disabled", "{unsupported}");
    }
}

#[test]
fn work_is_limited() {
    assert_eq!(decided(&flag(|_| {}), &StepBudget::new(10)), (None, "limit", Vec::new()));
    let many = flag(|flag| {
        flag["variations"]["a"]["value"] = "x".repeat(10_000).into();
        let split = flag["allocations"][0]["splits"][0].clone();
        flag["allocations"][0]["splits"] = vec![split; 100].into();
    });
    let (_, reason, problems) = decided(&many, &request_budget());
    assert_eq!(reason, "disabled");
    assert!(problems[0].starts_with("flags.f: the values of its splits take over"), "{problems:?}");
}

#[test]
fn payload_for_clients_is_refused() {
    let (compiled, problems) = compile(&json!({"createdAt": "r", "format": "CLIENT", "flags": {"f": flag(|_| {})}}));
    assert!(compiled.snapshot.is_none());
    assert!(problems[0].starts_with("format: a payload for clients, whose keys are hashed: fetch the server's"));
}

/// A request, all of whose attributes are texts.
struct Request;

impl Attributes for Request {
    fn attribute<'a>(&'a self, _name: &'a AttributeName) -> AttributeValue<'a> {
        AttributeValue::Text("pro".into())
    }
}

/// The body that reports the second outcome of the flag.
fn body(flag: &Value) -> Value {
    let payload = json!({"createdAt": "r", "environment": {"name": "prod"}, "flags": {"f": flag}});
    let snapshot = compile(&payload).0.snapshot.unwrap();
    let evaluator = snapshot.flag_evaluator.as_deref().unwrap();
    let Outcome { experiment, variant, .. } = &evaluator.outcomes(0)[1];
    let exposure = FlagExposure {
        experiment: experiment.as_deref().unwrap(),
        variant: variant.as_deref(),
        attribute: "id",
        unit: "u1",
        typed_unit: None,
        outcome: Some((0, 1)),
    };
    let event = VendorEvent {
        kind: EventKind::Exposure(exposure),
        unit: "u1",
        id: "",
        time_ms: 1_795_392_000_007,
        attributes: &Request,
        aliases: &[("tier".to_owned(), AttributeName::Named("plan".to_owned()))],
        keeps_url_query: false,
        steps: &request_budget(),
    };
    let (mut written, mut body) = (Vec::new(), Vec::new());
    assert!(Eppo.write(&event, Some(evaluator), &mut written));
    assert!(!Eppo.write(&VendorEvent { kind: EventKind::Goal("g"), ..event }, Some(evaluator), &mut Vec::new()));
    Eppo.write_body(&Eppo.head(evaluator), &mut [written.as_slice(); 2].into_iter(), &mut body);
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn reports_have_the_vendors_shapes() {
    let eppo = json!({
        "featureFlag": "f", "allocation": "all", "experiment": "f-all", "variation": "a", "subject": "u1",
        "subjectAttributes": {"tier": "pro"}, "timestamp": "2026-11-23T00:00:00.007Z", "owner": "team",
    });
    assert_eq!(body(&flag(|_| {})), json!([eppo, eppo]));
    let exposure = json!({
        "timestamp": 1_795_392_000_007_i64, "allocation": {"key": "all"}, "flag": {"key": "f"}, "variant": {"key": "a"},
        "subject": {"id": "u1", "attributes": {"tier": "pro"}}, "serial_id": 7,
    });
    let context = json!({"service": "edgesplit", "env": "prod", "version": env!("CARGO_PKG_VERSION")});
    assert_eq!(body(&datadog(|_| {})), json!({"context": context, "exposures": [exposure, exposure]}));
}

#[test]
fn dialect_follows_from_any_flag() {
    let flags = json!({"a": flag(|_| {}), "b": datadog(|_| {})});
    let (compiled, problems) = compile(&json!({"createdAt": "r", "flags": flags}));
    let snapshot = compiled.snapshot.unwrap();
    let payload: &Payload = snapshot.flag_evaluator.as_deref().unwrap().downcast_ref().unwrap();
    assert!(payload.is_datadog);
    let missing = "flags.a.allocations[0].splits[0].shards[0].totalShards: missing";
    assert_eq!(problems[0], missing);
}
