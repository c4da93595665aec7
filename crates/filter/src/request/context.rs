//! The facts that the decisions of a request share, and everything that they change.

use super::plan::RequestPlan;
use crate::assignment_set::AssignmentSets;
use crate::decision_counts::DecisionCounts;
use crate::events::recorder::SharedRecorder;
use crate::guardrails::Guardrails;
use crate::identification::Identification;
use crate::metrics::Metrics;
use crate::plugin_config::PluginConfig;
use crate::response_plan::ResponsePlan;
use edgesplit_engine::condition::StepBudget;
use edgesplit_engine::snapshot::{Choice, Snapshot};
use std::sync::Arc;

/// The facts that all decisions of a request share.
pub(super) struct DecisionContext<'a> {
    pub(super) config: &'a PluginConfig,
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) plan: &'a RequestPlan<'a>,
    pub(super) guardrails: &'a Guardrails,
    /// The work that conditions may still do.
    pub(super) steps: &'a StepBudget,
    /// The work that events may still do.
    pub(super) event_steps: &'a StepBudget,
    pub(super) now_ms: i64,
}

/// The parts of a worker that decisions change, and the plan of the response.
pub(super) struct Outputs<'a> {
    pub(super) response: ResponsePlan,
    pub(super) metrics: &'a mut Metrics,
    pub(super) decisions: &'a mut DecisionCounts,
    pub(super) identification: &'a mut Identification,
    /// Absent for previews and for requests that show nothing, which are not reported.
    pub(super) recorder: Option<&'a SharedRecorder>,
    pub(super) assignment_sets: &'a mut AssignmentSets,
    /// The variants of the visitor, in the order of the config.
    pub(super) choices: &'a mut Vec<Choice>,
    /// The choices that may be exposures.
    pub(super) exposed: &'a mut Vec<Choice>,
}
