//! The verdicts on single Envoys, and on their agreement.

use super::super::proxy::Proxy;
use super::super::sample::Sample;
use super::{Health, Verdict};
use crate::output::counted;
use std::collections::{BTreeMap, BTreeSet};

/// The fewest decisions without an id, and none with one, that are a problem.
const ANONYMOUS_MIN: u64 = 100;

/// Experiments that the config service has not confirmed for longer than this may be old.
const CONFIG_AGE_MAX_S: u64 = 120;

/// Proxies may have different revisions for this long: they fetch a new one at different times.
pub(in super::super) const ROLLOUT_MS: u64 = 60_000;

/// The verdict on one Envoy and its filter. `revision` is the hash of the config's revision here, 0 if it names none, and
/// `invalid` is the number of its invalid experiments, which have verdicts of their own.
pub(in super::super) fn verdict(proxy: &Proxy, revision: u64, invalid: u64, now_ms: u64) -> Verdict {
    let no_answer = "Check that this Envoy runs, and that its admin interface can be reached from here.";
    let Some(sample) = &proxy.sample else {
        return match &proxy.error {
            Some(error) => {
                Verdict::new(Health::Broken, format!("No answer: {error}.")).word("no answer").response(no_answer)
            }
            None => Verdict::new(Health::Asking, "Waiting for the first answer."),
        };
    };
    if let Some(error) = &proxy.error {
        let ago_s = now_ms.saturating_sub(proxy.answered_ms) / 1_000;
        let text = format!("No answer: {error}. Figures are {ago_s} s old.");
        return Verdict::new(Health::Broken, text).word("no answer").response(no_answer);
    }
    if !sample.has_filter() {
        return Verdict::new(Health::Broken, "It answers, but has no metrics of the filter.")
            .word("no filter")
            .response("Check that the filter is in its HTTP filters, and its log for a refused plugin configuration.");
    }
    if proxy.lacks_config(now_ms) {
        return Verdict::new(Health::Broken, "Requests pass without experiments: it has no experiment config.")
            .word("no config")
            .response(
                "Check experiments.cluster and path, the config service, and the proxy's log for a refused config.",
            );
    }
    if sample.disabled_experiments > invalid {
        let experiments = counted(sample.disabled_experiments, "experiment is", "experiments are");
        let text = format!("{experiments} invalid and disabled there, {invalid} in the config here.");
        return Verdict::new(Health::Watch, text)
            .word("disabled experiments")
            .response("Read the proxy's log for the reasons, and give its plugin configuration as --plugin.");
    }
    if let Some(verdict) = identification(sample) {
        return verdict;
    }
    if sample.config_age_s > CONFIG_AGE_MAX_S {
        let text =
            format!("Its experiments were last confirmed {} s ago. Check the config service.", sample.config_age_s);
        return Verdict::new(Health::Watch, text)
            .word("old experiments")
            .response("Check that the config service runs and that this proxy reaches its cluster.");
    }
    if revision != 0 && sample.revisions.iter().any(|one| *one != revision) {
        let text =
            "Its experiments have another revision than the config here. It picks up a new one at its next refresh.";
        return Verdict::new(Health::Watch, text)
            .word("another revision")
            .response("If this lasts, compare the config service's document with --config.");
    }
    if proxy.has_new_vms(now_ms) {
        let vms = counted(proxy.vms_started(), "VM was", "VMs were");
        let text =
            format!("{vms} started since the dashboard, the last within 5 minutes: a new configuration, or a crash.");
        return Verdict::new(Health::Watch, text)
            .word("new VMs")
            .response("If the configuration is not new, look for `panicked` in the proxy's log.");
    }
    Verdict::new(Health::Healthy, "Its experiments are current.")
}

/// The verdict if requests carry no ids.
fn identification(sample: &Sample) -> Option<Verdict> {
    let anonymous = sample.decided("no_unit");
    (sample.identified() == 0 && anonymous >= ANONYMOUS_MIN).then(|| {
        let text = format!(
            "No visitor is identified: {} without an id, and none with one. Check visitor.id and visitor.mint of the plugin \
             configuration.",
            counted(anonymous, "decision was made", "decisions were made")
        );
        Verdict::new(Health::Broken, text)
            .word("no ids")
            .response("Name the header or cookie with your visitor ids in visitor.id, or add visitor.mint.")
    })
}

/// The numbers of proxies by their revisions, if they differ. Proxies without an answer do not count.
pub(in super::super) fn different_revisions(proxies: &[Proxy]) -> Option<BTreeMap<&BTreeSet<u64>, usize>> {
    let mut revisions = BTreeMap::new();
    for sample in proxies.iter().filter_map(Proxy::current).filter(|sample| !sample.revisions.is_empty()) {
        *revisions.entry(&sample.revisions).or_insert(0) += 1;
    }
    (revisions.len() > 1).then_some(revisions)
}

/// The verdict on all proxies together. `lasted_ms` is how long their revisions have differed, and `revisions` names them.
pub(in super::super) fn agreement(lasted_ms: Option<u64>, revisions: &str) -> Verdict {
    match lasted_ms {
        None => Verdict::new(Health::Healthy, ""),
        Some(..ROLLOUT_MS) => {
            Verdict::new(Health::Healthy, format!("A new revision is being picked up: {revisions}.")).word("rollout")
        }
        Some(_) => {
            let text = format!("The proxies disagree: {revisions}. A visitor can change the variant with the proxy.");
            Verdict::new(Health::Broken, text).word("proxies disagree").response(
                "Check the config service behind the proxies with the older revision, and their failed fetches below.",
            )
        }
    }
}
