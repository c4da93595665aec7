//! The fourth stage: the effects of the variants, and the changes of the request.

use super::context::DecisionContext;
use super::decide::Decided;
use super::flow::Flow;
use super::mutations::HeaderMutations;
use super::redirect::{leads_to_allowed_host, location};
use crate::host::{Host, StreamHost};
use crate::http::url;
use crate::metrics::{Counter, Metrics};
use crate::request_context::RequestContext;
use edgesplit_engine::snapshot::{Choice, Effects, Needs};

/// Applies the decisions to the request, and keeps the plan of its response.
#[inline(always)]
pub(super) fn write<'a>(
    context: &DecisionContext<'a>,
    request: &RequestContext<'a>,
    mutations: HeaderMutations<'a>,
    decided: Decided,
    (choices, metrics): (&[Choice], &mut Metrics),
    host: &(impl Host + StreamHost),
) -> Flow {
    let Decided { set, redirect, response } = decided;
    let (mut mutations, mut to) = (mutations, None);
    if context.plan.needs.contains(Needs::REQUEST_EFFECTS) {
        to = apply_effects(context, request, choices, &mut mutations, metrics);
    }
    if context.plan.preview.is_some() {
        mutations.store_nothing(request.headers);
    }
    mutations.set_assignments(&set.assignments, &set.cache_key);
    if set.omitted > 0 {
        metrics.add(Counter::AssignmentsOmitted, set.omitted as u64);
    }
    let redirect = redirect.filter(|_| to.is_none()).filter(|to| is_allowed(to, context, request, metrics));
    if let Some(location) = to.or(redirect) {
        if respond(&location, request, host) {
            return Flow::Answered(response);
        }
        metrics.add(Counter::Respond, 1);
    }
    mutations.apply(host);
    Flow::Continue(response)
}

/// Answers the request with a redirect. False: the host refuses it.
#[inline(never)]
fn respond(location: &str, request: &RequestContext<'_>, host: &impl StreamHost) -> bool {
    // Methods that change something keep their method and body.
    let status = if matches!(request.method, b"GET" | b"HEAD") { 302 } else { 307 };
    host.respond(status, &[("location", location)])
}

/// Adds the effects of the choices, in the order of the experiments. Returns the first redirect that leads elsewhere.
#[inline(never)]
fn apply_effects<'a>(
    context: &DecisionContext<'a>,
    request: &RequestContext<'_>,
    choices: &[Choice],
    mutations: &mut HeaderMutations<'a>,
    metrics: &mut Metrics,
) -> Option<String> {
    // The cache's parameter is not part of any location.
    let sent = match context.config.request.cache_key.query.as_deref() {
        Some(name) => url::with_parameter(mutations.target, name, None),
        None => mutations.target.to_vec(),
    };
    let sent = url::path_and_query(&sent).1;
    let mut redirect = None;
    let snapshot = context.snapshot;
    for (_, variant) in choices.iter().filter_map(|choice| snapshot.choice(*choice)) {
        let Effects { request_headers, path, redirect: to, .. } = &variant.effects;
        mutations.sets.extend(request_headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        if let Some(path) = path
            && mutations.rewrite_path(path).is_err()
        {
            metrics.add(Counter::EffectRefused, 1);
        }
        if let (Some(to), None) = (to, &redirect)
            && is_allowed(to, context, request, metrics)
        {
            redirect = location(to, sent, request);
        }
    }
    redirect
}

/// Whether a redirect may lead to `to`. A refusal is counted.
fn is_allowed(to: &str, context: &DecisionContext<'_>, request: &RequestContext<'_>, metrics: &mut Metrics) -> bool {
    let is_allowed = leads_to_allowed_host(to, request, context.config.redirect_hosts());
    if !is_allowed {
        metrics.add(Counter::EffectRefused, 1);
    }
    is_allowed
}
