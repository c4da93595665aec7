//! Compiles features and segments, element by element.

use super::constraint::{Constraint, Source};
use super::feature::{Feature, Gate, ON, Parent, Stickiness, Strategy, Variant, Variants};
use super::wire::{ConstraintWire, FeatureWire, ParametersWire, PayloadWire, SegmentWire, StrategyWire, VariantWire};
use crate::diagnostics::{Node, Path, Problems};
use crate::element::read;
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::json;
use serde_json::Value;
use std::collections::HashMap;

/// Compiles the features of one payload.
#[derive(Default)]
pub(super) struct Compiler {
    /// The positions of the segments by their ids; none if a constraint is not understood.
    pub(super) segments: HashMap<u32, Option<usize>>,
    /// How many instructions the patterns have together.
    instructions: usize,
}

impl Compiler {
    /// Compiles the segment at `node`, which is stored at `position`.
    pub(super) fn segment(&mut self, node: Node<'_>, position: usize, problems: &mut Problems) -> Vec<Constraint> {
        let Some(wire) = read::<SegmentWire>(node, problems) else { return Vec::new() };
        let constraints = self.constraints(wire.constraints, node.path, problems);
        self.segments.insert(wire.id, constraints.is_some().then_some(position));
        constraints.unwrap_or_default()
    }

    /// Compiles the feature at `node`. None if it has another shape.
    pub(super) fn feature(&mut self, node: Node<'_>, position: usize, problems: &mut Problems) -> Option<Feature> {
        let FeatureWire { name, enabled, strategies, variants, dependencies } = read(node, problems)?;
        let mut outcomes = vec![outcome(None, Value::Bool(false)), outcome(None, Value::Bool(true))];
        debug_assert_eq!(outcomes.len(), ON + 1);
        let list = node.path.field("strategies");
        let mut compiled = Some(Vec::new());
        for (index, wire) in strategies.into_iter().enumerate() {
            let strategy = self.strategy(wire, &name, &list.index(index), &mut outcomes, problems);
            compiled = compiled.zip(strategy).map(|(mut all, strategy)| {
                all.push(strategy);
                all
            });
        }
        let stickiness = variants.first().and_then(|variant| variant.stickiness.clone());
        let variants = compile_variants(variants, stickiness.as_deref(), name.clone(), &mut outcomes);
        let parents = dependencies
            .into_iter()
            .map(|wire| Parent { name: wire.feature, feature: None, enabled: wire.enabled, variants: wire.variants })
            .collect();
        Some(Feature { name, position, enabled, parents, strategies: compiled, variants, outcomes })
    }

    /// Compiles a strategy. None if a part of it is not understood.
    fn strategy(
        &mut self,
        wire: StrategyWire,
        feature: &str,
        path: &Path<'_>,
        outcomes: &mut Vec<Outcome>,
        problems: &mut Problems,
    ) -> Option<Strategy> {
        let StrategyWire { name, parameters, constraints, segments: ids, variants } = wire;
        let (stickiness, group) = (parameters.stickiness.clone(), parameters.group_id.clone());
        let gate = gate(&name, parameters, path, problems);
        let constraints = self.constraints(constraints, path, problems);
        let list = path.field("segments");
        let mut segments = Vec::new();
        for (index, id) in ids.iter().enumerate() {
            let segment = self.segments.get(id).copied();
            if segment.is_none() {
                problems.error(&list.index(index), format!("there is no segment {id}; the feature is off"));
            }
            segments.push(segment.flatten());
        }
        let group = group.unwrap_or_else(|| feature.to_owned());
        let variants = compile_variants(variants, stickiness.as_deref(), group, outcomes);
        let segments = segments.into_iter().collect::<Option<Vec<usize>>>()?;
        Some(Strategy { gate: gate?, constraints: constraints?, segments, variants })
    }

    /// Compiles constraints. None if one of them is not understood.
    fn constraints(
        &mut self,
        list: Vec<ConstraintWire>,
        path: &Path<'_>,
        problems: &mut Problems,
    ) -> Option<Vec<Constraint>> {
        let path = path.field("constraints");
        let mut constraints = Vec::new();
        let count = list.len();
        for (index, wire) in list.into_iter().enumerate() {
            constraints.extend(Constraint::compile(wire, &path.index(index), &mut self.instructions, problems));
        }
        (constraints.len() == count).then_some(constraints)
    }
}

/// The condition of the strategy `name` itself. None if its share exceeds 100.
fn gate(name: &str, parameters: ParametersWire, path: &Path<'_>, problems: &mut Problems) -> Option<Gate> {
    let ParametersWire { user_ids, addresses, rollout, percentage, stickiness, group_id } = parameters;
    let (share, stickiness, group) = match name {
        "default" => return Some(Gate::Always),
        // Every draw is under 100.
        "gradualRolloutRandom" if percentage.as_deref() == Some("100") => return Some(Gate::Always),
        "userWithId" if user_ids.is_some() => return Some(Gate::Check(Constraint::of_list("userId", "IN", user_ids))),
        "remoteAddress" => return Some(Gate::Check(Constraint::of_list("remoteAddress", "IN_CIDR", addresses))),
        "flexibleRollout" => (rollout, read_stickiness(stickiness.as_deref()), group_id),
        "gradualRolloutUserId" if group_id.is_some() => (percentage, read_stickiness(Some("userId")), group_id),
        "gradualRolloutSessionId" if group_id.is_some() => (percentage, read_stickiness(Some("sessionId")), group_id),
        _ => return Some(Gate::Check(Constraint::never())),
    };
    match share.and_then(|share| share.parse::<u32>().ok()) {
        Some(percent @ ..=100) => Some(Gate::Rollout { percent, stickiness, group }),
        Some(percent) => {
            problems.error(&path.field("parameters"), format!("{percent} % is more than all; the feature is off"));
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

fn compile_variants(
    list: Vec<VariantWire>,
    stickiness: Option<&str>,
    group: String,
    outcomes: &mut Vec<Outcome>,
) -> Variants {
    let first_outcome = outcomes.len();
    let compile = |wire: VariantWire| {
        outcomes.push(outcome(Some(wire.name), wire.payload.map_or(Value::Bool(true), value)));
        let overrides = wire.overrides.into_iter().map(|entry| (Source::new(&entry.context_name), entry.values));
        Variant { weight: wire.weight, overrides: overrides.collect() }
    };
    let list = list.into_iter().map(compile).collect();
    Variants { list, stickiness: read_stickiness(stickiness), group, first_outcome }
}

fn outcome(variant: Option<String>, value: Value) -> Outcome {
    Outcome { in_experiment: variant.is_some(), variant, experiment: None, value }
}

/// The value of a payload: JSON and numbers are parsed, where they can be.
fn value(payload: PayloadWire) -> Value {
    let parsed = json::read(payload.value.as_bytes()).ok();
    let parsed = match payload.kind.as_str() {
        "json" => parsed,
        "number" => parsed.filter(Value::is_number),
        _ => None,
    };
    parsed.unwrap_or(Value::String(payload.value))
}
