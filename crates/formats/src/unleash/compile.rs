//! Compiles features and segments, element by element.

use super::constraint::{Constraint, Source};
use super::feature::{Feature, Gate, Parent, Stickiness, Strategy, Variant, Variants};
use crate::conditions::SavedGroups;
use crate::diagnostics::{Node, Path, Problems};
use crate::shape::{self, Member, Shape, is_true, list, text};
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::json;
use serde_json::{Number, Value};
use std::collections::HashMap;

/// Stands for a feature that is disabled, and for a segment that is not understood.
pub(super) const NONE: usize = usize::MAX;

const TEXTS: Shape = Shape::List(&Shape::Text);

const CONSTRAINTS: Shape = Shape::List(&Shape::Object(&[
    ("contextName", true, Shape::Text),
    ("operator", true, Shape::Text),
    ("values", false, TEXTS),
    ("value", false, Shape::Text),
    ("inverted", false, Shape::Flag),
    ("caseInsensitive", false, Shape::Flag),
]));

const SEGMENT: Shape = Shape::Object(&[("id", true, Shape::Whole), ("constraints", false, CONSTRAINTS)]);

const PARAMETERS: &[Member] = &[
    ("userIds", false, Shape::Text),
    ("IPs", false, Shape::Text),
    ("rollout", false, Shape::Text),
    ("percentage", false, Shape::Text),
    ("stickiness", false, Shape::Text),
    ("groupId", false, Shape::Text),
];

const VARIANTS: Shape = Shape::List(&Shape::Object(&[
    ("name", true, Shape::Key),
    ("weight", true, Shape::Whole),
    ("stickiness", false, Shape::Text),
    ("payload", false, Shape::Object(&[("type", true, Shape::Text), ("value", true, Shape::Text)])),
    ("overrides", false, Shape::List(&Shape::Object(&[("contextName", true, Shape::Text), ("values", true, TEXTS)]))),
]));

const STRATEGIES: Shape = Shape::List(&Shape::Object(&[
    ("name", true, Shape::Text),
    ("parameters", false, Shape::Object(PARAMETERS)),
    ("constraints", false, CONSTRAINTS),
    ("segments", false, Shape::List(&Shape::Whole)),
    ("variants", false, VARIANTS),
]));

const FEATURE: Shape = Shape::Object(&[
    ("name", true, Shape::Key),
    ("enabled", true, Shape::Flag),
    ("strategies", false, STRATEGIES),
    ("variants", false, VARIANTS),
    (
        "dependencies",
        false,
        Shape::List(&Shape::Object(&[
            ("feature", true, Shape::Text),
            ("enabled", false, Shape::Flag),
            ("variants", false, TEXTS),
        ])),
    ),
]);

/// Compiles the features of one payload.
#[derive(Default)]
pub(super) struct Compiler {
    /// The positions of the segments by their ids.
    pub(super) segments: HashMap<Number, usize>,
    /// The patterns of all constraints.
    pub(super) patterns: SavedGroups,
}

impl Compiler {
    /// Compiles the segment at `node`, which is stored at `position`.
    pub(super) fn segment(&mut self, node: Node<'_>, position: usize, problems: &mut Problems) -> Vec<Constraint> {
        if !shape::check(node, &SEGMENT, problems) {
            return Vec::new();
        }
        let constraints = self.constraints(node, problems);
        let id = node.value.get("id").and_then(Value::as_number).cloned();
        self.segments.extend(id.map(|id| (id, if constraints.is_some() { position } else { NONE })));
        constraints.unwrap_or_default()
    }

    /// Compiles the feature at `node`. None if it has another shape.
    pub(super) fn feature(&mut self, node: Node<'_>, position: usize, problems: &mut Problems) -> Option<Feature> {
        if !shape::check(node, &FEATURE, problems) {
            return None;
        }
        let name = text(node.value, "name").unwrap_or_default().to_owned();
        let mut outcomes = vec![outcome(None, Value::Bool(false)), outcome(None, Value::Bool(true))];
        let path = node.path.field("strategies");
        let (mut strategies, mut is_understood) = (Vec::new(), true);
        for (index, value) in list(node.value, "strategies").iter().enumerate() {
            let node = Node { value, path: &path.index(index) };
            let strategy = self.strategy(node, &name, &mut outcomes, problems);
            is_understood &= strategy.is_some();
            strategies.extend(strategy);
        }
        let variants = list(node.value, "variants");
        let stickiness = variants.first().and_then(|variant| text(variant, "stickiness"));
        let variants = compile_variants(variants, stickiness, &name, &mut outcomes);
        let parent = |value: &Value| Parent {
            name: text(value, "feature").unwrap_or_default().to_owned(),
            feature: None,
            enabled: value.get("enabled").and_then(Value::as_bool).unwrap_or(true),
            variants: texts(value, "variants"),
        };
        let parents = list(node.value, "dependencies").iter().map(parent).collect();
        let (enabled, strategies) = (is_true(node.value, "enabled"), is_understood.then_some(strategies));
        Some(Feature { name, position, enabled, parents, strategies, variants, outcomes })
    }

    /// Compiles a strategy. None if a part of it is not understood.
    fn strategy(
        &mut self,
        node: Node<'_>,
        feature: &str,
        outcomes: &mut Vec<Outcome>,
        problems: &mut Problems,
    ) -> Option<Strategy> {
        let parameters = node.value.get("parameters").unwrap_or(&Value::Null);
        let gate = gate(text(node.value, "name").unwrap_or_default(), parameters, node.path, problems);
        let constraints = self.constraints(node, problems);
        let path = node.path.field("segments");
        let mut segments = Vec::new();
        for (index, id) in list(node.value, "segments").iter().enumerate() {
            let position = id.as_number().and_then(|id| self.segments.get(id));
            if position.is_none() {
                problems.error(&path.index(index), format_args!("there is no segment {id}; the feature is off"));
            }
            segments.push(position.copied().unwrap_or(NONE));
        }
        let group = text(parameters, "groupId").unwrap_or(feature);
        let variants = compile_variants(list(node.value, "variants"), text(parameters, "stickiness"), group, outcomes);
        let (gate, constraints) = (gate?, constraints?);
        (!segments.contains(&NONE)).then_some(Strategy { gate, constraints, segments, variants })
    }

    /// Compiles the constraints of the object at `node`. None if one of them is not understood.
    fn constraints(&mut self, node: Node<'_>, problems: &mut Problems) -> Option<Vec<Constraint>> {
        let path = node.path.field("constraints");
        Node { value: node.value, path: &path }.read_all(list(node.value, "constraints"), |node| {
            Constraint::compile(node.value, node.path, &mut self.patterns, problems)
        })
    }
}

/// The condition of the strategy `name` itself. None if its share exceeds 100.
fn gate(name: &str, parameters: &Value, path: &Path<'_>, problems: &mut Problems) -> Option<Gate> {
    let parameter = |name: &str| text(parameters, name);
    let group = parameter("groupId").map(str::to_owned);
    let (share, stickiness) = match name {
        "default" => return Some(Gate::Always),
        // Every draw is under 100.
        "gradualRolloutRandom" if parameter("percentage") == Some("100") => return Some(Gate::Always),
        "userWithId" => return Some(Gate::Check(Constraint::listed("userId", "IN", parameter("userIds")))),
        "remoteAddress" => return Some(Gate::Check(Constraint::listed("remoteAddress", "IN_CIDR", parameter("IPs")))),
        "flexibleRollout" => ("rollout", parameter("stickiness")),
        "gradualRolloutUserId" if group.is_some() => ("percentage", Some("userId")),
        "gradualRolloutSessionId" if group.is_some() => ("percentage", Some("sessionId")),
        _ => return Some(Gate::Check(Constraint::never())),
    };
    match parameter(share).and_then(|share| share.parse::<u32>().ok()) {
        Some(percent @ ..=100) => Some(Gate::Rollout { percent, stickiness: read_stickiness(stickiness), group }),
        Some(_) => {
            let path = path.field("parameters");
            problems.error(&path.field(share), "more than 100; the feature is off");
            None
        }
        None => Some(Gate::Check(Constraint::never())),
    }
}

fn read_stickiness(name: Option<&str>) -> Stickiness {
    match name {
        None | Some("default") => Stickiness::Default { session: Source::new("sessionId") },
        Some("random") => Stickiness::Random,
        Some(name) => Stickiness::Field(Source::new(name)),
    }
}

fn texts(value: &Value, name: &str) -> Vec<String> {
    list(value, name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn compile_variants(list: &[Value], stickiness: Option<&str>, group: &str, outcomes: &mut Vec<Outcome>) -> Variants {
    let first_outcome = outcomes.len();
    let mut variants = Vec::new();
    for value in list {
        outcomes.push(outcome(text(value, "name"), value.get("payload").map_or(Value::Bool(true), payload)));
        let source = |entry: &Value| Source::new(text(entry, "contextName").unwrap_or_default());
        let overrides = shape::list(value, "overrides").iter().map(|entry| (source(entry), texts(entry, "values")));
        let weight = value.get("weight").and_then(Value::as_f64).unwrap_or_default() as u32;
        variants.push(Variant { weight, overrides: overrides.collect() });
    }
    Variants { list: variants, stickiness: read_stickiness(stickiness), group: group.to_owned(), first_outcome }
}

fn outcome(variant: Option<&str>, value: Value) -> Outcome {
    let in_experiment = variant.is_some();
    Outcome { variant: variant.map(str::to_owned), experiment: None, value, in_experiment }
}

/// The value of a payload: JSON and numbers are parsed, where they can be.
fn payload(payload: &Value) -> Value {
    let value = text(payload, "value").unwrap_or_default();
    let parsed = json::read(value.as_bytes()).ok();
    let parsed = match text(payload, "type") {
        Some("json") => parsed,
        Some("number") => parsed.filter(Value::is_number),
        _ => None,
    };
    // A payload of null has no value.
    if payload.is_null() { Value::Bool(true) } else { parsed.unwrap_or_else(|| value.into()) }
}
