//! `edgesplit diff`: the visitors who would move if one config replaced another.

use crate::config::{Config, Setting, SettingArguments};
use crate::document::Document;
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::{Input, input, write_all};
use crate::output::{self, BAD, GOOD, QUIET, STRONG, grouped, percent};
use crate::population::{self, Population};
use edgesplit_engine::decide::Decision;
use edgesplit_engine::printable::printable;
use edgesplit_engine::snapshot::Snapshot;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The most moves that can be listed.
const LISTED_MAX: usize = 10_000_000;

/// The arguments of `edgesplit diff`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The config in force: JSON or YAML; `-` for standard input; a file or a URL.
    #[arg(value_parser = input)]
    old: Input,
    /// The config that would replace it.
    #[arg(value_parser = input)]
    new: Input,
    #[command(flatten)]
    setting: SettingArguments,
    /// Write the visitors who move to this file: one line of JSON for each visitor and experiment,
    /// {"id", "experiment", "from", "to"}, with null if the visitor is not in it.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    #[command(flatten)]
    population: population::Arguments,
}

/// An experiment of either config, by its key.
struct Pair<'a> {
    key: &'a str,
    old: Option<Side>,
    new: Option<Side>,
}

/// The position of an experiment in a config, and the keys of its variants. Threads cannot share the config itself.
struct Side {
    position: usize,
    variants: Vec<String>,
}

/// The keys of the old and the new variant; none if the visitor is not in the experiment.
type Move<'a> = (Option<&'a str>, Option<&'a str>);

/// The number of visitors for each move. A variant that only changed its position moves no visitor.
type Moves<'a> = BTreeMap<Move<'a>, u64>;

#[derive(Debug, Default)]
struct Tally<'a> {
    /// By the experiment's position among all pairs.
    moves: Vec<Moves<'a>>,
    /// Visitors with another variant of some experiment than before.
    changed: u64,
    /// Number of the visitor, key of the experiment, and move. Only filled for `--list`.
    listed: Vec<(u64, &'a str, Move<'a>)>,
}

impl Side {
    fn of(snapshot: &Snapshot, key: &str) -> Option<Side> {
        let position = snapshot.experiments.iter().position(|one| one.key == key)?;
        let variants = snapshot.experiments.get(position)?.variants.iter().map(|variant| variant.key.clone());
        Some(Side { position, variants: variants.collect() })
    }

    fn variant<'a>(side: Option<&'a Side>, decisions: &[Decision]) -> Option<&'a str> {
        let Side { position, variants } = side?;
        variants.get(decisions.get(*position)?.variant?).map(String::as_str)
    }
}

/// The experiments of both configs, those of the new one first.
fn pairs<'a>(old: &'a Snapshot, new: &'a Snapshot) -> Vec<Pair<'a>> {
    let pair = |key: &'a str| Pair { key, old: Side::of(old, key), new: Side::of(new, key) };
    let ours = new.experiments.iter().map(|one| pair(&one.key));
    let theirs = old.experiments.iter().map(|one| pair(&one.key));
    ours.chain(theirs.filter(|pair| pair.new.is_none())).collect()
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let population = Population::new(&args.population)?;
    let Some(setting) = Setting::read(&args.setting)? else { return Ok(EXIT_PROBLEMS) };
    let (old, new) = (Document::read(&args.old)?, Document::read(&args.new)?);
    let (old, new) = (setting.compile(&old).printed(), setting.compile(&new).printed());
    let (Some(old), Some(new)) = (old, new) else { return Ok(EXIT_PROBLEMS) };
    compare(&population, (&old, &new), args.list.as_deref(), args.population.json)?;
    Ok(EXIT_OK)
}

/// Prints the visitors who would move if the second config replaced the first, and lists them in the file `list`.
pub(crate) fn compare(
    population: &Population,
    (old, new): (&Config, &Config),
    list: Option<&Path>,
    is_json: bool,
) -> Result<(), String> {
    let pairs = pairs(&old.snapshot, &new.snapshot);
    let tallies = population.tally([old, new], |tally: &mut Tally<'_>, number, [before, after]| {
        tally.moves.resize_with(pairs.len(), Moves::new);
        let mut changed = false;
        for (moves, pair) in tally.moves.iter_mut().zip(&pairs) {
            let from = Side::variant(pair.old.as_ref(), before);
            let to = Side::variant(pair.new.as_ref(), after);
            *moves.entry((from, to)).or_insert(0) += 1;
            if from == to {
                continue;
            }
            changed = true;
            if list.is_some() && tally.listed.len() <= LISTED_MAX {
                tally.listed.push((number, pair.key, (from, to)));
            }
        }
        tally.changed += u64::from(changed);
    });

    if let Some(file) = list {
        let listed = || tallies.iter().flat_map(|tally| &tally.listed);
        if listed().nth(LISTED_MAX).is_some() {
            return Err(format!("--list: more than {LISTED_MAX} moves: use fewer --visitors"));
        }
        let mut lines = String::new();
        for (number, key, (from, to)) in listed() {
            let mut id = String::new();
            population::write_id(&mut id, *number);
            let line = json!({"id": id, "experiment": key, "from": from, "to": to});
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{line}");
        }
        write_all(file, lines.as_bytes())?;
    }

    let changed = tallies.iter().map(|tally| tally.changed).sum();
    let mut report = Report { visitors: population.visitors, changed, experiments: Vec::new() };
    for (at, pair) in pairs.iter().enumerate() {
        let mut moves = Moves::new();
        for (names, count) in tallies.iter().filter_map(|tally| tally.moves.get(at)).flatten() {
            *moves.entry(*names).or_insert(0) += count;
        }
        let is_disabled =
            |snapshot: &Snapshot| snapshot.disabled.iter().any(|disabled| disabled.key.as_deref() == Some(pair.key));
        let what = match (&pair.old, &pair.new) {
            (None, _) if is_disabled(&old.snapshot) => Some("enabled"),
            (None, _) => Some("added"),
            (_, None) if is_disabled(&new.snapshot) => Some("disabled"),
            (_, None) => Some("removed"),
            _ => None,
        };
        report.experiments.push((pair.key, what, moves));
    }
    if is_json { output::print_json(&report.to_json()) } else { output::print(&report.to_text()) }
}

struct Report<'a> {
    visitors: u64,
    changed: u64,
    /// Key, change of the experiment itself, and the moves.
    experiments: Vec<(&'a str, Option<&'static str>, Moves<'a>)>,
}

/// The name of a move.
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
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{STRONG}{} visitors{STRONG:#} without sticky cookies; {STRONG}{} would see a change{STRONG:#} ({share})",
            grouped(self.visitors),
            grouped(self.changed)
        );
        for (key, what, moves) in &self.experiments {
            let what = what.map(|what| format!(" ({what})")).unwrap_or_default();
            let is_still = moves.keys().all(|(from, to)| from == to);
            let key = printable(key);
            let _ = writeln!(text, "\n{STRONG}{key}{STRONG:#}{what}{}", if is_still { ": no changes" } else { "" });
            let mut rows: Vec<_> = moves.iter().collect();
            // Changes come first.
            rows.sort_by_key(|((from, to), count)| (from == to, std::cmp::Reverse(**count)));
            for ((from, to), count) in rows {
                let name = |variant: &Option<&str>| printable(variant.unwrap_or("(not in it)")).into_owned();
                let line = match kind(*from, *to) {
                    kind @ "stays" => format!("{QUIET}{kind}   {}{QUIET:#}", name(from)),
                    // Joining is the expected effect of more traffic. Other changes are visible to visitors who had a variant.
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
