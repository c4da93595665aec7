//! The work that a request leaves for its response.

use crate::assignment_set::AssignmentSet;
use crate::guardrails::GuardedVisits;
use crate::location::Rewrite;
use crate::plugin_config::PluginConfig;
use crate::request_context::RequestContext;
use edgesplit_engine::attribute::AttributeValue;
use edgesplit_engine::condition::{LimitExceeded, StepBudget, look_up, spend_bytes};
use edgesplit_engine::snapshot::{Choice, Snapshot};
use std::sync::Arc;

/// The instruction for caches towards the client, from the weakest to the strictest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caching {
    /// The origin's.
    #[default]
    Unchanged,
    /// The response is for one visitor.
    Private,
    /// The response must not be stored.
    NoStore,
}

/// The work that a request leaves for its response.
#[derive(Debug, Default)]
pub struct ResponsePlan {
    /// The instruction for caches.
    pub caching: Caching,
    /// The variants of the request. The response counts for them.
    pub assigned: Option<Arc<AssignmentSet>>,
    /// The mark of the variant's validators, if they get one.
    pub validator_mark: Option<u64>,
    /// Everything else. Most requests have nothing here.
    pub(crate) actions: Option<Box<DeferredActions>>,
    /// Whether the request's target was changed, which a redirect would show.
    pub(crate) changes_target: bool,
    /// The plan of the request's leg before this one: see [`crate::internal_redirect`].
    pub(crate) before: Option<Box<ResponsePlan>>,
}

/// The work that few requests leave.
#[derive(Debug)]
pub struct DeferredActions {
    pub(crate) snapshot: Arc<Snapshot>,
    /// The rewrite of the request's path.
    pub(crate) rewrite: Option<Rewrite>,
    /// The variants that have a guardrail.
    pub guarded: GuardedVisits,
    /// Choices whose variants set response headers.
    pub choices: Vec<Choice>,
    /// Exposures that were not reported yet.
    pub exposures: Vec<Exposure>,
    /// The numbers of the goals that the response may reach.
    pub goals: Vec<u32>,
    /// The visitor's id, for them.
    pub goal_unit: String,
    /// The variants for which they count, each with the visitor's name in the VM's memory of counted goals.
    pub assigned: Vec<(ExposureSubject, u64)>,
    /// The events in a vendor's format of the goals that the vendor knows, by the goals' numbers.
    pub written_goals: Vec<(u32, Vec<u8>)>,
    /// The `Set-Cookie` of a minted id.
    pub id_cookie: Option<String>,
    /// The `Set-Cookie`s of sticky buckets, and of cookies to remove.
    pub other_cookies: Vec<String>,
    /// The debug header of a preview.
    pub debug: Option<String>,
    /// The request's host, if there may be events.
    pub host: String,
    /// The request's path without its query, if there may be events.
    pub path: String,
    /// The configured attributes that the request had, if there may be events.
    pub attributes: Vec<(String, String)>,
}

/// How much longer it takes to copy an attribute into every event of a request than into one: with [`EVENT_STEPS_MAX`], an event
/// has at most 12,500 bytes of attributes.
///
/// [`EVENT_STEPS_MAX`]: edgesplit_engine::condition::EVENT_STEPS_MAX
const COPIES: usize = 16;

/// An exposure that waits for its response.
#[derive(Debug)]
pub struct Exposure {
    /// The variant that was shown.
    pub subject: ExposureSubject,
    /// The value that was bucketed.
    pub unit: Arc<str>,
    /// Its name in this VM's dedupe memory.
    pub name: u64,
    /// Its name everywhere.
    pub fingerprint: u128,
    /// The number of the dedupe window.
    pub window: i64,
    /// The event, if it is in a vendor's format: it contains more of the request than is left when the response comes.
    pub written: Option<Vec<u8>>,
}

/// The subject of an exposure.
#[derive(Debug)]
pub enum ExposureSubject {
    /// A variant of an experiment.
    Choice(Choice),
    /// The report of a vendor's evaluator, which need not be about an experiment on this route.
    Reported {
        /// The experiment's own key, or the flag's.
        experiment: String,
        /// The variant's, where there is one.
        variant: Option<String>,
        /// The variant's tag.
        tag: u64,
    },
}

impl ExposureSubject {
    /// The keys of the experiment and of the variant, and the variant's tag. `snapshot` is the one that decided.
    pub(crate) fn names<'a>(&'a self, snapshot: &'a Snapshot) -> Option<(&'a str, Option<&'a str>, u64)> {
        match self {
            ExposureSubject::Choice(choice) => {
                let (experiment, variant) = snapshot.choice(*choice)?;
                Some((&experiment.key, Some(&variant.key), variant.tag))
            }
            ExposureSubject::Reported { experiment, variant, tag } => Some((experiment, variant.as_deref(), *tag)),
        }
    }
}

impl ResponsePlan {
    /// A plan with this instruction for caches.
    pub fn new(caching: Caching) -> ResponsePlan {
        ResponsePlan { caching, ..ResponsePlan::default() }
    }

    /// The deferred actions, to add to them. `snapshot` is the one in force.
    pub fn actions(&mut self, snapshot: &Arc<Snapshot>) -> &mut DeferredActions {
        self.actions.get_or_insert_with(|| {
            Box::new(DeferredActions {
                snapshot: Arc::clone(snapshot),
                rewrite: None,
                guarded: GuardedVisits::default(),
                choices: Vec::new(),
                exposures: Vec::new(),
                goals: Vec::new(),
                goal_unit: String::new(),
                assigned: Vec::new(),
                written_goals: Vec::new(),
                id_cookie: None,
                other_cookies: Vec::new(),
                debug: None,
                host: String::new(),
                path: String::new(),
                attributes: Vec::new(),
            })
        })
    }

    /// The exposures that wait for the response.
    pub fn exposures(&self) -> &[Exposure] {
        self.actions.as_ref().map_or(&[], |actions| &actions.exposures)
    }

    /// Whether events may come of it.
    pub fn has_events(&self) -> bool {
        self.actions.as_ref().is_some_and(|actions| actions.has_events())
    }

    /// Drops the events: no page was shown.
    #[cold]
    pub fn withhold_events(&mut self) {
        if let Some(actions) = &mut self.actions {
            (actions.exposures, actions.goals) = (Vec::new(), Vec::new());
        }
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.caching == Caching::Unchanged
            && self.assigned.is_none()
            && self.validator_mark.is_none()
            && self.actions.is_none()
            && self.before.is_none()
            && !self.changes_target
    }

    /// The instruction for caches. A response with cookies is for one visitor.
    #[inline(always)]
    pub fn caching(&self) -> Caching {
        let has_cookies = self.actions.as_ref().is_some_and(|actions| actions.has_cookies());
        if has_cookies { self.caching.max(Caching::Private) } else { self.caching }
    }

    /// The plans of the request's legs, this one first.
    fn plans(&self) -> impl Iterator<Item = &ResponsePlan> {
        std::iter::successors(Some(self), |plan| plan.before.as_deref())
    }

    /// The number of legs of the request, with this one.
    pub fn legs(&self) -> usize {
        self.plans().count()
    }

    /// The value of the `cookie` that a browser would add to its next request, after the responses of this leg and of those
    /// before it.
    pub fn cookies(&self) -> String {
        let mut cookies = String::new();
        for cookie in self.plans().filter_map(|plan| plan.actions.as_ref()).flat_map(|actions| actions.cookies()) {
            cookies.push_str(cookie.split_once(';').map_or(cookie, |(pair, _)| pair));
            cookies.push(';');
        }
        cookies
    }

    /// Continues the plan of the leg before. Each variant and each goal of the request counts once.
    #[inline(never)]
    pub fn follow(&mut self, mut before: Box<ResponsePlan>) {
        if before.caching == Caching::NoStore {
            // A preview led here: nothing of it is counted or reported.
            self.assigned = None;
            self.withhold_events();
            if let Some(actions) = &mut self.actions {
                actions.guarded = GuardedVisits::default();
            }
        }
        self.caching = self.caching.max(before.caching());
        self.validator_mark = self.validator_mark.or(before.validator_mark);
        let mut leg = Some(&mut *before);
        while let Some(plan) = leg {
            if let (Some(before), Some(after)) = (&mut plan.assigned, &self.assigned) {
                *before = before.without(after);
            }
            if let (Some(before), Some(after)) = (&mut plan.actions, &self.actions) {
                before.goals.retain(|goal| !after.goals.contains(goal));
            }
            leg = plan.before.as_deref_mut();
        }
        self.before = Some(before);
    }
}

impl DeferredActions {
    /// The `Set-Cookie`s, in the order of their headers.
    pub(crate) fn cookies(&self) -> impl Iterator<Item = &String> {
        self.id_cookie.iter().chain(&self.other_cookies)
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.exposures.is_empty() || !self.goals.is_empty()
    }

    /// Whether the response sets or removes cookies of the filter.
    pub(crate) fn has_cookies(&self) -> bool {
        self.id_cookie.is_some() || !self.other_cookies.is_empty()
    }

    /// Copies the host, path and attributes of the request, for events. Its headers cannot be read any more when the response
    /// comes. Attributes for which no `steps` are left, and those after them, are left out.
    #[inline(never)]
    pub fn describe(&mut self, request: &RequestContext<'_>, config: &PluginConfig, steps: &StepBudget) {
        self.host = String::from_utf8_lossy(&request.host()).into_owned();
        self.path = String::from_utf8_lossy(request.path).into_owned();
        for (alias, source) in &config.visitor.attributes {
            match look_up(request, source, steps) {
                Ok(AttributeValue::Text(text)) if spend_bytes(COPIES * text.len(), steps).is_ok() => {
                    self.attributes.push((alias.clone(), text.into_owned()));
                }
                Ok(AttributeValue::Missing | AttributeValue::Json(_)) => {}
                Ok(AttributeValue::Text(_)) | Err(LimitExceeded) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::headers::HeaderBlock;
    use edgesplit_engine::condition::EVENT_STEPS_MAX;
    use serde_json::json;

    #[test]
    fn attributes_of_events_are_bounded() {
        let attributes: Vec<_> = (0..64).map(|at| format!("a{at}")).collect();
        let sources = attributes.iter().map(|name| (name.clone(), json!(format!("header.x-{name}"))));
        let visitor = json!({"attributes": sources.collect::<serde_json::Map<_, _>>()});
        let config = PluginConfig::from_value(&json!({"experiments": {"cluster": "c"}, "visitor": visitor})).unwrap();
        for (length, expected, is_omitted) in [(10, 64, false), (1_000, 12, true), (60_000, 0, true)] {
            let value = "v".repeat(length);
            let headers: Vec<_> = attributes.iter().map(|name| (format!("x-{name}"), &value)).collect();
            let headers = HeaderBlock::from_pairs(&headers);
            let headers = headers.map();
            let request = RequestContext::new(&headers, &config.visitor);
            let (mut plan, steps) = (ResponsePlan::default(), StepBudget::new(EVENT_STEPS_MAX));
            let actions = plan.actions(&Arc::new(Snapshot::default()));
            actions.describe(&request, &config, &steps);
            assert_eq!((actions.attributes.len(), steps.left() == 0), (expected, is_omitted), "of {length} bytes");
        }
    }
}
