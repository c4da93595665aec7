//! `edgesplit evaluate`: reads one request per line and writes one line of decisions for each.

mod answer;
mod flags;
mod request;
mod row;

pub(super) use answer::Answer;
pub(super) use request::Request;
pub(super) use row::Row;

use crate::args::{self, options, read_plugin};
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::read;
use crate::output::print_problems;
use edgesplit_engine::snapshot::Snapshot;
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::FormatRef;
use edgesplit_formats::diagnostics::{Node, Problems};
use serde_json::{Value, json};
use std::io::{BufRead, BufWriter, ErrorKind, Write};

pub(super) fn run(
    format: Option<FormatRef>,
    config: &std::path::Path,
    plugin: Option<&std::path::Path>,
    now_ms: Option<i64>,
) -> Result<u8, String> {
    let Some(plugin) = read_plugin(plugin)? else { return Ok(EXIT_PROBLEMS) };
    let compiled = edgesplit_formats::compile_bytes(&read(config)?, &options(format, plugin.as_ref()));
    // A disabled experiment is reported, but the others are still decided.
    print_problems(config, &compiled.problems);
    let Some(snapshot) = compiled.snapshot else { return Ok(EXIT_PROBLEMS) };
    let mut has_errors = false;
    let now_ms = now_ms.unwrap_or_else(args::now_ms);
    let evaluation = Evaluation { snapshot: &snapshot, plugin: plugin.as_ref(), now_ms };

    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().split(b'\n') {
        let line = line.map_err(|error| format!("cannot read standard input: {error}"))?;
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
        let mut problems = Problems::new();
        let request = Request::read(Node::root(&value), &mut problems);
        match request {
            Some(request) if problems.errors() == 0 => Ok(self.decide(&request)),
            _ => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }

    fn decide(&self, request: &Request<'_>) -> Value {
        Answer::new(self.snapshot, self.plugin, request, self.now_ms, false).to_json()
    }
}
