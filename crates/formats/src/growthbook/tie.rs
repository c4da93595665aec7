//! Prerequisites that are tied to their features when a payload is compiled.

use super::experiment::Parent;
use super::feature::Feature;
use crate::diagnostics::{Path, Problems};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes, member};
use edgesplit_engine::condition::StepBudget;
use serde_json::Value;
use std::collections::HashMap;

/// How many steps deciding the prerequisites of one feature in advance may take, and those of a payload.
pub(super) const TIE_STEPS_MAX: u32 = 100_000;
pub(super) const PAYLOAD_TIE_STEPS_MAX: u32 = 10_000_000;

/// Ties prerequisites to their features, and decides in advance which outcomes of those features pass. Takes the work from
/// `steps`.
pub(super) fn tie(
    parents: &mut [Parent],
    path: &Path<'_>,
    (by_key, features): (&HashMap<String, usize>, &[Feature]),
    steps: &StepBudget,
    problems: &mut Problems,
) {
    let path = path.field("parentConditions");
    for (position, parent) in parents.iter_mut().enumerate() {
        parent.feature = by_key.get(&parent.id).copied();
        let condition = parent.condition.as_ref();
        let passes = |value: &Value| match condition {
            // A value that exceeds the limit of work passes nothing, as it would not in a request.
            Some(condition) => condition.matches(&ParentValue(value), steps) == Ok(true),
            None => true,
        };
        match parent.feature.and_then(|at| features.get(at)) {
            Some(feature) => {
                let outcomes = u32::try_from(feature.outcomes.len()).unwrap_or(u32::MAX);
                if steps.spend(outcomes).is_ok() {
                    parent.passes = feature.outcomes.iter().map(|outcome| passes(&outcome.value)).collect();
                }
                if steps.left() == 0 {
                    let message = "deciding the prerequisites in advance takes too much work: from here on, none holds";
                    problems.error(&path.index(position), message);
                }
            }
            None => {
                // The SDK has a meaning for it, so it disables nothing.
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
