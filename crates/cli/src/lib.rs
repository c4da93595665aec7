//! The command: the same engine for people and for CI.

mod dashboard;
mod diff;
mod evaluate;
mod explain;
mod output;
mod population;
mod preview;
mod schema;
mod simulate;
mod size;
mod source;
mod statistics;
mod validate;

use clap::builder::styling::Styles;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use edgesplit_filter::plugin_config::{self, PluginConfig, parse_duration_ms};
use edgesplit_formats::diagnostics::{Problems, Severity};
use edgesplit_formats::{FormatRef, Options};
use output::{BAD, STRONG};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// All is well.
pub const WELL: u8 = 0;
/// Problems were found.
pub const PROBLEMS: u8 = 1;
/// Wrong usage, or a file that cannot be read.
pub const USAGE: u8 = 2;

/// The largest file that is read. Proxies take configs of a few megabytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What the codes mean: at the end of every help.
const EXIT_CODES: &str = "Exit codes: 0 well, 1 problems found, 2 wrong usage or unreadable file.";

/// A/B tests inside Envoy: check experiments, see what they decide and why, and whether all is well.
#[derive(Debug, Parser)]
#[command(
    name = "edgesplit",
    version,
    styles = Styles::styled(),
    after_help = "Examples:\n  edgesplit validate experiments.json\n  edgesplit explain --config experiments.json --id u1 --path /checkout\n  edgesplit dashboard --envoy http://127.0.0.1:9901 --config experiments.json\n\n`edgesplit help COMMAND` says what a command takes, with examples."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell every problem of an experiment config, each with its JSON path.
    #[command(
        after_help = "Examples:\n  edgesplit validate experiments.json\n  edgesplit validate --plugin plugin.json experiments.json\n  edgesplit validate --format optimizely datafile.json\n  edgesplit validate --json experiments.json | jq '.problems[].path'\n\nOn a terminal each problem is drawn on the text that it is about; elsewhere it is one line, PATH: MESSAGE."
    )]
    Validate(validate::Arguments),
    /// Decide requests: one JSON request a line on standard input, one JSON result a line on standard output.
    #[command(
        after_help = "Example:\n  echo '{\"id\": \"u1\", \"path\": \"/checkout\"}' | edgesplit evaluate --config experiments.json\n\nA request: {\"id\"?, \"attributes\"?: {}, \"host\"?, \"path\"?, \"method\"?, \"headers\"?: {}, \"cookies\"?: {}}"
    )]
    Evaluate {
        /// The format of the config; that of the plugin configuration, else native, if not given.
        #[arg(long, value_parser = crate::format_parser())]
        format: Option<FormatRef>,
        /// The experiment config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// A plugin configuration (JSON): where ids and attributes come from, consent, bots, paths.
        #[arg(long, value_name = "FILE")]
        plugin: Option<PathBuf>,
        /// Decide as if it were this time (RFC 3339); now, if not given.
        #[arg(long, value_name = "TIME", value_parser = moment_ms)]
        now: Option<i64>,
        /// It always does.
        #[arg(long, hide = true)]
        json: bool,
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
    #[command(
        after_help = "Examples:\n  edgesplit diff old.json new.json --visitors 1000000\n  edgesplit diff old.json new.json --json | jq .changed\n  edgesplit diff old.json new.json --list movers.jsonl"
    )]
    Diff(diff::Arguments),
    /// Serve a web page that shows, live, whether experiments and their delivery are healthy, out of Envoys' own stats.
    #[command(
        after_help = "Examples:\n  edgesplit dashboard --envoy http://127.0.0.1:9901 --config experiments.json\n  edgesplit dashboard --envoy http://10.0.0.1:9901 --envoy http://10.0.0.2:9901 --config https://config.example/experiments.json\n  edgesplit dashboard --json --envoy http://127.0.0.1:9901 --config experiments.json | jq .attention\n\nIt asks Envoys' admin interfaces once a second and listens on loopback, where nobody needs a password: nothing in the data plane knows of it, and it needs no Prometheus."
    )]
    Dashboard(dashboard::Arguments),
    /// Make a link that shows chosen variants until it expires. A preview is in no event and in no cache.
    #[command(
        after_help = "The secret is that of request.preview. Without --secret, --secret-file and --plugin it is taken from the variable\nEDGESPLIT_PREVIEW_SECRET.\n\nExamples:\n  edgesplit preview --secret-file secret --expires 2h checkout-button=green\n  edgesplit preview --plugin plugin.json --expires 30m --url https://shop.example/cart checkout-button=green nav=mega"
    )]
    Preview(preview::Arguments),
    /// Tell how large an outbox has to be for an outage, and how long a given one lasts.
    #[command(
        after_help = "Examples:\n  edgesplit size --rate 1000/s --outage 10m\n  edgesplit size --rate 20000/m --outage 1h --plugin plugin.json"
    )]
    Size(size::Arguments),
    /// Write the JSON Schema of a document, with which editors complete and check it.
    #[command(
        after_help = "Examples:\n  edgesplit schema experiments > experiments.schema.json\n  edgesplit schema plugin > plugin.schema.json"
    )]
    Schema {
        /// Of which document.
        #[arg(value_enum)]
        of: schema::Document,
        /// Write its fields as a table in Markdown instead, for people.
        #[arg(long)]
        markdown: bool,
    },
    /// Write the script that completes this command in a shell.
    #[command(
        after_help = "Examples:\n  source <(edgesplit completions bash)\n  edgesplit completions fish > ~/.config/fish/completions/edgesplit.fish"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// The command with its subcommands, each of which says the exit codes.
fn command() -> clap::Command {
    let with_codes = |command: clap::Command| {
        let help = command.get_after_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
        command.after_help(format!("{help}{EXIT_CODES}"))
    };
    with_codes(Arguments::command().mut_subcommands(with_codes))
}

/// Runs the command with the process's arguments.
pub fn run() -> ExitCode {
    let asked = Arguments::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let code = match asked.command {
        Command::Validate(asked) => validate::run(&asked),
        Command::Evaluate { format, config, plugin, now, json: _ } => {
            evaluate::run(format, &config, plugin.as_deref(), now)
        }
        Command::Explain(asked) => explain::run(&asked),
        Command::Simulate(asked) => simulate::run(&asked),
        Command::Diff(asked) => diff::run(&asked),
        Command::Dashboard(asked) => dashboard::run(&asked),
        Command::Preview(asked) => preview::run(&asked),
        Command::Size(asked) => size::run(&asked),
        Command::Schema { of, markdown: false } => output::print_json(&of.schema()).map(|()| WELL),
        Command::Schema { of, markdown: true } => output::print(&of.table()).map(|()| WELL),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "edgesplit", &mut script);
            output::print(&String::from_utf8_lossy(&script)).map(|()| WELL)
        }
    };
    ExitCode::from(code.unwrap_or_else(|error| {
        anstream::eprintln!("{BAD}edgesplit{BAD:#}: {error}");
        USAGE
    }))
}

/// Reads the name of a format.
fn format_parser() -> impl TypedValueParser<Value = FormatRef> {
    PossibleValuesParser::new(edgesplit_formats::formats().map(|format| format.name()))
        .try_map(|name| edgesplit_formats::find(&name).ok_or("no such format"))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // One byte more tells a file of this size from a larger one.
    let opened = std::fs::File::open(file);
    match opened.and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)) {
        Ok(read) if read as u64 > FILE_BYTES_MAX => {
            Err(format!("cannot read {}: it has more than {} MiB", file.display(), FILE_BYTES_MAX >> 20))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("cannot read {}: {error}", file.display())),
    }
}

fn write_all(file: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(file, bytes).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// What a config is compiled with: as the plugin configuration has it, but in the format that was asked for, if one was.
fn options(format: Option<FormatRef>, plugin: Option<&PluginConfig>) -> Options {
    let default = || Options::new(edgesplit_formats::NATIVE, plugin_config::Request::default().cache_key.budget);
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
fn tell(file: &Path, problems: &Problems) -> bool {
    for problem in problems.iter() {
        let style = if problem.severity == Severity::Error { BAD } else { STRONG };
        anstream::eprintln!("{}: {style}{}{style:#}: {problem}", file.display(), problem.severity.name());
    }
    problems.errors() > 0
}
