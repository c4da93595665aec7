//! The fourth stage: the effects of the variants, and the changes of the request.

use super::context::{DecisionContext, Outputs};
use super::decide::Decided;
use super::mutations::HeaderMutations;
use super::redirect::{leads_to_allowed_host, location};
use crate::host::{Host, StreamHost};
use crate::http::url;
use crate::http::validators;
use crate::metrics::{Counter, Metrics};
use crate::request_context::RequestContext;
use edgesplit_engine::snapshot::{Choice, Effects, Needs};
use std::borrow::Cow;

/// Applies the decisions to the request. Returns whether the filter answers it.
#[inline(always)]
pub(super) fn write<'a>(
    context: &DecisionContext<'a>,
    request: &RequestContext<'a>,
    mutations: &mut HeaderMutations<'a>,
    decided: Decided,
    outputs: &mut Outputs<'_>,
    host: &(impl Host + StreamHost),
) -> bool {
    let Decided { set, is_counted, redirect } = decided;
    let Outputs { response, metrics, .. } = outputs;
    if context.config.response.validators_per_variant {
        response.validator_mark = validators::mark(&set.cache_key);
        mutations.change_conditions(request.headers, response.validator_mark);
    }
    let mut location = None;
    if context.plan.needs.contains(Needs::REQUEST_EFFECTS) || redirect.is_some() {
        location = apply_effects(context, request, (outputs.choices, redirect), mutations, metrics);
        if let Some(rewrite) = mutations.rewrite(request.target) {
            response.actions(context.snapshot).rewrite = Some(rewrite);
        }
    }
    if context.plan.preview.is_some() {
        // Keeps the response out of caches.
        mutations.change("cache-control", Some("no-store".into()));
    }
    mutations.set_cache_parameter(&set.cache_key, request.target);
    if set.omitted > 0 {
        metrics.add(Counter::AssignmentsOmitted, set.omitted as u64);
    }
    let is_answered = location.is_some_and(|location| respond(&location, request, metrics, host));
    if !is_answered {
        response.changes_target = mutations.new_target.is_some();
        mutations.apply(request, (&set.assignments, &set.cache_key), host);
    }
    response.assigned = is_counted.then_some(set);
    is_answered
}

/// Answers the request with a redirect, and returns whether the host accepts it. A refusal is counted.
#[inline(never)]
fn respond(location: &str, request: &RequestContext<'_>, metrics: &mut Metrics, host: &impl StreamHost) -> bool {
    // Methods that change something keep their method and body.
    let status = if matches!(request.method(), b"GET" | b"HEAD") { 302 } else { 307 };
    let is_answered = host.respond(status, &[("location", location)]);
    if !is_answered {
        metrics.add(Counter::Respond, 1);
    }
    is_answered
}

/// Adds the effects of the choices, in the order of the experiments. Returns the first redirect that leads elsewhere: of the
/// choices, then of a vendor.
#[inline(never)]
fn apply_effects<'a>(
    context: &DecisionContext<'a>,
    request: &RequestContext<'_>,
    (choices, of_vendor): (&[Choice], Option<String>),
    mutations: &mut HeaderMutations<'a>,
    metrics: &mut Metrics,
) -> Option<String> {
    let target = request.received_target();
    // The cache's parameter is not part of any location.
    let sent = || match context.config.request.cache_key.query.as_deref() {
        Some(name) => Cow::Owned(url::with_parameter(target, name, None)),
        None => Cow::Borrowed(target),
    };
    let mut redirect = None;
    let snapshot = context.snapshot;
    for (_, variant) in choices.iter().filter_map(|choice| snapshot.choice(*choice)) {
        let Effects { request_headers, path, redirect: to, .. } = &variant.effects;
        for (name, value) in request_headers {
            mutations.change(name, Some(value.into()));
        }
        if let Some(path) = path
            && mutations.rewrite_path(path, request.target).is_err()
        {
            metrics.add(Counter::EffectRefused, 1);
        }
        if let (Some(to), None) = (to, &redirect)
            && is_allowed(to, context, request, metrics)
        {
            redirect = location(to, url::path_and_query(&sent()).1, request);
        }
    }
    redirect.or_else(|| of_vendor.filter(|to| is_allowed(to, context, request, metrics)))
}

/// Whether a redirect may lead to `to`. A refusal is counted.
fn is_allowed(to: &str, context: &DecisionContext<'_>, request: &RequestContext<'_>, metrics: &mut Metrics) -> bool {
    let is_allowed = leads_to_allowed_host(to, request, context.config.redirect_hosts());
    if !is_allowed {
        metrics.add(Counter::EffectRefused, 1);
    }
    is_allowed
}
