//! The filter's part of an Envoy's stats at one moment.

use std::collections::{BTreeMap, BTreeSet};

/// The most variants that are shown.
const VARIANTS_MAX: usize = 2_000;

/// The reasons of decisions that need no id. All others are about a visitor with one.
const WITHOUT_ID: [&str; 12] = [
    "path_excluded",
    "disabled",
    "paused",
    "route",
    "preview",
    "winner",
    "not_started",
    "ended",
    "bot",
    "no_consent",
    "no_unit",
    "limit",
];

/// The most goals of variants, and reasons of experiments, that are shown.
const GOALS_MAX: usize = 5_000;
const REASONS_MAX: usize = 20_000;

/// Experiment and variant, as in the names of metrics.
pub(super) type Name = (String, String);

/// The counter of a variant: of its exposures, or of a goal.
pub(super) type Counter = (Name, Option<String>);

/// Responses to requests with a variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Responses {
    pub(super) all: u64,
    pub(super) redirects: u64,
    pub(super) server_errors: u64,
}

impl Responses {
    pub(super) fn plus(self, other: Responses) -> Responses {
        Responses {
            all: self.all + other.all,
            redirects: self.redirects + other.redirects,
            server_errors: self.server_errors + other.server_errors,
        }
    }
}

/// The stats of one Envoy at one moment, summed over its plugins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) exposures: BTreeMap<Name, u64>,
    pub(super) responses: BTreeMap<Name, Responses>,
    /// Visitors of a variant who reached a goal, by the goal.
    pub(super) goals: BTreeMap<(Name, String), u64>,
    /// The weights by which proxies decide, in 1/10,000.
    pub(super) weights: BTreeMap<Name, BTreeSet<u64>>,
    /// Decisions by experiment and reason.
    pub(super) reasons: BTreeMap<(String, String), u64>,
    /// The number of proxies on which guardrails have switched a variant off.
    pub(super) off: BTreeMap<Name, u64>,
    /// Events by outcome: the last part of the metric's name.
    pub(super) events: BTreeMap<String, u64>,
    /// Ids minted and refused, by the last part of the metric's name.
    pub(super) mint: BTreeMap<String, u64>,
    pub(super) queued_events: u64,
    pub(super) queued_bytes: u64,
    pub(super) oldest_age_s: u64,
    pub(super) config_age_s: u64,
    /// Hashes of the revisions in force; 0 for a config that names none.
    pub(super) revisions: BTreeSet<u64>,
    pub(super) disabled_experiments: u64,
    pub(super) fetch_failures: u64,
    pub(super) errors: BTreeMap<String, u64>,
    /// Decisions by reason, over all experiments.
    pub(super) decisions: BTreeMap<String, u64>,
    pub(super) vms_created: u64,
    pub(super) vms_active: u64,
}

impl Sample {
    pub(super) fn new(stats: &BTreeMap<String, u64>) -> Sample {
        let mut sample = Sample::default();
        for (name, &value) in stats {
            if let Some(rest) = name.strip_prefix("wasmcustom.edgesplit.") {
                let Some((_plugin, rest)) = rest.split_once('.') else { continue };
                sample.add(rest, value);
            } else if name.ends_with(".created") {
                sample.vms_created += value;
            } else if name.ends_with(".active") {
                sample.vms_active += value;
            }
        }
        if sample.queued_events == 0 {
            // The gauge of the age is updated a little later than the gauge of the number.
            sample.oldest_age_s = 0;
        }
        sample
    }

    fn add(&mut self, name: &str, value: u64) {
        if let Some(rest) = name.strip_prefix("exposures.experiment.") {
            if let Some(name) = variant(rest).filter(|_| self.exposures.len() < VARIANTS_MAX) {
                *self.exposures.entry(name).or_insert(0) += value;
            }
        } else if let Some(rest) = name.strip_prefix("responses.experiment.") {
            if let Some((rest, class)) = rest.split_once(".class.")
                && let Some(name) = variant(rest).filter(|_| self.responses.len() < VARIANTS_MAX)
            {
                let of = |wanted: &str| if class == wanted { value } else { 0 };
                let more = Responses { all: value, redirects: of("3xx"), server_errors: of("5xx") };
                let sum = self.responses.entry(name).or_default();
                *sum = sum.plus(more);
            }
        } else if let Some(rest) = name.strip_prefix("goals.experiment.") {
            if let Some((rest, goal)) = rest.rsplit_once(".goal.")
                && let Some(name) = variant(rest).filter(|_| self.goals.len() < GOALS_MAX)
            {
                *self.goals.entry((name, goal.to_owned())).or_insert(0) += value;
            }
        } else if let Some(rest) = name.strip_prefix("decisions.experiment.") {
            if let Some((experiment, reason)) = rest.rsplit_once(".reason.")
                && self.reasons.len() < REASONS_MAX
            {
                *self.reasons.entry((experiment.to_owned(), reason.to_owned())).or_insert(0) += value;
            }
        } else if let Some(rest) = name.strip_prefix("weights.experiment.") {
            if let Some(name) = variant(rest).filter(|_| self.weights.len() < VARIANTS_MAX) {
                self.weights.entry(name).or_default().insert(value);
            }
        } else if let Some(rest) = name.strip_prefix("guardrail.off.experiment.") {
            if let Some(name) = variant(rest).filter(|_| value > 0) {
                self.off.insert(name, 1);
            }
        } else if let Some(event) = name.strip_prefix("events.") {
            *self.events.entry(event.to_owned()).or_insert(0) += value;
        } else if let Some(outcome) = name.strip_prefix("mint.") {
            *self.mint.entry(outcome.to_owned()).or_insert(0) += value;
        } else if let Some(reason) = name.strip_prefix("decisions.reason.") {
            *self.decisions.entry(reason.to_owned()).or_insert(0) += value;
        } else if let Some(kind) = name.strip_prefix("errors.") {
            *self.errors.entry(kind.to_owned()).or_insert(0) += value;
        } else {
            match name {
                "outbox.queued_events" => self.queued_events += value,
                "outbox.queued_bytes" => self.queued_bytes += value,
                "outbox.oldest_age_seconds" => self.oldest_age_s = self.oldest_age_s.max(value),
                "config.age_seconds" => self.config_age_s = self.config_age_s.max(value),
                "config.disabled_experiments" => self.disabled_experiments += value,
                "config.fetch_failure" | "config.rejected" => self.fetch_failures += value,
                "config.revision_hash" => drop(self.revisions.insert(value)),
                _ => {}
            }
        }
    }

    /// Whether this Envoy runs the filter. Its counters exist before the first request.
    pub(super) fn has_filter(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn event(&self, name: &str) -> u64 {
        self.events.get(name).copied().unwrap_or(0)
    }

    /// Events that no service will get. Events that went to the fallback are not lost.
    pub(super) fn lost(&self) -> u64 {
        self.event("dropped_overflow") + self.event("dropped_expired") + self.event("rejected")
    }

    /// Events that the service does not have (yet).
    pub(super) fn undelivered(&self) -> u64 {
        self.event("emitted").saturating_sub(self.event("delivered"))
    }

    /// Events that the service will never get from this proxy.
    pub(super) fn gone(&self) -> u64 {
        self.lost() + self.event("diverted")
    }

    /// Decisions about visitors with an id.
    pub(super) fn identified(&self) -> u64 {
        let with_id = self.decisions.iter().filter(|(reason, _)| !WITHOUT_ID.contains(&reason.as_str()));
        with_id.map(|(_, count)| count).sum()
    }

    /// Decisions with this reason.
    pub(super) fn decided(&self, reason: &str) -> u64 {
        self.decisions.get(reason).copied().unwrap_or(0)
    }

    /// The counters of all variants: exposures and goals.
    pub(super) fn counters(&self) -> impl Iterator<Item = (Counter, u64)> {
        let exposures = self.exposures.iter().map(|(name, count)| ((name.clone(), None), *count));
        let goals = self.goals.iter().map(|((name, goal), count)| ((name.clone(), Some(goal.clone())), *count));
        exposures.chain(goals)
    }

    pub(super) fn counter(&self, (name, goal): &Counter) -> u64 {
        match goal {
            None => self.exposures.get(name).copied().unwrap_or(0),
            Some(goal) => self.goals.get(&(name.clone(), goal.clone())).copied().unwrap_or(0),
        }
    }

    /// The sum of both samples.
    pub(super) fn plus(mut self, other: &Sample) -> Sample {
        add(&mut self.events, &other.events);
        add(&mut self.errors, &other.errors);
        add(&mut self.mint, &other.mint);
        add(&mut self.decisions, &other.decisions);
        add(&mut self.exposures, &other.exposures);
        add(&mut self.off, &other.off);
        add(&mut self.goals, &other.goals);
        add(&mut self.reasons, &other.reasons);
        for (name, more) in &other.weights {
            self.weights.entry(name.clone()).or_default().extend(more);
        }
        for (name, more) in &other.responses {
            let sum = self.responses.entry(name.clone()).or_default();
            *sum = sum.plus(*more);
        }
        self.oldest_age_s = self.oldest_age_s.max(other.oldest_age_s);
        self.queued_events += other.queued_events;
        self.queued_bytes += other.queued_bytes;
        self
    }
}

fn add<K: Clone + Ord>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (name, value) in from {
        *into.entry(name.clone()).or_insert(0) += value;
    }
}

/// Splits `EXPERIMENT.variant.VARIANT` into its parts.
fn variant(name: &str) -> Option<Name> {
    let (experiment, variant) = name.split_once(".variant.")?;
    Some((experiment.to_owned(), variant.to_owned()))
}
