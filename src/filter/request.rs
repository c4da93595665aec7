//! The request path: what is read of a request, what is decided, what is written. Top to bottom in one place, since every
//! request of a site pays for it: one read of all headers, and a write for what has to change.

use super::response::{Exposure, Pending};
use super::worker::Worker;
use crate::engine::assignments::{assignments, cache_key};
use crate::engine::attribute::{AttributeName, AttributeValue, Attributes};
use crate::engine::decide::{self, Visit, decide_routed};
use crate::engine::reason::Reason;
use crate::engine::snapshot::{Choice, Effects, Snapshot, State};
use crate::events::event::exposure_fingerprint;
use crate::host::{Headers, Host, StreamHost};
use crate::http::headers::HeaderMap;
use crate::http::url;
use crate::metrics::Counter;
use crate::plugin_config::{Mint, PluginConfig, SameSite};
use crate::visit::{self, RequestView};
use std::borrow::Cow;
use std::rc::Rc;

/// What becomes of a request.
#[derive(Debug)]
pub enum Flow {
    /// It goes on; what is left to do with its response, if anything.
    Continue(Option<Box<Pending>>),
    /// The client was answered here; what is left to do with that answer.
    Answered(Option<Box<Pending>>),
}

/// Handles the headers of a request.
pub fn on_request(worker: &mut Worker, host: &(impl Host + StreamHost)) -> Flow {
    let headers = host.headers(Headers::Request);
    let config = Rc::clone(&worker.config);
    let snapshot = worker.snapshot.clone();
    let mut writes = Writes::new(&headers, &config, snapshot.as_deref());
    let Some(snapshot) = snapshot else {
        worker.metrics.add(Counter::NoConfig, 1);
        writes.apply(host);
        return Flow::Continue(None);
    };

    let mut view = RequestView::new(&headers, &config.visitor);
    if !visit::is_included(&config.paths, view.path) {
        worker.metrics.decided(Reason::PathExcluded, snapshot.experiments.len() as u64);
        writes.apply(host);
        return Flow::Continue(None);
    }
    find_candidates(worker, &snapshot, &view);
    if worker.candidates.is_empty() && worker.goal_candidates.is_empty() {
        writes.apply(host);
        return Flow::Continue(None);
    }

    let visit = visit::visit(&view, &config.visitor, true, worker.now_ms);
    view.id = visit::id(&headers, &config.visitor);
    let minted = mint(worker, host, &snapshot, &view, &visit);
    if let Some((id, _)) = &minted {
        view.id = Some(Cow::Borrowed(id));
    }
    let mut pending = Pending::new(&snapshot, config.response.downstream_private && !worker.candidates.is_empty());
    let mut choices = Vec::with_capacity(worker.candidates.len());
    for &number in &worker.candidates {
        let Some(experiment) = snapshot.experiments.get(number as usize) else { continue };
        let decision = decide_routed(&snapshot, experiment, &visit, &view);
        worker.metrics.decided(decision.reason, 1);
        let Some(variant) = decision.variant else { continue };
        let choice = Choice { experiment: number as usize, variant };
        choices.push(choice);
        if decision.reason == Reason::Bucketed {
            pending.exposures.extend(exposure(worker, &snapshot, choice, &view));
        }
    }
    find_goals(worker, &snapshot, &visit, &view, &mut pending);
    if !pending.exposures.is_empty() || !pending.goals.is_empty() {
        pending.describe(&view, &config);
    }
    pending.choices = choices.iter().copied().filter(|choice| has_response_headers(&snapshot, *choice)).collect();
    pending.set_cookie = minted.as_ref().map(|(_, cookie)| cookie.clone());

    writes.tell(&config, &snapshot, &choices);
    let redirect = writes.effects(&snapshot, &choices, &view);
    let pending = (!pending.is_idle()).then(|| Box::new(pending));
    match redirect {
        Some(location) => redirected(worker, host, &location, view.method, pending, &writes),
        None => {
            writes.apply(host);
            Flow::Continue(pending)
        }
    }
}

/// Finds the experiments and goals whose routes match, and counts the experiments whose do not.
fn find_candidates(worker: &mut Worker, snapshot: &Snapshot, view: &RequestView<'_>) {
    let line = view.line();
    snapshot.experiment_index.candidates(view.path, &mut worker.candidates);
    worker.candidates.retain(|&number| {
        snapshot.experiments.get(number as usize).is_some_and(|experiment| experiment.route.matches(&line))
    });
    let others = snapshot.experiments.len() - snapshot.paused - worker.candidates.len();
    worker.metrics.decided(Reason::Route, others as u64);
    worker.metrics.decided(Reason::Paused, snapshot.paused as u64);
    worker.metrics.decided(Reason::Disabled, snapshot.disabled.len() as u64);
    worker.goal_candidates.clear();
    if worker.pipeline.is_some() && !snapshot.goals.is_empty() {
        snapshot.goal_index.candidates(view.path, &mut worker.goal_candidates);
        worker
            .goal_candidates
            .retain(|&number| snapshot.goals.get(number as usize).is_some_and(|goal| goal.route.matches(&line)));
    }
}

/// A new id for a visitor without one, with its cookie: only where an experiment could use it, and only for those who may
/// be told apart.
fn mint(
    worker: &Worker,
    host: &impl Host,
    snapshot: &Snapshot,
    view: &RequestView<'_>,
    visit: &Visit,
) -> Option<(String, String)> {
    let mint = worker.config.visitor.mint.as_ref()?;
    if view.id.is_some() || visit.bot || !visit.consent {
        return None;
    }
    let useful = worker.candidates.iter().filter_map(|&number| snapshot.experiments.get(number as usize)).any(|one| {
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

/// An exposure to report when the response is delivered, unless it was reported already.
fn exposure(worker: &Worker, snapshot: &Snapshot, choice: Choice, view: &RequestView<'_>) -> Option<Exposure> {
    let pipeline = worker.pipeline.as_ref()?;
    let (experiment, variant) = snapshot.choice(choice)?;
    let unit = decide::unit(&experiment.unit, view)?;
    let window = pipeline.dedupe.window(worker.now_ms);
    let fingerprint = exposure_fingerprint(&unit, &experiment.key, &variant.key, window);
    if pipeline.dedupe.has_seen(fingerprint, window) {
        return None;
    }
    Some(Exposure { choice, unit: unit.into_owned(), fingerprint, window })
}

/// The goals that the response may reach, for a visitor who is known and may be told apart.
fn find_goals(worker: &Worker, snapshot: &Snapshot, visit: &Visit, view: &RequestView<'_>, pending: &mut Pending) {
    let identified = visit.consent && !visit.bot && !worker.goal_candidates.is_empty();
    let unit = identified.then(|| decide::unit(&AttributeName::Id, view)).flatten();
    if let Some(unit) = unit {
        pending.goals =
            worker.goal_candidates.iter().filter(|&&at| (at as usize) < snapshot.goals.len()).copied().collect();
        pending.goal_unit = unit.into_owned();
    }
}

fn has_response_headers(snapshot: &Snapshot, choice: Choice) -> bool {
    snapshot.choice(choice).is_some_and(|(_, variant)| !variant.effects.response_headers.is_empty())
}

/// Answers with a redirect. Methods that change something keep their method and body.
fn redirected(
    worker: &mut Worker,
    host: &(impl Host + StreamHost),
    location: &str,
    method: &[u8],
    pending: Option<Box<Pending>>,
    writes: &Writes<'_>,
) -> Flow {
    let status = if matches!(method, b"GET" | b"HEAD") { 302 } else { 307 };
    if host.respond(status, &[("location", location)]) {
        return Flow::Answered(pending);
    }
    worker.metrics.add(Counter::Respond, 1);
    writes.apply(host);
    Flow::Continue(pending)
}

/// The changes of a request's headers, collected first so that each costs one call at most.
#[derive(Debug)]
struct Writes<'a> {
    /// Names the filter owns that the client sent, each with how often.
    spoofed: Vec<(&'a [u8], usize)>,
    /// What the filter says under its names; the last of a name wins.
    says: Vec<(&'a str, Cow<'a, str>)>,
    /// The request target as it came.
    target: &'a [u8],
    /// And as it goes on, if that is another.
    new_target: Option<Vec<u8>>,
    cache_query: Option<&'a str>,
}

impl<'a> Writes<'a> {
    /// Finds what the client sent under names that the filter owns.
    fn new(headers: &'a HeaderMap, config: &'a PluginConfig, snapshot: Option<&Snapshot>) -> Writes<'a> {
        let own_names = [Some(&config.request.assignments_header), config.request.cache_key.header.as_ref()];
        let owned = snapshot.map_or(&[][..], |snapshot| &snapshot.owned_request_headers);
        let mut spoofed: Vec<(&[u8], usize)> = Vec::new();
        let mut target: &[u8] = &[];
        for (name, value) in headers.iter() {
            if name == b":path" {
                target = value;
            }
            let is_owned = own_names.iter().flatten().any(|own| own.as_bytes() == name)
                || owned.binary_search_by(|own| own.as_bytes().cmp(name)).is_ok();
            if is_owned {
                match spoofed.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, times)) => *times += 1,
                    None => spoofed.push((name, 1)),
                }
            }
        }
        let cache_query = config.request.cache_key.query.as_deref();
        let (_, query) = url::path_and_query(target);
        let new_target = match (cache_query, query) {
            (Some(name), Some(query)) if url::has_parameter(query, name) => {
                Some(url::with_parameter(target, name, None))
            }
            _ => None,
        };
        Writes { spoofed, says: Vec::new(), target, new_target, cache_query }
    }

    /// The assignments and the cache key.
    fn tell(&mut self, config: &'a PluginConfig, snapshot: &Snapshot, choices: &[Choice]) {
        let assignments = assignments(snapshot, choices);
        if !assignments.is_empty() {
            self.says.push((&config.request.assignments_header, Cow::Owned(assignments)));
        }
        let key = cache_key(snapshot, choices);
        if key.is_empty() {
            return;
        }
        if let Some(name) = &config.request.cache_key.header {
            self.says.push((name, Cow::Owned(key.clone())));
        }
        if let Some(name) = self.cache_query {
            self.new_target = Some(url::with_parameter(self.target, name, Some(&key)));
        }
    }

    /// What the variants set, in the order of the experiments. Gives the first redirect that leads elsewhere.
    fn effects(&mut self, snapshot: &'a Snapshot, choices: &[Choice], view: &RequestView<'_>) -> Option<String> {
        let mut redirect = None;
        for (_, variant) in choices.iter().filter_map(|choice| snapshot.choice(*choice)) {
            let Effects { request_headers, path, redirect: to, .. } = &variant.effects;
            self.says
                .extend(request_headers.iter().map(|(name, value)| (name.as_str(), Cow::Borrowed(value.as_str()))));
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
        let target = match self.cache_query {
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
        let says_under = |name: &[u8]| self.says.iter().rev().find(|(own, _)| own.as_bytes() == name);
        for (name, times) in &self.spoofed {
            let Ok(text) = std::str::from_utf8(name) else { continue };
            match says_under(name) {
                // Replacing changes the first of a name only.
                Some((_, value)) if *times == 1 => host.set_header(Headers::Request, text, value.as_bytes()),
                Some((_, value)) => {
                    host.remove_header(Headers::Request, text);
                    host.add_header(Headers::Request, text, value.as_bytes());
                }
                None => host.remove_header(Headers::Request, text),
            }
        }
        for (at, (name, value)) in self.says.iter().enumerate() {
            let overruled = self.says.iter().skip(at + 1).any(|(later, _)| later == name);
            let done = self.spoofed.iter().any(|(spoofed, _)| *spoofed == name.as_bytes());
            if !overruled && !done {
                host.add_header(Headers::Request, name, value.as_bytes());
            }
        }
        if let Some(target) = self.new_target.as_deref().filter(|target| *target != self.target) {
            host.set_header(Headers::Request, ":path", target);
        }
    }
}

impl Pending {
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
