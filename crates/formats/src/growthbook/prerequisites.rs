//! Prerequisites: features whose values decide whether a rule is for a visitor.

use super::experiment::Parent;
use super::feature::Feature;
use crate::diagnostics::{Path, Problems};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes, member};
use edgesplit_engine::condition::StepBudget;
use js_regex::STEPS_MAX;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// How long a chain of features may be that are prerequisites of each other. It bounds the stack that deciding takes.
pub(super) const PREREQUISITE_DEPTH_MAX: usize = 32;

/// Why each of the features cannot be decided, if so: it stands on a chain of prerequisites that is too long, or depends on a
/// feature that is disabled, itself or by way of others.
///
/// A cycle is no long chain: whether a visitor runs into it is only known when deciding, which has an end of its own.
pub(super) fn undecidable(
    features: &[Feature],
    by_key: &HashMap<String, usize>,
    disabled: &HashSet<String>,
) -> Vec<Option<String>> {
    let mut problems = vec![None; features.len()];
    let mut children = vec![Vec::new(); features.len()];
    let mut open = vec![0_usize; features.len()];
    for (at, feature) in features.iter().enumerate() {
        for parent in feature.rules.iter().flat_map(|rule| &rule.parents) {
            let place = by_key.get(&parent.id).and_then(|place| children.get_mut(*place));
            if let (Some(children), Some(open)) = (place, open.get_mut(at)) {
                children.push(at);
                *open += 1;
            } else if let (true, Some(problem)) = (disabled.contains(&parent.id), problems.get_mut(at)) {
                *problem = Some(depends_on(&parent.id));
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
    for (problem, _) in problems.iter_mut().zip(depths).filter(|(_, depth)| *depth > PREREQUISITE_DEPTH_MAX) {
        *problem = Some(format!("more than {PREREQUISITE_DEPTH_MAX} features are prerequisites of each other here"));
    }
    let mut unusable: Vec<usize> =
        (0..).zip(&problems).filter(|(_, problem)| problem.is_some()).map(|(at, _)| at).collect();
    while let Some(at) = unusable.pop() {
        let key = features.get(at).map_or("", |feature| &feature.key);
        for &child in children.get(at).into_iter().flatten() {
            if let Some(problem @ None) = problems.get_mut(child) {
                *problem = Some(depends_on(key));
                unusable.push(child);
            }
        }
    }
    problems
}

/// The problem of a part that depends on the disabled feature `key`.
pub(super) fn depends_on(key: &str) -> String {
    format!("depends on the feature {key:?}, which is disabled")
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
                let message = format!("there is no feature {:?}: its value is null", parent.id);
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
        let written = name.written();
        let found = match written.strip_prefix("value") {
            Some("") => Some(self.0),
            Some(rest) => rest.strip_prefix('.').and_then(|path| member(self.0, path)),
            None => None,
        };
        found.map_or(AttributeValue::Missing, AttributeValue::Json)
    }
}
