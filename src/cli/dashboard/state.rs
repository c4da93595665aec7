//! What the dashboard knows, and what it makes of it. No clock and no network: samples come in, a picture goes out.

use crate::cli::statistics::ChiSquaredTest;
use crate::engine::snapshot::{Snapshot, State as ExperimentState};
use crate::metrics::name_part;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// How many samples are kept for the charts: a quarter of an hour.
const HISTORY_MAX: usize = 900;

/// How many variants are shown.
const VARIANTS_MAX: usize = 2_000;

/// From so many samples in a row with a full outbox on, delivery is broken and not merely late.
const STUCK_SAMPLES: usize = 5;

/// Experiments that nobody confirmed for so long may be old.
const CONFIG_AGE_MAX_S: u64 = 120;

/// From so many exposures on, shares say something.
const EXPOSURES_MIN: u64 = 100;

/// The stats of one Envoy at one moment, over all plugins of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// Exposures by the names of experiment and variant as metrics have them.
    exposures: BTreeMap<(String, String), u64>,
    /// Responses to requests that were given a variant, all and those with 5xx, by the same names.
    responses: BTreeMap<(String, String), (u64, u64)>,
    /// On how many proxies guardrails have switched variants off, by the same names.
    off: BTreeMap<(String, String), u64>,
    /// What became of events, by the last part of the name.
    events: BTreeMap<String, u64>,
    queued_events: u64,
    queued_bytes: u64,
    oldest_age_s: u64,
    config_age_s: u64,
    disabled_experiments: u64,
    fetch_failures: u64,
    errors: BTreeMap<String, u64>,
    vms_created: u64,
    vms_active: u64,
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
        sample
    }

    fn add(&mut self, name: &str, value: u64) {
        if let Some(rest) = name.strip_prefix("exposures.experiment.") {
            if let Some((experiment, variant)) = rest.split_once(".variant.")
                && self.exposures.len() < VARIANTS_MAX
            {
                *self.exposures.entry((experiment.to_owned(), variant.to_owned())).or_insert(0) += value;
            }
        } else if let Some(rest) = name.strip_prefix("responses.experiment.") {
            if let Some((experiment, rest)) = rest.split_once(".variant.")
                && let Some((variant, class)) = rest.split_once(".class.")
                && self.responses.len() < VARIANTS_MAX
            {
                let (all, errors) = self.responses.entry((experiment.to_owned(), variant.to_owned())).or_default();
                *all += value;
                *errors += if class == "5xx" { value } else { 0 };
            }
        } else if let Some(rest) = name.strip_prefix("guardrail.off.experiment.") {
            if let Some((experiment, variant)) = rest.split_once(".variant.").filter(|_| value > 0) {
                self.off.insert((experiment.to_owned(), variant.to_owned()), 1);
            }
        } else if let Some(event) = name.strip_prefix("events.") {
            *self.events.entry(event.to_owned()).or_insert(0) += value;
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
                _ => {}
            }
        }
    }

    fn event(&self, name: &str) -> u64 {
        self.events.get(name).copied().unwrap_or(0)
    }

    fn dropped(&self) -> u64 {
        self.event("dropped_overflow") + self.event("dropped_expired") + self.event("rejected")
    }

    /// Both together.
    fn plus(mut self, other: &Sample) -> Sample {
        for (into, from) in [(&mut self.events, &other.events), (&mut self.errors, &other.errors)] {
            for (name, value) in from {
                *into.entry(name.clone()).or_insert(0) += value;
            }
        }
        for (name, value) in &other.exposures {
            *self.exposures.entry(name.clone()).or_insert(0) += value;
        }
        for (name, (all, errors)) in &other.responses {
            let sum = self.responses.entry(name.clone()).or_default();
            *sum = (sum.0 + all, sum.1 + errors);
        }
        for (name, proxies) in &other.off {
            *self.off.entry(name.clone()).or_insert(0) += proxies;
        }
        self.oldest_age_s = self.oldest_age_s.max(other.oldest_age_s);
        self.queued_events += other.queued_events;
        self.queued_bytes += other.queued_bytes;
        self.config_age_s = self.config_age_s.max(other.config_age_s);
        self
    }
}

/// What the page has to know of a config.
#[derive(Debug, Clone, Default)]
pub(super) struct ConfigView {
    revision: Option<String>,
    experiments: Vec<ExperimentView>,
}

#[derive(Debug, Clone)]
struct ExperimentView {
    key: String,
    state: &'static str,
    /// Keys and weights in 1/10,000; a vendor's weights are not known here.
    variants: Vec<(String, Option<u32>)>,
}

impl ConfigView {
    pub(super) fn new(snapshot: &Snapshot) -> ConfigView {
        let experiments = snapshot.experiments.iter().map(|experiment| {
            let mut start = 0;
            let weights = experiment.variants.iter().map(|variant| {
                let weight = variant.bucket_end - std::mem::replace(&mut start, variant.bucket_end);
                (variant.key.clone(), snapshot.rules.is_none().then_some(weight))
            });
            let mut variants: Vec<(String, Option<u32>)> = Vec::new();
            for (key, weight) in weights {
                if !variants.iter().any(|(known, _)| *known == key) {
                    variants.push((key, weight));
                }
            }
            ExperimentView {
                key: experiment.key.clone(),
                state: match experiment.state {
                    ExperimentState::Running | ExperimentState::Flag(_) => "running",
                    ExperimentState::Paused => "paused",
                    ExperimentState::Concluded(_) => "concluded",
                },
                variants,
            }
        });
        ConfigView { revision: snapshot.revision.clone(), experiments: experiments.collect() }
    }
}

/// How something is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Healthy,
    Watch,
    Broken,
}

impl Health {
    fn name(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Watch => "watch",
            Health::Broken => "broken",
        }
    }
}

/// Something that is told of one thing.
type Verdict = (Health, String);

fn worst<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Health {
    verdicts.into_iter().map(|(health, _)| *health).max().unwrap_or(Health::Healthy)
}

fn switched_off(variant: &str, proxies: u64) -> Verdict {
    let proxies = if proxies == 1 { "one proxy".to_owned() } else { format!("{proxies} proxies") };
    let text = format!(
        "{variant} answers with more server errors than the baseline and is switched off on {proxies} until the config's next \
         revision: whoever would have it is in no variant there, so that the shares say nothing any more"
    );
    (Health::Broken, text)
}

/// Everything that is known.
#[derive(Debug)]
pub(super) struct State {
    envoys: Vec<String>,
    /// The last answers, one for each Envoy.
    last: Vec<Result<Sample, String>>,
    /// VMs that each Envoy had created when it was seen first, or since it started anew.
    vms_first: Vec<Option<u64>>,
    config: Result<ConfigView, String>,
    /// Sums over all Envoys, the newest last.
    history: VecDeque<Sample>,
}

impl State {
    pub(super) fn new(envoys: &[String]) -> State {
        State {
            envoys: envoys.to_vec(),
            last: envoys.iter().map(|_| Err("not asked yet".to_owned())).collect(),
            vms_first: vec![None; envoys.len()],
            config: Ok(ConfigView::default()),
            history: VecDeque::new(),
        }
    }

    /// A config that cannot be read leaves the last good one where it is, with the reason.
    pub(super) fn set_config(&mut self, config: Result<ConfigView, String>) {
        self.config = config;
    }

    /// Takes in an answer of each Envoy.
    pub(super) fn add(&mut self, samples: Vec<Result<Sample, String>>) {
        for (first, sample) in self.vms_first.iter_mut().zip(&samples) {
            if let Ok(sample) = sample {
                // An Envoy that started anew counts from 0.
                *first = Some(first.map_or(sample.vms_created, |first| first.min(sample.vms_created)));
            }
        }
        let sum = samples.iter().flatten().fold(Sample::default(), Sample::plus);
        self.last = samples;
        self.history.push_back(sum);
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
    }

    fn sum(&self) -> Sample {
        self.history.back().cloned().unwrap_or_default()
    }

    fn delivery(&self) -> Verdict {
        let sum = self.sum();
        let stuck = self.history.iter().rev().take(STUCK_SAMPLES);
        let is_stuck = stuck.clone().count() == STUCK_SAMPLES
            && stuck
                .clone()
                .all(|sample| sample.queued_events > 0 && sample.event("delivered") == sum.event("delivered"));
        let before = self.history.get(self.history.len().saturating_sub(60)).map_or(0, Sample::dropped);
        match sum.dropped().checked_sub(before) {
            Some(lost @ 1..) => (Health::Broken, format!("{lost} events were lost in the last minute")),
            _ if is_stuck => (
                Health::Broken,
                format!(
                    "nothing is delivered: {} events wait in the outbox, and will go out when the service is back",
                    sum.queued_events
                ),
            ),
            _ if sum.dropped() > 0 => {
                (Health::Watch, format!("{} events were lost since the start, none lately", sum.dropped()))
            }
            _ => (Health::Healthy, "every event is delivered, or on its way".to_owned()),
        }
    }

    fn proxy(&self, at: usize) -> Verdict {
        let Some(Ok(sample)) = self.last.get(at) else {
            let error = self.last.get(at).and_then(|sample| sample.as_ref().err());
            return (Health::Broken, error.cloned().unwrap_or_default());
        };
        let crashed =
            self.vms_first.get(at).copied().flatten().map_or(0, |first| sample.vms_created.saturating_sub(first));
        if sample.events.is_empty() {
            return (Health::Broken, "the filter is not there: no metric of it is".to_owned());
        }
        if crashed > 0 {
            return (Health::Watch, format!("{crashed} VMs were started since this page was: a reload, or a crash"));
        }
        if sample.disabled_experiments > 0 {
            return (
                Health::Watch,
                format!("{} experiments are invalid and switched off", sample.disabled_experiments),
            );
        }
        if sample.config_age_s > CONFIG_AGE_MAX_S {
            return (Health::Watch, format!("its experiments were last confirmed {} s ago", sample.config_age_s));
        }
        (Health::Healthy, "its experiments are current".to_owned())
    }

    fn experiment(&self, experiment: &ExperimentView, sum: &Sample) -> (Vec<u64>, Option<ChiSquaredTest>, Verdict) {
        let name = name_part(&experiment.key);
        let count = |variant: &str| sum.exposures.get(&(name.clone(), name_part(variant))).copied().unwrap_or(0);
        let counts: Vec<u64> = experiment.variants.iter().map(|(variant, _)| count(variant)).collect();
        let total: u64 = counts.iter().sum();
        let weighted: Option<Vec<(u64, u32)>> =
            counts.iter().zip(&experiment.variants).map(|(count, (_, weight))| Some((*count, (*weight)?))).collect();
        let test = weighted.filter(|_| total >= EXPOSURES_MIN).and_then(|counts| ChiSquaredTest::new(&counts));
        let is_off = |variant: &str| sum.off.get(&(name.clone(), name_part(variant))).copied();
        let off = experiment.variants.iter().find_map(|(variant, _)| Some((variant, is_off(variant)?)));
        let verdict = match (experiment.state, &test) {
            ("running", _) if total == 0 => (Health::Watch, "nobody was exposed so far".to_owned()),
            ("running", Some(test)) if !test.is_plausible() => (
                Health::Broken,
                "sample ratio mismatch: with these weights, chance would give shares as far off as these less than once in 1,000 \
                 times. Do not trust this experiment's results before you know why."
                    .to_owned(),
            ),
            ("running", Some(test)) => (
                Health::Healthy,
                format!("the shares are what the weights say: chance alone would be at least this far off in {:.0} of 100 cases", 100.0 * test.p_value),
            ),
            ("running", None) if total < EXPOSURES_MIN => (Health::Healthy, format!("too few exposures to judge: {EXPOSURES_MIN} are needed")),
            ("running", None) => (Health::Healthy, "there are no weights to compare the shares with".to_owned()),
            ("paused", _) => (Health::Healthy, "paused: nobody is in it".to_owned()),
            _ => (Health::Healthy, "concluded: everyone gets the winner, and nothing is reported".to_owned()),
        };
        let verdict = off.map_or(verdict, |(variant, proxies)| switched_off(variant, proxies));
        (counts, test, verdict)
    }

    /// What the page shows.
    pub(super) fn to_json(&self) -> Value {
        let sum = self.sum();
        let delivery = self.delivery();
        let proxies: Vec<Verdict> = (0..self.envoys.len()).map(|at| self.proxy(at)).collect();
        let none = ConfigView::default();
        let config = self.config.as_ref().unwrap_or(&none);
        let judged: Vec<_> =
            config.experiments.iter().map(|experiment| (experiment, self.experiment(experiment, &sum))).collect();
        let config_verdict = match &self.config {
            Ok(_) => (Health::Healthy, String::new()),
            Err(error) => (Health::Watch, format!("the experiment config cannot be read: {error}")),
        };
        let verdicts =
            judged.iter().map(|(_, (_, _, verdict))| verdict).chain(&proxies).chain([&delivery, &config_verdict]);
        let overall = worst(verdicts);
        let told = |(health, text): &Verdict| json!({"health": health.name(), "text": text});

        let experiments: Vec<Value> = judged
            .iter()
            .map(|(experiment, (counts, test, verdict))| {
                let name = name_part(&experiment.key);
                let total: u64 = counts.iter().sum();
                let variants: Vec<Value> = (experiment.variants.iter().zip(counts))
                    .map(|((variant, weight), count)| {
                        let key = (name.clone(), name_part(variant));
                        let history: Vec<u64> = self
                            .history
                            .iter()
                            .map(|sample| sample.exposures.get(&key).copied().unwrap_or(0))
                            .collect();
                        json!({
                            "key": variant,
                            "exposures": count,
                            "observed": if total == 0 { Value::Null } else { json!(*count as f64 / total as f64) },
                            "configured": weight.map(|weight| f64::from(weight) / 10_000.0),
                            "responses": sum.responses.get(&key).map_or(0, |(all, _)| *all),
                            "server_errors": sum.responses.get(&key).map_or(0, |(_, errors)| *errors),
                            "off": sum.off.get(&key).copied().unwrap_or(0),
                            "history": history,
                        })
                    })
                    .collect();
                json!({"key": experiment.key, "state": experiment.state, "exposures": total, "verdict": told(verdict),
                       "test": test.map(ChiSquaredTest::to_json), "variants": variants})
            })
            .collect();
        let proxies: Vec<Value> = (self.envoys.iter().zip(&proxies).zip(&self.last))
            .map(|((address, verdict), sample)| {
                let of = |get: &dyn Fn(&Sample) -> u64| sample.as_ref().ok().map(get);
                json!({"address": address, "verdict": told(verdict), "emitted": of(&|one| one.event("emitted")),
                       "queued": of(&|one| one.queued_events), "oldest_age_s": of(&|one| one.oldest_age_s), "config_age_s": of(&|one| one.config_age_s),
                       "fetch_failures": of(&|one| one.fetch_failures), "vms_active": of(&|one| one.vms_active),
                       "vms_created": of(&|one| one.vms_created)})
            })
            .collect();
        let series = |get: &dyn Fn(&Sample) -> u64| -> Vec<u64> { self.history.iter().map(get).collect() };
        json!({
            "overall": overall.name(),
            "revision": config.revision,
            "config": told(&config_verdict),
            "delivery": {
                "verdict": told(&delivery),
                "emitted": sum.event("emitted"), "delivered": sum.event("delivered"), "rejected": sum.event("rejected"),
                "dropped_overflow": sum.event("dropped_overflow"), "dropped_expired": sum.event("dropped_expired"),
                "diverted": sum.event("diverted"), "queued_events": sum.queued_events, "queued_bytes": sum.queued_bytes,
                "oldest_age_s": sum.oldest_age_s,
                "history": {"queued": series(&|one| one.queued_events), "delivered": series(&|one| one.event("delivered"))},
            },
            "errors": sum.errors.iter().filter(|(_, count)| **count > 0).collect::<BTreeMap<_, _>>(),
            "proxies": proxies,
            "experiments": experiments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native;

    fn stats(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        let name = |name: &str| {
            if name.starts_with("wasm.") { name.to_owned() } else { format!("wasmcustom.edgesplit.demo.{name}") }
        };
        pairs.iter().map(|(stat, value)| (name(stat), *value)).collect()
    }

    fn sample(control: u64, green: u64, queued: u64) -> Sample {
        Sample::new(&stats(&[
            ("exposures.experiment.nav.variant.control", control),
            ("exposures.experiment.nav.variant.green", green),
            ("events.emitted", control + green),
            ("events.delivered", control + green - queued),
            ("outbox.queued_events", queued),
            ("config.age_seconds", 3),
            ("wasm.envoy.wasm.runtime.v8.created", 4),
            ("wasm.envoy.wasm.runtime.v8.active", 4),
        ]))
    }

    fn state() -> State {
        let mut state = State::new(&["a".to_owned(), "b".to_owned()]);
        let config = json!({"schema": 1, "revision": "r1", "experiments": [
            {"key": "nav", "state": "running", "variants": [{"key": "control", "weight": 5000}, {"key": "green", "weight": 5000}]}]});
        state.set_config(Ok(ConfigView::new(&native::compile(&config, 64).snapshot.unwrap())));
        state
    }

    #[test]
    fn shares_of_all_proxies_are_judged_by_the_weights() {
        let mut state = state();
        state.add(vec![Ok(sample(600, 400, 0)), Ok(sample(410, 590, 0))]);
        let seen = state.to_json();
        assert_eq!(seen["overall"], "healthy", "{seen:#}");
        assert_eq!(seen["experiments"][0]["variants"][0]["exposures"], 1010);
        assert_eq!(seen["revision"], "r1");
        state.add(vec![Ok(sample(600, 400, 0)), Ok(sample(600, 400, 0))]);
        let seen = state.to_json();
        assert_eq!(
            (&seen["overall"], &seen["experiments"][0]["verdict"]["health"]),
            (&json!("broken"), &json!("broken"))
        );
        assert_eq!(seen["experiments"][0]["test"]["plausible"], false);
        assert_eq!(seen["experiments"][0]["variants"][1]["history"], json!([990, 800]));
    }

    #[test]
    fn an_outage_is_seen_and_so_is_its_end() {
        let mut state = state();
        let both = |queued: u64| vec![Ok(sample(500, 500, queued)), Ok(sample(500, 500, 0))];
        for queued in 1..=STUCK_SAMPLES as u64 {
            assert_eq!(state.to_json()["delivery"]["verdict"]["health"], "healthy");
            state.add(vec![Ok(sample(500, 500 + queued, queued)), Ok(sample(500, 500, 0))]);
        }
        assert_eq!(state.to_json()["delivery"]["verdict"]["health"], "broken");
        state.add(both(0));
        assert_eq!(state.to_json()["delivery"]["verdict"]["health"], "healthy");
        state.add(vec![Ok(sample(500, 500, 0)), Err("refused".to_owned())]);
        let seen = state.to_json();
        assert_eq!((&seen["overall"], &seen["proxies"][1]["verdict"]["text"]), (&json!("broken"), &json!("refused")));
        for _ in 0..2 * HISTORY_MAX {
            state.add(both(0));
        }
        assert_eq!(state.history.len(), HISTORY_MAX);
    }

    #[test]
    fn what_a_guardrail_switched_off_is_told_with_the_errors() {
        let mut state = state();
        let with = |off: u64| {
            let all = [
                ("guardrail.off.experiment.nav.variant.green", off),
                ("responses.experiment.nav.variant.green.class.2xx", 40),
                ("responses.experiment.nav.variant.green.class.5xx", 60),
                ("outbox.oldest_age_seconds", 4 + off),
            ];
            Sample::new(&stats(&all)).plus(&sample(500, 100, 0))
        };
        state.add(vec![Ok(with(0)), Ok(with(1))]);
        let seen = state.to_json();
        let (nav, green) = (&seen["experiments"][0], &seen["experiments"][0]["variants"][1]);
        assert_eq!(nav["verdict"]["health"], "broken");
        let text = nav["verdict"]["text"].as_str().unwrap();
        assert!(text.starts_with("green answers with more") && text.contains("on one proxy"), "{text}");
        assert_eq!(
            (&green["responses"], &green["server_errors"], &green["off"]),
            (&json!(200), &json!(120), &json!(1))
        );
        assert_eq!(nav["variants"][0]["off"], 0);
        assert_eq!((&seen["delivery"]["oldest_age_s"], &seen["proxies"][0]["oldest_age_s"]), (&json!(5), &json!(4)));
    }

    #[test]
    fn lost_events_and_new_vms_are_told() {
        let mut state = state();
        state.add(vec![Ok(sample(1, 1, 0)), Ok(sample(1, 1, 0))]);
        let mut lossy = sample(1, 1, 0);
        lossy.events.insert("dropped_overflow".to_owned(), 7);
        lossy.vms_created += 1;
        state.add(vec![Ok(lossy), Ok(Sample::default())]);
        let seen = state.to_json();
        assert_eq!(seen["delivery"]["verdict"]["text"], "7 events were lost in the last minute");
        assert_eq!(seen["proxies"][0]["verdict"]["health"], "watch");
        assert_eq!(seen["proxies"][1]["verdict"]["health"], "broken");
    }
}
