//! The response path. It emits exposures and goals when the response is delivered, and writes the headers for variants and
//! caches. A response whose plan is idle never gets here.

use super::response_plan::{Caching, DeferredActions, ResponsePlan};
use super::worker::Worker;
use crate::events::event::{Event, EventContext, EventKind, derived_id, random_id};
use crate::host::{CODE_DETAILS, Headers, Host, StreamHost, status as status_in, status_of};
use crate::http::cache_control::{OVERRIDING_LENGTHS, made_private, overrides_cache_control};
use crate::http::headers::{HeaderBlock, HeaderLengthMask, HeaderMap, is_name};
use crate::http::validators;
use crate::location::restored;
use edgesplit_engine::hash::hash64_seeded;
use std::borrow::Cow;
use std::cell::LazyCell;

const STATUS: &str = ":status";
const LOCATION: &str = "location";
const CACHE_CONTROL: &str = "cache-control";
const ETAG: &str = "etag";
const LAST_MODIFIED: &str = "last-modified";

/// Handles the headers of a response.
pub fn handle_response(worker: &mut Worker, host: &(impl Host + StreamHost), mut plan: ResponsePlan) {
    let (caching, validator_mark) = (plan.caching(), plan.validator_mark);
    let mut block = HeaderBlock::default();
    let status = if caching != Caching::Unchanged {
        let headers = host.headers(Headers::Response, &mut block);
        if let Some(mark) = validator_mark {
            mark_validators(host, &headers, mark);
        }
        keep_from_others(host, &headers, caching)
    } else if let Some(mark) = validator_mark {
        let headers = host.headers(Headers::Response, &mut block);
        mark_validators(host, &headers, mark);
        status_in(&headers)
    } else {
        host.response_status()
    };
    if plan.changes_target && status.is_some_and(|status| status / 100 == 3) {
        restore_location(worker, host, plan.actions.as_deref());
    }
    if plan.has_events() && !is_shown(host, status) {
        plan.withhold_events();
    }
    settle(worker, host, plan, caching, status);
}

/// Whether the response is the page that the client asked for, or an error in its place. A redirect or a denial of the proxy's
/// own is neither: the origin was not asked.
fn is_shown(host: &impl StreamHost, status: Option<u16>) -> bool {
    if !matches!(status, Some(300..=303 | 305..=403 | 429)) {
        return true;
    }
    let details = host.property(CODE_DETAILS);
    details.is_none_or(|details| details == "via_upstream" || details.starts_with("cache"))
}

/// Removes the filter's changes of the request's target from the location of a redirect. The origin's own redirects may lead
/// to a rewritten path.
#[cold]
#[inline(never)]
fn restore_location(worker: &Worker, host: &impl StreamHost, actions: Option<&DeferredActions>) {
    let mut block = HeaderBlock::default();
    let headers = host.headers(Headers::Response, &mut block);
    let Some(location) = headers.get(LOCATION) else { return };
    let rewrite = actions.and_then(|actions| actions.rewrite.as_ref());
    let rewrite = rewrite.filter(|_| host.property(CODE_DETAILS).as_deref() == Some("direct_response"));
    let parameter = worker.config.request.cache_key.query.as_deref();
    if let Some(location) = restored(location, parameter, rewrite) {
        host.set_header(Headers::Response, LOCATION, &location);
    }
}

/// Counts the response for the legs of the request in their order, and carries out their actions.
fn settle(
    worker: &mut Worker,
    host: &(impl Host + StreamHost),
    plan: ResponsePlan,
    caching: Caching,
    status: Option<u16>,
) {
    let ResponsePlan { assigned, actions, before, .. } = plan;
    if let Some(before) = before {
        settle(worker, host, *before, caching, status);
    }
    if let Some(assigned) = assigned
        && worker.assignment_sets.count(assigned, status)
    {
        worker.flush_counts();
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
    if let Some(status) = status.filter(|_| !actions.guarded.is_empty()) {
        worker.guardrails.count(&actions.guarded, status, worker.now_ms);
    }
    if actions.has_events() {
        emit(worker, host, actions, status);
    }
    let set = actions.choices.iter().filter_map(|choice| actions.snapshot.choice(*choice));
    let set = set.flat_map(|(_, variant)| &variant.effects.response_headers);
    for (name, value) in set.filter(|(name, _)| !is_reserved(name, caching)) {
        host.replace_header(Headers::Response, name, value.as_bytes());
    }
    for cookie in actions.cookies() {
        host.add_header(Headers::Response, "set-cookie", cookie.as_bytes());
    }
    if let (Some(name), Some(text)) = (&worker.config.response.debug_header, &actions.debug) {
        host.replace_header(Headers::Response, name, text.as_bytes());
    }
}

/// Whether a variant may not set this header: its page would not stay with its visitor.
fn is_reserved(name: &str, caching: Caching) -> bool {
    match caching {
        Caching::Unchanged => false,
        Caching::Private => overrides_cache_control(name.as_bytes()),
        Caching::NoStore => name == CACHE_CONTROL || overrides_cache_control(name.as_bytes()),
    }
}

/// Marks the validators of a variant's page. Without an `etag`, the page must not be validated at all.
#[inline(never)]
fn mark_validators(host: &impl StreamHost, headers: &HeaderMap<'_>, mark: u64) {
    match headers.get(ETAG) {
        Some(etag) => host.set_header(Headers::Response, ETAG, &validators::marked(etag, mark)),
        None if headers.get(LAST_MODIFIED).is_some() => host.remove_header(Headers::Response, LAST_MODIFIED),
        None => {}
    }
}

/// Keeps caches in front of the proxy from serving one visitor's variant to others. Returns the response's status.
#[inline(always)]
fn keep_from_others(host: &impl StreamHost, headers: &HeaderMap<'_>, caching: Caching) -> Option<u16> {
    let (mut status, mut cache_controls, mut overriding) = (None, 0, Vec::new());
    const WANTED: HeaderLengthMask = HeaderLengthMask::of(&[STATUS.len(), CACHE_CONTROL.len()]).or(OVERRIDING_LENGTHS);
    headers.each_with(WANTED, |name, value| match name.len() {
        7 if is_name(name, STATUS.as_bytes()) => status = status.or(Some(value)),
        13 if is_name(name, CACHE_CONTROL.as_bytes()) => cache_controls += 1,
        _ if overrides_cache_control(name) => overriding.push(name),
        _ => {}
    });
    if caching == Caching::Private && cache_controls == 0 {
        host.add_header(Headers::Response, CACHE_CONTROL, b"private");
    } else {
        overrule_caching(host, headers, caching, cache_controls);
    }
    for name in overriding.into_iter().filter_map(|name| std::str::from_utf8(name).ok()) {
        host.remove_header(Headers::Response, name);
    }
    status_of(status?)
}

/// Replaces the origin's instruction for caches.
#[inline(never)]
fn overrule_caching(host: &impl StreamHost, headers: &HeaderMap<'_>, caching: Caching, cache_controls: usize) {
    let value = match caching {
        Caching::Unchanged => None,
        Caching::Private => made_private(headers.all(CACHE_CONTROL)).map(Cow::Owned),
        Caching::NoStore => Some(Cow::Borrowed("no-store")),
    };
    match (value, cache_controls) {
        (None, _) => {}
        (Some(value), 0) => host.add_header(Headers::Response, CACHE_CONTROL, value.as_bytes()),
        (Some(value), 1) => host.set_header(Headers::Response, CACHE_CONTROL, value.as_bytes()),
        (Some(value), _) => host.replace_header(Headers::Response, CACHE_CONTROL, value.as_bytes()),
    }
}

/// Emits the events of a response.
fn emit(worker: &mut Worker, host: &impl Host, actions: &DeferredActions, status: Option<u16>) {
    let Worker { recorder: Some(shared), metrics, now_ms, .. } = worker else { return };
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
    let mut recorder = shared.lock();
    for exposure in &actions.exposures {
        let Some((experiment, variant, tag)) = exposure.subject.names(snapshot) else { continue };
        // Another request of the same visitor may have been delivered since.
        if !recorder.exposures.remember(exposure.name, exposure.window) {
            continue;
        }
        let is_kept = match &exposure.written {
            Some(written) => recorder.emit_written(written, *now_ms, metrics),
            None => {
                let id = derived_id(exposure.fingerprint);
                let event =
                    Event { exposure: Some((experiment, variant)), ..event(id, EventKind::Exposure, &exposure.unit) };
                recorder.emit(&event, *now_ms, metrics)
            }
        };
        if !is_kept {
            recorder.exposures.forget(exposure.name);
        }
        metrics.exposed(experiment, variant.unwrap_or_default(), tag);
    }
    let is_vendors = shared.format.vendor_wire().is_some();
    let reached =
        actions.goals.iter().filter_map(|&at| Some((at, snapshot.goals.get(at as usize)?))).filter(|(_, goal)| {
            goal.statuses.is_empty()
                || status.is_some_and(|status| goal.statuses.iter().any(|class| class.contains(status)))
        });
    let window = shared.names.window(*now_ms);
    for (at, goal) in reached {
        for (subject, visitor) in &actions.assigned {
            let Some((experiment, variant, tag)) = subject.names(snapshot) else { continue };
            if recorder.goals.remember(hash64_seeded(*visitor, goal.key.as_bytes()), window) {
                metrics.reached(experiment, variant.unwrap_or_default(), tag, &goal.key);
            }
        }
        if !is_vendors {
            let id = random_id(host.random());
            let event = Event { goal: Some(&goal.key), ..event(id, EventKind::Goal, &actions.goal_unit) };
            recorder.emit(&event, *now_ms, metrics);
        } else if let Some((_, written)) = actions.written_goals.iter().find(|(written, _)| *written == at) {
            recorder.emit_written(written, *now_ms, metrics);
        }
    }
}
