//! The report of a simulation, as text and as JSON.

use super::tally::{Counts, PAIRED_MAX};
use crate::config::Config;
use crate::explain::key_count;
use crate::output::{BAD, GOOD, QUIET, STRONG, grouped, percent};
use crate::statistics::ChiSquaredTest;
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::printable::printable;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::{Experiment, Snapshot};
use serde_json::{Value, json};
use std::fmt::Write;

/// The most overlaps in the text report, the largest first.
const PAIRS_SHOWN_MAX: usize = 20;

/// A variant's share of an experiment.
pub(super) struct Share<'a> {
    pub(super) key: &'a str,
    pub(super) visitors: u64,
    /// Of all visitors in the experiment, from 0 to 1.
    pub(super) observed: f64,
    /// The weight, from 0 to 1. None for vendors' formats, whose weights are unknown here.
    pub(super) configured: Option<f64>,
}

/// The results of one experiment.
pub(super) struct Row<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) visitors: u64,
    pub(super) shares: Vec<Share<'a>>,
    /// Visitors who are not in it, by reason.
    pub(super) out: Vec<(Reason, u64)>,
    pub(super) test: Option<ChiSquaredTest>,
}

impl<'a> Row<'a> {
    /// The results of `experiment` from its counts.
    pub(super) fn new(snapshot: &Snapshot, experiment: &'a Experiment, counts: &Counts) -> Row<'a> {
        let visitors: u64 = counts.variants.iter().sum();
        let of = |counts: &[u64], at: usize| counts.get(at).copied().unwrap_or(0);
        let is_weighted = snapshot.flag_evaluator.is_none();
        let shares = experiment.variants.iter().enumerate().map(|(at, variant)| Share {
            key: &variant.key,
            visitors: of(&counts.variants, at),
            observed: if visitors == 0 { 0.0 } else { of(&counts.variants, at) as f64 / visitors as f64 },
            configured: is_weighted.then(|| f64::from(experiment.weight(at)) / 10_000.0),
        });
        // Several outcomes of a vendor's flag may be one variant.
        let mut merged: Vec<Share<'a>> = Vec::new();
        for share in shares {
            match merged.iter_mut().find(|other| other.key == share.key) {
                Some(other) => {
                    other.visitors += share.visitors;
                    other.observed += share.observed;
                }
                None => merged.push(share),
            }
        }
        merged.retain(|share| is_weighted || share.visitors > 0);
        let bucketed: Vec<(u64, u32)> =
            (0..experiment.variants.len()).map(|at| (of(&counts.bucketed, at), experiment.weight(at))).collect();
        let out = counts.out.iter().map(|(reason, count)| (*reason, *count)).collect();
        Row { experiment, visitors, shares: merged, out, test: ChiSquaredTest::new(&bucketed).filter(|_| is_weighted) }
    }
}

/// A route, with the number of cache keys that its requests can have.
struct RouteKeys<'a> {
    route: &'a Route,
    /// The experiments that such requests can meet, by their keys.
    experiments: Vec<&'a str>,
    cache_keys: u64,
}

fn texts(patterns: &[Pattern]) -> Vec<String> {
    patterns.iter().map(Pattern::text).collect()
}

impl RouteKeys<'_> {
    /// The route as text: methods and hosts, if it names any, and paths.
    fn shown(&self) -> String {
        let Route { hosts, paths, methods } = self.route;
        let paths = if paths.is_empty() { vec!["*".to_owned()] } else { texts(paths) };
        let parts = [methods.clone(), texts(hosts), paths];
        let shown: Vec<String> = parts.iter().filter(|part| !part.is_empty()).map(|part| part.join(",")).collect();
        shown.join(" ")
    }
}

/// The results of a simulation.
pub(super) struct Report<'a> {
    pub(super) visitors: u64,
    pub(super) budget: u64,
    pub(super) rows: Vec<Row<'a>>,
    pub(super) both: &'a [u64],
    pub(super) config: &'a Config,
}

impl Report<'_> {
    /// Pairs of experiments that share visitors: both keys, and the number of visitors.
    fn overlaps(&self) -> Vec<(&str, &str, u64)> {
        let rows = || self.rows.iter().take(PAIRED_MAX).enumerate();
        let pairs = rows().flat_map(|(a, first)| rows().skip(a + 1).map(move |(b, second)| (a, first, b, second)));
        pairs
            .filter_map(|(a, first, b, second)| {
                let both = self.both.get(a * PAIRED_MAX + b).copied().filter(|both| *both > 0)?;
                Some((first.experiment.key.as_str(), second.experiment.key.as_str(), both))
            })
            .collect()
    }

    /// The routes of the experiments, each with the experiments that its requests can match.
    fn routes(&self) -> Vec<RouteKeys<'_>> {
        let experiments = &self.config.snapshot.experiments;
        let mut routes: Vec<RouteKeys<'_>> = Vec::new();
        for one in experiments {
            if routes.iter().any(|known| *known.route == one.route) {
                continue;
            }
            let here: Vec<&Experiment> = experiments.iter().filter(|other| other.route.meets(&one.route)).collect();
            let keys = here.iter().map(|experiment| experiment.key.as_str()).collect();
            routes.push(RouteKeys { route: &one.route, experiments: keys, cache_keys: key_count(&here) as u64 });
        }
        routes
    }

    /// The report for people.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{STRONG}{} visitors{STRONG:#}, {} experiments", grouped(self.visitors), self.rows.len());
        for row in &self.rows {
            let _ = write!(
                text,
                "\n{STRONG}{}{STRONG:#}: {} in it ({})",
                printable(&row.experiment.key),
                grouped(row.visitors),
                percent(row.visitors, self.visitors)
            );
            for (reason, count) in &row.out {
                let _ = write!(text, "{QUIET}, {} {}{QUIET:#}", grouped(*count), reason.name());
            }
            text.push('\n');
            let width = row.shares.iter().map(|share| printable(share.key).chars().count()).max().unwrap_or(0);
            for share in &row.shares {
                let _ = write!(
                    text,
                    "  {:width$}  {:>12}  {:>7.2} %",
                    printable(share.key),
                    grouped(share.visitors),
                    100.0 * share.observed
                );
                if let Some(configured) = share.configured {
                    let _ = write!(text, "{QUIET}  of {:.2} %{QUIET:#}", 100.0 * configured);
                }
                text.push('\n');
            }
            if let Some(test) = &row.test {
                let style = if test.is_plausible() { GOOD } else { BAD };
                let _ = writeln!(text, "  {style}{}{style:#}", test.explanation());
            }
        }
        let mut overlaps = self.overlaps();
        overlaps.sort_by_key(|(.., both)| std::cmp::Reverse(*both));
        if !overlaps.is_empty() {
            let _ = writeln!(text, "\n{STRONG}in two experiments at once{STRONG:#}");
        }
        let more = overlaps.len().saturating_sub(PAIRS_SHOWN_MAX);
        for (first, second, both) in overlaps.into_iter().take(PAIRS_SHOWN_MAX) {
            let (first, second) = (printable(first), printable(second));
            let _ = writeln!(text, "  {first} and {second}: {} ({})", grouped(both), percent(both, self.visitors));
        }
        if more > 0 {
            let _ = writeln!(text, "  {QUIET}… and {more} more pairs; --json lists all{QUIET:#}");
        }
        let _ =
            writeln!(text, "\n{STRONG}cache keys that a request can have{STRONG:#}; the budget allows {}", self.budget);
        for route in self.routes() {
            let style = if route.cache_keys > self.budget { BAD } else { GOOD };
            let (count, keys) = (grouped(route.cache_keys), printable(&route.experiments.join(", ")).into_owned());
            let _ =
                writeln!(text, "  {style}{count:>7}{style:#}  {}  {QUIET}{keys}{QUIET:#}", printable(&route.shown()));
        }
        text
    }

    /// The report for programs.
    pub(super) fn to_json(&self) -> Value {
        let experiments: Vec<Value> = (self.rows.iter())
            .map(|row| {
                let variants: Vec<Value> = (row.shares.iter())
                    .map(|share| json!({"key": share.key, "visitors": share.visitors, "share": share.observed, "configured": share.configured}))
                    .collect();
                let out: serde_json::Map<String, Value> =
                    row.out.iter().map(|(reason, count)| (reason.name().to_owned(), json!(count))).collect();
                json!({"key": row.experiment.key, "visitors": row.visitors, "variants": variants, "out": out,
                       "chi_squared": row.test.map(ChiSquaredTest::to_json)})
            })
            .collect();
        let overlaps: Vec<Value> = (self.overlaps().into_iter())
            .map(|(first, second, both)| json!({"experiments": [first, second], "visitors": both}))
            .collect();
        let cache_keys: Vec<Value> = (self.routes().into_iter())
            .map(|route| {
                let Route { hosts, paths, methods } = route.route;
                json!({"route": {"hosts": texts(hosts), "paths": texts(paths), "methods": methods},
                       "experiments": route.experiments, "cache_keys": route.cache_keys, "budget": self.budget})
            })
            .collect();
        json!({"visitors": self.visitors, "experiments": experiments, "overlap": overlaps, "cache_keys": cache_keys})
    }
}
