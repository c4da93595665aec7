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

/// Experiment and variant, as in the names of metrics.
pub(super) type Name = (String, String);

/// The stats of one Envoy at one moment, summed over its plugins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) exposures: BTreeMap<Name, u64>,
    /// Responses to requests with a variant: all, and those with 5xx.
    pub(super) responses: BTreeMap<Name, (u64, u64)>,
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
    /// Decisions without an id, and decisions that came further.
    pub(super) anonymous: u64,
    pub(super) identified: u64,
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
                let (all, errors) = self.responses.entry(name).or_default();
                *all += value;
                *errors += if class == "5xx" { value } else { 0 };
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
            if reason == "no_unit" {
                self.anonymous += value;
            } else if !WITHOUT_ID.contains(&reason) {
                self.identified += value;
            }
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

    /// The sum of both samples.
    pub(super) fn plus(mut self, other: &Sample) -> Sample {
        let counts =
            [(&mut self.events, &other.events), (&mut self.errors, &other.errors), (&mut self.mint, &other.mint)];
        for (into, from) in counts {
            for (name, value) in from {
                *into.entry(name.clone()).or_insert(0) += value;
            }
        }
        for (into, from) in [(&mut self.exposures, &other.exposures), (&mut self.off, &other.off)] {
            for (name, value) in from {
                *into.entry(name.clone()).or_insert(0) += value;
            }
        }
        for (name, (all, errors)) in &other.responses {
            let sum = self.responses.entry(name.clone()).or_default();
            *sum = (sum.0 + all, sum.1 + errors);
        }
        self.oldest_age_s = self.oldest_age_s.max(other.oldest_age_s);
        self.queued_events += other.queued_events;
        self.queued_bytes += other.queued_bytes;
        self
    }
}

/// Splits `EXPERIMENT.variant.VARIANT` into its parts.
fn variant(name: &str) -> Option<Name> {
    let (experiment, variant) = name.split_once(".variant.")?;
    Some((experiment.to_owned(), variant.to_owned()))
}
