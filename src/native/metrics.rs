//! The metrics of one filter config in Envoy.
//!
//! Envoy wants all metrics defined while the config is made, and takes parts of names that come later as the values of labels.
//! The filter names a metric as a whole, such as `exposures.experiment.nav.variant.green`. Such a name is split at its labels
//! here, and Envoy joins it again: its own page `/stats` shows the same name for both modules.

use super::abi::{Bytes, Callbacks, METRIC_OK, Opaque};
use edgesplit_filter::host::MetricKind;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A metric with labels, of which each set of values is a metric for the filter.
struct Family {
    kind: MetricKind,
    name: &'static str,
    labels: &'static [&'static str],
}

const FAMILIES: [Family; 7] = {
    const fn family(kind: MetricKind, name: &'static str, labels: &'static [&'static str]) -> Family {
        Family { kind, name, labels }
    }
    use MetricKind::{Counter, Gauge};
    [
        family(Counter, "exposures", &["experiment", "variant"]),
        family(Counter, "responses", &["experiment", "variant", "class"]),
        family(Counter, "decisions", &["experiment", "reason"]),
        family(Counter, "decisions", &["reason"]),
        family(Counter, "goals", &["experiment", "variant", "goal"]),
        family(Gauge, "guardrail.off", &["experiment", "variant"]),
        family(Gauge, "weights", &["experiment", "variant"]),
    ]
};

impl Family {
    /// The values of the labels in the name of a metric, if it belongs to this family. `name` is the part behind the plugin's.
    fn values<'a>(&self, name: &'a str) -> Option<Vec<&'a str>> {
        let mut parts = name.strip_prefix(self.name)?.strip_prefix('.')?.split('.');
        let values: Option<Vec<_>> =
            self.labels.iter().map(|label| parts.next().filter(|part| part == label).and(parts.next())).collect();
        values.filter(|_| parts.next().is_none())
    }
}

/// A metric of the filter.
#[derive(Debug, Clone)]
struct Metric {
    name: String,
    kind: MetricKind,
    id: usize,
    values: Vec<String>,
}

/// The metrics of one filter config.
#[derive(Debug)]
pub(crate) struct Registry {
    config: Opaque,
    /// The ids of the families, where Envoy gave one.
    families: Vec<Option<usize>>,
    known: Mutex<Known>,
}

/// The changes that wait for a request, by the names of their metrics: on Envoy 1.38, metrics change during requests only. The
/// next request makes them, of whichever config of the plugin it is: others may have ended by then.
static WAITING: Mutex<BTreeMap<String, (MetricKind, u64)>> = Mutex::new(BTreeMap::new());

/// Whether there are any.
static ARE_WAITING: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Default)]
struct Known {
    metrics: Vec<Metric>,
    by_name: HashMap<String, u32>,
}

impl Registry {
    /// Defines the families of the plugin whose metrics begin with `prefix`, for Envoy's `config`.
    pub(crate) fn new(callbacks: &Callbacks, config: Opaque, prefix: &str) -> Registry {
        let families = FAMILIES.iter().map(|Family { kind, name, labels }| {
            let labels: Vec<Bytes> = labels.iter().map(|label| Bytes::of(label.as_bytes())).collect();
            define(callbacks, config, *kind, &format!("{prefix}{name}"), &labels)
        });
        Registry { config, families: families.collect(), known: Mutex::default() }
    }

    /// The number of the metric `name` of the plugin whose metrics begin with `prefix`. Metrics without labels can only be
    /// defined while the config is made.
    pub(crate) fn define(&self, callbacks: &Callbacks, kind: MetricKind, name: &str, prefix: &str) -> Option<u32> {
        let known = &mut *self.known();
        if let Some(number) = known.by_name.get(name) {
            return Some(*number);
        }
        let part = name.strip_prefix(prefix).unwrap_or(name);
        let families = FAMILIES.iter().zip(&self.families).filter(|(family, _)| family.kind == kind);
        let labelled = families.filter_map(|(family, id)| Some((family.values(part)?, *id))).next();
        let (values, id) = match labelled {
            Some((values, id)) => (values.into_iter().map(str::to_owned).collect(), id?),
            None => (Vec::new(), define(callbacks, self.config, kind, name, &[])?),
        };
        let number = u32::try_from(known.metrics.len()).ok()?;
        known.metrics.push(Metric { name: name.to_owned(), kind, id, values });
        known.by_name.insert(name.to_owned(), number);
        Some(number)
    }

    /// Adds to a counter, or sets a gauge. `stream` is the request in progress, if there is one.
    pub(crate) fn change(&self, callbacks: &Callbacks, stream: Option<Opaque>, number: u32, value: u64) {
        let known = self.known();
        let Some(metric) = known.metrics.get(number as usize) else { return };
        if metric.change(callbacks, self.config, stream, value) {
            return;
        }
        let mut waiting = lock(&WAITING);
        let (_, waits) = waiting.entry(metric.name.clone()).or_insert((metric.kind, 0));
        *waits = if metric.kind == MetricKind::Counter { waits.saturating_add(value) } else { value };
        ARE_WAITING.store(true, Ordering::Relaxed);
    }

    /// Makes the changes that waited for a request of the plugin whose metrics begin with `prefix`.
    pub(crate) fn flush(&self, callbacks: &Callbacks, stream: Opaque, prefix: &str) {
        // Every request looks.
        if !ARE_WAITING.load(Ordering::Relaxed) {
            return;
        }
        let mut waiting = lock(&WAITING);
        let own: Vec<_> = waiting.extract_if(.., |name, _| name.starts_with(prefix)).collect();
        ARE_WAITING.store(!waiting.is_empty(), Ordering::Relaxed);
        drop(waiting);
        for (name, (kind, value)) in own {
            if let Some(number) = self.define(callbacks, kind, &name, prefix) {
                self.change(callbacks, Some(stream), number, value);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metric {
    /// False if this Envoy changes metrics during requests only, and there is none.
    #[allow(unsafe_code, reason = "the host is reached through foreign functions")]
    fn change(&self, callbacks: &Callbacks, config: Opaque, stream: Option<Opaque>, value: u64) -> bool {
        let values: Vec<Bytes> = self.values.iter().map(|value| Bytes::of(value.as_bytes())).collect();
        let (of_config, of_stream) = match self.kind {
            MetricKind::Counter => {
                (callbacks.http_filter_config_increment_counter, callbacks.http_filter_increment_counter)
            }
            MetricKind::Gauge => (callbacks.http_filter_config_set_gauge, callbacks.http_filter_set_gauge),
        };
        let (change, target) = match (of_config, stream) {
            (Some(of_config), _) => (of_config, config),
            (None, Some(stream)) => (of_stream, stream),
            (None, None) => return false,
        };
        // SAFETY: Envoy's pointers are valid as long as its config or its request; the values are valid for the call. If Envoy
        // does not know the metric, the count is lost.
        let _ = unsafe { change(target, self.id, values.as_ptr(), values.len(), value) };
        true
    }
}

/// Defines a metric in Envoy, and gives its id there.
#[allow(unsafe_code, reason = "the host is reached through foreign functions")]
fn define(callbacks: &Callbacks, config: Opaque, kind: MetricKind, name: &str, labels: &[Bytes]) -> Option<usize> {
    let define = match kind {
        MetricKind::Counter => callbacks.http_filter_config_define_counter,
        MetricKind::Gauge => callbacks.http_filter_config_define_gauge,
    };
    let mut id = 0;
    // SAFETY: all texts and the pointer to the id are valid for the call; Envoy copies them.
    let status = unsafe { define(config, Bytes::of(name.as_bytes()), labels.as_ptr(), labels.len(), &raw mut id) };
    (status == METRIC_OK).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of the family and the values of its labels.
    fn split(name: &str) -> Option<(usize, Vec<&str>)> {
        FAMILIES.iter().enumerate().find_map(|(at, family)| Some((at, family.values(name)?)))
    }

    #[test]
    fn names_are_split_at_their_labels() {
        for (name, expected) in [
            ("exposures.experiment.nav.variant.green", Some((0, vec!["nav", "green"]))),
            ("exposures.experiment.variant.variant.experiment", Some((0, vec!["variant", "experiment"]))),
            ("responses.experiment.nav.variant.a.class.2xx", Some((1, vec!["nav", "a", "2xx"]))),
            ("decisions.experiment.nav.reason.traffic", Some((2, vec!["nav", "traffic"]))),
            ("decisions.reason.traffic", Some((3, vec!["traffic"]))),
            ("goals.experiment.nav.variant.a.goal.buy", Some((4, vec!["nav", "a", "buy"]))),
            ("guardrail.off.experiment.nav.variant.a", Some((5, vec!["nav", "a"]))),
            ("weights.experiment.nav.variant.a", Some((6, vec!["nav", "a"]))),
            ("exposures.experiment.nav", None),
            ("exposures.experiment.nav.variant.green.more", None),
            ("events.emitted", None),
            ("errors.panic", None),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
    }
}
