//! The goals of a request: their events, and the variants for which they count.

use super::context::{DecisionContext, Outputs};
use super::exposures::ExposureReporter;
use crate::events::dedupe::Names;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::request_context::RequestContext;
use crate::request_context::own_cookies::sticky_buckets;
use crate::request_context::sticky::StickyBuckets;
use crate::response_plan::ExposureSubject;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::decide::{Decision, DecisionInput, Units, evaluate_on_route, unit};
use edgesplit_engine::decide_flags;
use edgesplit_engine::flag::{FlagExposure, FlagSink, FlagVisitor, StickyStore};
use edgesplit_engine::observer::Observer;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Choice, Experiment, State, Variant};
use std::fmt;

/// The number of experiments or flags that are decided for a goal, the first active ones of the config. Goals of the others
/// are not counted by variant.
pub const GOAL_EXPERIMENTS_MAX: usize = 1_000;

/// The number of pairs of a goal and an experiment that a request may count: of many goals on a page, fewer experiments are
/// decided.
const GOAL_COUNTS_MAX: usize = 4_000;

/// Defers the goals that the response may reach. Only a visitor who is known and not excluded can reach one.
#[inline(never)]
pub(super) fn defer(
    context: &DecisionContext<'_>,
    input: &DecisionInput<'_>,
    request: &RequestContext<'_>,
    host: &impl Host,
    outputs: &mut Outputs<'_>,
) {
    let DecisionContext { snapshot, plan, .. } = *context;
    let identified = input.exclusion_reason().is_none();
    let Some(unit) = identified.then(|| unit(&AttributeName::Id, request)).flatten() else { return };
    let Some(recorder) = outputs.recorder else { return };
    let actions = outputs.response.actions(snapshot);
    actions.goals.extend_from_slice(plan.goals);
    actions.assigned = assigned(context, input, request, &recorder.names, outputs.metrics);
    let reporter = ExposureReporter::new(recorder, context);
    actions.written_goals = reporter.goals(snapshot, plan.goals, &unit, request, || host.random());
    actions.goal_unit = unit.into_owned();
}

/// The variants that the visitor is assigned on any route, each with the visitor's name in the memory of counted goals.
/// Audiences are compared with the request of the goal.
fn assigned(
    context: &DecisionContext<'_>,
    input: &DecisionInput<'_>,
    request: &RequestContext<'_>,
    names: &Names,
    metrics: &mut Metrics,
) -> Vec<(ExposureSubject, u64)> {
    let snapshot = context.snapshot;
    let sticky_config = context.config.request.sticky.as_ref();
    let mut assigned = Assigned { names, subjects: Vec::new(), limited: 0 };
    let active =
        |(_, experiment): &(usize, &Experiment)| !matches!(experiment.state, State::Paused | State::Concluded(_));
    let mut active = snapshot.experiments.iter().enumerate().filter(active);
    let affordable = GOAL_COUNTS_MAX / context.plan.goals.len().max(1);
    let decided = active.by_ref().take(affordable.min(GOAL_EXPERIMENTS_MAX));
    if let Some(evaluator) = snapshot.flag_evaluator.as_deref() {
        let numbers: Vec<u32> = decided.filter_map(|(number, _)| u32::try_from(number).ok()).collect();
        let cookie = |name: &str| request.cookies().get_encoded(name);
        let sticky_store = sticky_config.map(|_| &cookie as &StickyStore<'_>);
        let DecisionInput { steps, now_ms, .. } = *input;
        let visitor = FlagVisitor { id: request.id, attributes: request, previewed: &[], sticky_store, steps, now_ms };
        decide_flags(snapshot, evaluator, &numbers, input, &visitor, &mut assigned);
    } else {
        let sticky = sticky_config.map(|cookie| sticky_buckets(request, cookie));
        let input = DecisionInput { sticky: sticky.as_ref().map_or(&[], StickyBuckets::buckets), ..*input };
        let units = Units::new(snapshot, &input, request);
        for (experiment, decided) in decided {
            let Decision { variant, reason } = evaluate_on_route(snapshot, decided, &input, &units, &mut ());
            assigned.limited += u64::from(reason == Reason::Limit);
            let variant = variant.filter(|_| matches!(reason, Reason::Bucketed | Reason::Sticky));
            let Some(choice) = variant.map(|variant| Choice { experiment, variant }) else { continue };
            let Some((tag, unit)) = snapshot.choice(choice).map(|(_, it)| it.tag).zip(unit(&decided.unit, request))
            else {
                continue;
            };
            assigned.subjects.push((ExposureSubject::Choice(choice), names.visitor(unit.as_bytes()) ^ tag));
        }
    }
    metrics.decided(Reason::Limit, assigned.limited + active.count() as u64);
    assigned.subjects
}

/// Collects the variants of a visitor: those that a vendor's evaluator would report.
struct Assigned<'a> {
    names: &'a Names,
    subjects: Vec<(ExposureSubject, u64)>,
    /// How many decisions exceeded the limit of work.
    limited: u64,
}

impl Observer for Assigned<'_> {
    fn check(&mut self, _name: &str, _passed: bool, _detail: fmt::Arguments<'_>) {}
}

impl FlagSink for Assigned<'_> {
    fn decided(&mut self, _flag: usize, _outcome: Option<usize>, reason: Reason) {
        self.limited += u64::from(reason == Reason::Limit);
    }

    fn exposed(&mut self, exposure: &FlagExposure<'_>) {
        let FlagExposure { experiment, variant, unit, .. } = *exposure;
        let tag = Variant::tag(experiment, variant.unwrap_or_default());
        let (experiment, variant) = (experiment.to_owned(), variant.map(str::to_owned));
        let visitor = self.names.visitor(unit.as_bytes());
        self.subjects.push((ExposureSubject::Reported { experiment, variant, tag }, visitor ^ tag));
    }
}
