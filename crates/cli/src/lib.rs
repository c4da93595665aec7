//! The `edgesplit` command: checks, explains and simulates experiments with the same engine as the filter.

mod admin;
mod args;
mod config;
mod counts;
mod dashboard;
mod demo;
mod diff;
mod document;
mod drawing;
mod edit;
mod envoy_config;
mod evaluate;
mod exit;
mod explain;
mod files;
mod finding;
mod http_url;
mod init;
mod lint;
pub mod local;
mod module;
mod output;
mod plugin;
mod population;
mod position;
mod preview;
mod run;
mod schema;
mod screen;
mod signals;
mod simulate;
mod size;
mod statistics;
mod validate;

use clap::builder::styling::Styles;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use edgesplit_engine::printable::printable;
use exit::{EXIT_OK, EXIT_USAGE};
use output::BAD;
use std::process::ExitCode;

/// The last line of every help text.
const EXIT_CODES: &str = "Exit codes: 0 success, 1 problems found, 2 incorrect usage or unreadable file.";

/// A/B tests inside Envoy: check experiments, explain their decisions, and monitor their health.
#[derive(Debug, Parser)]
#[command(
    name = "edgesplit",
    version,
    styles = Styles::styled(),
    after_help = "Examples:\n  edgesplit validate experiments.json\n  edgesplit explain --config experiments.json --id u1 --path /checkout\n  edgesplit dashboard --envoy http://127.0.0.1:9901 --config experiments.json\n\n`edgesplit help COMMAND` describes the options of a command, with examples."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report every problem of an experiment config with its JSON path.
    #[command(
        after_help = "Examples:\n  edgesplit validate experiments.json\n  edgesplit validate --strict --plugin envoy.yaml experiments.yaml\n  edgesplit validate envoy.yaml datafile.json\n  edgesplit validate --json experiments.json | jq '.problems[].path'\n\nOn a terminal, each problem is shown in the text of the file. Otherwise it is one line, PATH: MESSAGE."
    )]
    Validate(validate::Arguments),
    /// Decide requests: reads one JSON request per line from standard input, and writes one JSON result per line.
    #[command(
        after_help = "Example:\n  echo '{\"id\": \"u1\", \"path\": \"/checkout\"}' | edgesplit evaluate --config experiments.json\n\nFields of a request: {\"id\"?, \"attributes\"?: {}, \"host\"?, \"path\"?, \"method\"?, \"headers\"?: {}, \"cookies\"?: {}}"
    )]
    Evaluate(evaluate::Arguments),
    /// Show the decisions for one visitor step by step, or the cache keys of a page.
    #[command(
        after_help = "Examples:\n  edgesplit explain --config experiments.json --route /checkout\n  edgesplit explain --config experiments.json --id u1 --path /checkout"
    )]
    Explain(explain::Arguments),
    /// Count the variants of generated visitors, the overlaps between experiments, and the cache keys.
    #[command(
        after_help = "Examples:\n  edgesplit simulate --config experiments.json --visitors 1000000\n  edgesplit simulate --config experiments.json --requests requests.jsonl --svg shares.svg"
    )]
    Simulate(simulate::Arguments),
    /// Count the visitors who would move if one config replaced another.
    #[command(
        after_help = "Examples:\n  edgesplit diff old.json new.json --visitors 1000000\n  edgesplit diff old.json new.json --json | jq .changed\n  edgesplit diff old.json new.json --list movers.jsonl"
    )]
    Diff(diff::Arguments),
    /// Pause an experiment in its file: no visitor is in it.
    #[command(
        after_help = "Example:\n  edgesplit pause checkout-button experiments.yaml\n\nIt shows who would move, and asks before it writes. Comments and layout stay as they are."
    )]
    Pause(edit::Arguments),
    /// Let a paused experiment run again, in its file.
    #[command(after_help = "Example:\n  edgesplit resume checkout-button experiments.yaml")]
    Resume(edit::Arguments),
    /// Conclude an experiment in its file: every visitor gets the winner.
    #[command(after_help = "Example:\n  edgesplit conclude checkout-button --winner green experiments.yaml")]
    Conclude(edit::ConcludeArguments),
    /// Set the share of visitors that takes part in an experiment, in its file.
    #[command(
        after_help = "Examples:\n  edgesplit traffic checkout-button 25% experiments.yaml\n  edgesplit traffic checkout-button 0.5% --config experiments.json --yes"
    )]
    Traffic(edit::TrafficArguments),
    /// Serve a live web page on the health of experiments and delivery, from the stats of Envoys.
    #[command(
        after_help = "Examples:\n  edgesplit dashboard --envoy http://127.0.0.1:9901 --config experiments.json\n  edgesplit dashboard --envoy http://10.0.0.1:9901 --envoy http://10.0.0.2:9901 --config https://config.example/experiments.json\n  edgesplit dashboard --json --envoy http://127.0.0.1:9901 --config experiments.json | jq .attention\n\nIt polls the Envoys' admin interfaces once a second. It listens on loopback, without a password. It needs no Prometheus, and nothing in the data plane depends on it."
    )]
    Dashboard(dashboard::Arguments),
    /// Start Envoy with the filter, an origin, a config service and a collector on this machine, and a little traffic.
    #[command(
        after_help = "Examples:\n  edgesplit demo\n  edgesplit demo --config experiments.json\n\nIt prints its addresses and commands to try, and ends with Ctrl-C. An Envoy is looked for in $ENVOY, on the PATH, in\n.setup/envoy of edgesplit's sources, and with func-e."
    )]
    Demo(demo::Arguments),
    /// Write a first experiment, a plugin configuration and an Envoy configuration for your own site.
    #[command(after_help = "Examples:\n  edgesplit init --origin http://localhost:3000\n  edgesplit init --force shop")]
    Init(init::Arguments),
    /// Start Envoy with the filter in front of your own site, and watch the experiments.
    #[command(
        after_help = "Examples:\n  edgesplit run --origin http://localhost:3000 --config experiments.json\n  edgesplit run --origin https://shop.example --config experiments.yaml --plugin plugin.yaml\n\nThe config is served from the file: a change is in force within a second, and a version with errors is refused. The services\nof the plugin configuration are replaced by services on this machine, and ids are minted over http too. It ends with Ctrl-C."
    )]
    Run(run::Arguments),
    /// Sign a link that shows chosen variants until it expires. Previews leave no events and no cached pages.
    #[command(
        after_help = "The secret is the one in request.preview. Without --secret, --secret-file and --plugin, it is read from the variable\nEDGESPLIT_PREVIEW_SECRET.\n\nExamples:\n  edgesplit preview --secret-file secret --expires 2h checkout-button=green\n  edgesplit preview --plugin plugin.json --expires 30m --url https://shop.example/cart checkout-button=green nav=mega"
    )]
    Preview(preview::Arguments),
    /// Calculate how large an outbox must be for an outage, and how long a given one lasts.
    #[command(
        after_help = "Examples:\n  edgesplit size --rate 1000/s --outage 10m\n  edgesplit size --rate 20000/m --outage 1h --plugin plugin.json"
    )]
    Size(size::Arguments),
    /// Print the JSON Schema of a document, which editors use to complete and check it.
    #[command(
        after_help = "Examples:\n  edgesplit schema experiments > experiments.schema.json\n  edgesplit schema plugin > plugin.schema.json"
    )]
    Schema {
        /// The document.
        #[arg(value_enum)]
        of: schema::Document,
        /// Print the fields as a Markdown table instead.
        #[arg(long)]
        markdown: bool,
    },
    /// Print the completions for a shell.
    #[command(
        after_help = "Examples:\n  source <(edgesplit completions bash)\n  edgesplit completions fish > ~/.config/fish/completions/edgesplit.fish"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// The command with its subcommands, each with the exit codes in its help.
fn command() -> clap::Command {
    let with_codes = |command: clap::Command| {
        let help = command.get_after_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
        command.after_help(format!("{help}{EXIT_CODES}"))
    };
    with_codes(Arguments::command().mut_subcommands(with_codes))
}

/// Runs the command with the arguments of the process.
pub fn run() -> ExitCode {
    let args = Arguments::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let code = match args.command {
        Command::Validate(args) => validate::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Pause(args) => edit::pause(&args),
        Command::Resume(args) => edit::resume(&args),
        Command::Conclude(args) => edit::conclude(&args),
        Command::Traffic(args) => edit::traffic(&args),
        Command::Dashboard(args) => dashboard::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Preview(args) => preview::run(&args),
        Command::Size(args) => size::run(&args),
        Command::Schema { of, markdown: false } => output::print_json(&of.schema()).map(|()| EXIT_OK),
        Command::Schema { of, markdown: true } => output::print(&of.table()).map(|()| EXIT_OK),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "edgesplit", &mut script);
            output::print(&String::from_utf8_lossy(&script)).map(|()| EXIT_OK)
        }
    };
    ExitCode::from(code.unwrap_or_else(|error| {
        // The log of an Envoy has several lines. Indented, none can pass for a message of the command's own.
        let lines: Vec<_> = error.lines().map(printable).collect();
        anstream::eprintln!("{BAD}edgesplit{BAD:#}: {}", lines.join("\n  "));
        EXIT_USAGE
    }))
}
