//! The request path: what is read of a request, what is decided, what is written. Top to bottom in one place, since every
//! request of a site pays for it: one read of all headers, and a write for what has to change.

use super::response::{Exposure, Pending, Work};
use super::worker::Worker;
use crate::engine::assignments::{sort_by_key, write_assignments, write_cache_key};
use crate::engine::attribute::{AttributeName, AttributeValue, Attributes};
use crate::engine::decide::{self, Visit, decide_routed};
use crate::engine::reason::Reason;
use crate::engine::snapshot::{Choice, Effects, Snapshot, State};
use crate::events::event::exposure_fingerprint;
use crate::events::pipeline::Pipeline;
use crate::host::{Headers, Host, StreamHost};
use crate::http::headers::{HeaderMap, is_name};
use crate::http::url;
use crate::metrics::{Counter, Metrics};
use crate::plugin_config::{self, Mint, PluginConfig, SameSite};
use crate::visit::{self, RequestView};
use std::borrow::Cow;

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
    /// Experiments and goals whose routes match, by their numbers.
    candidates: Vec<u32>,
    goal_candidates: Vec<u32>,
    choices: Vec<Choice>,
    assignments: String,
    cache_key: String,
}

/// Handles the headers of a request.
pub fn on_request(worker: &mut Worker, host: &(impl Host + StreamHost)) -> Flow {
    let mut room = std::mem::take(&mut worker.room);
    let flow = handle(worker, host, &mut room);
    worker.room = room;
    flow
}

fn handle(worker: &mut Worker, host: &(impl Host + StreamHost), room: &mut Room) -> Flow {
    let headers = host.headers(Headers::Request);
    let Worker { config, snapshot, metrics, pipeline, now_ms, .. } = worker;
    let (config, pipeline, now_ms) = (&**config, pipeline.as_ref(), *now_ms);
    let mut view = RequestView::new(&headers, &config.visitor);
    let mut writes = Writes::new(&headers, &view, config, snapshot.as_deref());
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
    find_candidates(room, snapshot, &view, pipeline.is_some(), metrics);
    let Room { candidates, goal_candidates, choices, assignments, cache_key } = room;
    if candidates.is_empty() && goal_candidates.is_empty() {
        writes.apply(host);
        return Flow::Continue(Pending::default());
    }

    let visit = visit::visit(&view, &config.visitor, true, now_ms);
    view.id = visit::id(&view, &config.visitor);
    let minted = mint(config, host, snapshot, candidates, &view, &visit);
    if let Some((id, _)) = &minted {
        view.id = Some(Cow::Borrowed(id));
    }
    let mut pending = Pending::new(config.response.downstream_private && !candidates.is_empty());
    let mut reports =
        pipeline.map(|pipeline| Reports { window: pipeline.dedupe.window(now_ms), visitor: None, pipeline });
    choices.clear();
    for &number in &*candidates {
        let Some(experiment) = snapshot.experiments.get(number as usize) else { continue };
        let decision = decide_routed(snapshot, experiment, &visit, &view);
        metrics.decided(decision.reason, 1);
        let Some(variant) = decision.variant else { continue };
        let choice = Choice { experiment: number as usize, variant };
        choices.push(choice);
        if decision.reason == Reason::Bucketed
            && let Some(exposure) = reports.as_mut().and_then(|reports| reports.exposure(snapshot, choice, &view))
        {
            pending.work(snapshot).exposures.push(exposure);
        }
    }
    if let Some((unit, goals)) = reachable_goals(goal_candidates, &visit, &view) {
        let work = pending.work(snapshot);
        work.goals.extend_from_slice(goals);
        work.goal_unit = unit.into_owned();
    }
    if pending.has_events() {
        pending.work(snapshot).describe(&view, config);
    }
    if snapshot.has_effects {
        for choice in choices.iter().filter(|choice| has_response_headers(snapshot, **choice)) {
            pending.work(snapshot).choices.push(*choice);
        }
    }
    if let Some((_, cookie)) = &minted {
        pending.work(snapshot).set_cookie = Some(cookie.clone());
    }

    let redirect = if snapshot.has_effects { writes.effects(snapshot, choices, &view) } else { None };
    // From here on in the order of their keys.
    sort_by_key(snapshot, choices);
    write_assignments(snapshot, choices, assignments);
    write_cache_key(snapshot, choices, cache_key);
    writes.tell(assignments, cache_key);
    match redirect {
        Some(location) => redirected(metrics, host, &location, view.method, pending, &writes),
        None => {
            writes.apply(host);
            Flow::Continue(pending)
        }
    }
}

/// Finds the experiments and goals whose routes match, and counts the experiments whose do not.
fn find_candidates(
    room: &mut Room,
    snapshot: &Snapshot,
    view: &RequestView<'_>,
    has_events: bool,
    metrics: &mut Metrics,
) {
    let line = view.line();
    let route = |number: u32| snapshot.experiments.get(number as usize).map(|experiment| &experiment.route);
    snapshot.experiment_index.find(&line, route, &mut room.candidates);
    let others = snapshot.experiments.len() - snapshot.paused - room.candidates.len();
    metrics.decided(Reason::Route, others as u64);
    metrics.decided(Reason::Paused, snapshot.paused as u64);
    metrics.decided(Reason::Disabled, snapshot.disabled.len() as u64);
    room.goal_candidates.clear();
    if has_events && !snapshot.goals.is_empty() {
        let route = |number: u32| snapshot.goals.get(number as usize).map(|goal| &goal.route);
        snapshot.goal_index.find(&line, route, &mut room.goal_candidates);
    }
}

/// A new id for a visitor without one, with its cookie: only where an experiment could use it, and only for those who may
/// be told apart.
fn mint(
    config: &PluginConfig,
    host: &impl Host,
    snapshot: &Snapshot,
    candidates: &[u32],
    view: &RequestView<'_>,
    visit: &Visit,
) -> Option<(String, String)> {
    let mint = config.visitor.mint.as_ref()?;
    if view.id.is_some() || visit.bot || !visit.consent {
        return None;
    }
    let useful = candidates.iter().filter_map(|&number| snapshot.experiments.get(number as usize)).any(|one| {
        one.state == State::Running
            && one.unit == AttributeName::Id
            && decide::not_scheduled(one, visit.now_ms).is_none()
    });
    useful.then(|| {
        let id = visit::minted(host.random());
        let cookie = set_cookie(mint, &id);
        (id, cookie)
    })
}

fn set_cookie(mint: &Mint, id: &str) -> String {
    let Mint { cookie, max_age_s, path, domain, same_site, secure, .. } = mint;
    let same_site = match same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    let domain = domain.as_ref().map(|domain| format!("; Domain={domain}")).unwrap_or_default();
    let secure = if *secure { "; Secure" } else { "" };
    format!("{cookie}={id}; Path={path}{domain}; Max-Age={max_age_s}; SameSite={same_site}{secure}")
}

/// What has to be known to report exposures.
struct Reports<'a> {
    pipeline: &'a Pipeline,
    /// The number of the dedupe window.
    window: i64,
    /// The visitor by id, as exposures name it: all experiments by id share it.
    visitor: Option<u64>,
}

impl Reports<'_> {
    /// An exposure to report when the response is delivered, unless it was reported already.
    fn exposure(&mut self, snapshot: &Snapshot, choice: Choice, view: &RequestView<'_>) -> Option<Exposure> {
        let (experiment, variant) = snapshot.choice(choice)?;
        let dedupe = &self.pipeline.dedupe;
        let is_by_id = experiment.unit == AttributeName::Id;
        let visitor = match self.visitor.filter(|_| is_by_id) {
            Some(visitor) => visitor,
            None => {
                let visitor = dedupe.visitor(&decide::unit(&experiment.unit, view)?);
                self.visitor = if is_by_id { Some(visitor) } else { self.visitor };
                visitor
            }
        };
        let name = visitor ^ variant.tag;
        if dedupe.has_seen(name, self.window) {
            return None;
        }
        let unit = decide::unit(&experiment.unit, view)?.into_owned();
        let fingerprint = exposure_fingerprint(&unit, &experiment.key, &variant.key, self.window);
        Some(Exposure { choice, unit, name, fingerprint, window: self.window })
    }
}

/// The goals that the response may reach, and who would: a visitor who is known and may be told apart.
fn reachable_goals<'a>(
    goals: &'a [u32],
    visit: &Visit,
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
    /// Names the filter owns that the client sent, each with how often.
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
    /// Finds what the client sent under names that the filter owns.
    fn new(
        headers: &'a HeaderMap,
        view: &RequestView<'a>,
        config: &'a PluginConfig,
        snapshot: Option<&Snapshot>,
    ) -> Writes<'a> {
        let mut spoofed: Vec<(&[u8], usize)> = Vec::new();
        for (name, _) in headers.iter() {
            let is_owned = config.request.owns(name)
                || snapshot.is_some_and(|snapshot| snapshot.owned_request_headers.contains(name));
            if is_owned {
                match spoofed.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, times)) => *times += 1,
                    None => spoofed.push((name, 1)),
                }
            }
        }
        let new_target = match (config.request.cache_key.query.as_deref(), view.query) {
            (Some(name), Some(query)) if url::has_parameter(query, name) => {
                Some(url::with_parameter(view.target, name, None))
            }
            _ => None,
        };
        let (config, target) = (&config.request, view.target);
        Writes { config, spoofed, assignments: "", cache_key: "", sets: Vec::new(), target, new_target }
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
        let own = [
            (self.config.assignments_header.as_str(), self.assignments),
            (self.config.cache_key.header.as_deref().unwrap_or_default(), self.cache_key),
        ];
        let own = own.into_iter().filter(|(name, value)| !name.is_empty() && !value.is_empty());
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
                url::host(authority.as_bytes()) == view.host && path.as_bytes() == view.path
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

    /// Makes the changes.
    fn apply(&self, host: &impl StreamHost) {
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
        self.host = String::from_utf8_lossy(&view.host).into_owned();
        self.path = String::from_utf8_lossy(view.path).into_owned();
        self.attributes = (config.visitor.attributes.iter())
            .filter_map(|(alias, source)| match view.attribute(source) {
                AttributeValue::Text(text) => Some((alias.clone(), text.into_owned())),
                AttributeValue::Missing | AttributeValue::Json(_) => None,
            })
            .collect();
    }
}
