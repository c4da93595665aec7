//! Metrics and their names. The worker keeps counts and hands them to the proxy on the tick, so a count costs a request one
//! addition. The proxy adds up all workers.

mod named;
mod names;

pub use named::{NAME_PART_BYTES_MAX, OTHER, name_part};
pub use names::{Counter, Gauge};

use crate::host::{Host, MetricKind};
use edgesplit_engine::hash::{BuildIdentityHasher, fingerprint};
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::Variant;
use named::{Count, NamedCounts, NamedGauges, OTHER_TAG};
use std::collections::HashSet;

/// The number of variants that a VM counts by name. Further ones are counted together under [`OTHER`].
pub const VARIANT_NAMES_MAX: usize = 4_096;

/// The number of names for each kind of counts of which a variant or an experiment has several: responses by class,
/// decisions by reason, and goals.
pub const LABELLED_NAMES_MAX: usize = VARIANT_NAMES_MAX * CLASSES;

/// Classes of responses: `1xx` to `5xx`.
pub const CLASSES: usize = 5;

const CLASS_NAMES: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All metrics of one plugin in one VM.
#[derive(Debug)]
pub struct Metrics {
    prefix: String,
    counters: Vec<Count>,
    /// Stored in place, because every request counts some.
    reasons: [Count; Reason::ALL.len()],
    /// Defined when they are first counted, because most plugins never have them.
    vendor_reasons: Vec<(&'static str, Count)>,
    exposures: NamedCounts,
    responses: NamedCounts,
    decisions: NamedCounts,
    goals: NamedCounts,
    switches: NamedGauges,
    weights: NamedGauges,
    gauges: Vec<Option<u32>>,
    /// Whether a count was refused a name since names were last released.
    is_exhausted: bool,
}

impl Metrics {
    /// Defines the metrics of `plugin`. Experiments come later, with their first exposure.
    pub fn define(host: &impl Host, plugin: &str) -> Metrics {
        let prefix = format!("edgesplit.{}.", name_part(plugin));
        let counter =
            |name: &str| Count { id: host.define_metric(MetricKind::Counter, &format!("{prefix}{name}")), pending: 0 };
        Metrics {
            counters: Counter::ALL.iter().map(|metric| counter(metric.name())).collect(),
            reasons: std::array::from_fn(|at| match Reason::ALL.get(at) {
                Some(reason) => counter(&reason_name(reason.name())),
                None => Count::default(),
            }),
            vendor_reasons: Vec::new(),
            exposures: NamedCounts::new("exposures", VARIANT_NAMES_MAX),
            responses: NamedCounts::new("responses", LABELLED_NAMES_MAX),
            decisions: NamedCounts::new("decisions", LABELLED_NAMES_MAX),
            goals: NamedCounts::new("goals", LABELLED_NAMES_MAX),
            switches: NamedGauges::new("guardrail.off", VARIANT_NAMES_MAX),
            weights: NamedGauges::new("weights", VARIANT_NAMES_MAX),
            gauges: (Gauge::ALL.iter())
                .map(|metric| host.define_metric(MetricKind::Gauge, &format!("{prefix}{}", metric.name())))
                .collect(),
            prefix,
            is_exhausted: false,
        }
    }

    /// Counts `by` more.
    pub fn add(&mut self, counter: Counter, by: u64) {
        if let Some(count) = self.counters.get_mut(counter as usize) {
            count.pending += by;
        }
    }

    /// Counts decisions with `reason`.
    #[inline(always)]
    pub fn decided(&mut self, reason: Reason, by: u64) {
        match self.reasons.get_mut(reason.position()) {
            Some(count) => count.pending += by,
            None => self.decided_by_vendor(reason.name(), by),
        }
    }

    #[cold]
    fn decided_by_vendor(&mut self, reason: &'static str, by: u64) {
        match self.vendor_reasons.iter_mut().find(|(name, _)| *name == reason) {
            Some((_, count)) => count.pending += by,
            None => self.vendor_reasons.push((reason, Count { id: None, pending: by })),
        }
    }

    /// Counts decisions about one experiment with `reason`, for it and in all.
    pub fn decided_on(&mut self, experiment: &str, reason: Reason, by: u64) {
        self.decided(reason, by);
        let labels = [("experiment", experiment), ("reason", reason.name())];
        let is_named = self.decisions.add((experiment_tag(experiment), Some(reason.name())), &labels, by);
        self.note_named(is_named, by);
    }

    /// Counts an exposure of the variant with this `tag`.
    pub fn exposed(&mut self, experiment: &str, variant: &str, tag: u64) {
        let is_named = self.exposures.add((tag, None), &variant_labels(experiment, variant), 1);
        if !is_named {
            self.exposures.add((OTHER_TAG, None), &variant_labels(OTHER, OTHER), 1);
        }
        self.note_named(is_named, 1);
    }

    /// Counts responses to requests that were given a variant, by class.
    pub fn responded(&mut self, experiment: &str, variant: &Variant, counts: &[u32; CLASSES]) {
        // Other outcomes of a vendor's flag are not compared.
        if variant.assignment.is_none() {
            return;
        }
        for (class, count) in CLASS_NAMES.into_iter().zip(counts).filter(|(_, count)| **count > 0) {
            let by = u64::from(*count);
            let labels = |experiment, variant| [("experiment", experiment), ("variant", variant), ("class", class)];
            let is_named = self.responses.add((variant.tag, Some(class)), &labels(experiment, &variant.key), by);
            if !is_named {
                self.responses.add((OTHER_TAG, Some(class)), &labels(OTHER, OTHER), by);
            }
            self.note_named(is_named, by);
        }
    }

    /// Counts a visitor of the variant with this `tag` who reached a goal.
    pub fn reached(&mut self, experiment: &str, variant: &str, tag: u64, goal: &str) {
        let labels = [("experiment", experiment), ("variant", variant), ("goal", goal)];
        let is_named = self.goals.add((tag, Some(goal)), &labels, 1);
        self.note_named(is_named, 1);
    }

    fn note_named(&mut self, is_named: bool, by: u64) {
        if !is_named {
            self.is_exhausted = true;
            self.add(Counter::NamesExhausted, by);
        }
    }

    /// Whether the counts of `more` variants may lack a name.
    pub fn lacks_names(&self, more: usize) -> bool {
        self.is_exhausted || self.exposures.lacks_names(more) || self.responses.lacks_names(more)
    }

    /// Releases the names of all variants and experiments but those with the tags `live`. The proxy keeps their totals.
    pub fn release_names(&mut self, live: impl Iterator<Item = u64>) {
        let Metrics { exposures, responses, decisions, goals, switches, weights, .. } = self;
        let mut counts = [exposures, responses, decisions, goals];
        let mut gauges = [switches, weights];
        let owners = counts.iter().flat_map(|counts| counts.owners());
        let owners: HashSet<u64, BuildIdentityHasher> =
            owners.chain(gauges.iter().flat_map(|gauges| gauges.owners())).collect();
        let live = live.filter(|tag| owners.contains(tag)).collect();
        counts.iter_mut().for_each(|counts| counts.release(&live));
        gauges.iter_mut().for_each(|gauges| gauges.release(&live));
        self.is_exhausted = false;
    }

    /// Sets the gauge of a variant that a guardrail switches off or on.
    pub fn switched(&mut self, experiment: &str, variant: &Variant, off: bool) {
        let labels = variant_labels(experiment, &variant.key);
        let is_named = self.switches.set(variant.tag, &labels, u64::from(off));
        self.note_named(is_named, 1);
    }

    /// Sets the gauge of a variant's weight, in 1/10,000.
    pub fn weighed(&mut self, experiment: &str, variant: &Variant, weight: u32) {
        let labels = variant_labels(experiment, &variant.key);
        let is_named = self.weights.set(variant.tag, &labels, u64::from(weight));
        self.note_named(is_named, 1);
    }

    /// Hands over all counts since the last time.
    pub fn flush(&mut self, host: &impl Host) {
        for count in self.counters.iter_mut().chain(&mut self.reasons) {
            count.flush(host);
        }
        let prefix = &self.prefix;
        for (reason, count) in &mut self.vendor_reasons {
            count.flush_as(host, || format!("{prefix}{}", reason_name(reason)));
        }
        for counts in [&mut self.exposures, &mut self.responses, &mut self.decisions, &mut self.goals] {
            counts.flush(host, prefix);
        }
        self.switches.flush(host, prefix);
        self.weights.flush(host, prefix);
    }

    /// Sets a gauge.
    pub fn record(&self, host: &impl Host, gauge: Gauge, value: u64) {
        if let Some(Some(id)) = self.gauges.get(gauge as usize) {
            host.record(*id, value);
        }
    }
}

/// The number of a revision in metrics: 0 for none. Its 32 bits are exact in all stores of metrics.
pub fn revision_hash(revision: Option<&str>) -> u64 {
    revision.map_or(0, |revision| u64::from(fingerprint(&[revision.as_bytes()]) as u32).max(1))
}

fn reason_name(reason: &str) -> String {
    format!("decisions.reason.{reason}")
}

/// Identifies an experiment among all.
pub fn experiment_tag(experiment: &str) -> u64 {
    Variant::tag(experiment, "")
}

fn variant_labels<'a>(experiment: &'a str, variant: &'a str) -> [(&'static str, &'a str); 2] {
    [("experiment", experiment), ("variant", variant)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_host::TestHost;

    #[test]
    fn ended_variants_release_their_names() {
        let host = TestHost::default();
        let mut metrics = Metrics::define(&host, "test");
        let expose = |metrics: &mut Metrics, tag: u64| metrics.exposed(&format!("e{tag}"), "a", tag);
        for tag in 1..=VARIANT_NAMES_MAX as u64 {
            assert!(!metrics.lacks_names(1));
            expose(&mut metrics, tag);
        }
        assert!(metrics.lacks_names(1));
        expose(&mut metrics, 9_000);
        metrics.flush(&host);
        let counts = |name: &str| host.count(&format!("exposures.experiment.{name}.variant.{name}"));
        assert_eq!((counts(OTHER), host.count("errors.names_exhausted")), (1, 1));

        metrics.release_names([7, 9_000].into_iter());
        assert!(!metrics.lacks_names(VARIANT_NAMES_MAX - 1));
        for tag in [7, 7, 9_000, 1] {
            expose(&mut metrics, tag);
        }
        metrics.flush(&host);
        let count = |tag: u64| host.count(&format!("exposures.experiment.e{tag}.variant.a"));
        assert_eq!([7, 9_000, 1].map(count), [3, 1, 2], "totals go on");
        assert_eq!(host.count("errors.names_exhausted"), 1);
        let defined = host.names.borrow().iter().filter(|name| name.ends_with("e7.variant.a")).count();
        assert_eq!(defined, 1, "a name that is in use is not defined again");
    }

    #[test]
    fn metrics_have_distinct_positions() {
        // Counts are found by the number of their variant.
        for (at, metric) in Counter::ALL.iter().enumerate() {
            assert_eq!(*metric as usize, at, "{}", metric.name());
        }
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.position(), at, "{}", reason.name());
        }
        for (at, metric) in Gauge::ALL.iter().enumerate() {
            assert_eq!(*metric as usize, at, "{}", metric.name());
        }
    }
}
