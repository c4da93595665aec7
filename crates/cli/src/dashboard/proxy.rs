//! The observations of one Envoy.

use super::sample::{Counter, Name, Sample};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long a loss counts as recent.
const RECENT_LOSS_MS: u64 = 60_000;

/// How long a VM counts as new.
pub(super) const NEW_VMS_MS: u64 = 300_000;

/// How long requests without a config count as recent.
pub(super) const NO_CONFIG_MS: u64 = 10_000;

/// If events wait and none is delivered for this long, delivery is broken and not merely late.
pub(super) const STUCK_MS: u64 = 5_000;

/// One Envoy.
#[derive(Debug, Default)]
pub(super) struct Proxy {
    pub(super) address: String,
    /// The last answer, and its time.
    pub(super) sample: Option<Sample>,
    pub(super) answered_ms: u64,
    /// The error, if the last poll failed.
    pub(super) error: Option<String>,
    /// VMs created before the first answer, or before the last restart.
    vms_first: u64,
    /// When the newest VM was first seen.
    vms_started_ms: Option<u64>,
    /// Since when events wait and none is delivered.
    stuck_since_ms: Option<u64>,
    /// The exposures when no event was last waiting.
    settled: BTreeMap<Name, u64>,
    /// When requests last passed without a config.
    no_config_ms: Option<u64>,
    /// The experiments whose weights are others than in the answer before, as in the names of metrics.
    pub(super) reweighted: BTreeSet<String>,
    /// Recent losses: when each was seen, and how many events.
    losses: VecDeque<(u64, u64)>,
}

impl Proxy {
    /// An Envoy that has not answered yet.
    pub(super) fn new(address: &str) -> Proxy {
        Proxy { address: address.to_owned(), ..Proxy::default() }
    }

    /// Records an answer. Returns the counts since the last one, or none if it failed.
    pub(super) fn add(&mut self, now_ms: u64, answer: Result<Sample, String>) -> Option<Vec<(Counter, u64)>> {
        while self.losses.front().is_some_and(|(at_ms, _)| now_ms.saturating_sub(*at_ms) > RECENT_LOSS_MS) {
            self.losses.pop_front();
        }
        let sample = match answer {
            Ok(sample) => sample,
            Err(error) => {
                self.error = Some(error);
                return None;
            }
        };
        self.reweighted.clear();
        let mut gained = Vec::new();
        let delivered = |sample: &Sample| sample.event("delivered");
        let is_stuck = match &self.sample {
            None => {
                self.vms_first = sample.vms_created;
                false
            }
            Some(before) => {
                // A restarted Envoy counts from 0.
                let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
                self.vms_first = self.vms_first.min(sample.vms_created);
                if sample.event("emitted") < before.event("emitted") {
                    self.settled.clear();
                }
                if sample.vms_created > before.vms_created {
                    self.vms_started_ms = Some(now_ms);
                }
                let more = |(counter, count)| {
                    let more = since(count, before.counter(&counter));
                    (counter, more)
                };
                gained.extend(sample.counters().map(more).filter(|(_, more)| *more > 0));
                let is_other = |name, weights| before.weights.get(name).is_some_and(|before| before != weights);
                let other = sample.weights.iter().filter(|(name, weights)| is_other(*name, *weights));
                self.reweighted.extend(other.map(|((experiment, _), _)| experiment.clone()));
                let passed = |sample: &Sample| sample.errors.get("no_config").copied().unwrap_or(0);
                if since(passed(&sample), passed(before)) > 0 {
                    self.no_config_ms = Some(now_ms);
                }
                match since(sample.lost(), before.lost()) {
                    0 => {}
                    lost => self.losses.push_back((now_ms, lost)),
                }
                sample.queued_events > 0 && delivered(before) == delivered(&sample)
            }
        };
        if sample.undelivered() == sample.gone() {
            self.settled.clone_from(&sample.exposures);
        }
        self.stuck_since_ms = is_stuck.then(|| self.stuck_since_ms.unwrap_or(self.answered_ms));
        (self.sample, self.answered_ms, self.error) = (Some(sample), now_ms, None);
        Some(gained)
    }

    /// The last answer, unless the last poll failed.
    pub(super) fn current(&self) -> Option<&Sample> {
        self.sample.as_ref().filter(|_| self.error.is_none())
    }

    /// Whether requests pass without a config.
    pub(super) fn lacks_config(&self, now_ms: u64) -> bool {
        self.no_config_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < NO_CONFIG_MS)
    }

    /// Upper bounds for the exposures of a variant that are not delivered (yet), and for those that are lost.
    pub(super) fn missing(&self, name: &Name) -> (u64, u64) {
        let Some(sample) = &self.sample else { return (0, 0) };
        let exposed = sample.exposures.get(name).copied().unwrap_or(0);
        let settled = self.settled.get(name).copied().unwrap_or(0);
        // Settled exposures were delivered, except those that are gone. Any other missing event may be of this variant.
        let since = exposed.saturating_sub(settled) + settled.min(sample.gone());
        (exposed.min(sample.undelivered()).min(since), exposed.min(sample.lost()))
    }

    pub(super) fn recently_lost(&self) -> u64 {
        self.losses.iter().map(|(_, lost)| lost).sum()
    }

    pub(super) fn has_new_vms(&self, now_ms: u64) -> bool {
        self.vms_started_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) <= NEW_VMS_MS)
    }

    pub(super) fn is_stuck(&self, now_ms: u64) -> bool {
        // Events in a worker's buffer are not stuck: they are waiting for their batch to fill up, and have no age yet.
        let has_sealed = self.sample.as_ref().is_some_and(|sample| sample.oldest_age_s > 0);
        has_sealed && self.stuck_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= STUCK_MS)
    }

    /// VMs started since the dashboard.
    pub(super) fn vms_started(&self) -> u64 {
        self.sample.as_ref().map_or(0, |sample| sample.vms_created.saturating_sub(self.vms_first))
    }
}

/// The last samples of all proxies that have answered.
pub(super) fn samples(proxies: &[Proxy]) -> impl Iterator<Item = &Sample> {
    proxies.iter().filter_map(|proxy| proxy.sample.as_ref())
}
