//! A compiled config: immutable, replaced whole, only read on the request path.

use super::attribute::AttributeName;
use super::condition::Condition;
use super::flag::FlagEvaluator;
use super::free::free_from;
use super::guardrail::Guardrail;
use super::hash::{BUCKETS, HashedSalt, Salt, fingerprint};
use super::path_rewrite::PathRewrite;
use super::route::Route;
use super::route_index::RouteIndex;
use crate::header_name::NameSet;
use crate::sort::sort;
use std::collections::HashMap;

/// A compiled config.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The revision that the config names.
    pub revision: Option<String>,
    /// The valid experiments, in the order of the config.
    pub experiments: Vec<Experiment>,
    /// The invalid experiments, each disabled alone.
    pub disabled: Vec<Disabled>,
    /// The share of visitors that is kept out of all experiments.
    pub holdout: Option<Holdout>,
    /// The goals.
    pub goals: Vec<Goal>,
    /// Finds the experiments of a request: those that are not paused.
    pub experiment_index: RouteIndex,
    /// Finds the goals of a request.
    pub goal_index: RouteIndex,
    /// How many experiments are paused.
    pub paused: usize,
    /// The inputs and outputs of each experiment, by its number.
    pub needs: Vec<Needs>,
    /// The request headers that some variant may set, in lower case. Clients may not send them.
    pub owned_request_headers: NameSet,
    /// The longest assignments header, in bytes.
    pub assignments_bytes_max: Option<usize>,
    /// Decides all experiments if the config is a vendor's.
    pub flag_evaluator: Option<Box<dyn FlagEvaluator>>,
}

/// An invalid experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabled {
    /// Its key, if it has one that no other experiment has.
    pub key: Option<String>,
    /// Its position in the config's list.
    pub position: usize,
    /// Its first problem.
    pub problem: String,
}

/// A share of all visitors that is in no experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdout {
    /// The salt of the buckets.
    pub salt: Salt,
    /// Buckets below it are held out.
    pub share: u32,
}

/// An experiment, ready to be decided.
#[derive(Debug)]
pub struct Experiment {
    /// Its key, unique in the config.
    pub key: String,
    /// Its position in the config's list, including disabled ones.
    pub position: usize,
    /// Whether and how it runs.
    pub state: State,
    /// The attribute whose value is bucketed.
    pub unit: AttributeName,
    /// The requests that it applies to.
    pub route: Route,
    /// The condition on visitors; none for all visitors.
    pub audience: Option<Condition>,
    /// Its part of a layer of experiments that exclude each other.
    pub layer: Option<Layer>,
    /// The share of visitors in it over time, sorted. The last step that has begun counts.
    pub traffic: Vec<TrafficStep>,
    /// The salt of the traffic buckets.
    pub traffic_salt: Salt,
    /// The salt of the variant buckets.
    pub variant_salt: Salt,
    /// When it starts, in milliseconds since the epoch.
    pub starts_ms: Option<i64>,
    /// When it has ended, in milliseconds since the epoch.
    pub ends_ms: Option<i64>,
    /// The positions of forced variants, by unit.
    pub forced: HashMap<String, usize>,
    /// The version of its sticky buckets; `None` without sticky bucketing.
    pub sticky: Option<u32>,
    /// The conditions for switching a variant off.
    pub guardrail: Option<Guardrail>,
    /// The variants, in the order in which their weights are cumulated.
    pub variants: Vec<Variant>,
    /// Its place among all experiments sorted by key.
    pub rank: usize,
    /// The data that every decision reads. [`SnapshotIndexer`](super::snapshot_indexer::SnapshotIndexer) derives it from the rest.
    pub core: DecisionCore,
}

/// The data of an experiment that every decision reads, laid out together: a request touches those of several experiments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecisionCore {
    /// Whether it buckets by the visitor's id, and no check can apply to a request beside those of the id and the variant.
    pub is_plain: bool,
    /// The state of the hash after the variants' salt.
    pub variant_salt: HashedSalt,
    /// The first bucket behind each of the first variants' own. Most experiments have no more; 0 where there are fewer.
    pub first_ends: [u32; 4],
}

impl DecisionCore {
    pub(crate) fn new(experiment: &Experiment) -> DecisionCore {
        let is_always_on =
            matches!(experiment.traffic.as_slice(), [TrafficStep { from_ms: i64::MIN, share: BUCKETS.. }]);
        let has_checks = experiment.state != State::Running
            || experiment.starts_ms.is_some()
            || experiment.ends_ms.is_some()
            || !experiment.forced.is_empty()
            || experiment.audience.is_some()
            || experiment.layer.is_some()
            || experiment.sticky.is_some()
            || !is_always_on;
        DecisionCore {
            is_plain: !has_checks && experiment.unit == AttributeName::Id,
            variant_salt: experiment.variant_salt.hashed(),
            first_ends: std::array::from_fn(|at| experiment.variants.get(at).map_or(0, |variant| variant.bucket_end)),
        }
    }
}

/// The inputs and outputs that an experiment can need, beside the visitor's id and consent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs(u8);

impl Needs {
    /// The variants that the browser had before.
    pub const STICKY: Needs = Needs(1);
    /// Changes of the request beside the filter's own headers, or a redirect.
    pub const REQUEST_EFFECTS: Needs = Needs(2);
    /// Response headers.
    pub const RESPONSE_HEADERS: Needs = Needs(4);

    pub(crate) fn new(experiment: &Experiment) -> Needs {
        let mut needs = Needs::default();
        if experiment.sticky.is_some() && experiment.state == State::Running {
            needs = needs.and(Needs::STICKY);
        }
        for effects in experiment.variants.iter().map(|variant| &variant.effects) {
            if effects.change_request() {
                needs = needs.and(Needs::REQUEST_EFFECTS);
            }
            if !effects.response_headers.is_empty() {
                needs = needs.and(Needs::RESPONSE_HEADERS);
            }
        }
        needs
    }

    /// These needs and `other`.
    pub const fn and(self, other: Needs) -> Needs {
        Needs(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Needs) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Whether and how an experiment runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Visitors are bucketed.
    Running,
    /// No visitor is in it.
    Paused,
    /// Everyone gets the variant at this position.
    Concluded(usize),
    /// It is a vendor's flag: [`Snapshot::flag_evaluator`] decides it, under this number.
    Flag(usize),
}

/// A slice of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The salt of the buckets.
    pub salt: Salt,
    /// The first bucket that belongs to the experiment.
    pub from: u32,
    /// The first one that no longer does.
    pub to: u32,
}

/// The share from one moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficStep {
    /// When it begins, in milliseconds since the epoch.
    pub from_ms: i64,
    /// Buckets below it take part.
    pub share: u32,
}

/// A variant, or another outcome of a vendor's flag, with its texts and effects prepared for requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its key, unique in the experiment. An outcome of a flag without a variant has none, and several may have the same.
    pub key: String,
    /// The first bucket behind its own.
    pub bucket_end: u32,
    /// Whether it equals the page without the experiment.
    pub baseline: bool,
    /// Its pair in the assignments header; none if it is not a variant of an experiment.
    pub assignment: Option<String>,
    /// Its pair in the cache key; the baseline has none.
    pub cache_pair: Option<String>,
    /// Its effects on the request and the response.
    pub effects: Effects,
    /// Identifies it among the variants of all experiments.
    pub tag: u64,
}

/// The effects of a variant on a request and its response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Headers towards the origin; names in lower case.
    pub request_headers: Vec<(String, String)>,
    /// Headers towards the client; names in lower case.
    pub response_headers: Vec<(String, String)>,
    /// A rewrite of the path.
    pub path: Option<PathRewrite>,
    /// The target of a redirect.
    pub redirect: Option<String>,
}

impl Effects {
    /// Whether they change the request, or answer it.
    pub fn change_request(&self) -> bool {
        !self.request_headers.is_empty() || self.path.is_some() || self.redirect.is_some()
    }

    /// A hash of the effects. It does not depend on the order in which headers are written.
    pub fn hash(&self) -> u64 {
        let Effects { request_headers, response_headers, path, redirect } = self;
        let mut parts: Vec<&[u8]> = Vec::new();
        for (kind, headers) in [("request", request_headers), ("response", response_headers)] {
            let mut sorted: Vec<&(String, String)> = headers.iter().collect();
            sort(&mut sorted);
            parts.extend(sorted.iter().flat_map(|(name, value)| [kind.as_bytes(), name.as_bytes(), value.as_bytes()]));
        }
        if let Some(PathRewrite { prefix, with }) = path {
            parts.extend([&b"path"[..], prefix.as_bytes(), with.as_bytes()]);
        }
        if let Some(redirect) = redirect {
            parts.extend([&b"redirect"[..], redirect.as_bytes()]);
        }
        fingerprint(&parts) as u64
    }
}

/// A success to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goal {
    /// Its key, unique in the config.
    pub key: String,
    /// The requests that reach it.
    pub route: Route,
    /// The response statuses that count; any, if empty.
    pub statuses: Vec<StatusClass>,
}

/// Statuses from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusClass {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl Snapshot {
    /// Frees the next parts of a snapshot that is no longer used, such as variants, and takes their number from `left`.
    /// Nothing is left to free in steps once `left` remains above 0.
    pub fn free(&mut self, left: &mut usize) {
        free_from(&mut self.experiments, left, |it| 1 + it.variants.len() + it.route.paths.len() + it.forced.len());
        free_from(&mut self.disabled, left, |_| 1);
        free_from(&mut self.goals, left, |goal| 1 + goal.route.paths.len());
        self.experiment_index.free(left);
        self.goal_index.free(left);
        if let Some(evaluator) = &mut self.flag_evaluator {
            evaluator.free(left);
        }
    }

    /// The experiment that is the vendor's flag of this number, by its position.
    pub fn flag(&self, number: usize) -> Option<usize> {
        // Numbers rise with positions, and only disabled flags are left out.
        let start = self.experiments.partition_point(|one| matches!(one.state, State::Flag(other) if other < number));
        self.experiments.get(start).filter(|one| one.state == State::Flag(number)).map(|_| start)
    }

    /// The experiment and the variant of `choice`.
    pub fn choice(&self, choice: Choice) -> Option<(&Experiment, &Variant)> {
        let experiment = self.experiments.get(choice.experiment)?;
        Some((experiment, experiment.variants.get(choice.variant)?))
    }
}

/// A variant that was chosen, by the positions of the experiment and of the variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Choice {
    /// Position in [`Snapshot::experiments`].
    pub experiment: usize,
    /// Position in [`Experiment::variants`].
    pub variant: usize,
}

impl Variant {
    /// The tag of a variant, which identifies it among all experiments.
    pub fn tag(experiment: &str, variant: &str) -> u64 {
        fingerprint(&[experiment.as_bytes(), variant.as_bytes()]) as u64
    }
}

impl StatusClass {
    /// Whether `status` is one of these.
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl Experiment {
    /// The request headers that its variants may set. No variant of a paused experiment is chosen.
    pub fn request_headers(&self) -> impl Iterator<Item = &str> {
        let variants = self.variants.iter().filter(|_| self.state != State::Paused);
        variants.flat_map(|variant| &variant.effects.request_headers).map(|(name, _)| name.as_str())
    }

    /// The position of the variant called `key`.
    pub fn variant(&self, key: &str) -> Option<usize> {
        self.variants.iter().position(|variant| variant.key == key)
    }

    /// The weight of the variant at `position`, in 1/10,000.
    pub fn weight(&self, position: usize) -> u32 {
        let end = |at: usize| self.variants.get(at).map_or(0, |variant| variant.bucket_end);
        end(position).saturating_sub(position.checked_sub(1).map_or(0, end))
    }

    /// The share of visitors at `now_ms`: 0 before the first step.
    pub fn traffic_share(&self, now_ms: i64) -> u32 {
        self.traffic.iter().rev().find(|step| step.from_ms <= now_ms).map_or(0, |step| step.share)
    }
}
