//! The cookies of the filter's own: minted ids and sticky buckets.

use super::context::DecisionContext;
use crate::host::Host;
use crate::http::cookies;
use crate::metrics::{Counter, Metrics};
use crate::plugin_config::{MintOn, OwnCookie, PluginConfig};
use crate::request_context::sticky::{COOKIE_BYTES_MAX, StickyBuckets};
use crate::request_context::{RequestContext, expired_cookies, minted, minted_id};
use crate::response_plan::ResponsePlan;
use edgesplit_engine::assignments::percent_encoded;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::decide::{DecisionInput, schedule_reason};
use edgesplit_engine::route::OPTIONS;
use edgesplit_engine::snapshot::{Choice, Experiment, State};
use std::cell::OnceCell;

/// Mints an id, if an experiment can use it, the visitor is not excluded and a browser would keep it. Refusals are counted.
#[cold]
#[inline(never)]
pub(super) fn mint<'a>(
    context: &DecisionContext<'_>,
    input: &DecisionInput<'_>,
    request: &RequestContext<'_>,
    (host, metrics): (&impl Host, &mut Metrics),
    text: &'a OnceCell<String>,
    response: &mut ResponsePlan,
) -> Option<&'a str> {
    let mint = context.config.visitor.mint.as_ref()?;
    let uses_id = |experiment: &Experiment| {
        matches!(experiment.state, State::Running | State::Flag(_))
            && experiment.unit == AttributeName::Id
            && schedule_reason(experiment, input.now_ms).is_none()
    };
    let snapshot = context.snapshot;
    let mut planned = context.plan.experiments.iter().filter_map(|&at| snapshot.experiments.get(at as usize));
    if context.plan.preview.is_some() || input.exclusion_reason().is_some() || !planned.any(uses_id) {
        return None;
    }
    if !shows_page(request, mint.on) {
        metrics.add(Counter::MintRefusedNotNavigation, 1);
        return None;
    }
    if mint.cookie.secure && !request.scheme().is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https")) {
        metrics.add(Counter::MintRefusedInsecure, 1);
        return None;
    }
    metrics.add(Counter::Minted, 1);
    let id = text.get_or_init(|| minted(host.random()));
    response.actions(snapshot).id_cookie = Some(mint.cookie.set(id));
    Some(id)
}

/// The values of `sec-fetch-dest` for a page or a part of one (Fetch, section 2.2.5, navigation requests).
const PAGES: [&[u8]; 6] = [b"document", b"iframe", b"frame", b"embed", b"object", b"fencedframe"];

/// Whether an id may be minted for the request. Parallel requests for the parts of a page would make several visitors of
/// one.
fn shows_page(request: &RequestContext<'_>, on: MintOn) -> bool {
    let destination = request.headers.get("sec-fetch-dest");
    match on {
        _ if request.is_prefetch || matches!(request.method, b"HEAD" | OPTIONS) => false,
        MintOn::Navigation => request.method == b"GET" && destination.is_none_or(|page| PAGES.contains(&page)),
        MintOn::Any => true,
    }
}

/// The cookie of sticky buckets, with the value that the client sent.
pub(super) fn sticky<'a>(
    config: &'a PluginConfig,
    input: &DecisionInput<'_>,
    request: &RequestContext<'a>,
) -> Option<(&'a OwnCookie, &'a [u8])> {
    let cookie = config.request.sticky.as_ref().filter(|_| input.exclusion_reason().is_none())?;
    Some((cookie, request.cookie(&cookie.cookie).unwrap_or_default()))
}

/// Writes the cookie of sticky buckets anew, if it changes.
#[inline(never)]
pub(super) fn remember<'a>(
    context: &DecisionContext<'a>,
    request: &RequestContext<'_>,
    (cookie, sent): (&OwnCookie, &[u8]),
    buckets: &mut StickyBuckets<'a>,
    exposed: &[Choice],
    response: &mut ResponsePlan,
) {
    let snapshot = context.snapshot;
    for (experiment, variant) in exposed.iter().filter_map(|choice| snapshot.choice(*choice)) {
        if let Some(version) = experiment.sticky {
            buckets.remember(&experiment.key, version, &variant.key);
        }
    }
    // A value that does not fit is cut, and may then be the one that was sent.
    let value = buckets.changed().then(|| buckets.value(cookie.other_bytes()));
    let Some(value) = value.filter(|value| value.as_bytes() != sent) else { return };
    let actions = response.actions(snapshot);
    if actions.id_cookie.is_none() {
        // A minted id is renewed with it: both then last equally long.
        let mint = context.config.visitor.mint.as_ref();
        actions.id_cookie = mint.and_then(|mint| Some(mint.cookie.set(minted_id(request, &mint.cookie)?)));
    }
    actions.other_cookies.push(cookie.set(&value));
}

/// Writes the cookies in which a vendor's evaluator keeps sticky buckets. Browsers would not keep larger ones.
#[inline(never)]
pub(super) fn keep_for_vendor(context: &DecisionContext<'_>, kept: &[(String, String)], response: &mut ResponsePlan) {
    let Some(cookie) = context.config.request.sticky.as_ref().filter(|_| !kept.is_empty()) else { return };
    let set =
        kept.iter().map(|(name, value)| cookie.named(&cookies::encoded_name(name)).set(&percent_encoded(value, "")));
    response.actions(context.snapshot).other_cookies.extend(set.filter(|cookie| cookie.len() <= COOKIE_BYTES_MAX));
}

/// Removes the filter's cookies from a browser whose visitor has not consented.
#[cold]
#[inline(never)]
pub(super) fn expire(context: &DecisionContext<'_>, request: &RequestContext<'_>, response: &mut ResponsePlan) {
    let config = context.config;
    let expired = expired_cookies(request, &config.visitor, &config.request, config.experiments.format);
    if expired.is_empty() {
        return;
    }
    let cookies = &mut response.actions(context.snapshot).other_cookies;
    cookies.splice(0..0, expired);
}
