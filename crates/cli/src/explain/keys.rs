//! The cache keys that a page can have, each with the variants it comes from.

use crate::output::{BAD, GOOD, QUIET, STRONG};
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::printable::printable;
use edgesplit_engine::route::RequestLine;
use edgesplit_engine::snapshot::{Experiment, Snapshot, State};
use edgesplit_filter::http::url;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::fmt::Write;

/// The most cache keys that are listed; further ones are only counted.
const KEYS_SHOWN_MAX: usize = 100;

/// The most cache keys that are counted. Vendors' flags are not bounded by the budget, so they can have too many.
const KEYS_COUNTED_MAX: usize = 100_000;

/// A page: path, host and method.
pub(super) struct Page<'a> {
    pub(super) path: &'a str,
    /// Any host, if none.
    pub(super) host: Option<&'a str>,
    pub(super) method: &'a str,
}

impl Page<'_> {
    fn is_on_route(&self, experiment: &Experiment) -> bool {
        let host = url::host(self.host.unwrap_or_default().as_bytes());
        let (path, _) = url::path_and_query(self.path.as_bytes());
        let line = RequestLine { host, path, method: self.method.as_bytes() };
        if self.host.is_some() {
            return experiment.route.matches(&line, &request_budget()) == Ok(true);
        }
        let mut anywhere = experiment.route.clone();
        anywhere.hosts.clear();
        anywhere.matches(&line, &request_budget()) == Ok(true)
    }
}

/// The pairs that an experiment can put into a cache key, each with its variant's key.
fn pairs(experiment: &Experiment) -> Vec<(&str, &str)> {
    let variants = experiment.variants.iter().enumerate().filter(|(at, _)| match experiment.state {
        State::Running | State::Flag(_) => true,
        State::Paused => false,
        State::Concluded(winner) => winner == *at,
    });
    let mut pairs: Vec<(&str, &str)> =
        variants.filter_map(|(_, variant)| Some((variant.cache_pair.as_deref()?, variant.key.as_str()))).collect();
    // Several outcomes of a vendor's flag may have the same pair.
    let mut seen = HashSet::new();
    pairs.retain(|(pair, _)| seen.insert(*pair));
    pairs
}

/// The cache keys of a page.
pub(super) struct Keys<'a> {
    page: &'a Page<'a>,
    budget: u64,
    /// The experiments whose route matches the page.
    here: Vec<&'a Experiment>,
    combinations: Vec<Combination<'a>>,
}

impl<'a> Keys<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, page: &'a Page<'a>, budget: u64) -> Keys<'a> {
        let here: Vec<&Experiment> = snapshot.experiments.iter().filter(|one| page.is_on_route(one)).collect();
        let combinations = combinations(&here);
        Keys { page, budget, here, combinations }
    }

    /// Whether all keys are counted.
    fn is_complete(&self) -> bool {
        self.combinations.len() <= KEYS_COUNTED_MAX
    }

    pub(super) fn to_text(&self) -> String {
        let Keys { page, budget, here, combinations } = self;
        let mut text = String::new();
        let host = page.host.unwrap_or("any host");
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{STRONG}{} {} on {}{STRONG:#}: {}",
            printable(page.method),
            printable(page.path),
            printable(host),
            number(here.len(), "experiment")
        );
        for experiment in here {
            let _ = writeln!(text, "  {}", printable(&contribution(experiment)));
        }
        let more_than = if self.is_complete() { "" } else { "more than " };
        let count = number(combinations.len(), "cache key");
        let style = if combinations.len() as u64 > *budget { BAD } else { GOOD };
        let _ = writeln!(text, "\n{style}{more_than}{count}{style:#}; the budget allows {budget}");
        for combination in combinations.iter().take(KEYS_SHOWN_MAX) {
            let _ = writeln!(text, "  {}", combination.line());
        }
        if let Some(more) = combinations.len().checked_sub(KEYS_SHOWN_MAX).filter(|more| *more > 0) {
            let _ = writeln!(text, "  … and {more} more");
        }
        text
    }

    pub(super) fn to_json(&self) -> Value {
        let keys = self.combinations.iter().take(KEYS_SHOWN_MAX).map(|combination| {
            let variants: Map<String, Value> = (combination.pairs.iter())
                .map(|(experiment, _, variant)| (experiment.key.clone(), json!(variant)))
                .collect();
            json!({"cache_key": combination.key(), "variants": variants})
        });
        let experiments: Vec<&str> = self.here.iter().map(|experiment| experiment.key.as_str()).collect();
        json!({
            "experiments": experiments, "count": self.combinations.len(), "complete": self.is_complete(),
            "budget": self.budget, "cache_keys": keys.collect::<Vec<_>>(),
        })
    }
}

/// The number of cache keys of a request that matches all of these experiments.
pub(crate) fn count(here: &[&Experiment]) -> usize {
    combinations(here).len()
}

/// The pairs that an experiment adds to cache keys, in words.
fn contribution(experiment: &Experiment) -> String {
    let baseline = experiment.variants.iter().find(|variant| variant.baseline).map(|variant| variant.key.as_str());
    let variants: Vec<&str> = pairs(experiment).into_iter().map(|(_, variant)| variant).collect();
    let key = &experiment.key;
    match (experiment.state, baseline) {
        (State::Paused, _) => format!("{key}: paused, adds nothing"),
        (State::Concluded(_), _) if variants.is_empty() => format!("{key}: concluded with its baseline, adds nothing"),
        (State::Concluded(_), _) => format!("{key}: concluded, adds {} for every visitor", variants.join(", ")),
        (State::Running | State::Flag(_), Some(baseline)) if variants.is_empty() => {
            format!("{key}: only its baseline {baseline}, adds nothing")
        }
        (State::Running | State::Flag(_), Some(baseline)) => {
            format!("{key}: adds {}; nothing for its baseline {baseline} and visitors not in it", variants.join(", "))
        }
        (State::Running | State::Flag(_), None) => {
            format!("{key}: adds {}; nothing for visitors not in it; no variant is the baseline", variants.join(", "))
        }
    }
}

/// A cache key, with the pairs it consists of.
struct Combination<'a> {
    /// Experiments with their pair, in the order of the config.
    pairs: Vec<(&'a Experiment, &'a str, &'a str)>,
}

impl<'a> Combination<'a> {
    /// The pairs in the order of a cache key.
    fn sorted(&self) -> Vec<(&'a Experiment, &'a str, &'a str)> {
        let mut sorted = self.pairs.clone();
        sorted.sort_by_key(|(experiment, ..)| experiment.rank);
        sorted
    }

    /// The cache key; empty if there are no pairs.
    fn key(&self) -> String {
        self.sorted().iter().map(|(_, pair, _)| *pair).collect::<Vec<_>>().join("~")
    }

    /// Whether two of the experiments share a layer. Only forced visitors and previews can then have this key.
    fn is_exclusive(&self) -> bool {
        let running =
            || self.pairs.iter().map(|(experiment, ..)| *experiment).filter(|one| one.state == State::Running);
        let mut layers = running().filter_map(|one| one.layer.as_ref()).map(|layer| layer.salt.text());
        let mut seen = HashSet::new();
        !layers.all(|layer| seen.insert(layer))
    }

    fn line(&self) -> String {
        if self.pairs.is_empty() {
            return "(none)  baselines, and visitors in no experiment".to_owned();
        }
        let sorted = self.sorted();
        let parts: Vec<String> =
            sorted.iter().map(|(experiment, _, variant)| format!("{variant} of {}", experiment.key)).collect();
        let forced =
            if self.is_exclusive() { "; they share a layer, so only forced visitors and previews have it" } else { "" };
        format!("{}  {QUIET}{}{forced}{QUIET:#}", printable(&self.key()), printable(&parts.join(" and ")))
    }
}

/// Every combination of pairs that one request can have. The pair of a concluded experiment is in each.
fn combinations<'a>(here: &[&'a Experiment]) -> Vec<Combination<'a>> {
    let mut found = vec![Combination { pairs: Vec::new() }];
    for experiment in here {
        if found.len() > KEYS_COUNTED_MAX {
            break;
        }
        let own = pairs(experiment);
        let is_for_all = matches!(experiment.state, State::Concluded(_)) && !own.is_empty();
        let mut next = Vec::new();
        for combination in found {
            let together = combination.pairs.iter().all(|(other, ..)| other.route.meets(&experiment.route));
            if together {
                let with = own.iter().map(|(pair, variant)| {
                    let added = std::iter::once((*experiment, *pair, *variant));
                    Combination { pairs: combination.pairs.iter().copied().chain(added).collect() }
                });
                next.extend(with.collect::<Vec<_>>());
            }
            if !(is_for_all && together) {
                next.push(combination);
            }
        }
        found = next;
    }
    // The baseline first, then the keys of one variant, and so on.
    found.sort_by_key(|combination| combination.pairs.len());
    found
}

fn number(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{snapshot, with};
    use super::*;

    fn plain(snapshot: &Snapshot, page: &Page<'_>) -> String {
        anstream::adapter::strip_str(&Keys::of(snapshot, page, 64).to_text()).to_string()
    }

    fn keys(snapshot: &Snapshot, path: &str, host: Option<&str>) -> Vec<String> {
        let text = plain(snapshot, &Page { path, host, method: "GET" });
        let (_, keys) = text.split_once("the budget allows 64\n").unwrap();
        keys.lines().map(|line| line.trim_start().split_once("  ").unwrap().0.to_owned()).collect()
    }

    #[test]
    fn keys_of_a_page_are_listed_once() {
        let more = json!({"variants": [
            {"key": "control", "weight": 5000, "baseline": true},
            {"key": "green", "weight": 3000}, {"key": "blue", "weight": 2000}]});
        let mut button = with("button", more);
        button["route"] = json!({"paths": ["/checkout*"]});
        let snapshot = snapshot(json!([
            with("nav", json!({})),
            button,
            with("old", json!({"state": "concluded", "winner": "green", "route": {"paths": ["/old"]}})),
            with("off", json!({"state": "paused"})),
            with("de", json!({"route": {"hosts": ["shop.de"], "paths": ["/land"]}})),
            with("at", json!({"route": {"hosts": ["shop.at"], "paths": ["/land"]}})),
        ]));
        assert_eq!(keys(&snapshot, "/", None), ["(none)", "nav.green"]);
        assert_eq!(
            keys(&snapshot, "/checkout?a=1", None),
            ["(none)", "nav.green", "button.green", "button.blue", "button.green~nav.green", "button.blue~nav.green"]
        );
        assert_eq!(keys(&snapshot, "/old", None), ["old.green", "nav.green~old.green"]);
        // No request is on both hosts.
        assert_eq!(
            keys(&snapshot, "/land", None),
            ["(none)", "nav.green", "de.green", "at.green", "de.green~nav.green", "at.green~nav.green"]
        );
        assert_eq!(
            keys(&snapshot, "/land", Some("Shop.at:443")),
            ["(none)", "nav.green", "at.green", "at.green~nav.green"]
        );
    }

    #[test]
    fn keys_of_a_shared_layer_are_marked() {
        let snapshot = snapshot(json!([
            with("a", json!({"layer": {"name": "l", "slots": [0, 5000]}})),
            with("b", json!({"layer": {"name": "l", "slots": [5000, 10000]}})),
        ]));
        let text = plain(&snapshot, &Page { path: "/", host: None, method: "GET" });
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("share a layer")).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert!(lines[0].contains("a.green~b.green"));
    }
}
