//! The command: the same engine for people and for CI.

mod dashboard;
mod diff;
mod evaluate;
mod explain;
mod population;
mod preview;
mod simulate;
mod size;
mod statistics;
mod validate;

use crate::format::{Format, Options};
use crate::plugin_config::{self, PluginConfig, parse_duration_ms};
use clap::{CommandFactory, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// All is well.
pub const WELL: u8 = 0;
/// Problems were found.
pub const PROBLEMS: u8 = 1;
/// Wrong usage, or a file that cannot be read.
pub const USAGE: u8 = 2;

/// A/B tests inside Envoy: check an experiment config and see what it decides.
#[derive(Debug, Parser)]
#[command(
    name = "edgesplit",
    version,
    after_help = "Exit codes: 0 well, 1 problems found, 2 wrong usage or unreadable file."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell every problem of an experiment config, each with its JSON path.
    #[command(
        after_help = "Example:\n  edgesplit validate experiments.json\n  edgesplit validate --plugin plugin.json experiments.json\n  edgesplit validate --format optimizely datafile.json"
    )]
    Validate {
        /// The format of the config; that of the plugin configuration, else native, if not given.
        #[arg(long, value_enum)]
        format: Option<Format>,
        /// A plugin configuration (JSON): it is checked too, and its cache-key budget is the one that counts.
        #[arg(long, value_name = "FILE")]
        plugin: Option<PathBuf>,
        /// Tell it as JSON.
        #[arg(long)]
        json: bool,
        /// The experiment config.
        file: PathBuf,
    },
    /// Decide requests: one JSON request a line on standard input, one JSON result a line on standard output.
    #[command(
        after_help = "Example:\n  echo '{\"id\": \"u1\", \"path\": \"/checkout\"}' | edgesplit evaluate --config experiments.json\n\nA request: {\"id\"?, \"attributes\"?: {}, \"host\"?, \"path\"?, \"method\"?, \"headers\"?: {}, \"cookies\"?: {}}"
    )]
    Evaluate {
        /// The format of the config; that of the plugin configuration, else native, if not given.
        #[arg(long, value_enum)]
        format: Option<Format>,
        /// The experiment config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// A plugin configuration (JSON): where ids and attributes come from, consent, bots, paths.
        #[arg(long, value_name = "FILE")]
        plugin: Option<PathBuf>,
        /// Decide as if it were this time (RFC 3339); now, if not given.
        #[arg(long, value_name = "TIME", value_parser = moment_ms)]
        now: Option<i64>,
    },
    /// Tell a person why: the cache keys that a page can have, or the decisions for one visitor, step by step.
    #[command(
        after_help = "Examples:\n  edgesplit explain --config experiments.json --route /checkout\n  edgesplit explain --config experiments.json --id u1 --path /checkout"
    )]
    Explain(explain::Arguments),
    /// Count how many made-up visitors would get which variant, which would be in two experiments, and what it makes of caches.
    #[command(
        after_help = "Examples:\n  edgesplit simulate --config experiments.json --visitors 1000000\n  edgesplit simulate --config experiments.json --requests requests.jsonl --svg shares.svg"
    )]
    Simulate(simulate::Arguments),
    /// Tell who would move, from where to where, if one config took the place of another.
    #[command(after_help = "Example:\n  edgesplit diff old.json new.json --visitors 1000000")]
    Diff(diff::Arguments),
    /// Serve a web page that shows, live, whether experiments and their delivery are healthy, out of Envoys' own stats.
    #[command(
        after_help = "Example:\n  edgesplit dashboard --envoy http://127.0.0.1:9901 --config experiments.json\n\nIt asks Envoys' admin interfaces once a second and listens on loopback: nothing in the data plane knows of it."
    )]
    Dashboard(dashboard::Arguments),
    /// Make a link that shows chosen variants until it expires. A preview is in no event and in no cache.
    #[command(
        after_help = "The secret is that of request.preview. Without --secret, --secret-file and --plugin it is taken from the variable\nEDGESPLIT_PREVIEW_SECRET.\n\nExamples:\n  edgesplit preview --secret-file secret --expires 2h checkout-button=green\n  edgesplit preview --plugin plugin.json --expires 30m --url https://shop.example/cart checkout-button=green nav=mega"
    )]
    Preview(preview::Arguments),
    /// Write the JSON Schema of a document, with which editors complete and check it.
    #[command(after_help = "Example:\n  edgesplit schema experiments > experiments.schema.json")]
    Schema {
        /// Of which document.
        #[arg(value_enum)]
        of: Document,
    },
    /// Write the script that completes this command in a shell.
    #[command(after_help = "Example:\n  source <(edgesplit completions bash)")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Tell how large an outbox has to be for an outage, and how long a given one lasts.
    #[command(after_help = "Example:\n  edgesplit size --rate 1000/s --outage 10m")]
    Size {
        /// How many events there are, over all workers: 1000/s, 500/m or 20/h.
        #[arg(long, value_name = "RATE", value_parser = size::rate)]
        rate: f64,
        /// How long the A/B service is away: 10m, 1h.
        #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
        outage: u64,
        /// The size of an event in bytes; a typical exposure's, if not given.
        #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
        event_bytes: Option<u64>,
        /// A plugin configuration (JSON) whose limits to judge; the defaults', if not given.
        #[arg(long, value_name = "FILE")]
        plugin: Option<PathBuf>,
        /// Tell it as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// A document that has a schema.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Document {
    /// The plugin configuration.
    Plugin,
    /// The experiments in the native format.
    Experiments,
}

/// Runs the command with the process's arguments.
pub fn run() -> ExitCode {
    let code = match Arguments::parse().command {
        Command::Validate { format, plugin, json, file } => validate::run(format, plugin.as_deref(), &file, json),
        Command::Evaluate { format, config, plugin, now } => evaluate::run(format, &config, plugin.as_deref(), now),
        Command::Explain(asked) => explain::run(&asked),
        Command::Simulate(asked) => simulate::run(&asked),
        Command::Diff(asked) => diff::run(&asked),
        Command::Dashboard(asked) => dashboard::run(&asked),
        Command::Preview(asked) => preview::run(&asked),
        Command::Schema { of } => {
            print!(
                "{}",
                match of {
                    Document::Plugin => include_str!("../../docs/schema/plugin.schema.json"),
                    Document::Experiments => include_str!("../../docs/schema/experiments.schema.json"),
                }
            );
            Ok(WELL)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "edgesplit", &mut std::io::stdout());
            Ok(WELL)
        }
        Command::Size { rate, outage, event_bytes, plugin, json } => {
            let question = size::Question { per_second: rate, outage_ms: outage, event_bytes, json };
            size::run(question, plugin.as_deref())
        }
    };
    ExitCode::from(code.unwrap_or_else(|error| {
        eprintln!("edgesplit: {error}");
        USAGE
    }))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn write_all(file: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(file, bytes).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// What a config is compiled with: as the plugin configuration has it, but in the format that was asked for, if one was.
fn options(format: Option<Format>, plugin: Option<&PluginConfig>) -> Options {
    let default = || Options::new(Format::Native, plugin_config::Request::default().cache_key.budget);
    let options = plugin.map_or_else(default, PluginConfig::compile_options);
    Options { format: format.unwrap_or(options.format), ..options }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn moment_ms(text: &str) -> Result<i64, String> {
    let format = &time::format_description::well_known::Rfc3339;
    let moment = time::OffsetDateTime::parse(text, format)
        .map_err(|_| "expected a time in RFC 3339, such as 2026-12-01T00:00:00Z".to_owned())?;
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).map_err(|error| error.to_string())
}

fn duration_ms(text: &str) -> Result<u64, String> {
    let expected = || "expected a duration such as 90s, 10m or 1h".to_owned();
    parse_duration_ms(text).filter(|ms| *ms > 0).ok_or_else(expected)
}

/// Tells the problems of `file` on standard error. True where one of them is an error.
fn tell(file: &Path, problems: &crate::problem::Problems) -> bool {
    for problem in problems.iter() {
        let kind = match problem.severity {
            crate::problem::Severity::Error => "error",
            crate::problem::Severity::Warning => "warning",
        };
        eprintln!("{}: {kind}: {problem}", file.display());
    }
    problems.errors() > 0
}
