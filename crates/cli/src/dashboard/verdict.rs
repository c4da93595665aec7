//! Verdicts: whether delivery, proxies and experiments are healthy, with the reason as a sentence.

use super::config::ExperimentView;
use super::proxy::Proxy;
use super::sample::Sample;
use crate::output::{counted, grouped};
use edgesplit_engine::sample_ratio::SampleRatio;
use edgesplit_filter::metrics::name_part;
use serde_json::{Value, json};

/// The fewest exposures for which shares are tested.
pub(super) const EXPOSURES_MIN: u64 = 100;

/// The fewest decisions without an id, and none with one, that are a problem.
const ANONYMOUS_MIN: u64 = 100;

/// Experiments that the config service has not confirmed for longer than this may be old.
const CONFIG_AGE_MAX_S: u64 = 120;

/// Events that wait longer than this are late, even if others are delivered.
const LATE_S: u64 = 60;

/// A state of health, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Healthy,
    /// No answer has arrived yet.
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

/// The health of one thing, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) health: Health,
    /// The problem in a word or two; by default the name of the health.
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

/// The verdict on the delivery of events.
pub(super) fn delivery(proxies: &[Proxy], sum: &Sample, now_ms: u64) -> Verdict {
    if proxies.iter().all(|proxy| proxy.sample.is_none()) {
        return if proxies.iter().any(|proxy| proxy.error.is_some()) {
            Verdict::new(Health::Broken, "No Envoy has answered yet.").word("no answer")
        } else {
            Verdict::new(Health::Asking, "Waiting for the first answers.")
        };
    }
    let recently_lost: u64 = proxies.iter().map(Proxy::recently_lost).sum();
    let stuck: Vec<&Proxy> = proxies.iter().filter(|proxy| proxy.is_stuck(now_ms)).collect();
    let waiting: u64 = stuck.iter().filter_map(|proxy| proxy.sample.as_ref()).map(|sample| sample.queued_events).sum();
    let where_stuck = if stuck.len() == proxies.len() {
        String::new()
    } else {
        format!(" by {} of {} proxies", stuck.len(), proxies.len())
    };
    if recently_lost > 0 {
        let events = counted(recently_lost, "event was", "events were");
        return Verdict::new(Health::Broken, format!("{events} lost in the last minute.")).word("events lost");
    }
    if !stuck.is_empty() {
        let events = counted(waiting, "event waits", "events wait");
        let text = format!(
            "No events are delivered{where_stuck}. {events} in the outbox and will be sent when the service is back."
        );
        return Verdict::new(Health::Broken, text).word("not delivering");
    }
    if sum.oldest_age_s >= LATE_S {
        let text =
            format!("Events are late: the oldest has waited for {} s while others are delivered.", sum.oldest_age_s);
        return Verdict::new(Health::Watch, text).word("late");
    }
    if sum.lost() > 0 {
        let events = counted(sum.lost(), "event was", "events were");
        return Verdict::new(
            Health::Watch,
            format!("{events} lost since the Envoys started, none in the last minute."),
        );
    }
    if sum.event("emitted") == 0 {
        return Verdict::new(Health::Healthy, "No events have been emitted yet.");
    }
    Verdict::new(Health::Healthy, "All events are delivered or on their way.")
}

/// The verdict on one Envoy and its filter. `revision` is the hash of the config's revision here, 0 if it names none.
pub(super) fn proxy(proxy: &Proxy, revision: u64, now_ms: u64) -> Verdict {
    let Some(sample) = &proxy.sample else {
        return match &proxy.error {
            Some(error) => Verdict::new(Health::Broken, format!("No answer: {error}.")).word("no answer"),
            None => Verdict::new(Health::Asking, "Waiting for the first answer."),
        };
    };
    if let Some(error) = &proxy.error {
        let ago_s = now_ms.saturating_sub(proxy.answered_ms) / 1_000;
        let text = format!("No answer: {error}. Figures are {ago_s} s old.");
        return Verdict::new(Health::Broken, text).word("no answer");
    }
    if !sample.has_filter() {
        return Verdict::new(Health::Broken, "It answers, but has no metrics of the filter.").word("no filter");
    }
    if sample.disabled_experiments > 0 {
        let experiments = counted(sample.disabled_experiments, "experiment is", "experiments are");
        return Verdict::new(Health::Watch, format!("{experiments} invalid and disabled."));
    }
    if let Some(verdict) = identification(sample) {
        return verdict;
    }
    if sample.config_age_s > CONFIG_AGE_MAX_S {
        let text =
            format!("Its experiments were last confirmed {} s ago. Check the config service.", sample.config_age_s);
        return Verdict::new(Health::Watch, text).word("old experiments");
    }
    if revision != 0 && sample.revisions.iter().any(|one| *one != revision) {
        let text =
            "Its experiments have another revision than the config here. It picks up a new one at its next refresh.";
        return Verdict::new(Health::Watch, text).word("another revision");
    }
    if proxy.has_new_vms(now_ms) {
        let vms = counted(proxy.vms_started(), "VM was", "VMs were");
        let text =
            format!("{vms} started since the dashboard, the last within 5 minutes: a new configuration, or a crash.");
        return Verdict::new(Health::Watch, text).word("new VMs");
    }
    Verdict::new(Health::Healthy, "Its experiments are current.")
}

/// The verdict if requests carry no ids.
fn identification(sample: &Sample) -> Option<Verdict> {
    (sample.identified == 0 && sample.anonymous >= ANONYMOUS_MIN).then(|| {
        let text = format!(
            "No visitor is identified: {} without an id, and none with one. Check visitor.id and visitor.mint of the plugin \
             configuration.",
            counted(sample.anonymous, "decision was made", "decisions were made")
        );
        Verdict::new(Health::Broken, text).word("no ids")
    })
}

/// A p-value for reading: three decimals if it is small, else two.
fn p_text(p_value: f64) -> String {
    if p_value < 0.0995 { format!("p = {p_value:.3}") } else { format!("p = {p_value:.2}") }
}

/// A share for reading.
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// An experiment's exposures, their test against the weights, and the verdict on both.
pub(super) struct ExperimentVerdict {
    pub(super) counts: Vec<u64>,
    pub(super) ratio: Option<SampleRatio>,
    pub(super) verdict: Verdict,
}

/// The verdict on an experiment over all Envoys. Any of the lost events may have been its own.
pub(super) fn experiment(experiment: &ExperimentView, sum: &Sample) -> ExperimentVerdict {
    let name = name_part(&experiment.key);
    let count = |variant: &str| sum.exposures.get(&(name.clone(), name_part(variant))).copied().unwrap_or(0);
    let counts: Vec<u64> = experiment.variants.iter().map(|(variant, _)| count(variant)).collect();
    let total: u64 = counts.iter().sum();
    let weighted: Option<Vec<(u64, u32)>> =
        counts.iter().zip(&experiment.variants).map(|(count, (_, weight))| Some((*count, (*weight)?))).collect();
    let weighted = weighted.filter(|_| total >= EXPOSURES_MIN);
    let ratio = weighted.as_deref().and_then(SampleRatio::new);
    let is_off = |variant: &str| sum.off.get(&(name.clone(), name_part(variant))).copied();
    let off = experiment.variants.iter().find_map(|(variant, _)| Some((variant, is_off(variant)?)));
    let verdict = match (experiment.state, off, &ratio) {
        ("paused", ..) => Verdict::new(Health::Healthy, "No visitor is in it.").word("paused"),
        ("concluded", ..) => {
            Verdict::new(Health::Healthy, "Every visitor gets the winner, and nothing is reported.").word("concluded")
        }
        (_, Some((variant, proxies)), _) => switched_off(variant, proxies),
        (_, _, Some(ratio)) => split(experiment, ratio, weighted.as_deref().unwrap_or_default(), sum.lost()),
        _ if total == 0 => Verdict::new(Health::Watch, "No visitor has been exposed yet.").word("no exposures"),
        _ if total < EXPOSURES_MIN => {
            let text = format!("{} of the {EXPOSURES_MIN} exposures needed to test the split.", grouped(total));
            Verdict::new(Health::Healthy, text).word("too few to judge")
        }
        _ => Verdict::new(Health::Healthy, "There are no weights to compare the shares with.").word("not judged"),
    };
    ExperimentVerdict { counts, ratio, verdict }
}

/// The verdict on a split that was tested against the weights.
fn split(experiment: &ExperimentView, ratio: &SampleRatio, counts: &[(u64, u32)], lost: u64) -> Verdict {
    let furthest = experiment.variants.get(ratio.furthest).map_or("", |(variant, _)| variant);
    let shares = format!("{furthest} has {} instead of {}", percent(ratio.share), percent(ratio.expected));
    if ratio.is_mismatch() {
        let text = format!(
            "Split does not match the weights: {shares} (p < 0.001). \
             Do not trust this experiment's results until you know the cause."
        );
        return Verdict::new(Health::Broken, text).word("sample ratio mismatch");
    }
    if ratio.is_watched() {
        let text = format!(
            "Split is unlikely for these weights: {shares} ({}). Below 0.001 it is a mismatch.",
            p_text(ratio.p_value)
        );
        return Verdict::new(Health::Watch, text).word("unusual shares");
    }
    let expected = format!("Split is as expected ({})", p_text(ratio.p_value));
    if lost == 0 {
        return Verdict::new(Health::Healthy, format!("{expected}."));
    }
    // The worst case: all losses were of one variant.
    let one_variant_lost = |at: usize| -> Vec<(u64, u32)> {
        let rest = |(place, (count, weight)): (usize, &(u64, u32))| {
            (if place == at { count.saturating_sub(lost) } else { *count }, *weight)
        };
        counts.iter().enumerate().map(rest).collect()
    };
    let holds = |at: usize| SampleRatio::new(&one_variant_lost(at)).is_none_or(|ratio| !ratio.is_mismatch());
    let all_lost = format!("all lost events ({}) were of one variant", grouped(lost));
    if (0..counts.len()).all(holds) {
        return Verdict::new(Health::Healthy, format!("{expected}, even if {all_lost}."));
    }
    let text = format!(
        "{expected} for the exposures, but not for the delivered ones if {all_lost}. Check the shares at the service."
    );
    Verdict::new(Health::Watch, text).word("losses")
}

fn switched_off(variant: &str, proxies: u64) -> Verdict {
    let text = format!(
        "{variant} answers with more server errors than the baseline. It is switched off on {} until the config's next \
         revision. Its visitors get no variant there, so the shares are not meaningful.",
        if proxies == 1 { "one proxy".to_owned() } else { format!("{proxies} proxies") }
    );
    Verdict::new(Health::Broken, text).word("switched off")
}

/// The meaning of a kind of error, and the action to take.
pub(super) fn error_meaning(kind: &str) -> &'static str {
    match kind {
        "no_config" => "Requests passed through without experiments. A few at the start are normal.",
        "buffer_full" => "Events were dropped in a worker. Raise batch.max_bytes.",
        "cas_exhausted" => "Workers kept changing shared data. The change is retried.",
        "shared_data" => "The proxy refused access to shared data. Check its log.",
        "shared_data_corrupt" => "Shared data was replaced. Once after an update of the module is normal.",
        "events_lost" => "Events were missing from their slot. Report it.",
        "dispatch" => "A call did not start. Check that the cluster exists.",
        "fallback_failed" => "The fallback did not accept a batch. Check the fallback.",
        "stale_reply" => "An answer came too late. Check that retry.lease is long enough.",
        "respond" => "The proxy refused a redirect. Check its log.",
        "effect_refused" => {
            "Path rewrites or redirects led elsewhere and were left out. Check them, and effects.redirect_hosts."
        }
        "assignments_omitted" => {
            "The assignments header was too long. Raise request.assignments_max_bytes, or end experiments."
        }
        "event_limit" => "Events exceeded their limit of work. Remove long or unneeded visitor.attributes.",
        "sticky_omitted" => "Sticky cookies were too long for browsers. Shorten the keys of experiments.",
        "names_exhausted" => {
            "More variants than metrics have names for were counted as _other. Remove ended experiments."
        }
        "legs_lost" => "Another filter answered after an internal redirect. Place this filter in front of it.",
        _ => "See docs/events.md.",
    }
}

/// An entry of the list of problems, with a link to its `place` on the page. None if the verdict is healthy.
pub(super) fn attention(place: String, what: &str, verdict: &Verdict) -> Option<Value> {
    (verdict.health >= Health::Watch).then(|| {
        json!({"place": place, "what": what, "health": verdict.health.name(), "word": verdict.word, "text": verdict.text})
    })
}
