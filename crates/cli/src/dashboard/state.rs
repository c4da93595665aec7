//! The state of the dashboard, without clock and network: samples come in. [`Page`](super::page::Page) makes its JSON.

use super::config::{ConfigError, ConfigView};
use super::history::History;
use super::proxy::{Proxy, samples};
use super::sample::Sample;
use super::since::Since;
use super::verdict::experiment::ExperimentVerdict;
use super::verdict::{self, Health, Verdict};
use crate::output::counted;
use edgesplit_filter::metrics::{OTHER, VARIANT_NAMES_MAX, name_part, revision_hash};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most revisions whose names are kept.
const REVISIONS_MAX: usize = 100;

/// The state of all proxies and of the config, with the history for the charts.
#[derive(Debug)]
pub(super) struct State {
    pub(super) proxies: Vec<Proxy>,
    pub(super) config: ConfigView,
    /// The error, if the last attempt to read the config failed.
    config_error: Option<ConfigError>,
    /// The names of revisions, the newest last.
    revisions: VecDeque<(u64, String)>,
    /// When the weights of experiments were changed, in the config or on a proxy, by their keys.
    weights_changed_ms: BTreeMap<String, u64>,
    /// The first exposures of experiments that the config does not have, as in the names of metrics.
    unknown: BTreeSet<String>,
    /// Since when the revisions of the proxies differ.
    differ_since_ms: Option<u64>,
    pub(super) now_ms: u64,
    pub(super) history: History,
    pub(super) since: Since,
    pub(super) verdicts: Verdicts,
}

/// The verdicts on all parts of the page.
#[derive(Debug)]
pub(super) struct Verdicts {
    pub(super) delivery: Verdict,
    pub(super) config: Verdict,
    pub(super) agreement: Verdict,
    pub(super) proxies: Vec<Verdict>,
    /// In the order of the config.
    pub(super) experiments: Vec<ExperimentVerdict>,
}

impl Verdicts {
    pub(super) fn overall(&self) -> Health {
        let experiments = self.experiments.iter().map(|experiment| &experiment.verdict);
        let all = experiments.chain(&self.proxies).chain([&self.delivery, &self.config, &self.agreement]);
        all.map(|verdict| verdict.health).max().unwrap_or(Health::Asking)
    }
}

impl State {
    pub(super) fn new(envoys: &[impl ToString]) -> State {
        let mut state = State {
            proxies: envoys.iter().map(|address| Proxy::new(&address.to_string())).collect(),
            config: ConfigView::default(),
            config_error: None,
            revisions: VecDeque::new(),
            weights_changed_ms: BTreeMap::new(),
            unknown: BTreeSet::new(),
            differ_since_ms: None,
            now_ms: 0,
            history: History::new(envoys.len()),
            since: Since::default(),
            verdicts: Verdicts {
                delivery: Verdict::new(Health::Asking, ""),
                config: Verdict::new(Health::Healthy, ""),
                agreement: Verdict::new(Health::Healthy, ""),
                proxies: Vec::new(),
                experiments: Vec::new(),
            },
        };
        state.verdicts = state.judge();
        state
    }

    /// Replaces the config. If there is no new one, keeps the last good one and records the error.
    pub(super) fn set_config(&mut self, config: Result<ConfigView, ConfigError>) {
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
                for key in config.experiments.iter().map(|experiment| &experiment.key) {
                    let (old, new) = (self.config.weights(key), config.weights(key));
                    if old.is_some() && new.is_some() && old != new {
                        self.weights_changed_ms.insert(key.clone(), self.now_ms);
                    }
                }
                (self.config, self.config_error) = (config, None);
            }
            Err(error) => self.config_error = Some(error),
        }
        self.verdicts = self.judge();
    }

    /// Records one answer of each Envoy. `now_ms` counts from a fixed but arbitrary moment.
    pub(super) fn add(&mut self, now_ms: u64, answers: Vec<Result<Sample, String>>) {
        self.now_ms = now_ms;
        self.history.open(now_ms);
        let known: BTreeSet<String> = self.config.experiments.iter().map(|one| name_part(&one.key)).collect();
        self.unknown.retain(|name| !known.contains(name));
        for (at, (proxy, answer)) in self.proxies.iter_mut().zip(answers).enumerate() {
            let Some(gained) = proxy.add(now_ms, answer) else { continue };
            let unknown =
                gained.iter().map(|(((experiment, _), _), _)| experiment).filter(|name| !known.contains(*name));
            self.unknown.extend(unknown.cloned());
            self.history.add(at, gained);
            let keys = self.config.experiments.iter().map(|one| &one.key);
            let changed = keys.filter(|key| proxy.reweighted.contains(&name_part(key)));
            self.weights_changed_ms.extend(changed.map(|key| (key.clone(), now_ms)));
        }
        let queued = self.proxies.iter().filter_map(|proxy| Some(proxy.current()?.queued_events));
        self.history.set_queued(queued.reduce(|sum, more| sum + more));
        self.differ_since_ms =
            verdict::proxy::different_revisions(&self.proxies).map(|_| self.differ_since_ms.unwrap_or(now_ms));
        self.verdicts = self.judge();
        let parts = self.parts();
        self.since.update(now_ms, parts);
    }

    /// The state of each part of the page, for the times since when they have it.
    fn parts(&self) -> Vec<(String, &'static str)> {
        let verdicts = &self.verdicts;
        let proxies = self.proxies.iter().zip(&verdicts.proxies);
        let experiments = self.config.experiments.iter().zip(&verdicts.experiments);
        ([("delivery", &verdicts.delivery), ("config", &verdicts.config), ("agreement", &verdicts.agreement)]
            .into_iter())
        .map(|(part, verdict)| (part.to_owned(), verdict.word))
        .chain(proxies.map(|(proxy, verdict)| (format!("proxy/{}", proxy.address), verdict.word)))
        .chain(experiments.flat_map(|(one, experiment)| {
            let verdict = (format!("experiment/{}", one.key), experiment.verdict.word);
            [verdict, (format!("state/{}", one.key), one.state)]
        }))
        .collect()
    }

    fn judge(&self) -> Verdicts {
        let sum = self.sum();
        let known = sum.as_ref();
        let none = Sample::default();
        let revision = revision_hash(self.config.revision.as_deref());
        let lasted_ms = self.differ_since_ms.map(|since_ms| self.now_ms.saturating_sub(since_ms));
        let invalid = self.config.experiments.iter().filter(|experiment| experiment.problem.is_some()).count() as u64;
        let proxy = |proxy| verdict::proxy::verdict(proxy, revision, invalid, self.now_ms);
        Verdicts {
            delivery: verdict::delivery::verdict(
                &self.proxies,
                known.unwrap_or(&none),
                self.config.plugin,
                self.now_ms,
            ),
            config: self.config_verdict(),
            agreement: verdict::proxy::agreement(lasted_ms, &self.revisions_text()),
            proxies: self.proxies.iter().map(proxy).collect(),
            experiments: (self.config.experiments.iter()).map(|one| verdict::experiment::verdict(one, known)).collect(),
        }
    }

    /// The sum of all samples; none before the first answer.
    pub(super) fn sum(&self) -> Option<Sample> {
        samples(&self.proxies).next()?;
        Some(samples(&self.proxies).fold(Sample::default(), Sample::plus))
    }

    fn config_verdict(&self) -> Verdict {
        match &self.config_error {
            Some(ConfigError::Unreadable(error)) => {
                return Verdict::new(Health::Watch, format!("The experiment config cannot be read: {error}"))
                    .word("unreadable")
                    .response("Check that the file or the config service of --config is there. The page shows the last config.");
            }
            Some(ConfigError::Rejected(problem)) => {
                let line = problem.line.map_or(String::new(), |line| format!(" (line {line})"));
                let text = format!(
                    "The experiment config is rejected as a whole: {}{line}. The proxies keep the last good one.",
                    problem.text.trim_end_matches('.')
                );
                return Verdict::new(Health::Broken, text)
                    .word("rejected")
                    .response("Correct the document; `edgesplit validate` shows every problem.");
            }
            None => {}
        }
        if self.unknown.iter().any(|name| name != OTHER) {
            let unknown: Vec<&str> = self.unknown.iter().map(String::as_str).filter(|name| *name != OTHER).collect();
            let text =
                format!("Proxies count exposures of experiments that the config does not have: {}", unknown.join(", "));
            return Verdict::new(Health::Watch, text)
                .word("unknown experiments")
                .response("Start the dashboard with the config of the proxies.");
        }
        if self.unknown.contains(OTHER) {
            let text = format!(
                "More than {VARIANT_NAMES_MAX} variants are exposed. The names of metrics are used up, and further variants \
                 are counted together as {OTHER}."
            );
            return Verdict::new(Health::Watch, text).word("too many variants").response("Remove ended experiments.");
        }
        if self.config.experiments.is_empty() {
            return Verdict::new(Health::Healthy, "The config has no experiments.")
                .word("no experiments")
                .response("Add an experiment to the document; `edgesplit init` writes a first one.");
        }
        Verdict::new(Health::Healthy, "")
    }

    pub(super) fn revision_name(&self, hash: u64) -> &str {
        match self.revisions.iter().find(|(known, _)| *known == hash) {
            Some((_, revision)) => revision,
            None if hash == 0 => "none",
            None => "another",
        }
    }

    /// Such as `2 proxies have r1, 1 proxy has r2`.
    fn revisions_text(&self) -> String {
        let different = verdict::proxy::different_revisions(&self.proxies).unwrap_or_default();
        let texts = different.iter().map(|(revisions, count)| {
            let names: Vec<&str> = revisions.iter().map(|hash| self.revision_name(*hash)).collect();
            format!("{} {}", counted(*count as u64, "proxy has", "proxies have"), names.join(" and "))
        });
        texts.collect::<Vec<_>>().join(", ")
    }

    /// How long ago the weights of an experiment were changed.
    pub(super) fn weights_changed_s(&self, key: &str) -> Option<u64> {
        self.weights_changed_ms.get(key).map(|at_ms| self.now_ms.saturating_sub(*at_ms) / 1_000)
    }
}

#[cfg(test)]
mod tests;
