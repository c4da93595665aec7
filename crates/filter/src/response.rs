//! The response path: exposures and goals are emitted when the response is delivered, and what variants and caches need is
//! written. A response with nothing left to do never gets here.

use super::response_plan::{Caching, DeferredActions, ExposureSubject, ResponsePlan};
use super::worker::Worker;
use crate::events::event::{Event, EventContext, EventKind, derived_id, random_id};
use crate::host::{Headers, Host, StreamHost, status_of};
use crate::http::cache_control::made_private;
use crate::http::headers::{HeaderLengthMask, HeaderMap, is_name};
use std::borrow::Cow;
use std::cell::LazyCell;

const STATUS: &str = ":status";
const CACHE_CONTROL: &str = "cache-control";
const SURROGATE_CONTROL: &str = "surrogate-control";
const CDN_CACHE_CONTROL: &str = "cdn-cache-control";

/// Handles the headers of a response.
pub fn handle_response(worker: &mut Worker, host: &(impl Host + StreamHost), plan: ResponsePlan) {
    let ResponsePlan { caching, assigned, guarded, actions } = plan;
    let status = if caching != Caching::Unchanged {
        let headers = host.headers(Headers::Response);
        keep_from_others(host, &headers, caching)
    } else {
        host.response_status()
    };
    if let Some(assigned) = assigned
        && worker.assignment_sets.count(assigned, status)
    {
        worker.flush_responses();
    }
    if let Some(status) = status.filter(|_| !guarded.is_empty()) {
        worker.guardrails.count(&guarded, status, worker.now_ms);
    }
    if let Some(actions) = actions {
        act(worker, host, caching, &actions, status);
    }
}

/// Carries out the deferred actions.
#[inline(never)]
fn act(
    worker: &mut Worker,
    host: &(impl Host + StreamHost),
    caching: Caching,
    actions: &DeferredActions,
    status: Option<u16>,
) {
    if actions.has_events() {
        emit(worker, host, actions, status);
    }
    let set = actions.choices.iter().filter_map(|choice| actions.snapshot.choice(*choice));
    let set = set.flat_map(|(_, variant)| &variant.effects.response_headers);
    // Not even a variant can make its preview storable.
    for (name, value) in set.filter(|(name, _)| caching != Caching::NoStore || !is_for_caches(name)) {
        host.remove_header(Headers::Response, name);
        host.add_header(Headers::Response, name, value.as_bytes());
    }
    for cookie in actions.id_cookie.iter().chain(&actions.other_cookies) {
        host.add_header(Headers::Response, "set-cookie", cookie.as_bytes());
    }
    if let (Some(name), Some(text)) = (&worker.config.response.debug_header, &actions.debug) {
        host.remove_header(Headers::Response, name);
        host.add_header(Headers::Response, name, text.as_bytes());
    }
}

fn is_for_caches(name: &str) -> bool {
    matches!(name, CACHE_CONTROL | SURROGATE_CONTROL | CDN_CACHE_CONTROL)
}

/// Keeps caches in front of the proxy from serving one visitor's variant to others. Returns the response's status.
#[inline(always)]
fn keep_from_others(host: &impl StreamHost, headers: &HeaderMap, caching: Caching) -> Option<u16> {
    let (mut status, mut cache_controls, mut surrogate, mut cdn) = (None, 0, false, false);
    const WANTED: HeaderLengthMask =
        HeaderLengthMask::of(&[STATUS.len(), CACHE_CONTROL.len(), SURROGATE_CONTROL.len(), CDN_CACHE_CONTROL.len()]);
    headers.each_with(WANTED, |name, value| match name.len() {
        7 if is_name(name, STATUS.as_bytes()) => status = status.or_else(|| status_of(value)),
        13 if is_name(name, CACHE_CONTROL.as_bytes()) => cache_controls += 1,
        17 => {
            surrogate |= is_name(name, SURROGATE_CONTROL.as_bytes());
            cdn |= is_name(name, CDN_CACHE_CONTROL.as_bytes());
        }
        _ => {}
    });
    if caching == Caching::Private && cache_controls == 0 {
        host.add_header(Headers::Response, CACHE_CONTROL, b"private");
    } else {
        overrule_caching(host, headers, caching, cache_controls);
    }
    if surrogate {
        host.remove_header(Headers::Response, SURROGATE_CONTROL);
    }
    if cdn {
        host.remove_header(Headers::Response, CDN_CACHE_CONTROL);
    }
    status
}

/// Replaces the origin's instruction for caches.
#[inline(never)]
fn overrule_caching(host: &impl StreamHost, headers: &HeaderMap, caching: Caching, cache_controls: usize) {
    let value = match caching {
        Caching::Unchanged => None,
        Caching::Private => made_private(headers.all(CACHE_CONTROL)).map(Cow::Owned),
        Caching::NoStore => Some(Cow::Borrowed("no-store")),
    };
    match (value, cache_controls) {
        (None, _) => {}
        (Some(value), 0) => host.add_header(Headers::Response, CACHE_CONTROL, value.as_bytes()),
        (Some(value), 1) => host.set_header(Headers::Response, CACHE_CONTROL, value.as_bytes()),
        (Some(value), _) => {
            // Replacing changes the first of a name only.
            host.remove_header(Headers::Response, CACHE_CONTROL);
            host.add_header(Headers::Response, CACHE_CONTROL, value.as_bytes());
        }
    }
}

/// Emits the events of a response.
fn emit(worker: &mut Worker, host: &impl Host, actions: &DeferredActions, status: Option<u16>) {
    let Worker { pipeline: Some(pipeline), metrics, now_ms, .. } = worker else { return };
    let snapshot = &actions.snapshot;
    let context = EventContext {
        time_ms: *now_ms,
        revision: snapshot.revision.as_deref(),
        host: &actions.host,
        path: &actions.path,
        status,
        attributes: &actions.attributes,
    };
    let context = LazyCell::new(|| context.encode());
    let event = |id, kind, unit| Event { id, kind, unit, exposure: None, goal: None, context: &context };
    for exposure in &actions.exposures {
        let (experiment, variant, tag) = match &exposure.subject {
            ExposureSubject::Choice(choice) => match snapshot.choice(*choice) {
                Some((experiment, variant)) => (&experiment.key, Some(&variant.key), variant.tag),
                None => continue,
            },
            ExposureSubject::Reported { experiment, variant, tag } => (experiment, variant.as_ref(), *tag),
        };
        // Another request of the same visitor may have been delivered since.
        if !pipeline.dedupe.remember(exposure.name, exposure.window) {
            continue;
        }
        let exposed = Some((experiment.as_str(), variant.map(String::as_str)));
        let is_kept = match &exposure.written {
            Some(written) => pipeline.emit_written(written, *now_ms, metrics),
            None => {
                let id = derived_id(exposure.fingerprint);
                let event = Event { exposure: exposed, ..event(id, EventKind::Exposure, &exposure.unit) };
                pipeline.emit(&event, *now_ms, metrics)
            }
        };
        if !is_kept {
            pipeline.dedupe.forget(exposure.name);
        }
        metrics.exposed(experiment, variant.map_or("", String::as_str), tag);
    }
    let is_vendors = pipeline.format().vendor_wire().is_some();
    let reached =
        actions.goals.iter().filter_map(|&at| Some((at, snapshot.goals.get(at as usize)?))).filter(|(_, goal)| {
            goal.statuses.is_empty()
                || status.is_some_and(|status| goal.statuses.iter().any(|class| class.contains(status)))
        });
    for (at, goal) in reached {
        if !is_vendors {
            let id = random_id(host.random());
            let event = Event { goal: Some(&goal.key), ..event(id, EventKind::Goal, &actions.goal_unit) };
            pipeline.emit(&event, *now_ms, metrics);
        } else if let Some((_, written)) = actions.written_goals.iter().find(|(written, _)| *written == at) {
            pipeline.emit_written(written, *now_ms, metrics);
        }
    }
}
