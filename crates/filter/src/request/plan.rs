//! The second stage: the work that a request can need.

use crate::metrics::Metrics;
use crate::plugin_config::PluginConfig;
use crate::request_context::{RequestContext, has_consent, is_included, preview};
use crate::response_plan::Caching;
use edgesplit_engine::condition::StepBudget;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::route::{OPTIONS, Route};
use edgesplit_engine::route_index::{RouteIndex, RouteMatches};
use edgesplit_engine::snapshot::{Needs, Snapshot};
use std::borrow::Cow;

/// The work for one request.
#[derive(Debug)]
pub(super) struct RequestPlan<'a> {
    /// The numbers of the experiments whose routes match.
    pub(super) experiments: &'a [u32],
    /// The numbers of the goals whose routes match, if there are events.
    pub(super) goals: &'a [u32],
    /// The inputs and outputs that the experiments can need.
    pub(super) needs: Needs,
    /// The variants that a preview link shows, by the keys of their experiments. A preview is not counted or reported, and
    /// leaves nothing in the browser.
    pub(super) preview: Option<Vec<(String, String)>>,
    /// Whether the visitor has consented to experiments.
    pub(super) consent: bool,
    /// Whether the response may be shown to a visitor, and so counts.
    pub(super) is_visit: bool,
}

impl RequestPlan<'_> {
    /// The instruction for caches between the proxy and the client.
    #[inline(always)]
    pub(super) fn caching(&self, config: &PluginConfig) -> Caching {
        if self.preview.is_some() {
            Caching::NoStore
        } else if config.response.downstream_private && !self.experiments.is_empty() {
            Caching::Private
        } else {
            Caching::Unchanged
        }
    }
}

/// The parts of a worker that plan requests.
pub(super) struct Planner<'a> {
    pub(super) config: &'a PluginConfig,
    pub(super) has_events: bool,
    pub(super) now_ms: i64,
    /// The work that routes and conditions may do.
    pub(super) steps: &'a StepBudget,
    pub(super) metrics: &'a mut Metrics,
}

impl Planner<'_> {
    /// Plans a request. `None` if it goes on without experiments.
    #[inline(always)]
    pub(super) fn plan<'a>(
        self,
        snapshot: &'a Snapshot,
        request: &RequestContext<'_>,
        token: Option<Cow<'_, [u8]>>,
        (experiments, goals): (&'a mut RouteMatches, &'a mut RouteMatches),
    ) -> Option<RequestPlan<'a>> {
        let Planner { config, has_events, now_ms, steps, metrics } = self;
        if !is_included(&config.paths, request.path) {
            metrics.decided(Reason::PathExcluded, snapshot.experiments.len() as u64);
            return None;
        }
        let withholds_prefetches = config.events.as_ref().is_none_or(|events| events.withholds_prefetches);
        let shows_page = request.method() != b"HEAD" && !request.is_mirrored();
        let is_visit = shows_page && !(request.is_prefetch && withholds_prefetches);
        let preview = match token {
            None => None,
            Some(token) => shown_by_link(&token, request, config, now_ms),
        };
        let (experiments, limited) = find_experiments(snapshot, request, steps, experiments);
        let (has_goals, is_counted) = (has_events && !snapshot.goals.is_empty(), preview.is_none());
        let (goals, limited_goals): (&[u32], usize) =
            if has_goals && is_visit && is_counted { find_goals(snapshot, request, steps, goals) } else { (&[], 0) };
        if is_counted {
            count_others(snapshot, experiments.len(), limited, metrics);
            metrics.decided(Reason::Limit, limited_goals as u64);
        }
        let consent = has_consent(request, &config.visitor);
        let has_none = experiments.is_empty() && goals.is_empty();
        let is_idle = preview.is_none() && (consent || !config.visitor.expire_cookies);
        if has_none && (is_idle || request.method() == OPTIONS) {
            return None;
        }
        let found = experiments.iter().filter_map(|&number| snapshot.needs.get(number as usize));
        let needs = found.fold(Needs::default(), |all, needs| all.and(*needs));
        Some(RequestPlan { experiments, goals, needs, preview, consent, is_visit })
    }
}

/// The variants that a preview link shows, if it is valid.
#[cold]
#[inline(never)]
fn shown_by_link(
    token: &[u8],
    request: &RequestContext<'_>,
    config: &PluginConfig,
    now_ms: i64,
) -> Option<Vec<(String, String)>> {
    Some(preview(token, request, &config.request, now_ms)?.ok()?.pairs)
}

/// The experiments whose routes match, by their numbers, and how many exceeded the limit of work.
#[inline(always)]
fn find_experiments<'a>(
    snapshot: &'a Snapshot,
    request: &RequestContext<'_>,
    steps: &StepBudget,
    buffer: &'a mut RouteMatches,
) -> (&'a [u32], usize) {
    let route = |number: u32| snapshot.experiments.get(number as usize).map(|experiment| &experiment.route);
    find(&snapshot.experiment_index, request, route, steps, buffer)
}

/// The goals whose routes match, by their numbers, and how many exceeded the limit of work.
#[inline(never)]
fn find_goals<'a>(
    snapshot: &'a Snapshot,
    request: &RequestContext<'_>,
    steps: &StepBudget,
    buffer: &'a mut RouteMatches,
) -> (&'a [u32], usize) {
    let route = |number: u32| snapshot.goals.get(number as usize).map(|goal| &goal.route);
    find(&snapshot.goal_index, request, route, steps, buffer)
}

#[inline(always)]
fn find<'a>(
    index: &'a RouteIndex,
    request: &RequestContext<'_>,
    route: impl Fn(u32) -> Option<&'a Route>,
    steps: &StepBudget,
    buffer: &'a mut RouteMatches,
) -> (&'a [u32], usize) {
    if request.method() == OPTIONS {
        return index.find_options(&request.line(), route, steps, buffer);
    }
    index.find(request.path, || request.line(), route, steps, buffer)
}

/// Counts the experiments that are not in the plan.
#[inline(always)]
fn count_others(snapshot: &Snapshot, planned: usize, limited: usize, metrics: &mut Metrics) {
    let others = snapshot.experiments.len() - snapshot.paused - planned - limited;
    metrics.decided(Reason::Route, others as u64);
    metrics.decided(Reason::Limit, limited as u64);
    metrics.decided(Reason::Paused, snapshot.paused as u64);
    metrics.decided(Reason::Disabled, snapshot.disabled.len() as u64);
}
