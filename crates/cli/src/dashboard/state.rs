//! The state of the dashboard, without clock and network: samples come in, the JSON of the page goes out.

use super::config::{ConfigView, ExperimentView};
use super::proxy::{Proxy, samples};
use super::sample::{Name, Sample};
use super::verdict::{self, ExperimentVerdict, Health, Verdict};
use edgesplit_engine::sample_ratio::SampleRatio;
use edgesplit_filter::metrics::{OTHER, VARIANT_NAMES_MAX, name_part, revision_hash};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// The most samples kept for the charts, and their greatest age: a quarter of an hour.
const HISTORY_MAX: usize = 900;
const HISTORY_MS: u64 = 900_000;

/// The most revisions whose names are kept.
const REVISIONS_MAX: usize = 100;

/// A point in time of the charts.
#[derive(Debug)]
struct Moment {
    at_ms: u64,
    queued: u64,
    /// Exposures since the dashboard started.
    gained: BTreeMap<Name, u64>,
}

/// The state of all proxies and of the config, with the history for the charts.
#[derive(Debug)]
pub(super) struct State {
    proxies: Vec<Proxy>,
    config: ConfigView,
    /// The error, if the last attempt to read the config failed.
    config_error: Option<String>,
    /// The names of revisions, the newest last.
    revisions: VecDeque<(u64, String)>,
    now_ms: u64,
    history: VecDeque<Moment>,
}

impl State {
    pub(super) fn new(envoys: &[String]) -> State {
        State {
            proxies: envoys.iter().map(|address| Proxy::new(address)).collect(),
            config: ConfigView::default(),
            config_error: None,
            revisions: VecDeque::new(),
            now_ms: 0,
            history: VecDeque::new(),
        }
    }

    /// Replaces the config. If it could not be read, keeps the last good one and records the error.
    pub(super) fn set_config(&mut self, config: Result<ConfigView, String>) {
        match config {
            Ok(config) => {
                let hash = revision_hash(config.revision.as_deref());
                if let Some(revision) = config.revision.clone() {
                    self.revisions.retain(|(known, _)| *known != hash);
                    self.revisions.push_back((hash, revision));
                    if self.revisions.len() > REVISIONS_MAX {
                        self.revisions.pop_front();
                    }
                }
                (self.config, self.config_error) = (config, None);
            }
            Err(error) => self.config_error = Some(error),
        }
    }

    /// Records one answer of each Envoy. `now_ms` counts from a fixed but arbitrary moment.
    pub(super) fn add(&mut self, now_ms: u64, answers: Vec<Result<Sample, String>>) {
        self.now_ms = now_ms;
        let mut gained = self.history.back().map(|moment| moment.gained.clone()).unwrap_or_default();
        for (proxy, answer) in self.proxies.iter_mut().zip(answers) {
            proxy.add(now_ms, answer, &mut gained);
        }
        let queued = samples(&self.proxies).map(|sample| sample.queued_events).sum();
        self.history.push_back(Moment { at_ms: now_ms, queued, gained });
        let is_old = |moment: &Moment| now_ms.saturating_sub(moment.at_ms) > HISTORY_MS;
        while self.history.len() > HISTORY_MAX || self.history.front().is_some_and(is_old) {
            self.history.pop_front();
        }
    }

    /// Exposures of a variant at each moment of the charts, counted from the first.
    fn gained<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = u64> + 'a {
        let of = |moment: &Moment| moment.gained.get(name).copied().unwrap_or(0);
        let first = self.history.front().map_or(0, of);
        self.history.iter().map(move |moment| of(moment).saturating_sub(first))
    }

    /// Experiments with new exposures that the config does not contain.
    fn unknown_experiments(&self) -> Vec<&str> {
        let known: Vec<String> = self.config.experiments.iter().map(|one| name_part(&one.key)).collect();
        let newest = self.history.back().map(|moment| &moment.gained);
        let mut unknown: Vec<&str> = (newest.into_iter().flatten())
            .filter(|(name, _)| !known.contains(&name.0) && name.0 != OTHER && self.gained(name).last() > Some(0))
            .map(|((experiment, _), _)| experiment.as_str())
            .collect();
        unknown.dedup();
        unknown
    }

    fn config_verdict(&self) -> Verdict {
        if let Some(error) = &self.config_error {
            return Verdict::new(Health::Watch, format!("The experiment config cannot be read: {error}"));
        }
        if !self.config.invalid.is_empty() {
            let text = format!(
                "Invalid and disabled: {}. Run `edgesplit validate` for the reasons.",
                self.config.invalid.join(", ")
            );
            return Verdict::new(Health::Watch, text);
        }
        let unknown = self.unknown_experiments();
        if !unknown.is_empty() {
            let text =
                format!("Proxies count exposures of experiments that the config does not have: {}", unknown.join(", "));
            return Verdict::new(Health::Watch, text);
        }
        if self.gained(&(OTHER.to_owned(), OTHER.to_owned())).last() > Some(0) {
            let text = format!(
                "More than {VARIANT_NAMES_MAX} variants are exposed. The names of metrics are used up, and further variants \
                 are counted together as {OTHER}. Remove ended experiments."
            );
            return Verdict::new(Health::Watch, text);
        }
        if self.config.experiments.is_empty() {
            return Verdict::new(Health::Healthy, "The config has no experiments.");
        }
        Verdict::new(Health::Healthy, "")
    }

    fn revision_name(&self, hash: u64) -> Value {
        match self.revisions.iter().find(|(known, _)| *known == hash) {
            Some((_, revision)) => json!(revision),
            None if hash == 0 => json!("none"),
            None => json!("another"),
        }
    }

    /// The data of the page, and the output of `--json`.
    pub(super) fn to_json(&self) -> Value {
        let sum = samples(&self.proxies).fold(Sample::default(), Sample::plus);
        let revision = revision_hash(self.config.revision.as_deref());
        let is_known = samples(&self.proxies).next().is_some();
        let delivery = verdict::delivery(&self.proxies, &sum, self.now_ms);
        let config = self.config_verdict();
        let proxies: Vec<Verdict> =
            self.proxies.iter().map(|proxy| verdict::proxy(proxy, revision, self.now_ms)).collect();
        let experiments: Vec<ExperimentVerdict> = if is_known {
            self.config.experiments.iter().map(|one| verdict::experiment(one, &sum)).collect()
        } else {
            Vec::new()
        };
        let of_experiments = self.config.experiments.iter().zip(&experiments).enumerate();
        let of_proxies = self.proxies.iter().zip(&proxies);
        let attention: Vec<Value> = ([verdict::attention("delivery".to_owned(), "Delivery", &delivery)].into_iter())
            .chain(of_experiments.map(|(at, (one, experiment))| {
                verdict::attention(format!("experiment-{at}"), &one.key, &experiment.verdict)
            }))
            .chain(of_proxies.map(|(one, verdict)| verdict::attention("proxies".to_owned(), &one.address, verdict)))
            .chain([verdict::attention("experiments".to_owned(), "Experiment config", &config)])
            .flatten()
            .collect();
        let verdicts =
            experiments.iter().map(|experiment| &experiment.verdict).chain(&proxies).chain([&delivery, &config]);
        let overall = verdicts.map(|verdict| verdict.health).max().unwrap_or(Health::Asking);
        let known = |value: u64| is_known.then_some(value);
        let seconds = |moment: &Moment| (moment.at_ms as f64 - self.now_ms as f64) / 1_000.0;
        json!({
            "overall": overall.name(),
            "attention": attention,
            "revision": self.config.revision,
            "config": config.to_json(),
            "seconds": self.history.iter().map(seconds).collect::<Vec<_>>(),
            "delivery": {
                "verdict": delivery.to_json(),
                "emitted": known(sum.event("emitted")), "delivered": known(sum.event("delivered")),
                "rejected": known(sum.event("rejected")), "dropped_overflow": known(sum.event("dropped_overflow")),
                "dropped_expired": known(sum.event("dropped_expired")), "diverted": known(sum.event("diverted")),
                "queued_events": known(sum.queued_events), "queued_bytes": known(sum.queued_bytes),
                "oldest_age_s": known(sum.oldest_age_s),
                "history": {"queued": self.history.iter().map(|moment| moment.queued).collect::<Vec<_>>()},
            },
            "mint": sum.mint,
            "errors": (sum.errors.iter().filter(|(_, count)| **count > 0))
                .map(|(kind, count)| json!({"kind": kind, "count": count, "meaning": verdict::error_meaning(kind)}))
                .collect::<Vec<_>>(),
            "proxies": self.proxies.iter().zip(&proxies).map(|(proxy, verdict)| self.proxy_json(proxy, verdict)).collect::<Vec<_>>(),
            "experiments": (self.config.experiments.iter().zip(&experiments))
                .map(|(experiment, verdict)| self.experiment_json(experiment, verdict, &sum))
                .collect::<Vec<_>>(),
        })
    }

    fn proxy_json(&self, proxy: &Proxy, verdict: &Verdict) -> Value {
        let of = |get: &dyn Fn(&Sample) -> u64| proxy.sample.as_ref().map(get);
        let revisions = proxy.sample.iter().flat_map(|sample| &sample.revisions);
        json!({
            "address": proxy.address, "verdict": verdict.to_json(),
            "emitted": of(&|one| one.event("emitted")), "delivered": of(&|one| one.event("delivered")), "lost": of(&Sample::lost),
            "queued": of(&|one| one.queued_events), "oldest_age_s": of(&|one| one.oldest_age_s),
            "revisions": revisions.map(|hash| self.revision_name(*hash)).collect::<Vec<_>>(),
            "config_age_s": of(&|one| one.config_age_s), "fetch_failures": of(&|one| one.fetch_failures),
            "vms_active": of(&|one| one.vms_active), "vms_started": of(&|_| proxy.vms_started()),
        })
    }

    fn experiment_json(&self, experiment: &ExperimentView, verdict: &ExperimentVerdict, sum: &Sample) -> Value {
        let total: u64 = verdict.counts.iter().sum();
        let name = name_part(&experiment.key);
        let variants = (experiment.variants.iter().zip(&verdict.counts)).map(|((variant, weight), count)| {
            let name = (name.clone(), name_part(variant));
            let (responses, errors) = sum.responses.get(&name).copied().unwrap_or_default();
            let missing = self.proxies.iter().map(|proxy| proxy.missing(&name));
            let (undelivered, lost) = missing.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
            json!({
                "key": variant,
                "exposures": count,
                "observed": (total > 0).then(|| *count as f64 / total as f64),
                "configured": weight.map(|weight| f64::from(weight) / 10_000.0),
                "lost_at_most": lost,
                "delivered_at_least": count.saturating_sub(undelivered),
                "responses": responses,
                "server_errors": errors,
                "off": sum.off.get(&name).copied().unwrap_or(0),
                "history": self.gained(&name).collect::<Vec<_>>(),
            })
        });
        json!({
            "key": experiment.key, "state": experiment.state, "exposures": total, "verdict": verdict.verdict.to_json(),
            "test": verdict.ratio.map(|ratio| ratio_json(experiment, &ratio)), "variants": variants.collect::<Vec<_>>(),
        })
    }
}

/// The result of the test of an experiment's split.
fn ratio_json(experiment: &ExperimentView, ratio: &SampleRatio) -> Value {
    let furthest = experiment.variants.get(ratio.furthest).map(|(variant, _)| variant);
    json!({
        "p_value": ratio.p_value, "plausible": !ratio.is_mismatch(),
        "furthest": {"variant": furthest, "observed": ratio.share, "configured": ratio.expected},
    })
}

#[cfg(test)]
mod tests;
