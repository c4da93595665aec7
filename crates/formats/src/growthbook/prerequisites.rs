//! Prerequisites: features whose values decide whether a rule is for a visitor.

use super::experiment::Parent;
use super::feature::Feature;
use crate::diagnostics::{Path, Problems};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::StepBudget;
use js_regex::STEPS_MAX;
use serde_json::Value;
use std::collections::HashMap;

/// How long a chain of features may be that are prerequisites of each other. It bounds the stack that deciding takes.
pub(super) const PREREQUISITE_DEPTH_MAX: usize = 32;

/// Which of the features stand on a chain of prerequisites that is too long.
///
/// A cycle is no long chain: whether a visitor runs into it is only known when deciding, which has an end of its own.
pub(super) fn too_deep(features: &[Feature], by_key: &HashMap<String, usize>) -> Vec<bool> {
    let mut children = vec![Vec::new(); features.len()];
    let mut open = vec![0_usize; features.len()];
    for (at, feature) in features.iter().enumerate() {
        let parents = feature.rules.iter().flat_map(|rule| &rule.parents);
        for parent in parents.filter_map(|parent| by_key.get(&parent.id)) {
            if let (Some(children), Some(open)) = (children.get_mut(*parent), open.get_mut(at)) {
                children.push(at);
                *open += 1;
            }
        }
    }
    // From the features without a prerequisite on, each once all of its own are done; those of a cycle never are.
    let mut depths = vec![1_usize; features.len()];
    let mut ready: Vec<usize> = (0..).zip(&open).filter(|(_, open)| **open == 0).map(|(at, _)| at).collect();
    while let Some(at) = ready.pop() {
        let depth = depths.get(at).copied().unwrap_or_default() + 1;
        for &child in children.get(at).into_iter().flatten() {
            if let (Some(deepest), Some(open)) = (depths.get_mut(child), open.get_mut(child)) {
                *deepest = depth.max(*deepest);
                *open -= 1;
                if *open == 0 {
                    ready.push(child);
                }
            }
        }
    }
    depths.into_iter().map(|depth| depth > PREREQUISITE_DEPTH_MAX).collect()
}

/// Ties prerequisites to their features, and decides in advance which of those features' outcomes pass.
pub(super) fn tie(
    parents: &mut [Parent],
    path: &Path<'_>,
    by_key: &HashMap<String, usize>,
    features: &[Feature],
    problems: &mut Problems,
) {
    let path = path.field("parentConditions");
    for (position, parent) in parents.iter_mut().enumerate() {
        parent.feature = by_key.get(&parent.id).copied();
        let condition = parent.condition.as_ref();
        let passes = |value: &Value| match condition {
            // A value that exceeds the limit of work passes nothing, as it would not in a request.
            Some(condition) => condition.matches(&ParentValue(value), &StepBudget::new(STEPS_MAX)) == Ok(true),
            None => true,
        };
        match parent.feature.and_then(|at| features.get(at)) {
            Some(feature) => parent.passes = feature.outcomes.iter().map(|outcome| passes(&outcome.value)).collect(),
            None => {
                // Which the SDK decides by, so it disables nothing else.
                let message = format!("there is no valid feature {:?}: its value is null", parent.id);
                problems.error(&path.index(position).field("id"), message);
                parent.passes = vec![passes(&Value::Null)];
            }
        }
    }
}

/// The attributes that the condition of a prerequisite sees: the parent's value under the name `value`.
struct ParentValue<'v>(&'v Value);

impl Attributes for ParentValue<'_> {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        let AttributeName::Named(name) = name else { return AttributeValue::Missing };
        let mut parts = name.split('.');
        let found = match parts.next() {
            Some("value") => parts.try_fold(self.0, |value, part| match value {
                Value::Array(list) => list.get(part.parse::<usize>().ok()?),
                value => value.get(part),
            }),
            _ => None,
        };
        found.map_or(AttributeValue::Missing, AttributeValue::Json)
    }
}
