//! How things are: healthy, to be watched, or broken, each with a sentence that says why.

use super::config::ExperimentView;
use super::sample::Sample;
use super::state::{Proxy, shared};
use crate::output::counted;
use crate::simulate::grouped;
use crate::statistics::ChiSquaredTest;
use edgesplit_filter::metrics::name_part;
use serde_json::{Value, json};

/// From so many exposures on, shares say something.
pub(super) const EXPOSURES_MIN: u64 = 100;

/// What is less likely than this is watched, before it is so unlikely that it is a mismatch.
const P_VALUE_WATCHED: f64 = 0.01;

/// Experiments that nobody confirmed for so long may be old.
const CONFIG_AGE_MAX_S: u64 = 120;

/// Nothing of a full outbox was delivered for so long: delivery is broken and not merely late.
pub(super) const STUCK_MS: u64 = 5_000;

/// Events that wait for so long are late, whatever else is delivered.
const LATE_S: u64 = 60;

/// How something is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Healthy,
    /// Nobody has answered yet.
    Asking,
    Watch,
    Broken,
}

impl Health {
    pub(super) fn name(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Asking => "asking",
            Health::Watch => "watch",
            Health::Broken => "broken",
        }
    }
}

/// Something that is told of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) health: Health,
    /// What is the matter in a word or two; the health's name where nothing more is to be said.
    pub(super) word: &'static str,
    pub(super) text: String,
}

impl Verdict {
    pub(super) fn new(health: Health, text: impl Into<String>) -> Verdict {
        Verdict { health, word: health.name(), text: text.into() }
    }

    fn word(self, word: &'static str) -> Verdict {
        Verdict { word, ..self }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"health": self.health.name(), "word": self.word, "text": self.text})
    }
}

/// What becomes of events.
pub(super) fn delivery(proxies: &[Proxy], sum: &Sample, now_ms: u64) -> Verdict {
    if proxies.iter().all(|proxy| proxy.sample.is_none()) {
        return if proxies.iter().any(|proxy| proxy.error.is_some()) {
            Verdict::new(Health::Broken, "no Envoy has answered so far, so that nothing is known of it")
                .word("no answer")
        } else {
            Verdict::new(Health::Asking, "the Envoys are asked for the first time")
        };
    }
    let lost_lately: u64 = proxies.iter().map(Proxy::lost_lately).sum();
    let stuck: Vec<&Proxy> = proxies.iter().filter(|proxy| proxy.is_stuck(now_ms)).collect();
    let waiting: u64 = stuck.iter().filter_map(|proxy| proxy.sample.as_ref()).map(|sample| sample.queued_events).sum();
    let of = if stuck.len() == proxies.len() {
        String::new()
    } else {
        format!(" by {} of {} proxies", stuck.len(), proxies.len())
    };
    if lost_lately > 0 {
        let events = counted(lost_lately, "event was", "events were");
        return Verdict::new(Health::Broken, format!("{events} lost in the last minute")).word("events lost");
    }
    if !stuck.is_empty() {
        let events = counted(waiting, "event waits", "events wait");
        let text =
            format!("nothing is delivered{of}: {events} in the outbox, and will go out when the service is back");
        return Verdict::new(Health::Broken, text).word("not delivering");
    }
    if sum.oldest_age_s >= LATE_S {
        let text =
            format!("events are late: the oldest has waited for {} s, while others are delivered", sum.oldest_age_s);
        return Verdict::new(Health::Watch, text).word("late");
    }
    if sum.lost() > 0 {
        let events = counted(sum.lost(), "event was", "events were");
        return Verdict::new(Health::Watch, format!("{events} lost since the Envoys started, none in the last minute"));
    }
    if sum.event("emitted") == 0 {
        return Verdict::new(Health::Healthy, "no event was emitted so far");
    }
    Verdict::new(Health::Healthy, "every event is delivered, or on its way")
}

/// One Envoy and the filter in it. `revision` is what the config here is told by; 0 where it names none.
pub(super) fn proxy(proxy: &Proxy, revision: u64, now_ms: u64) -> Verdict {
    let Some(sample) = &proxy.sample else {
        return match &proxy.error {
            Some(error) => Verdict::new(Health::Broken, format!("does not answer: {error}")).word("no answer"),
            None => Verdict::new(Health::Asking, "is asked for the first time"),
        };
    };
    if let Some(error) = &proxy.error {
        let ago_s = now_ms.saturating_sub(proxy.answered_ms) / 1_000;
        let text = format!("does not answer: {error}. The figures are those of {ago_s} s ago");
        return Verdict::new(Health::Broken, text).word("no answer");
    }
    if !sample.has_filter() {
        return Verdict::new(Health::Broken, "answers, but the filter is not there: it has no metric of it")
            .word("no filter");
    }
    if sample.disabled_experiments > 0 {
        let experiments = counted(sample.disabled_experiments, "experiment is", "experiments are");
        return Verdict::new(Health::Watch, format!("{experiments} invalid and switched off"));
    }
    if sample.config_age_s > CONFIG_AGE_MAX_S {
        let text =
            format!("its experiments were last confirmed {} s ago: is the config service there?", sample.config_age_s);
        return Verdict::new(Health::Watch, text).word("old experiments");
    }
    if revision != 0 && sample.revisions.iter().any(|one| *one != revision) {
        let text =
            "its experiments are of another revision than the config here; it takes a new one at its next refresh";
        return Verdict::new(Health::Watch, text).word("another revision");
    }
    if proxy.has_new_vms(now_ms) {
        let vms = counted(proxy.vms_started(), "VM was", "VMs were");
        let text =
            format!("{vms} started since this page was, the last within 5 minutes: a new configuration, or a crash");
        return Verdict::new(Health::Watch, text).word("new VMs");
    }
    Verdict::new(Health::Healthy, "its experiments are current")
}

/// How a p-value is told: what chance alone would do.
fn chance(p_value: f64) -> String {
    let (of, cases) = if p_value < 0.0995 { (1_000, p_value * 1_000.0) } else { (100, p_value * 100.0) };
    format!("chance alone would be at least this far off in {cases:.0} of {} cases (p = {p_value:.3})", grouped(of))
}

/// What is known of an experiment.
pub(super) struct Judged {
    pub(super) counts: Vec<u64>,
    pub(super) test: Option<ChiSquaredTest>,
    pub(super) verdict: Verdict,
}

/// An experiment over all Envoys, of which `lost` events at most were its own.
pub(super) fn experiment(experiment: &ExperimentView, sum: &Sample, lost: u64) -> Judged {
    let name = name_part(&experiment.key);
    let count = |variant: &str| sum.exposures.get(&(name.clone(), name_part(variant))).copied().unwrap_or(0);
    let counts: Vec<u64> = experiment.variants.iter().map(|(variant, _)| count(variant)).collect();
    let total: u64 = counts.iter().sum();
    let weighted: Option<Vec<(u64, u32)>> =
        counts.iter().zip(&experiment.variants).map(|(count, (_, weight))| Some((*count, (*weight)?))).collect();
    let weighted = weighted.filter(|_| total >= EXPOSURES_MIN);
    let test = weighted.as_deref().and_then(ChiSquaredTest::new);
    let is_off = |variant: &str| sum.off.get(&(name.clone(), name_part(variant))).copied();
    let off = experiment.variants.iter().find_map(|(variant, _)| Some((variant, is_off(variant)?)));
    let verdict = match (experiment.state, off, &test) {
        ("paused", ..) => Verdict::new(Health::Healthy, "nobody is in it").word("paused"),
        ("concluded", ..) => {
            Verdict::new(Health::Healthy, "everyone gets the winner, and nothing is reported").word("concluded")
        }
        (_, Some((variant, proxies)), _) => switched_off(variant, proxies),
        (_, _, Some(test)) => shares(test, weighted.as_deref().unwrap_or_default(), lost),
        _ if total == 0 => Verdict::new(Health::Watch, "nobody was exposed so far").word("no exposures"),
        _ if total < EXPOSURES_MIN => {
            let text = format!("{} of the {EXPOSURES_MIN} exposures that it takes to judge the shares", grouped(total));
            Verdict::new(Health::Healthy, text).word("too few to judge")
        }
        _ => Verdict::new(Health::Healthy, "there are no weights to compare the shares with").word("not judged"),
    };
    Judged { counts, test, verdict }
}

/// Shares that were compared with the weights.
fn shares(test: &ChiSquaredTest, counts: &[(u64, u32)], lost: u64) -> Verdict {
    if !test.is_plausible() {
        let text = "with these weights, chance alone would give shares as far off as these less than once in 1,000 times \
                    (p < 0.001). Do not trust this experiment's results before you know why.";
        return Verdict::new(Health::Broken, text).word("sample ratio mismatch");
    }
    if test.p_value < P_VALUE_WATCHED {
        let text = format!(
            "the shares are unusual for these weights: {}. Below 1 of 1,000 it is a mismatch.",
            chance(test.p_value)
        );
        return Verdict::new(Health::Watch, text).word("unusual shares");
    }
    let told = format!("the shares are what the weights say: {}", chance(test.p_value));
    if lost == 0 {
        return Verdict::new(Health::Healthy, told);
    }
    // The worst that the loss can have done: all of it to one variant.
    let one_variant_lost = |at: usize| -> Vec<(u64, u32)> {
        let rest = |(place, (count, weight)): (usize, &(u64, u32))| {
            (if place == at { count.saturating_sub(lost) } else { *count }, *weight)
        };
        counts.iter().enumerate().map(rest).collect()
    };
    let holds = |at: usize| ChiSquaredTest::new(&one_variant_lost(at)).is_none_or(|test| test.is_plausible());
    let events = counted(lost, "lost event was", "lost events were");
    if (0..counts.len()).all(holds) {
        return Verdict::new(
            Health::Healthy,
            format!("{told}. So are those that were delivered, even if the {events} all of one variant."),
        );
    }
    let text = format!(
        "{told}. But if the {events} all of one variant, those that were delivered are not: ask the service for its own shares."
    );
    Verdict::new(Health::Watch, text).word("losses")
}

fn switched_off(variant: &str, proxies: u64) -> Verdict {
    let text = format!(
        "{variant} answers with more server errors than the baseline and is switched off on {} until the config's next \
         revision: whoever would have it is in no variant there, so that the shares say nothing any more",
        if proxies == 1 { "one proxy".to_owned() } else { format!("{proxies} proxies") }
    );
    Verdict::new(Health::Broken, text).word("switched off")
}

/// What a kind of error means, and what to do.
pub(super) fn error_meaning(kind: &str) -> &'static str {
    match kind {
        "no_config" => "requests went on untouched, for want of experiments: a few at the start are normal",
        "buffer_full" => "events were dropped in a worker: raise batch.max_bytes",
        "cas_exhausted" => "workers kept changing shared data; it is tried again",
        "shared_data" => "the proxy refused shared data: look at its log",
        "shared_data_corrupt" => "shared data was replaced: once after an update of the module is normal",
        "events_lost" => "events whose slot did not hold them: report it",
        "dispatch" => "a call did not start: is the cluster there?",
        "fallback_failed" => "the fallback did not take a batch: look at it",
        "stale_reply" => "an answer came too late: is retry.lease long enough?",
        "respond" => "the proxy refused a redirect: look at its log",
        _ => "docs/events.md says what it means",
    }
}

/// Where the page has a thing.
pub(super) fn attention(place: String, what: &str, verdict: &Verdict) -> Option<Value> {
    (verdict.health >= Health::Watch).then(|| {
        json!({"place": place, "what": what, "health": verdict.health.name(), "word": verdict.word, "text": verdict.text})
    })
}

/// How much of what a proxy emitted did not arrive, and is not on its way.
pub(super) fn lost(proxies: &[Proxy]) -> u64 {
    shared(proxies).map(Sample::lost).sum()
}
