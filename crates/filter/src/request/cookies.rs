//! The cookies of the filter's own: minted ids and sticky buckets.

use super::context::{DecisionContext, Outputs};
use super::flags::FlagOutcomes;
use crate::host::Host;
use crate::http::cookies;
use crate::metrics::Counter;
use crate::plugin_config::{MintOn, OwnCookie, buckets_by_id};
use crate::request_context::own_cookies::{
    REMOVALS_MAX, expired_cookies, has_other_minted_id, host as host_of, repeated_cookies, surplus_cookies,
    vendor_cookies,
};
use crate::request_context::sticky::{COOKIE_BYTES_MAX, StickyBuckets};
use crate::request_context::{RequestContext, minted, minted_id};
use crate::response_plan::ResponsePlan;
use edgesplit_engine::assignments::percent_encoded;
use edgesplit_engine::decide::{DecisionInput, schedule_reason};
use edgesplit_engine::route::OPTIONS;
use edgesplit_engine::snapshot::Experiment;
use std::cell::OnceCell;

/// Mints an id, if an experiment can use it, the visitor is not excluded and a browser would keep it. Refusals are counted.
#[cold]
#[inline(never)]
pub(super) fn mint<'a>(
    context: &DecisionContext<'_>,
    input: &DecisionInput<'_>,
    request: &RequestContext<'_>,
    host: &impl Host,
    text: &'a OnceCell<String>,
    outputs: &mut Outputs<'_>,
) -> Option<&'a str> {
    let mint = context.config.visitor.mint.as_ref()?;
    let uses_id =
        |experiment: &Experiment| buckets_by_id(experiment) && schedule_reason(experiment, input.now_ms).is_none();
    let snapshot = context.snapshot;
    let mut planned = context.plan.experiments.iter().filter_map(|&at| snapshot.experiments.get(at as usize));
    if context.plan.preview.is_some() || input.exclusion_reason().is_some() || !planned.any(uses_id) {
        return None;
    }
    if !shows_page(request, mint.on) {
        outputs.metrics.add(Counter::MintRefusedNotNavigation, 1);
        return None;
    }
    if mint.cookie.secure && !request.scheme().is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https")) {
        outputs.metrics.add(Counter::MintRefusedInsecure, 1);
        return None;
    }
    outputs.metrics.add(Counter::Minted, 1);
    let id = text.get_or_init(|| minted(host.random()));
    outputs.response.actions(snapshot).id_cookie = Some(mint.cookie.set(id));
    Some(id)
}

/// The values of `sec-fetch-dest` for a page or a part of one (Fetch, section 2.2.5, navigation requests).
const PAGES: [&[u8]; 6] = [b"document", b"iframe", b"frame", b"embed", b"object", b"fencedframe"];

/// Whether an id may be minted for the request. Parallel requests for the parts of a page would make several visitors of
/// one.
fn shows_page(request: &RequestContext<'_>, on: MintOn) -> bool {
    let destination = request.headers.get("sec-fetch-dest");
    match on {
        _ if request.is_prefetch || request.is_mirrored() || matches!(request.method(), b"HEAD" | OPTIONS) => false,
        MintOn::Navigation => request.method() == b"GET" && destination.is_none_or(|page| PAGES.contains(&page)),
        MintOn::Any => true,
    }
}

/// Writes the cookie of sticky buckets anew, if it changes or the browser has an older one beside it.
#[inline(never)]
pub(super) fn remember<'a>(
    context: &DecisionContext<'a>,
    request: &RequestContext<'_>,
    cookie: &OwnCookie,
    buckets: &mut StickyBuckets<'a>,
    outputs: &mut Outputs<'_>,
) {
    let snapshot = context.snapshot;
    for (experiment, variant) in outputs.exposed.iter().filter_map(|choice| snapshot.choice(*choice)) {
        if let Some(version) = experiment.sticky {
            buckets.remember(&experiment.key, version, &variant.key);
        }
    }
    // A value that does not fit is cut, and may then be the one that was sent.
    let is_repeated = buckets.is_repeated();
    let value = buckets.changed().then(|| buckets.value(cookie.other_bytes()));
    let is_sent = |value: &String| request.cookie(&cookie.cookie) == Some(value.as_bytes());
    let Some(value) = value.filter(|value| is_repeated || !is_sent(value)) else { return };
    let actions = outputs.response.actions(snapshot);
    if is_repeated {
        outputs.metrics.add(Counter::CookiesRemoved, 1);
        actions.other_cookies.extend(cookie.expired_elsewhere(&host_of(request)));
    }
    if actions.id_cookie.is_none() {
        // A minted id is renewed with it: both then last equally long.
        let mint = context.config.visitor.mint.as_ref();
        actions.id_cookie = mint.and_then(|mint| Some(mint.cookie.set(minted_id(request, &mint.cookie)?)));
    }
    actions.other_cookies.push(cookie.set(&value));
}

/// Leaves the browser with the minted id that is in use. After a change of the cookie's domain it may have two.
#[inline(always)]
pub(super) fn unify_id(context: &DecisionContext<'_>, request: &RequestContext<'_>, outputs: &mut Outputs<'_>) {
    let (Some(mint), Some(id)) = (&context.config.visitor.mint, request.id) else { return };
    if has_other_minted_id(request, &mint.cookie, id) {
        outputs.metrics.add(Counter::CookiesRemoved, 1);
        let actions = outputs.response.actions(context.snapshot);
        // Old browsers take a cookie with the host as its domain for the one without a domain, which has to come last.
        actions.id_cookie = None;
        actions.other_cookies.extend(mint.cookie.expired_elsewhere(&host_of(request)));
        actions.other_cookies.push(mint.cookie.set(id));
    }
}

/// Writes the cookies in which a vendor's evaluator keeps sticky buckets, and removes those that are too many.
#[inline(never)]
pub(super) fn keep_for_vendor(
    context: &DecisionContext<'_>,
    request: &RequestContext<'_>,
    outcomes: &FlagOutcomes,
    outputs: &mut Outputs<'_>,
) {
    let config = context.config;
    let (Some(cookie), Some(prefix)) = (&config.request.sticky, config.experiments.format.sticky_cookie_prefix())
    else {
        return;
    };
    let cookies: Vec<(&str, &str)> = vendor_cookies(request, prefix).collect();
    let (mut set, mut written, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in &outcomes.kept {
        let (encoded, value) = (cookies::encoded_name(name), percent_encoded(value, ""));
        let bytes = encoded.len() + value.len();
        let text = cookie.named(&encoded).set(&value);
        // Browsers would not keep it.
        if text.len() > COOKIE_BYTES_MAX {
            outputs.metrics.add(Counter::StickyOmitted, 1);
            continue;
        }
        set.push(text);
        written.push((name.clone(), bytes));
    }
    for (name, value) in repeated_cookies(&cookies) {
        removed.extend(cookie.named(name).expired_elsewhere(&host_of(request)));
        if !written.iter().any(|(known, _)| cookies::encoded_name(known) == name) {
            set.push(cookie.named(name).set(value));
        }
        outputs.metrics.add(Counter::CookiesRemoved, 1);
    }
    let surplus = surplus_cookies(&cookies, &outcomes.read, &written);
    outputs.metrics.add(Counter::CookiesRemoved, surplus.len() as u64);
    removed.extend(surplus.iter().map(|name| cookie.named(name).expired()));
    removed.truncate(REMOVALS_MAX);
    removed.append(&mut set);
    if !removed.is_empty() {
        outputs.response.actions(context.snapshot).other_cookies.append(&mut removed);
    }
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
