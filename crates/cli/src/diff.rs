//! `edgesplit diff`: who would move, from where to where, if one config took the place of another.

use super::output::{self, BAD, GOOD, QUIET, STRONG};
use super::population::{self, Population};
use super::simulate::{grouped, percent};
use super::{PROBLEMS, WELL, write_all};
use edgesplit_engine::decide::Decision;
use edgesplit_engine::snapshot::Snapshot;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// How many moves can be listed.
const LISTED_MAX: usize = 10_000_000;

/// What is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The config in force.
    old: PathBuf,
    /// The config that would take its place.
    new: PathBuf,
    /// Write into this file who moves: a line of JSON for each visitor and experiment,
    /// {"id", "experiment", "from", "to"}, null where the visitor is not in it.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    #[command(flatten)]
    population: population::Arguments,
}

/// An experiment of either config, by its key, with its position in each.
struct Pair<'a> {
    key: &'a str,
    old: Option<usize>,
    new: Option<usize>,
}

/// From which variant to which, by their positions; none is who is not in the experiment.
type Move = (Option<usize>, Option<usize>);

#[derive(Debug, Default)]
struct Tally {
    /// By the experiment's position among all pairs.
    moves: Vec<BTreeMap<Move, u64>>,
    /// Visitors with another variant of some experiment than before.
    changed: u64,
    /// Their numbers, each with the position of the pair and the move; only where somebody asks for the list.
    listed: Vec<(u64, usize, Move)>,
}

/// The experiments of both, those of the new config first.
fn pairs<'a>(old: &'a Snapshot, new: &'a Snapshot) -> Vec<Pair<'a>> {
    let at = |snapshot: &Snapshot, key: &str| snapshot.experiments.iter().position(|one| one.key == key);
    let ours = new.experiments.iter().enumerate();
    let ours = ours.map(|(number, one)| Pair { key: &one.key, old: at(old, &one.key), new: Some(number) });
    let gone = old.experiments.iter().enumerate().filter(|(_, one)| at(new, &one.key).is_none());
    ours.chain(gone.map(|(number, one)| Pair { key: &one.key, old: Some(number), new: None })).collect()
}

fn variant(snapshot: &Snapshot, experiment: Option<usize>, variant: Option<usize>) -> Option<&str> {
    Some(snapshot.experiments.get(experiment?)?.variants.get(variant?)?.key.as_str())
}

pub(super) fn run(asked: &Arguments) -> Result<u8, String> {
    let Some(population) = Population::new(&asked.population)? else { return Ok(PROBLEMS) };
    let (Some(old), Some(new)) = (population.config(&asked.old)?, population.config(&asked.new)?) else {
        return Ok(PROBLEMS);
    };
    let pairs = pairs(&old.snapshot, &new.snapshot);
    // What is asked for every visitor may not hang on a snapshot, which belongs to one thread.
    let places: Vec<(Option<usize>, Option<usize>)> = pairs.iter().map(|pair| (pair.old, pair.new)).collect();
    let keys = |snapshot: &Snapshot| -> Vec<Vec<String>> {
        let variants =
            |one: &edgesplit_engine::snapshot::Experiment| one.variants.iter().map(|one| one.key.clone()).collect();
        snapshot.experiments.iter().map(variants).collect()
    };
    let (old_keys, new_keys) = (keys(&old.snapshot), keys(&new.snapshot));
    let same = |(old, new): (Option<usize>, Option<usize>), (from, to): Move| {
        let from = from.and_then(|from| old_keys.get(old?)?.get(from));
        from == to.and_then(|to| new_keys.get(new?)?.get(to))
    };
    let variant_of = |decisions: &[Decision], at: Option<usize>| decisions.get(at?)?.variant;
    let tallies = population.tally([&old, &new], |tally: &mut Tally, number, [before, after]| {
        if tally.moves.len() < places.len() {
            tally.moves.resize_with(places.len(), BTreeMap::new);
        }
        let mut changed = false;
        for (at, (moves, place)) in tally.moves.iter_mut().zip(&places).enumerate() {
            let found = (variant_of(before, place.0), variant_of(after, place.1));
            *moves.entry(found).or_insert(0) += 1;
            if same(*place, found) {
                continue;
            }
            changed = true;
            if asked.list.is_some() && tally.listed.len() <= LISTED_MAX {
                tally.listed.push((number, at, found));
            }
        }
        tally.changed += u64::from(changed);
    });

    if let Some(file) = &asked.list {
        let listed = || tallies.iter().flat_map(|tally| &tally.listed);
        if listed().nth(LISTED_MAX).is_some() {
            return Err(format!("--list: more than {LISTED_MAX} moves: ask about fewer visitors"));
        }
        let mut lines = String::new();
        for (number, at, (from, to)) in listed() {
            let Some(pair) = pairs.get(*at) else { continue };
            let mut id = String::new();
            population::write_id(&mut id, *number);
            let (from, to) = (variant(&old.snapshot, pair.old, *from), variant(&new.snapshot, pair.new, *to));
            let line = json!({"id": id, "experiment": pair.key, "from": from, "to": to});
            // As below.
            let _ = writeln!(lines, "{line}");
        }
        write_all(file, lines.as_bytes())?;
    }

    let mut report = Report { visitors: population.visitors, changed: 0, experiments: Vec::new() };
    report.changed = tallies.iter().map(|tally| tally.changed).sum();
    for (at, pair) in pairs.iter().enumerate() {
        // By names: what only changed its place has not moved anybody.
        let mut moves: BTreeMap<(Option<&str>, Option<&str>), u64> = BTreeMap::new();
        for ((from, to), count) in tallies.iter().filter_map(|tally| tally.moves.get(at)).flatten() {
            let names = (variant(&old.snapshot, pair.old, *from), variant(&new.snapshot, pair.new, *to));
            *moves.entry(names).or_insert(0) += count;
        }
        let is_disabled =
            |snapshot: &Snapshot| snapshot.disabled.iter().any(|disabled| disabled.key.as_deref() == Some(pair.key));
        let what = match (pair.old, pair.new) {
            (None, _) if is_disabled(&old.snapshot) => Some("enabled"),
            (None, _) => Some("added"),
            (_, None) if is_disabled(&new.snapshot) => Some("disabled"),
            (_, None) => Some("removed"),
            _ => None,
        };
        report.experiments.push((pair.key, what, moves));
    }
    if asked.population.json {
        output::print_json(&report.to_json())?;
    } else {
        output::print(&report.to_text())?;
    }
    Ok(WELL)
}

/// From which variant to which, and how many.
type Moves<'a> = BTreeMap<(Option<&'a str>, Option<&'a str>), u64>;

struct Report<'a> {
    visitors: u64,
    changed: u64,
    /// Key, what happened to the experiment itself, and the moves.
    experiments: Vec<(&'a str, Option<&'static str>, Moves<'a>)>,
}

/// What a move is called.
fn kind(from: Option<&str>, to: Option<&str>) -> &'static str {
    match (from, to) {
        (None, Some(_)) => "joins",
        (Some(_), None) => "leaves",
        (from, to) if from == to => "stays",
        _ => "moves",
    }
}

impl Report<'_> {
    fn to_text(&self) -> String {
        let mut text = String::new();
        let share = percent(self.changed, self.visitors);
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            text,
            "{STRONG}{} visitors{STRONG:#} without sticky cookies; {STRONG}{} would see something else{STRONG:#} ({share})",
            grouped(self.visitors),
            grouped(self.changed)
        );
        for (key, what, moves) in &self.experiments {
            let what = what.map(|what| format!(" ({what})")).unwrap_or_default();
            let is_still = moves.keys().all(|(from, to)| from == to);
            let _ = writeln!(text, "\n{STRONG}{key}{STRONG:#}{what}{}", if is_still { ": nobody moves" } else { "" });
            let mut rows: Vec<_> = moves.iter().collect();
            // What changes first.
            rows.sort_by_key(|((from, to), count)| (from == to, std::cmp::Reverse(**count)));
            for ((from, to), count) in rows {
                let name = |variant: &Option<&str>| variant.unwrap_or("(not in it)").to_owned();
                let line = match kind(*from, *to) {
                    kind @ "stays" => format!("{QUIET}{kind}   {}{QUIET:#}", name(from)),
                    // More traffic lets visitors join; whoever had a variant and has another one sees it.
                    kind @ "joins" => format!("{GOOD}{kind}{GOOD:#}   {} -> {}", name(from), name(to)),
                    kind => {
                        format!("{BAD}{kind}{BAD:#}{:gap$}{} -> {}", "", name(from), name(to), gap = 8 - kind.len())
                    }
                };
                let _ = writeln!(text, "  {:>12}  {:>8}  {line}", grouped(*count), percent(*count, self.visitors));
            }
        }
        text
    }

    fn to_json(&self) -> Value {
        let experiments: Vec<Value> = (self.experiments.iter())
            .map(|(key, what, moves)| {
                let moves: Vec<Value> = (moves.iter())
                    .map(|((from, to), count)| json!({"from": from, "to": to, "kind": kind(*from, *to), "visitors": count}))
                    .collect();
                json!({"key": key, "experiment": what.unwrap_or("kept"), "moves": moves})
            })
            .collect();
        json!({"visitors": self.visitors, "changed": self.changed, "experiments": experiments})
    }
}
