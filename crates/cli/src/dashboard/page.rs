//! The JSON of the page: the output of `--json` and of `/state.json`.

use super::charts::Charts;
use super::config::ExperimentView;
use super::history::Selection;
use super::json::merge;
use super::proxy::Proxy;
use super::results;
use super::sample::Sample;
use super::state::State;
use super::verdict::causes::Evidence;
use super::verdict::experiment::{self, ExperimentVerdict};
use super::verdict::{self, Health, Verdict};
use super::words;
use edgesplit_engine::sample_ratio::SampleRatio;
use edgesplit_filter::metrics::name_part;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The parts of the state that a page shows.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The proxy whose figures the experiments have; none for the sum of all.
    pub(super) proxy: Selection,
    /// The places of the experiments with charts; none for all.
    pub(super) open: Option<BTreeSet<usize>>,
}

impl Page {
    /// The page of a query such as `proxy=1&open=0,3`. Values that are not understood are ignored.
    pub(super) fn of_query(query: &str) -> Page {
        let value = |wanted: &str| query.split('&').find_map(|pair| pair.strip_prefix(wanted)?.strip_prefix('='));
        Page {
            proxy: value("proxy").and_then(|proxy| proxy.parse().ok()),
            open: value("open").map(|open| open.split(',').filter_map(|place| place.parse().ok()).collect()),
        }
    }

    pub(super) fn to_json(&self, state: &State) -> Value {
        let none = Sample::default();
        let sum = state.sum();
        let selected = match self.proxy {
            None => sum.clone(),
            Some(proxy) => state.proxies.get(proxy).and_then(|proxy| proxy.sample.clone()),
        };
        let of_selected: Vec<ExperimentVerdict> =
            state.config.experiments.iter().map(|one| experiment::verdict(one, selected.as_ref())).collect();
        let whole = sum.as_ref().unwrap_or(&none);
        let known = |value: u64| sum.as_ref().map(|_| value);
        let verdicts = &state.verdicts;
        json!({
            "overall": verdicts.overall().name(),
            "attention": attention(state),
            "revision": state.config.revision, "goals": state.config.goals,
            "config": verdict_json(state, "config", &verdicts.config),
            "agreement": verdict_json(state, "agreement", &verdicts.agreement),
            "observed_s": state.now_ms / 1_000,
            "seconds": state.history.seconds(state.now_ms),
            "answered": state.history.answered(),
            "delivery": {
                "verdict": verdict_json(state, "delivery", &verdicts.delivery),
                "emitted": known(whole.event("emitted")), "delivered": known(whole.event("delivered")),
                "rejected": known(whole.event("rejected")), "dropped_overflow": known(whole.event("dropped_overflow")),
                "dropped_expired": known(whole.event("dropped_expired")), "diverted": known(whole.event("diverted")),
                "queued_events": known(whole.queued_events), "queued_bytes": known(whole.queued_bytes),
                "oldest_age_s": known(whole.oldest_age_s),
                "history": {"queued": state.history.queued()},
            },
            "mint": whole.mint,
            "errors": (whole.errors.iter().filter(|(_, count)| **count > 0))
                .map(|(kind, count)| json!({"kind": kind, "count": count, "meaning": error_meaning(kind)}))
                .collect::<Vec<_>>(),
            "proxies": (state.proxies.iter().zip(&verdicts.proxies))
                .map(|(proxy, verdict)| proxy_json(state, proxy, verdict))
                .collect::<Vec<_>>(),
            "experiments": (state.config.experiments.iter().zip(&of_selected).enumerate())
                .map(|(at, (view, verdict))| self.experiment_json(state, at, (view, verdict), selected.as_ref()))
                .collect::<Vec<_>>(),
        })
    }

    fn experiment_json(
        &self,
        state: &State,
        at: usize,
        (view, verdict): (&ExperimentView, &ExperimentVerdict),
        sample: Option<&Sample>,
    ) -> Value {
        let total: u64 = verdict.counts.iter().sum();
        let is_open = self.open.as_ref().is_none_or(|open| open.contains(&at));
        let charts = Charts { state, selection: self.proxy, view, counts: &verdict.counts };
        let mut variants: Vec<Value> = (view.variants.iter().zip(&verdict.counts))
            .map(|(variant, count)| {
                let mut json = json!({
                    "key": variant.key, "baseline": variant.is_baseline,
                    "exposures": sample.map(|_| *count),
                    "observed": (total > 0).then(|| *count as f64 / total as f64),
                    "configured": variant.weight.map(|weight| f64::from(weight) / 10_000.0),
                });
                merge(
                    &mut json,
                    self.delivery_json(state, &name_part(&view.key), &name_part(&variant.key), *count, sample),
                );
                json
            })
            .collect();
        if is_open {
            charts.add_to(&mut variants);
        }
        let state_s = state.since.began_ms(&format!("state/{}", view.key)).map(|at_ms| (state.now_ms - at_ms) / 1_000);
        let sample_or_none = Sample::default();
        json!({
            "key": view.key, "state": view.state, "state_at": view.state_at_ms.map(words::moment), "state_since_s": state_s,
            "route": view.route, "audience": view.audience, "traffic": view.traffic, "guardrail": view.guardrail,
            "problem": view.problem.as_ref().map(|problem| json!({"text": problem.text, "line": problem.line})),
            "exposures": sample.map(|_| total), "per_minute": charts.rate(),
            "verdict": verdict_json(state, &format!("experiment/{}", view.key), &verdict.verdict),
            "test": verdict.ratio.map(|ratio| ratio_json(view, &ratio)),
            "causes": causes(state, view, verdict, sample.unwrap_or(&sample_or_none)),
            "reasons": results::reasons(view, sample.unwrap_or(&sample_or_none)),
            "goals": results::goals(&charts, is_open, sample.unwrap_or(&sample_or_none)),
            "variants": variants,
        })
    }

    /// The responses of a variant and the delivery of its exposures.
    fn delivery_json(
        &self,
        state: &State,
        experiment: &str,
        variant: &str,
        count: u64,
        sample: Option<&Sample>,
    ) -> Value {
        let name = (experiment.to_owned(), variant.to_owned());
        let responses = sample.and_then(|sample| sample.responses.get(&name).copied()).unwrap_or_default();
        let proxies = state.proxies.iter().enumerate().filter(|(at, _)| self.proxy.is_none_or(|proxy| proxy == *at));
        let missing = proxies.map(|(_, proxy)| proxy.missing(&name));
        let (undelivered, lost) = missing.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
        json!({
            "lost_at_most": sample.map(|_| lost), "delivered_at_least": sample.map(|_| count.saturating_sub(undelivered)),
            "responses": responses.all, "server_errors": responses.server_errors, "redirects": responses.redirects,
            "off": sample.and_then(|sample| sample.off.get(&name).copied()).unwrap_or(0),
        })
    }
}

fn verdict_json(state: &State, part: &str, verdict: &Verdict) -> Value {
    // The verdict may differ from the part's own if the page shows one proxy only.
    verdict.to_json(state.since.began_ms(part).map(|at_ms| state.now_ms.saturating_sub(at_ms) / 1_000))
}

/// The list of everything that is not healthy, each with a link to its place on the page.
fn attention(state: &State) -> Vec<Value> {
    let verdicts = &state.verdicts;
    let experiments = state.config.experiments.iter().zip(&verdicts.experiments).enumerate();
    let proxies = state.proxies.iter().zip(&verdicts.proxies);
    let entry = |place: String, what: &str, part: &str, verdict: &Verdict| {
        (verdict.health >= Health::Watch).then(|| {
            let mut entry = verdict_json(state, part, verdict);
            merge(&mut entry, json!({"place": place, "what": what}));
            entry
        })
    };
    ([entry("delivery".to_owned(), "Delivery", "delivery", &verdicts.delivery)].into_iter())
        .chain([entry("experiments".to_owned(), "Experiment config", "config", &verdicts.config)])
        .chain([entry("proxies".to_owned(), "Proxies", "agreement", &verdicts.agreement)])
        .chain(experiments.map(|(at, (one, experiment))| {
            entry(format!("experiment-{at}"), &one.key, &format!("experiment/{}", one.key), &experiment.verdict)
        }))
        .chain(proxies.map(|(one, verdict)| {
            entry("proxies".to_owned(), &one.address, &format!("proxy/{}", one.address), verdict)
        }))
        .flatten()
        .collect()
}

/// The causes of a split that is unlikely for the weights.
fn causes(state: &State, view: &ExperimentView, verdict: &ExperimentVerdict, sum: &Sample) -> Vec<Value> {
    let Some(ratio) = verdict.ratio.filter(|ratio| ratio.is_watched() && view.state == "running") else {
        return Vec::new();
    };
    let evidence = Evidence {
        experiment: view,
        furthest: ratio.furthest,
        has_too_few: ratio.share < ratio.expected,
        sum,
        plugin: state.config.plugin,
        weights_changed_s: state.weights_changed_s(&view.key),
    };
    evidence.causes().iter().map(verdict::causes::Cause::to_json).collect()
}

fn proxy_json(state: &State, proxy: &Proxy, verdict: &Verdict) -> Value {
    let of = |get: &dyn Fn(&Sample) -> u64| proxy.sample.as_ref().map(get);
    let revisions = proxy.sample.iter().flat_map(|sample| &sample.revisions);
    json!({
        "address": proxy.address, "verdict": verdict_json(state, &format!("proxy/{}", proxy.address), verdict),
        "emitted": of(&|one| one.event("emitted")), "delivered": of(&|one| one.event("delivered")), "lost": of(&Sample::lost),
        "queued": of(&|one| one.queued_events), "oldest_age_s": of(&|one| one.oldest_age_s),
        "revisions": revisions.map(|hash| state.revision_name(*hash)).collect::<Vec<_>>(),
        "config_age_s": of(&|one| one.config_age_s), "fetch_failures": of(&|one| one.fetch_failures),
        "vms_active": of(&|one| one.vms_active), "vms_started": of(&|_| proxy.vms_started()),
    })
}

/// The result of the test of an experiment's split.
fn ratio_json(view: &ExperimentView, ratio: &SampleRatio) -> Value {
    let furthest = view.variants.get(ratio.furthest).map(|variant| &variant.key);
    json!({
        "p_value": ratio.p_value, "plausible": !ratio.is_mismatch(),
        "furthest": {"variant": furthest, "observed": ratio.share, "configured": ratio.expected},
    })
}

/// The meaning of a kind of error, and the action to take.
fn error_meaning(kind: &str) -> &'static str {
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
        "owned_names" => {
            "Configs named so many headers that earlier names are no longer owned. Set request.owned_headers."
        }
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
        "panic" => "The native module caught a bug of its own, and the request continued. Report it.",
        "spool_torn" => "A file of the spool ended in the middle of a write. Normal after a kill or a loss of power.",
        "spool_full" => "The spool found no room on its disk. Make room: events stay in memory meanwhile.",
        "spool_disk" => "The spool's disk failed. Check the proxy's log, and the permissions of the folder.",
        "spool_version" => "The spool has a file of another version. Start the version that wrote it, or remove it.",
        _ => "See docs/events.md.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_selects_a_proxy_and_open_experiments() {
        let page = Page::of_query("proxy=2&open=0,13,x");
        assert_eq!((page.proxy, page.open), (Some(2), Some([0, 13].into())));
        assert_eq!(Page::of_query("open=").open, Some(BTreeSet::new()));
        let page = Page::of_query("proxy=all&opened=3");
        assert_eq!((page.proxy, page.open), (None, None));
    }

    #[test]
    fn documented_errors_have_a_meaning() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/events.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (_, table) = page.split_once("The kinds of errors:").unwrap();
        let kinds: Vec<&str> =
            table.lines().filter_map(|row| row.strip_prefix("| `")?.split_once('`')).map(|(kind, _)| kind).collect();
        assert!(kinds.len() > 20, "{kinds:?}");
        for kind in kinds {
            assert_ne!(error_meaning(kind), error_meaning("another"), "{kind}");
        }
    }
}
