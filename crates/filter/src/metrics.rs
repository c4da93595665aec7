//! Metrics and their names. The worker keeps counts and hands them to the proxy on the tick, so a count costs a request one
//! addition. The proxy adds up all workers.

use crate::host::{Host, MetricKind};
use edgesplit_engine::hash::{BuildIdentityHasher, fingerprint};
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::Variant;
use std::collections::{HashMap, HashSet};

/// The number of variants that a VM counts by name. Further ones are counted together under [`OTHER`].
pub const VARIANT_NAMES_MAX: usize = 4_096;

/// Classes of responses: `1xx` to `5xx`.
pub const CLASSES: usize = 5;

/// The longest part of a name; longer ones are cut.
pub const NAME_PART_BYTES_MAX: usize = 100;

/// The name for variants beyond the limit.
pub const OTHER: &str = "_other";

/// The tag that stands for them.
const OTHER_TAG: u64 = 0;

/// Declares a set of metrics once: the enum, its names and the list of all.
macro_rules! metric_names {
    ($(#[$doc:meta])* $set:ident { $($(#[$item_doc:meta])* $item:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $set {
            $($(#[$item_doc])* $item,)*
        }

        impl $set {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [$set] = &[$($set::$item,)*];

            /// The name behind `edgesplit.<plugin>.`.
            pub const fn name(self) -> &'static str {
                match self {
                    $($set::$item => $name,)*
                }
            }
        }
    };
}

metric_names! {
    /// Metrics that only grow.
    Counter {
        /// Events that were put into a buffer, or dropped instead.
        Emitted = "events.emitted",
        /// Events that the A/B service acknowledged.
        Delivered = "events.delivered",
        /// Events that it refused for good.
        Rejected = "events.rejected",
        /// Events for which there was no room.
        DroppedOverflow = "events.dropped_overflow",
        /// Events that became too old.
        DroppedExpired = "events.dropped_expired",
        /// Events that went to the fallback.
        Diverted = "events.diverted",
        /// Fetches of a config, new or the same.
        FetchSuccess = "config.fetch_success",
        /// Fetches that were answered 304.
        FetchNotModified = "config.fetch_not_modified",
        /// Fetches without a usable answer.
        FetchFailure = "config.fetch_failure",
        /// Answers whose body was refused.
        ConfigRejected = "config.rejected",
        /// Fetched configs that differ from the one before.
        ConfigChanges = "config.changes",
        /// Ids that were minted.
        Minted = "mint.minted",
        /// Ids that were not minted because the client did not connect over https, so its browser would drop the cookie.
        MintRefusedInsecure = "mint.refused_insecure",
        /// Ids that were not minted because the request does not show a page.
        MintRefusedNotNavigation = "mint.refused_not_navigation",
        /// Cookies of the filter that were removed from a browser: too many of a vendor's sticky buckets, or set for another
        /// domain by an earlier configuration.
        CookiesRemoved = "cookies.removed",
        /// Requests that passed unchanged because there was no config.
        NoConfig = "errors.no_config",
        /// Events dropped in the worker because its buffer was full (also in `dropped_overflow`).
        BufferFull = "errors.buffer_full",
        /// Changes of shared data that were given up because other workers kept changing it. They are retried.
        CasExhausted = "errors.cas_exhausted",
        /// Reads or writes of shared data that the host refused.
        SharedData = "errors.shared_data",
        /// Shared data of another version, or damaged: it was replaced.
        SharedDataCorrupt = "errors.shared_data_corrupt",
        /// Events whose slot did not hold them.
        EventsLost = "errors.events_lost",
        /// Calls that did not start, usually because there is no such cluster.
        Dispatch = "errors.dispatch",
        /// Batches that the fallback refused. They still count as diverted.
        FallbackFailed = "errors.fallback_failed",
        /// Answers to calls that were given up, or whose batch another worker settled.
        StaleReply = "errors.stale_reply",
        /// Configs whose names of request headers exceed the number of names that are remembered for good.
        OwnedNames = "errors.owned_names",
        /// Local responses that the host refused.
        Respond = "errors.respond",
        /// Path rewrites and redirects that were left out: the path would lead to another host or folder, or the redirect
        /// to a host that is not allowed.
        EffectRefused = "errors.effect_refused",
        /// Pairs that the assignments header had no room for.
        AssignmentsOmitted = "errors.assignments_omitted",
        /// Cookies with sticky buckets that were too long for browsers, and were not set.
        StickyOmitted = "errors.sticky_omitted",
        /// Exposures and responses that were counted under [`OTHER`] or not at all, because too many variants have a name.
        NamesExhausted = "errors.names_exhausted",
        /// Legs of internal redirects whose next leg did not reach the filter: their exposures are not emitted.
        LegsLost = "errors.legs_lost",
    }
}

metric_names! {
    /// Metrics that go up and down.
    Gauge {
        /// Events in buffers and in the outbox.
        QueuedEvents = "outbox.queued_events",
        /// The bytes they take up.
        QueuedBytes = "outbox.queued_bytes",
        /// The age of the oldest waiting batch, in seconds.
        OldestAgeSeconds = "outbox.oldest_age_seconds",
        /// Experiments that are invalid and switched off.
        DisabledExperiments = "config.disabled_experiments",
        /// Seconds since the config service last confirmed this config.
        AgeSeconds = "config.age_seconds",
        /// The [`revision_hash`] of the config in force.
        RevisionHash = "config.revision_hash",
    }
}

/// A counter, with the amount that is not handed over yet.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    id: Option<u32>,
    pending: u64,
}

impl Count {
    fn flush(&mut self, host: &impl Host) {
        if let (Some(id), 1..) = (self.id, self.pending) {
            host.increment(id, i64::try_from(self.pending).unwrap_or(i64::MAX));
            self.pending = 0;
        }
    }

    /// As [`Count::flush`], for a metric that is defined at its first count. It keeps its id: hosts take a lock to give one.
    fn flush_as(&mut self, host: &impl Host, name: impl FnOnce() -> String) {
        if self.pending > 0 {
            self.id = self.id.or_else(|| host.define_metric(MetricKind::Counter, &name()));
            self.flush(host);
        }
    }
}

/// All metrics of one plugin in one VM.
#[derive(Debug)]
pub struct Metrics {
    prefix: String,
    counters: Vec<Count>,
    /// Stored in place, because every request counts some.
    reasons: [Count; Reason::ALL.len()],
    /// Defined when they are first counted, because most plugins never have them.
    vendor_reasons: Vec<(&'static str, Count)>,
    /// By the variant's tag. The name is made up once.
    exposures: HashMap<u64, (String, Count), BuildIdentityHasher>,
    /// Likewise, by class.
    responses: HashMap<u64, (String, [Count; CLASSES]), BuildIdentityHasher>,
    /// The gauges of variants that are switched off, by their tags.
    switches: HashMap<u64, Option<u32>, BuildIdentityHasher>,
    gauges: Vec<Option<u32>>,
    /// Whether a variant was refused a name since names were last released.
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
            exposures: HashMap::default(),
            responses: HashMap::default(),
            switches: HashMap::default(),
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

    /// Counts an exposure of the variant with this `tag`.
    pub fn exposed(&mut self, experiment: &str, variant: &str, tag: u64) {
        let ((_, count), is_named) = entry(&mut self.exposures, "exposures", experiment, variant, tag);
        count.pending += 1;
        self.note_named(is_named, 1);
    }

    /// Counts responses to requests that were given a variant, by class.
    pub fn responded(&mut self, experiment: &str, variant: &Variant, counts: &[u32; CLASSES]) {
        // Other outcomes of a vendor's flag are not compared.
        if variant.assignment.is_none() {
            return;
        }
        let ((_, classes), is_named) = entry(&mut self.responses, "responses", experiment, &variant.key, variant.tag);
        for (count, more) in classes.iter_mut().zip(counts) {
            count.pending += u64::from(*more);
        }
        self.note_named(is_named, counts.iter().copied().map(u64::from).sum());
    }

    fn note_named(&mut self, is_named: bool, by: u64) {
        if !is_named {
            self.is_exhausted = true;
            self.add(Counter::NamesExhausted, by);
        }
    }

    /// Whether `more` variants may lack a name.
    pub fn lacks_names(&self, more: usize) -> bool {
        self.is_exhausted || self.exposures.len().max(self.responses.len()) + more > VARIANT_NAMES_MAX
    }

    /// Releases the names of all variants but those with the tags `live`. The proxy keeps their totals.
    pub fn release_names(&mut self, live: impl Iterator<Item = u64>) {
        let Metrics { exposures, responses, switches, .. } = self;
        let is_named =
            |tag: &u64| exposures.contains_key(tag) || responses.contains_key(tag) || switches.contains_key(tag);
        let kept: HashSet<u64, BuildIdentityHasher> = live.filter(is_named).collect();
        exposures.retain(|tag, (_, count)| kept.contains(tag) || count.pending > 0);
        responses.retain(|tag, (_, counts)| kept.contains(tag) || counts.iter().any(|count| count.pending > 0));
        switches.retain(|tag, _| kept.contains(tag));
        self.is_exhausted = false;
    }

    /// Sets the gauge of a variant that a guardrail switches off or on.
    pub fn switched(&mut self, host: &impl Host, experiment: &str, variant: &Variant, off: bool) {
        if self.switches.len() >= VARIANT_NAMES_MAX && !self.switches.contains_key(&variant.tag) {
            return self.note_named(false, 1);
        }
        let prefix = &self.prefix;
        let gauge = self.switches.entry(variant.tag).or_insert_with(|| {
            let name = format!("{prefix}{}", variant_name("guardrail.off", experiment, &variant.key));
            host.define_metric(MetricKind::Gauge, &name)
        });
        if let Some(gauge) = gauge {
            host.record(*gauge, u64::from(off));
        }
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
        for (name, count) in self.exposures.values_mut() {
            count.flush_as(host, || format!("{prefix}{name}"));
        }
        for (name, classes) in self.responses.values_mut() {
            for (class, count) in (1..).zip(classes) {
                count.flush_as(host, || format!("{prefix}{name}.class.{class}xx"));
            }
        }
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

/// The counts of a variant, or beyond the limit those of all others together. Also whether it has its own.
fn entry<'a, C: Default>(
    counts: &'a mut HashMap<u64, (String, C), BuildIdentityHasher>,
    what: &str,
    experiment: &str,
    variant: &str,
    tag: u64,
) -> (&'a mut (String, C), bool) {
    let is_known = counts.len() < VARIANT_NAMES_MAX || counts.contains_key(&tag);
    let (tag, experiment, variant) = if is_known { (tag, experiment, variant) } else { (OTHER_TAG, OTHER, OTHER) };
    (counts.entry(tag).or_insert_with(|| (variant_name(what, experiment, variant), C::default())), is_known)
}

fn variant_name(what: &str, experiment: &str, variant: &str) -> String {
    format!("{what}.experiment.{}.variant.{}", name_part(experiment), name_part(variant))
}

/// `text` as one part of a metric's name: separators and characters that break exporters become `_`.
pub fn name_part(text: &str) -> String {
    let plain = |char: char| if char.is_ascii_alphanumeric() || matches!(char, '_' | '-') { char } else { '_' };
    let part: String = text.chars().take(NAME_PART_BYTES_MAX).map(plain).collect();
    if part.is_empty() { "_".to_owned() } else { part }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_host::TestHost;

    #[test]
    fn names_are_bounded_and_plain() {
        assert_eq!(variant_name("exposures", "nav.v2", "grün/b"), "exposures.experiment.nav_v2.variant.gr_n_b");
        assert_eq!(name_part(&"x".repeat(1_000)).len(), NAME_PART_BYTES_MAX);
        assert_eq!(name_part(""), "_");
    }

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
