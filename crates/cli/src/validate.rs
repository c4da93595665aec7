//! `edgesplit validate`: reports every problem of a config.

use crate::args::{format_parser, options};
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::read;
use crate::output::{self, BAD, GOOD, QUIET, print_problems};
use crate::source::Source;
use edgesplit_engine::printable::printable;
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::diagnostics::{Problems, Severity};
use edgesplit_formats::{Compiled, FormatRef};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The arguments of `edgesplit validate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The format of the config. Default: the format in the plugin configuration, else native.
    #[arg(long, value_parser = format_parser())]
    format: Option<FormatRef>,
    /// A plugin configuration (JSON). It is checked too, and its cache-key budget applies.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The experiment config.
    file: PathBuf,
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let mut config = None;
    // An invalid plugin configuration, with its problems.
    let mut refused = None;
    if let Some(file) = &args.plugin {
        let bytes = read(file)?;
        match PluginConfig::parse(&bytes) {
            Ok(read) => config = Some(read),
            Err(problems) => refused = Some((file, bytes, problems)),
        }
    }
    let bytes = read(&args.file)?;
    let compiled = edgesplit_formats::compile_bytes(&bytes, &options(args.format, config.as_ref()));
    let has_errors = refused.is_some() || compiled.problems.errors() > 0;
    let file = args.file.as_path();
    if args.json {
        let of_plugin = refused.iter().flat_map(|(file, bytes, problems)| to_json(file, bytes, problems));
        let snapshot = compiled.snapshot.as_ref();
        output::print_json(&json!({
            "problems": to_json(file, &bytes, &compiled.problems),
            "plugin_problems": of_plugin.collect::<Vec<Value>>(),
            "refused": snapshot.is_none(),
            "experiments": snapshot.map_or(0, |snapshot| snapshot.experiments.len()),
            "disabled": snapshot.map_or(0, |snapshot| snapshot.disabled.len()),
            "goals": snapshot.map_or(0, |snapshot| snapshot.goals.len()),
        }))?;
    } else if output::is_terminal() {
        if let Some((file, bytes, problems)) = &refused {
            output::print(&drawn(file, bytes, problems))?;
        }
        output::print(&drawn(file, &bytes, &compiled.problems))?;
        print_summary(file, &compiled, has_errors);
    } else {
        if let Some((file, _, problems)) = &refused {
            print_problems(file, problems);
        }
        let lines = compiled.problems.iter().map(|problem| {
            let kind = if problem.severity == Severity::Warning { "warning: " } else { "" };
            format!("{kind}{}\n", printable(&problem.to_string()))
        });
        output::print(&lines.collect::<String>())?;
        print_summary(file, &compiled, has_errors);
    }
    Ok(if has_errors { EXIT_PROBLEMS } else { EXIT_OK })
}

/// Prints on standard error how many experiments and goals the filter would use.
fn print_summary(file: &Path, compiled: &Compiled, has_errors: bool) {
    let (file, style) = (file.display(), if has_errors { BAD } else { GOOD });
    match &compiled.snapshot {
        None => {
            anstream::eprintln!("{file}: {style}refused as a whole{style:#}: the last good config would stay in force")
        }
        Some(snapshot) => anstream::eprintln!(
            "{file}: {style}{} in force, {} disabled{style:#}{QUIET}, {}{QUIET:#}",
            output::counted(snapshot.experiments.len() as u64, "experiment", "experiments"),
            snapshot.disabled.len(),
            output::counted(snapshot.goals.len() as u64, "goal", "goals")
        ),
    }
}

/// The problems of `file`, each shown in its text.
fn drawn(file: &Path, bytes: &[u8], problems: &Problems) -> String {
    let source = Source::new(file, bytes);
    problems.iter().map(|problem| format!("{}\n\n", source.draw(problem))).collect()
}

fn to_json(file: &Path, bytes: &[u8], problems: &Problems) -> Vec<Value> {
    let source = Source::new(file, bytes);
    problems.iter().map(|problem| source.to_json(problem)).collect()
}
