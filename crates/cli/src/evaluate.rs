//! `edgesplit evaluate`: reads one request per line and writes one line of decisions for each.

mod answer;
mod flags;
mod request;
mod row;

pub(super) use answer::Answer;
pub(super) use request::Request;
pub(super) use row::Row;

use crate::args::{moment_ms, now_ms};
use crate::config::{ConfigArguments, Setting};
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::claim_standard_input;
use edgesplit_engine::snapshot::Snapshot;
use edgesplit_filter::plugin_config::PluginConfig;
use serde_json::{Value, json};
use std::io::{BufRead, BufWriter, ErrorKind, Write};

/// The arguments of `edgesplit evaluate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The time of the decisions (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME", value_parser = moment_ms)]
    now: Option<i64>,
    /// Accepted for symmetry: the output is always JSON.
    #[arg(long, hide = true)]
    json: bool,
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    claim_standard_input()?;
    let Some(setting) = Setting::read(&args.config.setting)? else { return Ok(EXIT_PROBLEMS) };
    let Some(config) = setting.config(&args.config)? else { return Ok(EXIT_PROBLEMS) };
    let mut has_errors = false;
    let now_ms = args.now.unwrap_or_else(now_ms);
    let evaluation = Evaluation { snapshot: &config.snapshot, plugin: setting.plugin(), now_ms };

    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().split(b'\n') {
        let line = line.map_err(|error| format!("cannot read standard input: {error}"))?;
        let line = edgesplit_formats::without_byte_order_mark(line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let result = evaluation.line(&line).unwrap_or_else(|error| {
            has_errors = true;
            json!({ "error": error })
        });
        match writeln!(out, "{result}").and_then(|()| out.flush()) {
            // A reader that closes the pipe, such as `head`, has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            written => written.map_err(|error| format!("cannot write standard output: {error}"))?,
        }
    }
    Ok(if has_errors { EXIT_PROBLEMS } else { EXIT_OK })
}

struct Evaluation<'a> {
    snapshot: &'a Snapshot,
    plugin: Option<&'a PluginConfig>,
    now_ms: i64,
}

impl Evaluation<'_> {
    fn line(&self, line: &[u8]) -> Result<Value, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
        let request = Request::read(&value)?;
        Ok(Answer::new(self.snapshot, self.plugin, &request, self.now_ms, false).to_json())
    }
}
