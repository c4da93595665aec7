//! `edgesplit pause`, `resume`, `conclude` and `traffic`: change one experiment of a file in place.

mod change;

use crate::config::{Compilation, Setting, SettingArguments};
use crate::diff;
use crate::document::{BYTE_ORDER_MARK, Document};
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::{Input, input, replace};
use crate::output::{STRONG, print_problems};
use crate::population::{self, Population};
use change::Member;
use edgesplit_formats::NATIVE;
use edgesplit_formats::diagnostics::nearest;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};

/// The arguments of commands that change an experiment.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The key of the experiment.
    key: String,
    #[command(flatten)]
    file: FileArguments,
}

/// The file to change.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct FileArguments {
    /// The experiment config: JSON or YAML. Comments and layout stay as they are.
    #[arg(long, value_name = "FILE", value_parser = input, required_unless_present = "file")]
    config: Option<Input>,
    /// The experiment config, as with `--config`.
    #[arg(value_name = "FILE", conflicts_with = "config", value_parser = input)]
    file: Option<Input>,
    /// Write without asking.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    setting: SettingArguments,
    #[command(flatten)]
    population: population::Arguments,
}

/// The arguments of `edgesplit conclude`.
#[derive(Debug, clap::Args)]
pub(super) struct ConcludeArguments {
    /// The key of the experiment.
    key: String,
    /// The key of the variant that every visitor gets.
    #[arg(long, value_name = "VARIANT")]
    winner: String,
    #[command(flatten)]
    file: FileArguments,
}

/// The arguments of `edgesplit traffic`.
#[derive(Debug, clap::Args)]
pub(super) struct TrafficArguments {
    /// The key of the experiment.
    key: String,
    /// The share of visitors that takes part, such as 25% or 0.5%.
    #[arg(value_parser = share)]
    share: u32,
    #[command(flatten)]
    file: FileArguments,
}

pub(super) fn pause(args: &Arguments) -> Result<u8, String> {
    change(&args.key, &[Member { name: "state", value: json!("paused") }], &args.file)
}

pub(super) fn resume(args: &Arguments) -> Result<u8, String> {
    change(&args.key, &[Member { name: "state", value: json!("running") }], &args.file)
}

pub(super) fn conclude(args: &ConcludeArguments) -> Result<u8, String> {
    let members =
        [Member { name: "state", value: json!("concluded") }, Member { name: "winner", value: json!(args.winner) }];
    change(&args.key, &members, &args.file)
}

pub(super) fn traffic(args: &TrafficArguments) -> Result<u8, String> {
    change(&args.key, &[Member { name: "traffic", value: json!(args.share) }], &args.file)
}

/// Parses a percentage, in 1/10,000.
fn share(text: &str) -> Result<u32, String> {
    let expected = || "expected a percentage from 0% to 100%, such as 25% or 0.5%".to_owned();
    let percent: f64 = text.strip_suffix('%').and_then(|percent| percent.trim().parse().ok()).ok_or_else(expected)?;
    let share = percent * 100.0;
    if !(0.0..=10_000.0).contains(&share) {
        return Err(expected());
    }
    if (share - share.round()).abs() > 1e-6 {
        return Err("shares are in steps of 0.01%".to_owned());
    }
    Ok(share.round() as u32)
}

/// Sets the members of the experiment `key`, after it shows the visitors who would move.
fn change(key: &str, members: &[Member], args: &FileArguments) -> Result<u8, String> {
    let Some(Input::File(file)) = args.config.as_ref().or(args.file.as_ref()) else {
        return Err("expected a file: standard input and URLs cannot be changed".to_owned());
    };
    let population = Population::new(&args.population)?;
    let Some(setting) = Setting::read(&args.setting)? else { return Ok(EXIT_PROBLEMS) };
    let old = Document::read(&Input::File(file.clone()))?;
    let compiled = setting.compile(&old);
    let name = old.name.clone();
    let Some(old_config) = compiled.config else {
        print_problems(&name, &compiled.problems);
        return Ok(EXIT_PROBLEMS);
    };
    if old_config.options.format != NATIVE {
        return Err(format!(
            "{name} has the format {}: change its experiments where they come from",
            old_config.options.format.name()
        ));
    }
    let Some(position) = position(&old.value, key) else {
        anstream::eprintln!("{name}: {}", unknown_key(&old.value, key));
        return Ok(EXIT_PROBLEMS);
    };
    let new = change::apply(&old, position, members)?;
    if new.text == old.text {
        anstream::eprintln!("{name}: {key} already has these values; nothing to change");
        return Ok(EXIT_OK);
    }
    let Compilation { problems, config, .. } = setting.compile(&new);
    let added = problems.iter().filter(|problem| compiled.problems.iter().all(|old| old != *problem)).cloned();
    if print_problems(&name, &added.collect()) {
        return Ok(EXIT_PROBLEMS);
    }
    let Some(new_config) = config else { return Ok(EXIT_PROBLEMS) };
    diff::compare(&population, (&old_config, &new_config), None, args.population.json)?;
    if !args.yes && !is_confirmed(&name)? {
        anstream::eprintln!("nothing written");
        return Ok(EXIT_OK);
    }
    let mark = if old.has_byte_order_mark { BYTE_ORDER_MARK } else { "" };
    replace(file, format!("{mark}{}", new.text).as_bytes())?;
    anstream::eprintln!("{STRONG}wrote{STRONG:#} {name}");
    Ok(EXIT_OK)
}

fn keys(config: &Value) -> Vec<&str> {
    let experiments = config.get("experiments").and_then(Value::as_array).into_iter().flatten();
    experiments.map(|experiment| experiment.get("key").and_then(Value::as_str).unwrap_or_default()).collect()
}

fn position(config: &Value, key: &str) -> Option<usize> {
    keys(config).iter().position(|one| *one == key)
}

fn unknown_key(config: &Value, key: &str) -> String {
    let keys = keys(config);
    let hint = nearest(key, &keys).map_or(";".to_owned(), |near| format!(", did you mean {near:?}?"));
    format!("no experiment {key:?}{hint} found here: {}", keys.join(", "))
}

/// Asks whether to write `name`.
fn is_confirmed(name: &str) -> Result<bool, String> {
    if !std::io::stdin().is_terminal() {
        return Err(format!(
            "{name} is not written: standard input is not a terminal, so it cannot be confirmed; add --yes"
        ));
    }
    let cannot = |error| format!("cannot ask: {error}");
    eprint!("Write {name}? [y/N] ");
    std::io::stderr().flush().map_err(cannot)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(cannot)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
