//! Metrics with names from the config: counts and gauges by experiment. They are defined when they are first used, because
//! hosts take a lock to give an id.

use crate::host::{Host, MetricKind};
use edgesplit_engine::hash::{BuildIdentityHasher, hash64_seeded};
use std::collections::{HashMap, HashSet};

/// The longest part of a name; longer ones are cut.
pub const NAME_PART_BYTES_MAX: usize = 100;

/// The name for variants beyond the limit.
pub const OTHER: &str = "_other";

/// The owner of those counts.
pub(super) const OTHER_TAG: u64 = 0;

/// A counter, with the amount that is not handed over yet.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Count {
    pub(super) id: Option<u32>,
    pub(super) pending: u64,
}

impl Count {
    pub(super) fn flush(&mut self, host: &impl Host) {
        if let (Some(id), 1..) = (self.id, self.pending) {
            host.increment(id, i64::try_from(self.pending).unwrap_or(i64::MAX));
            self.pending = 0;
        }
    }

    /// As [`Count::flush`], for a metric that is defined at its first count.
    pub(super) fn flush_as(&mut self, host: &impl Host, name: impl FnOnce() -> String) {
        if self.pending > 0 {
            self.id = self.id.or_else(|| host.define_metric(MetricKind::Counter, &name()));
            self.flush(host);
        }
    }
}

/// The labels of a metric, each a name and its value.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// Counts of one kind.
#[derive(Debug)]
pub(super) struct NamedCounts {
    kind: &'static str,
    names_max: usize,
    counts: HashMap<u64, NamedCount, BuildIdentityHasher>,
}

#[derive(Debug)]
struct NamedCount {
    /// The tag of its variant or experiment.
    owner: u64,
    name: String,
    count: Count,
}

impl NamedCounts {
    pub(super) fn new(kind: &'static str, names_max: usize) -> NamedCounts {
        NamedCounts { kind, names_max, counts: HashMap::default() }
    }

    /// Adds to the count with these labels. `part` distinguishes the counts of an owner that has several. False if no name
    /// is left.
    pub(super) fn add(&mut self, (owner, part): (u64, Option<&str>), labels: Labels<'_>, by: u64) -> bool {
        let key = part.map_or(owner, |part| hash64_seeded(owner, part.as_bytes()));
        let is_named = owner == OTHER_TAG || self.counts.len() < self.names_max || self.counts.contains_key(&key);
        if is_named {
            let new = || NamedCount { owner, name: name(self.kind, labels), count: Count::default() };
            self.counts.entry(key).or_insert_with(new).count.pending += by;
        }
        is_named
    }

    /// Whether `more` names may be too many.
    pub(super) fn lacks_names(&self, more: usize) -> bool {
        self.counts.len() + more > self.names_max
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = u64> {
        self.counts.values().map(|named| named.owner)
    }

    /// Releases the names of all owners but `live`. The proxy keeps their totals.
    pub(super) fn release(&mut self, live: &HashSet<u64, BuildIdentityHasher>) {
        self.counts.retain(|_, named| live.contains(&named.owner) || named.count.pending > 0);
    }

    pub(super) fn flush(&mut self, host: &impl Host, prefix: &str) {
        for NamedCount { name, count, .. } in self.counts.values_mut() {
            count.flush_as(host, || format!("{prefix}{name}"));
        }
    }
}

/// Gauges of one kind, by their variants' tags.
#[derive(Debug)]
pub(super) struct NamedGauges {
    kind: &'static str,
    names_max: usize,
    gauges: HashMap<u64, NamedGauge, BuildIdentityHasher>,
}

#[derive(Debug)]
struct NamedGauge {
    name: String,
    id: Option<u32>,
    value: u64,
    is_recorded: bool,
}

impl NamedGauges {
    pub(super) fn new(kind: &'static str, names_max: usize) -> NamedGauges {
        NamedGauges { kind, names_max, gauges: HashMap::default() }
    }

    /// Sets a gauge. False if no name is left.
    pub(super) fn set(&mut self, owner: u64, labels: Labels<'_>, value: u64) -> bool {
        if self.gauges.len() >= self.names_max && !self.gauges.contains_key(&owner) {
            return false;
        }
        let new = || NamedGauge { name: name(self.kind, labels), id: None, value, is_recorded: false };
        let gauge = self.gauges.entry(owner).or_insert_with(new);
        gauge.is_recorded &= gauge.value == value;
        gauge.value = value;
        true
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = u64> {
        self.gauges.keys().copied()
    }

    /// As [`NamedCounts::release`].
    pub(super) fn release(&mut self, live: &HashSet<u64, BuildIdentityHasher>) {
        self.gauges.retain(|owner, gauge| live.contains(owner) || !gauge.is_recorded);
    }

    /// Records the values that have changed.
    pub(super) fn flush(&mut self, host: &impl Host, prefix: &str) {
        for gauge in self.gauges.values_mut().filter(|gauge| !gauge.is_recorded) {
            let NamedGauge { name, id, value, is_recorded } = gauge;
            *id = id.or_else(|| host.define_metric(MetricKind::Gauge, &format!("{prefix}{name}")));
            if let Some(id) = id {
                host.record(*id, *value);
            }
            *is_recorded = true;
        }
    }
}

fn name(kind: &str, labels: Labels<'_>) -> String {
    // One allocation: a goal may need thousands of names at once.
    let bytes = labels.iter().map(|(label, value)| label.len() + value.len() + 3);
    let mut name = String::with_capacity(kind.len() + bytes.sum::<usize>());
    name.push_str(kind);
    for (label, value) in labels {
        [".", label, "."].into_iter().for_each(|part| name.push_str(part));
        name.extend(plain(value));
    }
    name
}

/// `text` as one part of a metric's name: separators and characters that break exporters become `_`.
pub fn name_part(text: &str) -> String {
    plain(text).collect()
}

fn plain(text: &str) -> impl Iterator<Item = char> {
    let text = if text.is_empty() { "_" } else { text };
    let plain = |char: char| if char.is_ascii_alphanumeric() || matches!(char, '_' | '-') { char } else { '_' };
    text.chars().take(NAME_PART_BYTES_MAX).map(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_plain() {
        let labels = [("experiment", "nav.v2"), ("variant", "grün/b")];
        assert_eq!(name("exposures", &labels), "exposures.experiment.nav_v2.variant.gr_n_b");
        assert_eq!(name_part(&"x".repeat(1_000)).len(), NAME_PART_BYTES_MAX);
        assert_eq!(name_part(""), "_");
    }
}
