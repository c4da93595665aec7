//! `edgesplit simulate`: how many visitors would get each variant.

mod svg;

use super::explain::key_count;
use super::output::{self, BAD, GOOD, QUIET, STRONG};
use super::population::{self, Config, Population};
use super::statistics::ChiSquaredTest;
use super::{EXIT_OK, EXIT_PROBLEMS, write_all};
use edgesplit_engine::decide::Decision;
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::{Experiment, Snapshot};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// The most experiments whose overlaps are counted.
const PAIRED_MAX: usize = 64;

/// The most overlaps in the text report, the largest first.
const PAIRS_SHOWN_MAX: usize = 20;

/// The arguments of `edgesplit simulate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The experiment config.
    #[arg(long, value_name = "FILE", required_unless_present = "file")]
    config: Option<PathBuf>,
    /// The experiment config, as with `--config`.
    #[arg(conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    population: population::Arguments,
    /// Draw the shares as an SVG into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// The visitors of one experiment, by outcome.
#[derive(Debug, Clone, Default)]
struct Counts {
    /// Visitors in it, by the variant's position.
    variants: Vec<u64>,
    /// The bucketed ones among them, to whom the weights apply.
    bucketed: Vec<u64>,
    /// Visitors who are not in it, by reason.
    out: BTreeMap<Reason, u64>,
}

#[derive(Debug, Default)]
struct Tally {
    experiments: Vec<Counts>,
    /// Visitors in both of two experiments, by the positions of both.
    both: Vec<u64>,
}

fn add(into: &mut Vec<u64>, at: usize, count: u64) {
    if into.len() <= at {
        into.resize(at + 1, 0);
    }
    if let Some(sum) = into.get_mut(at) {
        *sum += count;
    }
}

fn add_all(into: &mut Vec<u64>, from: &[u64]) {
    for (at, count) in from.iter().enumerate() {
        add(into, at, *count);
    }
}

impl Tally {
    fn visitor(&mut self, decisions: &[Decision]) {
        if self.experiments.len() < decisions.len() {
            self.experiments.resize_with(decisions.len(), Counts::default);
        }
        for (counts, decision) in self.experiments.iter_mut().zip(decisions) {
            let Some(variant) = decision.variant else {
                *counts.out.entry(decision.reason).or_default() += 1;
                continue;
            };
            add(&mut counts.variants, variant, 1);
            if decision.reason == Reason::Bucketed {
                add(&mut counts.bucketed, variant, 1);
            }
        }
        let paired = decisions.iter().take(PAIRED_MAX).enumerate();
        let is_in = |(at, decision): (usize, &Decision)| decision.variant.map(|_| at);
        for first in paired.clone().filter_map(is_in) {
            for second in paired.clone().skip(first + 1).filter_map(is_in) {
                add(&mut self.both, first * PAIRED_MAX + second, 1);
            }
        }
    }

    fn merge(mut self, other: &Tally) -> Tally {
        if self.experiments.len() < other.experiments.len() {
            self.experiments.resize_with(other.experiments.len(), Counts::default);
        }
        for (into, from) in self.experiments.iter_mut().zip(&other.experiments) {
            add_all(&mut into.variants, &from.variants);
            add_all(&mut into.bucketed, &from.bucketed);
            for (reason, count) in &from.out {
                *into.out.entry(*reason).or_default() += count;
            }
        }
        add_all(&mut self.both, &other.both);
        self
    }
}

/// A variant's share of an experiment.
struct Share<'a> {
    key: &'a str,
    visitors: u64,
    /// Of all visitors in the experiment, from 0 to 1.
    observed: f64,
    /// The weight, from 0 to 1. None for vendors' formats, whose weights are unknown here.
    configured: Option<f64>,
}

/// The results of one experiment.
struct Row<'a> {
    experiment: &'a Experiment,
    visitors: u64,
    shares: Vec<Share<'a>>,
    /// Visitors who are not in it, by reason.
    out: Vec<(Reason, u64)>,
    test: Option<ChiSquaredTest>,
}

fn row<'a>(snapshot: &Snapshot, experiment: &'a Experiment, counts: &Counts) -> Row<'a> {
    let visitors: u64 = counts.variants.iter().sum();
    let of = |counts: &[u64], at: usize| counts.get(at).copied().unwrap_or(0);
    let mut start = 0;
    let weights: Vec<u32> = (experiment.variants.iter())
        .map(|variant| variant.bucket_end - std::mem::replace(&mut start, variant.bucket_end))
        .collect();
    let is_weighted = snapshot.flag_evaluator.is_none();
    let shares = experiment.variants.iter().zip(&weights).enumerate().map(|(at, (variant, weight))| Share {
        key: &variant.key,
        visitors: of(&counts.variants, at),
        observed: if visitors == 0 { 0.0 } else { of(&counts.variants, at) as f64 / visitors as f64 },
        configured: is_weighted.then(|| f64::from(*weight) / 10_000.0),
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
        weights.iter().enumerate().map(|(at, weight)| (of(&counts.bucketed, at), *weight)).collect();
    let out = counts.out.iter().map(|(reason, count)| (*reason, *count)).collect();
    Row { experiment, visitors, shares: merged, out, test: ChiSquaredTest::new(&bucketed).filter(|_| is_weighted) }
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let Some(population) = Population::new(&args.population)? else { return Ok(EXIT_PROBLEMS) };
    let Some(file) = args.config.as_ref().or(args.file.as_ref()) else {
        return Err("no config: give a file or --config".to_owned());
    };
    let Some(config) = population.config(file)? else { return Ok(EXIT_PROBLEMS) };
    let tallies = population.tally([&config], |tally: &mut Tally, _, [decisions]| tally.visitor(decisions));
    let tally = tallies.iter().fold(Tally::default(), Tally::merge);
    let none = Counts::default();
    let rows: Vec<Row<'_>> = (config.snapshot.experiments.iter().enumerate())
        .map(|(at, experiment)| row(&config.snapshot, experiment, tally.experiments.get(at).unwrap_or(&none)))
        .collect();
    let report =
        Report { visitors: population.visitors, budget: population.budget(), rows, both: &tally.both, config: &config };
    if let Some(file) = &args.svg {
        write_all(file, svg::draw(&report).as_bytes())?;
    }
    if args.population.json {
        output::print_json(&report.to_json())?;
    } else {
        output::print(&report.to_text())?;
    }
    Ok(EXIT_OK)
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

struct Report<'a> {
    visitors: u64,
    budget: u64,
    rows: Vec<Row<'a>>,
    both: &'a [u64],
    config: &'a Config,
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

    fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{STRONG}{} visitors{STRONG:#}, {} experiments", grouped(self.visitors), self.rows.len());
        for row in &self.rows {
            let _ = write!(
                text,
                "\n{STRONG}{}{STRONG:#}: {} in it ({})",
                row.experiment.key,
                grouped(row.visitors),
                percent(row.visitors, self.visitors)
            );
            for (reason, count) in &row.out {
                let _ = write!(text, "{QUIET}, {} {}{QUIET:#}", grouped(*count), reason.name());
            }
            text.push('\n');
            let width = row.shares.iter().map(|share| share.key.chars().count()).max().unwrap_or(0);
            for share in &row.shares {
                let _ = write!(
                    text,
                    "  {:width$}  {:>12}  {:>7.2} %",
                    share.key,
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
            let _ = writeln!(text, "  {first} and {second}: {} ({})", grouped(both), percent(both, self.visitors));
        }
        if more > 0 {
            let _ = writeln!(text, "  {QUIET}… and {more} more pairs; --json lists all{QUIET:#}");
        }
        let _ =
            writeln!(text, "\n{STRONG}cache keys that a request can have{STRONG:#}; the budget allows {}", self.budget);
        for route in self.routes() {
            let style = if route.cache_keys > self.budget { BAD } else { GOOD };
            let (count, keys) = (grouped(route.cache_keys), route.experiments.join(", "));
            let _ = writeln!(text, "  {style}{count:>7}{style:#}  {}  {QUIET}{keys}{QUIET:#}", route.shown());
        }
        text
    }

    fn to_json(&self) -> Value {
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

/// A number with thousands separators.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 })
}
