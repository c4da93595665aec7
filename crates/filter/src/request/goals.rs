//! The goals of a request: their events, and the variants for which they count.

use super::context::{DecisionContext, WorkerParts};
use super::exposures::ExposureReporter;
use crate::events::dedupe::Dedupe;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::request_context::RequestContext;
use crate::request_context::own_cookies::sticky_buckets;
use crate::request_context::sticky::StickyBuckets;
use crate::response_plan::ResponsePlan;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::decide::{Decision, DecisionInput, Units, evaluate_on_route, unit};
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Choice, State};

/// The number of running experiments that are decided for a goal, the first ones of the config. Goals of the others are not
/// counted by variant.
pub const GOAL_EXPERIMENTS_MAX: usize = 1_000;

/// Defers the goals that the response may reach. Only a visitor who is known and not excluded can reach one.
#[inline(never)]
pub(super) fn defer(
    context: &DecisionContext<'_>,
    input: &DecisionInput<'_>,
    request: &RequestContext<'_>,
    host: &impl Host,
    parts: &mut WorkerParts<'_>,
    response: &mut ResponsePlan,
) {
    let DecisionContext { snapshot, plan, .. } = *context;
    let identified = input.exclusion_reason().is_none();
    let Some(unit) = identified.then(|| unit(&AttributeName::Id, request)).flatten() else { return };
    let Some(pipeline) = parts.pipeline.as_deref_mut() else { return };
    let actions = response.actions(snapshot);
    actions.goals.extend_from_slice(plan.goals);
    actions.assigned = assigned(context, input, request, &pipeline.goals, parts.metrics);
    let reporter = ExposureReporter::new(pipeline, context);
    actions.written_goals = reporter.goals(snapshot, plan.goals, &unit, request, || host.random());
    actions.goal_unit = unit.into_owned();
}

/// The variants that the visitor is assigned on any route, each with the visitor's name in the memory of counted goals.
/// Audiences are compared with the request of the goal.
fn assigned(
    context: &DecisionContext<'_>,
    input: &DecisionInput<'_>,
    request: &RequestContext<'_>,
    counted: &Dedupe,
    metrics: &mut Metrics,
) -> Vec<(Choice, u64)> {
    let snapshot = context.snapshot;
    let sticky = context.config.request.sticky.as_ref().map(|cookie| sticky_buckets(request, cookie));
    let input = DecisionInput { sticky: sticky.as_ref().map_or(&[], StickyBuckets::buckets), ..*input };
    let (units, mut limited) = (Units::new(request), 0);
    let running = snapshot.experiments.iter().enumerate().filter(|(_, experiment)| experiment.state == State::Running);
    let choices = running.enumerate().filter_map(|(place, (number, experiment))| {
        if place >= GOAL_EXPERIMENTS_MAX {
            limited += 1;
            return None;
        }
        let Decision { variant, reason } = evaluate_on_route(snapshot, experiment, &input, &units, &mut ());
        limited += u64::from(reason == Reason::Limit);
        let variant = variant.filter(|_| matches!(reason, Reason::Bucketed | Reason::Sticky))?;
        let choice = Choice { experiment: number, variant };
        let (_, chosen) = snapshot.choice(choice)?;
        Some((choice, counted.visitor(unit(&experiment.unit, request)?.as_bytes()) ^ chosen.tag))
    });
    let choices = choices.collect();
    metrics.decided(Reason::Limit, limited);
    choices
}
