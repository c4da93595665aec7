//! The fourth stage: the effects of the variants, and the changes of the request.

use super::context::DecisionContext;
use super::decide::Decided;
use super::flow::Flow;
use super::mutations::HeaderMutations;
use super::redirect::{leads_to_allowed_host, location};
use crate::host::{Host, StreamHost};
use crate::http::headers::HeaderMap;
use crate::http::url;
use crate::http::validators::{self, Condition};
use crate::metrics::{Counter, Metrics};
use crate::plugin_config::PluginConfig;
use crate::request_context::RequestContext;
use edgesplit_engine::snapshot::{Choice, Effects, Needs};
use std::borrow::Cow;

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
    let Decided { set, is_counted, redirect, mut response } = decided;
    if context.config.response.validators_per_variant {
        response.validator_mark = validators::mark(&set.cache_key);
    }
    let conditions = conditions(context.config, request.headers, response.validator_mark);
    let (mut mutations, mut location) = (mutations, None);
    set_conditions(&mut mutations, &conditions);
    if context.plan.needs.contains(Needs::REQUEST_EFFECTS) || redirect.is_some() {
        location = apply_effects(context, request, (choices, redirect), &mut mutations, metrics);
        if let Some(rewrite) = mutations.rewrite(request.target) {
            response.actions(context.snapshot).rewrite = Some(rewrite);
        }
    }
    if context.plan.preview.is_some() {
        // Keeps the response out of caches.
        mutations.change("cache-control", Some("no-store"));
    }
    mutations.set_assignments(&set.assignments, &set.cache_key);
    if set.omitted > 0 {
        metrics.add(Counter::AssignmentsOmitted, set.omitted as u64);
    }
    let is_answered = location.is_some_and(|location| respond(&location, request, metrics, host));
    if !is_answered {
        response.changes_target = mutations.new_target.is_some();
        mutations.apply(host);
    }
    drop(mutations);
    response.assigned = is_counted.then_some(set);
    if is_answered { Flow::Answered(response) } else { Flow::Continue(response) }
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

/// Writes a request without experiments.
#[inline(always)]
pub(super) fn write_unplanned(config: &PluginConfig, mutations: HeaderMutations<'_>, host: &impl StreamHost) {
    let conditions = conditions(config, mutations.headers, None);
    let mut mutations = mutations;
    set_conditions(&mut mutations, &conditions);
    mutations.apply(host);
}

/// The conditions of the request that change, if validators are per variant.
#[inline(always)]
fn conditions(config: &PluginConfig, headers: &HeaderMap<'_>, mark: Option<u64>) -> Vec<Condition> {
    if config.response.validators_per_variant { validators::conditions(headers, mark) } else { Vec::new() }
}

#[inline(always)]
fn set_conditions<'a>(mutations: &mut HeaderMutations<'a>, conditions: &'a [Condition]) {
    for (name, value) in conditions {
        mutations.change(name, value.as_deref());
    }
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
    let target = mutations.target;
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
            mutations.change(name, Some(value));
        }
        if let Some(path) = path
            && mutations.rewrite_path(path).is_err()
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
