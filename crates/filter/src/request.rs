//! The request path: what is read of a request, what is decided, what is written. Top to bottom in one place, since every
//! request of a site pays for it: one read of all headers, and a write for what has to change.

use super::combinations::Combination;
use super::flags;
use super::report::Reports;
use super::response::{Caching, Pending, Work};
use super::worker::Worker;
use crate::events::pipeline::Pipeline;
use crate::host::{Headers, Host, StreamHost};
use crate::http::headers::{HeaderMap, NameLengths, NameSet, is_name};
use crate::http::{cookies, url};
use crate::metrics::{Counter, Metrics};
use crate::plugin_config::{self, IdSource, OwnCookie, Paths, PluginConfig};
use crate::visit::sticky::{COOKIE_BYTES_MAX, StickyBuckets};
use crate::visit::{self, RequestView};
use edgesplit_engine::assignments::{assignment_pair, mark_preview, percent_encoded};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::{self, Decision, Visit};
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Choice, Effects, Experiment, Snapshot, State};
use std::borrow::Cow;
use std::fmt::Write;
use std::rc::Rc;

/// The longest debug header, roughly: Envoy would refuse a response whose headers are too large.
const DEBUG_BYTES_MAX: usize = 8 << 10;

const CACHE_CONTROL: &str = "cache-control";

/// What becomes of a request.
#[derive(Debug)]
pub enum Flow {
    /// It goes on; what is left to do with its response.
    Continue(Pending),
    /// The client was answered here; what is left to do with that answer.
    Answered(Pending),
}

/// Room for what is found out about a request, kept from one to the next so that requests need not allocate it.
#[derive(Debug, Default)]
pub struct Room {
    /// Experiments and goals whose routes match, by their numbers, where several lists make them up.
    candidates: Vec<u32>,
    goal_candidates: Vec<u32>,
    choices: Vec<Choice>,
    /// Those of them that may be exposures.
    exposed: Vec<Choice>,
}

/// What the plugin configuration says about the short way of requests, found out once.
#[derive(Debug, Clone, Copy)]
pub struct ShortWay {
    /// There is one: ids need not be read out of tokens, and the request target stays as it is.
    is_open: bool,
    /// The filter acts on every path.
    all_paths: bool,
    /// The lengths of the names that the filter owns.
    owned_lengths: NameLengths,
}

impl ShortWay {
    /// What `config` says.
    pub fn of(config: &PluginConfig) -> ShortWay {
        let has_tokens = config.visitor.id.iter().any(|source| matches!(source, IdSource::JwtClaim { .. }));
        ShortWay {
            is_open: !has_tokens && config.request.cache_key.query.is_none(),
            all_paths: config.paths == Paths::default(),
            owned_lengths: config.request.owned_lengths(),
        }
    }
}

/// Handles the headers of a request.
#[inline(always)]
pub fn on_request(worker: &mut Worker, host: &(impl Host + StreamHost)) -> Flow {
    let headers = host.headers(Headers::Request);
    match pass(worker, host, &headers) {
        Some(pending) => Flow::Continue(pending),
        None => treat(worker, host, &headers),
    }
}

/// The short way, which most requests go: experiments that do no more than tell the origin and caches, a visitor who is known,
/// and nothing that has to be taken away. `None`: there is more to do, and nothing was done. [`treat`] comes to the same.
///
/// A request pays for the code that it runs through more than for what that does: by the time the next request comes, the
/// proxy has pushed it out of the processor's caches. So whatever is rare stands elsewhere, and nothing here has to be dropped.
#[inline(always)]
fn pass(worker: &mut Worker, host: &impl StreamHost, headers: &HeaderMap) -> Option<Pending> {
    let Worker { config, short_way, snapshot, metrics, pipeline, guardrails, combinations, room, now_ms, .. } = worker;
    let (config, snapshot) = (&**config, snapshot.as_ref()?);
    if !snapshot.is_simple || !short_way.is_open {
        return None;
    }
    let (request, visitor) = (&config.request, &config.visitor);
    let mut is_spoofed = false;
    let mut view =
        RequestView::with(headers, visitor, short_way.owned_lengths, |name| is_spoofed |= request.owns(name));
    let may_preview = request.preview.is_some() && view.query.is_some();
    if is_spoofed || may_preview {
        return None;
    }
    let mut pending = Pending::default();
    let is_default = short_way.all_paths && view.path.first() == Some(&b'/');
    if !is_default && !visit::is_included(&config.paths, view.path) {
        metrics.decided(Reason::PathExcluded, snapshot.experiments.len() as u64);
        return Some(pending);
    }
    let consent = visit::has_consent(&view, visitor);
    let Room { candidates, goal_candidates, choices, exposed } = room;
    let candidates = find_candidates(snapshot, &view, candidates);
    if (!consent && visitor.expire_cookies)
        || !find_goals(snapshot, &view, pipeline.is_some(), goal_candidates).is_empty()
    {
        return None;
    }
    if candidates.is_empty() {
        count_others(snapshot, 0, metrics);
        return Some(pending);
    }
    view.id = visit::id_without_tokens(&view, visitor);
    if view.id.is_none() && visitor.mint.is_some() {
        return None;
    }
    count_others(snapshot, candidates.len(), metrics);
    if config.response.downstream_private {
        pending.caching = Caching::Private;
    }
    let bot = visit::is_bot(&view, visitor);
    let visit = Visit { consent, bot, off: guardrails.off(), ..Visit::unrestricted(*now_ms) };
    exposed.clear();
    decide_all(snapshot, &visit, &view, candidates, Some(metrics), choices, |choice, _| exposed.push(choice));
    if !choices.is_empty() {
        pending.given = Some(combinations.get(snapshot, choices));
        if let Some(pipeline) = pipeline {
            report_all(pipeline, config, *now_ms, snapshot, exposed, &view, &mut pending);
        }
    }
    if let Some(given) = &pending.given {
        add_own(host, own(request, &given.assignments, &given.cache_key));
    }
    Some(pending)
}

/// Notes the exposures that were not reported yet, for the response.
#[inline(never)]
fn report_all(
    pipeline: &Pipeline,
    config: &PluginConfig,
    now_ms: i64,
    snapshot: &Rc<Snapshot>,
    exposed: &[Choice],
    view: &RequestView<'_>,
    pending: &mut Pending,
) {
    let mut reports = Reports::new(pipeline, config, now_ms);
    for choice in exposed {
        report(&mut reports, snapshot, *choice, view, pending);
    }
    if pending.has_events() {
        pending.work(snapshot).describe(view, config);
    }
}

/// The long way: whatever there may be to do.
#[inline(never)]
fn treat(worker: &mut Worker, host: &(impl Host + StreamHost), headers: &HeaderMap) -> Flow {
    let Worker { config, snapshot, metrics, pipeline, guardrails, combinations, room, now_ms, .. } = worker;
    let (config, pipeline, now_ms) = (&**config, pipeline.as_ref(), *now_ms);
    let (unowned_target, id, minted);
    let mut writes = Writes::new(&config.request, snapshot.as_deref());
    let owned_lengths = writes.owned_lengths();
    let mut view = RequestView::with(headers, &config.visitor, owned_lengths, |name| writes.protect(name));
    writes.target = view.target;
    let token = visit::preview_token(&view, &config.request);
    if let Some(target) = visit::target_without_owned(&view, &config.request) {
        unowned_target = target;
        view.retarget(&unowned_target);
        writes.new_target = Some(unowned_target.clone());
    }
    let Some(snapshot) = snapshot.as_ref() else {
        metrics.add(Counter::NoConfig, 1);
        writes.apply(host);
        return Flow::Continue(Pending::default());
    };
    if !visit::is_included(&config.paths, view.path) {
        metrics.decided(Reason::PathExcluded, snapshot.experiments.len() as u64);
        writes.apply(host);
        return Flow::Continue(Pending::default());
    }
    // A preview is nobody's visit: it counts in nothing, reports nothing, and leaves nothing in the browser.
    let preview = token.and_then(|token| visit::preview(&token, &config.request, now_ms)?.ok());
    let pipeline = pipeline.filter(|_| preview.is_none());
    let Room { candidates, goal_candidates, choices, .. } = room;
    let candidates = find_candidates(snapshot, &view, candidates);
    let goal_candidates = find_goals(snapshot, &view, pipeline.is_some(), goal_candidates);
    if preview.is_none() {
        count_others(snapshot, candidates.len(), metrics);
    }
    let mut pending = Pending::default();
    let consent = visit::has_consent(&view, &config.visitor);
    if !consent && config.visitor.expire_cookies {
        expire_cookies(config, snapshot, &view, &mut pending);
    }
    if candidates.is_empty() && goal_candidates.is_empty() && preview.is_none() {
        writes.apply(host);
        return Flow::Continue(pending);
    }

    let bot = visit::is_bot(&view, &config.visitor);
    id = visit::id(&view, &config.visitor);
    view.id = id.as_deref();
    let mut visit = Visit { consent, bot, off: guardrails.off(), ..Visit::unrestricted(now_ms) };
    minted = mint(config, host, snapshot, candidates, &view, &visit).filter(|_| preview.is_none());
    view.id = minted.as_deref().map(str::as_bytes).or(view.id);
    let sticky = sticky(config, snapshot, candidates, &view, &visit);
    let mut buckets = sticky.as_ref().map(|(_, sent)| StickyBuckets::parse(sent));
    visit.sticky = buckets.as_ref().map_or(&[], StickyBuckets::buckets);
    if let Some(preview) = &preview {
        visit.preview = &preview.pairs;
        pending.caching = Caching::NoStore;
    } else if config.response.downstream_private && !candidates.is_empty() {
        pending.caching = Caching::Private;
    }
    let mut reports = pipeline.map(|pipeline| Reports::new(pipeline, config, visit.now_ms));
    let mut newly_bucketed = Vec::new();
    let counts = preview.is_none().then_some(&mut *metrics);
    let mut by_rules = flags::Found::default();
    if let Some(rules) = snapshot.flag_evaluator.as_deref() {
        choices.clear();
        let sticky = config.request.sticky.is_some();
        by_rules = flags::decide(snapshot, rules, candidates, &visit, &view, reports.as_ref(), counts, choices, sticky);
        if !by_rules.exposures.is_empty() {
            pending.work(snapshot).exposures = std::mem::take(&mut by_rules.exposures);
        }
    } else {
        decide_all(snapshot, &visit, &view, candidates, counts, choices, |choice, reason| {
            if let Some(reports) = &mut reports {
                report(reports, snapshot, choice, &view, &mut pending);
            }
            if reason == Reason::Bucketed && sticky.is_some() && is_sticky(snapshot, choice) {
                newly_bucketed.push(choice);
            }
        });
    }
    if let Some((unit, goals)) = reachable_goals(goal_candidates, &visit, &view) {
        let work = pending.work(snapshot);
        work.goals.extend_from_slice(goals);
        if let Some(reports) = &reports {
            work.written_goals = reports.goals(snapshot, goals, &unit, &view, || host.random());
        }
        work.goal_unit = unit.into_owned();
    }
    if pending.has_events() {
        pending.work(snapshot).describe(&view, config);
    }
    if preview.is_some() && config.response.debug_header.is_some() {
        pending.work(snapshot).debug = debug_text(snapshot, candidates, &by_rules.decided, &visit, &view);
    }
    if let (Some(mint), Some(id)) = (&config.visitor.mint, &minted) {
        pending.work(snapshot).id_cookie = Some(mint.set(id));
    }
    if let (Some((cookie, sent)), Some(buckets)) = (sticky, &mut buckets)
        && preview.is_none()
        && let Some(value) = remembered(snapshot, buckets, &newly_bucketed, cookie, sent)
    {
        // An id that was minted before is renewed where a cookie is written anyway: both then last equally long.
        let renewed = config.visitor.mint.as_ref().filter(|_| minted.is_none());
        let renewed =
            renewed.and_then(|mint| Some(mint.set(std::str::from_utf8(visit::minted_id(&view, mint)?).ok()?)));
        let work = pending.work(snapshot);
        work.id_cookie = work.id_cookie.take().or(renewed);
        work.other_cookies.push(cookie.set(&value));
    }
    if let Some(cookie) = config.request.sticky.as_ref().filter(|_| preview.is_none())
        && !by_rules.kept.is_empty()
    {
        pending.work(snapshot).other_cookies.extend(kept_by_name(cookie, &by_rules.kept));
    }

    for choice in choices.iter().filter(|choice| has_response_headers(snapshot, **choice)) {
        pending.work(snapshot).choices.push(*choice);
    }
    let combination = if preview.is_some() {
        let mut combination = Combination::of(snapshot, choices);
        mark_preview(&mut combination.cache_key, Some(host.random()));
        Rc::new(combination)
    } else {
        combinations.get(snapshot, choices)
    };
    let redirect = writes.effects(snapshot, choices, &view).or(by_rules.redirect);
    if preview.is_some() {
        writes.store_nothing(headers);
    }
    writes.tell(&combination.assignments, &combination.cache_key);
    if preview.is_none() && !combination.assignments.is_empty() {
        pending.given = Some(Rc::clone(&combination));
    }
    match redirect {
        Some(location) => redirected(metrics, host, &location, view.method, pending, &writes),
        None => {
            writes.apply(host);
            Flow::Continue(pending)
        }
    }
}

/// Decides the candidates. `choices` are what the visitor gets, and `bucketed` hears of those among them that may be exposures.
#[inline(always)]
fn decide_all(
    snapshot: &Snapshot,
    visit: &Visit<'_>,
    view: &RequestView<'_>,
    candidates: &[u32],
    mut metrics: Option<&mut Metrics>,
    choices: &mut Vec<Choice>,
    mut bucketed: impl FnMut(Choice, Reason),
) {
    choices.clear();
    let steps = request_budget();
    for number in candidates.iter().map(|&number| number as usize) {
        let Some(experiment) = snapshot.experiments.get(number) else { continue };
        let Decision { variant, reason } = decide::decide_routed(snapshot, experiment, visit, view, &steps);
        if let Some(metrics) = &mut metrics {
            metrics.decided(reason, 1);
        }
        let Some(variant) = variant else { continue };
        let choice = Choice { experiment: number, variant };
        choices.push(choice);
        if matches!(reason, Reason::Bucketed | Reason::Sticky) {
            bucketed(choice, reason);
        }
    }
}

/// Notes an exposure for the response, unless it was reported already.
fn report(
    reports: &mut Reports<'_>,
    snapshot: &Rc<Snapshot>,
    choice: Choice,
    view: &RequestView<'_>,
    pending: &mut Pending,
) {
    if let Some(exposure) = reports.exposure(snapshot, choice, view) {
        pending.work(snapshot).exposures.push(exposure);
    }
}

/// The filter's own headers. Those without a name or without a value are not written.
#[inline(always)]
fn own<'a>(config: &'a plugin_config::Request, assignments: &'a str, cache_key: &'a str) -> [(&'a str, &'a str); 2] {
    let cache_key_header = config.cache_key.header.as_deref().unwrap_or_default();
    [(config.assignments_header.as_str(), assignments), (cache_key_header, cache_key)]
}

#[inline(always)]
fn add_own(host: &impl StreamHost, own: [(&str, &str); 2]) {
    for (name, value) in own {
        if !name.is_empty() && !value.is_empty() {
            host.add_header(Headers::Request, name, value.as_bytes());
        }
    }
}

/// The experiments whose routes match, by their numbers.
#[inline(always)]
fn find_candidates<'a>(snapshot: &'a Snapshot, view: &RequestView<'_>, room: &'a mut Vec<u32>) -> &'a [u32] {
    let route = |number: u32| snapshot.experiments.get(number as usize).map(|experiment| &experiment.route);
    snapshot.experiment_index.find(view.path, || view.line(), route, room)
}

/// The goals whose routes match, by their numbers: none where nobody would hear of them.
#[inline(always)]
fn find_goals<'a>(
    snapshot: &'a Snapshot,
    view: &RequestView<'_>,
    has_events: bool,
    room: &'a mut Vec<u32>,
) -> &'a [u32] {
    if !has_events || snapshot.goals.is_empty() {
        return &[];
    }
    let route = |number: u32| snapshot.goals.get(number as usize).map(|goal| &goal.route);
    snapshot.goal_index.find(view.path, || view.line(), route, room)
}

/// Counts the experiments that are not among the candidates.
#[inline(always)]
fn count_others(snapshot: &Snapshot, candidates: usize, metrics: &mut Metrics) {
    let others = snapshot.experiments.len() - snapshot.paused - candidates;
    metrics.decided(Reason::Route, others as u64);
    metrics.decided(Reason::Paused, snapshot.paused as u64);
    metrics.decided(Reason::Disabled, snapshot.disabled.len() as u64);
}

/// Takes our cookies away from a visitor who may not be told apart.
#[cold]
fn expire_cookies(config: &PluginConfig, snapshot: &Rc<Snapshot>, view: &RequestView<'_>, pending: &mut Pending) {
    let expired = visit::expired_cookies(view, &config.visitor, &config.request, config.experiments.format);
    if !expired.is_empty() {
        // Nobody else may be given what takes cookies away, also on a page without experiments.
        pending.caching = Caching::Private;
        pending.work(snapshot).other_cookies = expired;
    }
}

/// A new id for a visitor without one: only where an experiment could use it, and only for those who may be told apart.
fn mint(
    config: &PluginConfig,
    host: &impl Host,
    snapshot: &Snapshot,
    candidates: &[u32],
    view: &RequestView<'_>,
    visit: &Visit<'_>,
) -> Option<String> {
    let could_be = config.visitor.mint.is_some() && view.id.is_none() && !visit.bot && visit.consent;
    let is_of_use = |one: &Experiment| {
        matches!(one.state, State::Running | State::Flag(_))
            && one.unit == AttributeName::Id
            && decide::not_scheduled(one, visit.now_ms).is_none()
    };
    (could_be && any(snapshot, candidates, is_of_use)).then(|| visit::minted(host.random()))
}

/// Whether one of the candidates is as asked.
#[inline(never)]
fn any(snapshot: &Snapshot, candidates: &[u32], is: impl Fn(&Experiment) -> bool) -> bool {
    candidates.iter().filter_map(|&number| snapshot.experiments.get(number as usize)).any(is)
}

fn is_sticky(snapshot: &Snapshot, choice: Choice) -> bool {
    snapshot.experiments.get(choice.experiment).is_some_and(|experiment| experiment.sticky.is_some())
}

/// The cookie of sticky buckets with the value that the client sent, where an experiment could use it and the visitor may
/// be told apart.
fn sticky<'a>(
    config: &'a PluginConfig,
    snapshot: &Snapshot,
    candidates: &[u32],
    view: &RequestView<'a>,
    visit: &Visit<'_>,
) -> Option<(&'a OwnCookie, &'a [u8])> {
    let cookie = config.request.sticky.as_ref().filter(|_| snapshot.has_sticky && visit.consent && !visit.bot)?;
    let is_of_use = |one: &Experiment| one.sticky.is_some() && one.state == State::Running;
    any(snapshot, candidates, is_of_use).then(|| (cookie, view.cookie(&cookie.cookie).unwrap_or_default()))
}

/// The cookies that keep what a vendor's rules want kept. What browsers would not keep need not be sent.
fn kept_by_name(cookie: &OwnCookie, kept: &[(String, String)]) -> impl Iterator<Item = String> {
    let set =
        kept.iter().map(|(name, value)| cookie.named(&cookies::encoded_name(name)).set(&percent_encoded(value, "")));
    set.filter(|cookie| cookie.len() <= COOKIE_BYTES_MAX)
}

/// The new value of the sticky cookie, if it is another than the one that the client sent.
fn remembered<'a>(
    snapshot: &'a Snapshot,
    buckets: &mut StickyBuckets<'a>,
    newly_bucketed: &[Choice],
    cookie: &OwnCookie,
    sent: &[u8],
) -> Option<String> {
    for (experiment, variant) in newly_bucketed.iter().filter_map(|choice| snapshot.choice(*choice)) {
        buckets.remember(&experiment.key, experiment.sticky?, &variant.key);
    }
    let value = buckets.changed().then(|| buckets.value(cookie.other_bytes()))?;
    // What does not fit is forgotten again: that is no reason to write the same with every response.
    (value.as_bytes() != sent).then_some(value)
}

/// The decisions that a preview shows, for a person: those of the experiments of this page, and of others that its link
/// names.
fn debug_text(
    snapshot: &Snapshot,
    candidates: &[u32],
    by_rules: &[(usize, Option<usize>, Reason)],
    visit: &Visit<'_>,
    view: &RequestView<'_>,
) -> Option<String> {
    let (mut text, line, steps) = (String::new(), view.line(), request_budget());
    for (number, experiment) in (0_u32..).zip(&snapshot.experiments) {
        let is_named = visit.preview.iter().any(|(key, _)| *key == experiment.key);
        if !is_named && !candidates.contains(&number) {
            continue;
        }
        let Decision { variant, reason } =
            match (&snapshot.flag_evaluator, by_rules.iter().find(|(at, ..)| *at == number as usize)) {
                (None, _) => decide::decide(snapshot, experiment, &line, visit, view, &steps),
                (Some(_), Some(&(_, variant, reason))) => Decision { variant, reason },
                // The link names a flag that is about other pages.
                (Some(_), None) => Decision { variant: None, reason: Reason::Route },
            };
        let variant = variant.and_then(|variant| experiment.variants.get(variant));
        let pair = assignment_pair(&experiment.key, variant.map_or("", |variant| variant.key.as_str()));
        if text.len() + pair.len() > DEBUG_BYTES_MAX {
            break;
        }
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{pair};{}", reason.name());
    }
    (!text.is_empty()).then_some(text)
}

/// The goals that the response may reach, and who would: a visitor who is known and may be told apart.
fn reachable_goals<'a>(
    goals: &'a [u32],
    visit: &Visit<'_>,
    view: &'a RequestView<'_>,
) -> Option<(Cow<'a, str>, &'a [u32])> {
    let identified = visit.consent && !visit.bot && !goals.is_empty();
    let unit = identified.then(|| decide::unit(&AttributeName::Id, view)).flatten()?;
    Some((unit, goals))
}

fn has_response_headers(snapshot: &Snapshot, choice: Choice) -> bool {
    snapshot.choice(choice).is_some_and(|(_, variant)| !variant.effects.response_headers.is_empty())
}

/// Answers with a redirect. Methods that change something keep their method and body.
fn redirected(
    metrics: &mut Metrics,
    host: &(impl Host + StreamHost),
    location: &str,
    method: &[u8],
    pending: Pending,
    writes: &Writes<'_>,
) -> Flow {
    let status = if matches!(method, b"GET" | b"HEAD") { 302 } else { 307 };
    if host.respond(status, &[("location", location)]) {
        return Flow::Answered(pending);
    }
    metrics.add(Counter::Respond, 1);
    writes.apply(host);
    Flow::Continue(pending)
}

/// The changes of a request's headers, collected first so that each costs one call at most.
#[derive(Debug)]
struct Writes<'a> {
    config: &'a plugin_config::Request,
    /// The names that variants set.
    by_variants: Option<&'a NameSet>,
    /// Names the filter owns or overrules that the client sent, each with how often.
    spoofed: Vec<(&'a [u8], usize)>,
    /// The values of the filter's own headers; empty where there are none.
    assignments: &'a str,
    cache_key: &'a str,
    /// What variants set; the last of a name wins.
    sets: Vec<(&'a str, &'a str)>,
    /// The request target as it came.
    target: &'a [u8],
    /// And as it goes on, if that is another.
    new_target: Option<Vec<u8>>,
}

impl<'a> Writes<'a> {
    fn new(config: &'a plugin_config::Request, snapshot: Option<&'a Snapshot>) -> Writes<'a> {
        let by_variants = snapshot.map(|snapshot| &snapshot.owned_request_headers);
        let (spoofed, sets) = (Vec::new(), Vec::new());
        Writes { config, by_variants, spoofed, assignments: "", cache_key: "", sets, target: b"", new_target: None }
    }

    /// The lengths of the names that the filter owns.
    fn owned_lengths(&self) -> NameLengths {
        self.config.owned_lengths().or(self.by_variants.map_or(NameLengths::default(), NameSet::lengths))
    }

    /// Notes a name that the client sent, if the filter owns it.
    fn protect(&mut self, name: &'a [u8]) {
        if self.config.owns(name) || self.by_variants.is_some_and(|names| names.contains(name)) {
            self.overrule(name);
        }
    }

    #[cold]
    fn overrule(&mut self, name: &'a [u8]) {
        match self.spoofed.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => *times += 1,
            None => self.spoofed.push((name, 1)),
        }
    }

    /// Asks caches to keep nothing of what comes back, whatever the client has asked of them.
    fn store_nothing(&mut self, headers: &'a HeaderMap) {
        if let times @ 1.. = headers.all(CACHE_CONTROL).count() {
            self.spoofed.push((CACHE_CONTROL.as_bytes(), times));
        }
        self.sets.push((CACHE_CONTROL, "no-store"));
    }

    /// The assignments and the cache key.
    fn tell(&mut self, assignments: &'a str, cache_key: &'a str) {
        (self.assignments, self.cache_key) = (assignments, cache_key);
        if let Some(name) = self.config.cache_key.query.as_deref().filter(|_| !cache_key.is_empty()) {
            let target = self.new_target.as_deref().unwrap_or(self.target);
            self.new_target = Some(url::with_parameter(target, name, Some(cache_key)));
        }
    }

    /// What the filter says under its names: the last of a name wins.
    fn says(&self) -> impl DoubleEndedIterator<Item = (&'a str, &'a str)> + Clone + '_ {
        let own = self.own().into_iter().filter(|(name, value)| !name.is_empty() && !value.is_empty());
        own.chain(self.sets.iter().copied())
    }

    /// What the variants set, in the order of the experiments. Gives the first redirect that leads elsewhere.
    fn effects(&mut self, snapshot: &'a Snapshot, choices: &[Choice], view: &RequestView<'_>) -> Option<String> {
        let mut redirect = None;
        for (_, variant) in choices.iter().filter_map(|choice| snapshot.choice(*choice)) {
            let Effects { request_headers, path, redirect: to, .. } = &variant.effects;
            self.sets.extend(request_headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            if let Some(path) = path {
                let target = self.new_target.as_deref().unwrap_or(self.target);
                if let Some(rest) = target.strip_prefix(path.prefix.as_bytes()) {
                    self.new_target = Some([path.with.as_bytes(), rest].concat());
                }
            }
            if redirect.is_none()
                && let Some(to) = to
            {
                redirect = self.location(to, view);
            }
        }
        redirect
    }

    /// Where to redirect to, with the request's query; `None` where the client is there already.
    fn location(&self, to: &str, view: &RequestView<'_>) -> Option<String> {
        let (address, fragment) =
            to.split_once('#').map_or((to, None), |(address, fragment)| (address, Some(fragment)));
        let (place, own_query) = address.split_once('?').map_or((address, None), |(place, query)| (place, Some(query)));
        let here = match place.split_once("://") {
            Some((_, rest)) => {
                let (authority, path) = rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, "/"));
                url::host(authority.as_bytes()) == view.host() && path.as_bytes() == view.path
            }
            None => place.as_bytes() == view.path,
        };
        if here {
            return None;
        }
        let target = match self.config.cache_key.query.as_deref() {
            Some(name) => url::with_parameter(self.target, name, None),
            None => self.target.to_vec(),
        };
        let query = url::path_and_query(&target).1.map(String::from_utf8_lossy);
        let queries: Vec<&str> =
            [own_query, query.as_deref()].into_iter().flatten().filter(|query| !query.is_empty()).collect();
        let mut location = place.to_owned();
        if !queries.is_empty() {
            location.push('?');
            location.push_str(&queries.join("&"));
        }
        if let Some(fragment) = fragment {
            location.push('#');
            location.push_str(fragment);
        }
        Some(location)
    }

    /// The filter's own headers.
    fn own(&self) -> [(&'a str, &'a str); 2] {
        own(self.config, self.assignments, self.cache_key)
    }

    /// Makes the changes.
    fn apply(&self, host: &impl StreamHost) {
        if !self.spoofed.is_empty() || !self.sets.is_empty() || self.new_target.is_some() {
            return self.apply_all(host);
        }
        add_own(host, self.own());
    }

    #[inline(never)]
    fn apply_all(&self, host: &impl StreamHost) {
        for (name, times) in &self.spoofed {
            let Ok(text) = std::str::from_utf8(name) else { continue };
            match self.says().rev().find(|(own, _)| is_name(name, own.as_bytes())) {
                // Replacing changes the first of a name only.
                Some((_, value)) if *times == 1 => host.set_header(Headers::Request, text, value.as_bytes()),
                Some((_, value)) => {
                    host.remove_header(Headers::Request, text);
                    host.add_header(Headers::Request, text, value.as_bytes());
                }
                None => host.remove_header(Headers::Request, text),
            }
        }
        let mut says = self.says();
        while let Some((name, value)) = says.next() {
            let overruled = says.clone().any(|(later, _)| later == name);
            let done = self.spoofed.iter().any(|(spoofed, _)| is_name(spoofed, name.as_bytes()));
            if !overruled && !done {
                host.add_header(Headers::Request, name, value.as_bytes());
            }
        }
        if let Some(target) = self.new_target.as_deref().filter(|target| *target != self.target) {
            host.set_header(Headers::Request, ":path", target);
        }
    }
}

impl Work {
    /// Copies what events say of the request: the request's headers cannot be read any more when the response comes.
    fn describe(&mut self, view: &RequestView<'_>, config: &PluginConfig) {
        self.host = String::from_utf8_lossy(&view.host()).into_owned();
        self.path = String::from_utf8_lossy(view.path).into_owned();
        self.attributes = (config.visitor.attributes.iter())
            .filter_map(|(alias, source)| match view.attribute(source) {
                AttributeValue::Text(text) => Some((alias.clone(), text.into_owned())),
                AttributeValue::Missing | AttributeValue::Json(_) => None,
            })
            .collect();
    }
}
