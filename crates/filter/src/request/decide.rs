//! The third stage: the decisions, and the events and cookies that follow from them.

use super::context::{DecisionContext, Outputs};
use super::cookies;
use super::debug::debug_text;
use super::exposures::ExposureReporter;
use super::flags::{self, FlagOutcomes};
use super::goals;
use super::read::RequestTexts;
use super::redirect::is_redirect_skipped;
use crate::assignment_set::AssignmentSet;
use crate::host::Host;
use crate::metrics::Counter;
use crate::request_context::own_cookies::sticky_buckets;
use crate::request_context::sticky::StickyBuckets;
use crate::request_context::{RequestContext, id, is_bot};
use edgesplit_engine::assignments::mark_preview;
use edgesplit_engine::decide::{Decision, DecisionInput, Units, evaluate_on_route};
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Choice, Needs};
use std::sync::Arc;

/// The result of the third stage.
pub(super) struct Decided {
    pub(super) set: Arc<AssignmentSet>,
    /// Whether the response counts for the set.
    pub(super) is_counted: bool,
    /// The target of a vendor's redirect.
    pub(super) redirect: Option<String>,
}

/// Decides the planned experiments.
#[inline(always)]
pub(super) fn decide<'a>(
    context: &DecisionContext<'a>,
    request: &mut RequestContext<'a>,
    texts: &'a RequestTexts,
    host: &impl Host,
    outputs: &mut Outputs<'_>,
) -> Decided {
    let DecisionContext { config, snapshot, plan, guardrails, steps, event_steps, now_ms } = *context;
    let bot = is_bot(request, &config.visitor);
    let off = guardrails.off();
    let mut input = DecisionInput { consent: plan.consent, bot, off, ..DecisionInput::unrestricted(now_ms, steps) };
    request.id = id(request, &config.visitor, &texts.id);
    if request.id.is_none() && config.visitor.mint.is_some() {
        request.id = cookies::mint(context, &input, request, host, &texts.id, outputs);
    }
    outputs.identification.count(request.id.is_some());
    let is_excluded = input.exclusion_reason().is_some();
    let uses_sticky = plan.needs.contains(Needs::STICKY) && !is_excluded;
    let cookie = config.request.sticky.as_ref().filter(|_| uses_sticky);
    let mut sticky = cookie.map(|cookie| sticky_buckets(request, cookie));
    input.preview = plan.preview.as_deref().unwrap_or_default();
    input.sticky = sticky.as_ref().map_or(&[], StickyBuckets::buckets);

    let outcomes = evaluate_all(context, &input, request, outputs);
    if !plan.goals.is_empty() {
        goals::defer(context, &input, request, host, outputs);
    }
    if outputs.response.has_events() {
        outputs.response.actions(snapshot).describe(request, config, event_steps);
    }
    // Less is left than the next attribute or event needs.
    outputs.metrics.add(Counter::EventLimit, u64::from(event_steps.left() == 0));
    if plan.preview.is_some() && config.response.debug_header.is_some() {
        let decided = outcomes.as_ref().map_or(&[][..], |outcomes| &outcomes.decided);
        outputs.response.actions(snapshot).debug = debug_text(context, decided, &input, request);
    }
    let set = assignment_set(context, host, outputs);
    if plan.preview.is_none() {
        if let (Some(cookie), Some(sticky)) = (cookie, &mut sticky) {
            cookies::remember(context, request, cookie, sticky, outputs);
        }
        if !is_excluded {
            if let Some(outcomes) = &outcomes {
                cookies::keep_for_vendor(context, request, outcomes, outputs);
            }
            cookies::unify_id(context, request, outputs);
        }
        if plan.is_visit
            && let Some(guarded) = guardrails.visits(outputs.choices, request)
        {
            outputs.response.actions(snapshot).guarded = guarded;
        }
    }
    let is_counted = plan.is_visit && plan.preview.is_none() && !set.assignments.is_empty();
    if !plan.consent && config.visitor.expire_cookies {
        cookies::expire(context, request, &mut outputs.response);
    }
    if plan.needs.contains(Needs::RESPONSE_HEADERS) {
        defer_headers(context, outputs);
    }
    Decided { set, is_counted, redirect: outcomes.and_then(|outcomes| outcomes.redirect) }
}

/// Decides every experiment, and defers the exposures to the response. Only a vendor's evaluator and previews have outcomes.
#[inline(never)]
fn evaluate_all(
    context: &DecisionContext<'_>,
    input: &DecisionInput<'_>,
    request: &RequestContext<'_>,
    outputs: &mut Outputs<'_>,
) -> Option<FlagOutcomes> {
    let DecisionContext { config, snapshot, plan, .. } = *context;
    outputs.choices.clear();
    outputs.exposed.clear();
    if let Some(evaluator) = snapshot.flag_evaluator.as_deref() {
        return Some(flags::decide(context, evaluator, input, request, outputs));
    }
    let units = Units::new(snapshot, input, request);
    let mut outcomes: Option<FlagOutcomes> = plan.preview.is_some().then(FlagOutcomes::default);
    let may_expose = outputs.recorder.is_some() || plan.needs.contains(Needs::STICKY);
    for number in plan.experiments.iter().map(|&number| number as usize) {
        let Some(experiment) = snapshot.experiments.get(number) else { continue };
        let Decision { variant, reason } = evaluate_on_route(snapshot, experiment, input, &units, &mut ());
        match &mut outcomes {
            None => outputs.decisions.add(number, reason),
            Some(outcomes) => outcomes.decided.push((number, variant, reason)),
        }
        let Some(variant) = variant else { continue };
        let choice = Choice { experiment: number, variant };
        outputs.choices.push(choice);
        if may_expose && matches!(reason, Reason::Bucketed | Reason::Sticky) {
            let is_skipped = plan.needs.contains(Needs::REQUEST_EFFECTS)
                && is_redirect_skipped(snapshot, choice, request, config.redirect_hosts());
            if !is_skipped {
                outputs.exposed.push(choice);
            }
        }
    }
    if let Some(recorder) = outputs.recorder {
        ExposureReporter::new(recorder, context).report(snapshot, outputs.exposed, request, &mut outputs.response);
    }
    outcomes
}

/// Defers the response headers of the choices.
#[inline(never)]
fn defer_headers(context: &DecisionContext<'_>, outputs: &mut Outputs<'_>) {
    let snapshot = context.snapshot;
    let sets_headers =
        |choice: &Choice| snapshot.choice(*choice).is_some_and(|(_, it)| !it.effects.response_headers.is_empty());
    let choices = outputs.choices.iter().copied().filter(sets_headers);
    outputs.response.actions(snapshot).choices.extend(choices);
}

/// The set of the choices. No cache keeps an object of a preview.
#[inline(always)]
fn assignment_set(context: &DecisionContext<'_>, host: &impl Host, outputs: &mut Outputs<'_>) -> Arc<AssignmentSet> {
    if context.plan.preview.is_none() {
        return outputs.assignment_sets.get(context.snapshot, outputs.choices);
    }
    preview_set(context, host, outputs)
}

#[inline(never)]
fn preview_set(context: &DecisionContext<'_>, host: &impl Host, outputs: &mut Outputs<'_>) -> Arc<AssignmentSet> {
    let mut set = AssignmentSet::new(context.snapshot, outputs.choices);
    mark_preview(&mut set.cache_key, Some(host.random()));
    Arc::new(set)
}
