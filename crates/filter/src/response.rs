//! The response path: exposures and goals are emitted when the response is delivered, and what variants and caches need is
//! written. A response with nothing left to do never gets here.

use super::combinations::Combination;
use super::worker::Worker;
use crate::events::event::{Event, EventContext, EventKind, derived_id, random_id};
use crate::host::{Headers, Host, StreamHost, status_of};
use crate::http::cache_control::made_private;
use crate::http::headers::{HeaderMap, NameLengths, is_name};
use edgesplit_engine::snapshot::{Choice, Snapshot};
use std::borrow::Cow;
use std::cell::LazyCell;
use std::rc::Rc;

const STATUS: &str = ":status";
const CACHE_CONTROL: &str = "cache-control";
const SURROGATE_CONTROL: &str = "surrogate-control";
const CDN_CACHE_CONTROL: &str = "cdn-cache-control";

/// What caches towards the client are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Caching {
    /// What the origin says.
    #[default]
    Unchanged,
    /// That the response is for one visitor.
    Private,
    /// That the response is not to be kept at all.
    NoStore,
}

/// What a request left to do for its response.
#[derive(Debug, Default)]
pub struct Pending {
    /// What caches are told.
    pub caching: Caching,
    /// The variants that the request was given: the response counts for them.
    pub given: Option<Rc<Combination>>,
    /// Whatever else there is, which for most requests is nothing.
    work: Option<Box<Work>>,
}

/// What few requests leave to do.
#[derive(Debug)]
pub struct Work {
    snapshot: Rc<Snapshot>,
    /// Choices whose variants set response headers.
    pub choices: Vec<Choice>,
    /// Exposures that were not reported yet.
    pub exposures: Vec<Exposure>,
    /// Goals that the response may reach, by their position.
    pub goals: Vec<u32>,
    /// The visitor who would reach them.
    pub goal_unit: String,
    /// The events of goals in a vendor's format, for the goals that the vendor knows, by their position.
    pub written_goals: Vec<(u32, Vec<u8>)>,
    /// The `Set-Cookie` of a minted id.
    pub id_cookie: Option<String>,
    /// Those of sticky buckets, and of whatever is to be taken away.
    pub other_cookies: Vec<String>,
    /// What the debug header says, for a preview.
    pub debug: Option<String>,
    /// The request's host, where there may be events.
    pub host: String,
    /// The request's path without its query, where there may be events.
    pub path: String,
    /// The configured attributes that the request had, where there may be events.
    pub attributes: Vec<(String, String)>,
}

/// An exposure that waits for its response.
#[derive(Debug)]
pub struct Exposure {
    /// Of what.
    pub of: Exposed,
    /// The visitor as bucketed.
    pub unit: Rc<str>,
    /// What this VM remembers of it.
    pub name: u64,
    /// Tells it from others, everywhere.
    pub fingerprint: u128,
    /// The number of the window.
    pub window: i64,
    /// The event in a vendor's format, which needs more of the request than is there when the response comes.
    pub written: Option<Vec<u8>>,
}

/// What a visitor was shown.
#[derive(Debug)]
pub enum Exposed {
    /// A variant of an experiment.
    Choice(Choice),
    /// What a vendor's rules report, which need not be of an experiment on this request's route.
    Reported {
        /// The experiment's own key, or the flag's.
        experiment: String,
        /// The variant's, where there is one.
        variant: Option<String>,
        /// Tells it from other variants.
        tag: u64,
    },
}

impl Pending {
    /// What else there is to do, to add to it. `snapshot` is the one in force.
    pub fn work(&mut self, snapshot: &Rc<Snapshot>) -> &mut Work {
        self.work.get_or_insert_with(|| {
            Box::new(Work {
                snapshot: Rc::clone(snapshot),
                choices: Vec::new(),
                exposures: Vec::new(),
                goals: Vec::new(),
                goal_unit: String::new(),
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
        self.work.as_ref().map_or(&[], |work| &work.exposures)
    }

    /// Whether events may come of it.
    pub fn has_events(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.has_events())
    }

    /// Whether the response can pass unseen.
    pub fn is_idle(&self) -> bool {
        self.caching == Caching::Unchanged && self.given.is_none() && self.work.is_none()
    }
}

impl Work {
    fn has_events(&self) -> bool {
        !self.exposures.is_empty() || !self.goals.is_empty()
    }
}

/// Handles the headers of a response.
#[inline(always)]
pub fn on_response(worker: &mut Worker, host: &(impl Host + StreamHost), pending: Pending) {
    let Pending { caching, given, work } = pending;
    let status = if caching != Caching::Unchanged {
        let headers = host.headers(Headers::Response);
        keep_from_others(host, &headers, caching)
    } else {
        host.response_status()
    };
    if let Some(given) = given
        && worker.combinations.count(given, status)
    {
        worker.flush_responses();
    }
    if let Some(work) = work {
        do_work(worker, host, caching, &work, status);
    }
}

/// What few requests leave to do.
#[inline(never)]
fn do_work(worker: &mut Worker, host: &(impl Host + StreamHost), caching: Caching, work: &Work, status: Option<u16>) {
    if work.has_events() {
        emit(worker, host, work, status);
    }
    let set = work.choices.iter().filter_map(|choice| work.snapshot.choice(*choice));
    let set = set.flat_map(|(_, variant)| &variant.effects.response_headers);
    // Not even a variant may say that its preview can be kept.
    for (name, value) in set.filter(|(name, _)| caching != Caching::NoStore || !is_for_caches(name)) {
        host.remove_header(Headers::Response, name);
        host.add_header(Headers::Response, name, value.as_bytes());
    }
    for cookie in work.id_cookie.iter().chain(&work.other_cookies) {
        host.add_header(Headers::Response, "set-cookie", cookie.as_bytes());
    }
    if let (Some(name), Some(text)) = (&worker.config.response.debug_header, &work.debug) {
        host.remove_header(Headers::Response, name);
        host.add_header(Headers::Response, name, text.as_bytes());
    }
}

fn is_for_caches(name: &str) -> bool {
    matches!(name, CACHE_CONTROL | SURROGATE_CONTROL | CDN_CACHE_CONTROL)
}

/// Keeps caches in front of the proxy from pinning one visitor's variant on others. Gives the response's status.
#[inline(always)]
fn keep_from_others(host: &impl StreamHost, headers: &HeaderMap, caching: Caching) -> Option<u16> {
    let (mut status, mut cache_controls, mut surrogate, mut cdn) = (None, 0, false, false);
    const WANTED: NameLengths =
        NameLengths::of(&[STATUS.len(), CACHE_CONTROL.len(), SURROGATE_CONTROL.len(), CDN_CACHE_CONTROL.len()]);
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

/// Says to caches what they are to be told, whatever the origin said.
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

fn emit(worker: &mut Worker, host: &impl Host, work: &Work, status: Option<u16>) {
    let Worker { pipeline: Some(pipeline), metrics, now_ms, .. } = worker else { return };
    let snapshot = &work.snapshot;
    let context = EventContext {
        time_ms: *now_ms,
        revision: snapshot.revision.as_deref(),
        host: &work.host,
        path: &work.path,
        status,
        attributes: &work.attributes,
    };
    let context = LazyCell::new(|| context.encode());
    let event = |id, kind, unit| Event { id, kind, unit, exposure: None, goal: None, context: &context };
    for exposure in &work.exposures {
        let (experiment, variant, tag) = match &exposure.of {
            Exposed::Choice(choice) => match snapshot.choice(*choice) {
                Some((experiment, variant)) => (&experiment.key, Some(&variant.key), variant.tag),
                None => continue,
            },
            Exposed::Reported { experiment, variant, tag } => (experiment, variant.as_ref(), *tag),
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
        work.goals.iter().filter_map(|&at| Some((at, snapshot.goals.get(at as usize)?))).filter(|(_, goal)| {
            goal.statuses.is_empty()
                || status.is_some_and(|status| goal.statuses.iter().any(|class| class.contains(status)))
        });
    for (at, goal) in reached {
        if !is_vendors {
            let id = random_id(host.random());
            let event = Event { goal: Some(&goal.key), ..event(id, EventKind::Goal, &work.goal_unit) };
            pipeline.emit(&event, *now_ms, metrics);
        } else if let Some((_, written)) = work.written_goals.iter().find(|(written, _)| *written == at) {
            pipeline.emit_written(written, *now_ms, metrics);
        }
    }
}
