//! The decisions for one visitor, with the checks that led to them.

use super::args::Arguments;
use crate::evaluate::{Answer, Request, Row};
use crate::output::{BAD, GOOD, QUIET, STRONG};
use edgesplit_engine::printable::printable;
use edgesplit_engine::snapshot::Snapshot;
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::diagnostics::{Node, Problems};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The arguments as a line of `evaluate`.
fn line(args: &Arguments) -> Value {
    let texts = |pairs: &[(String, String)]| -> Map<String, Value> {
        pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    json!({
        "id": args.id, "attributes": args.attributes, "host": args.host, "path": args.path,
        "method": args.method, "headers": texts(&args.headers), "cookies": texts(&args.cookies),
    })
}

/// Decides every experiment or flag for the visitor.
pub(super) fn explain(
    snapshot: &Snapshot,
    plugin: Option<&PluginConfig>,
    args: &Arguments,
    now_ms: i64,
) -> Result<Answer, String> {
    let line = line(args);
    let mut problems = Problems::new();
    let request = Request::read(Node::root(&line), &mut problems).filter(|_| problems.errors() == 0);
    let request = request.ok_or_else(|| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    Ok(Answer::new(snapshot, plugin, &request, now_ms, true))
}

/// The answer as text.
pub(super) fn to_text(answer: &Answer) -> String {
    let mut text = String::new();
    if let Some(problem) = &answer.ignored_preview {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{BAD}the preview link is ignored{BAD:#}: {}", printable(problem));
    }
    for row in &answer.rows {
        write_row(&mut text, row, answer.is_flags);
    }
    let shown = |text: &str| printable(if text.is_empty() { "(none)" } else { text }).into_owned();
    let _ = writeln!(text, "\nassignments  {}", shown(&answer.assignments));
    let _ = writeln!(text, "cache key    {}", shown(&answer.cache_key));
    text
}

fn write_row(text: &mut String, row: &Row, is_flag: bool) {
    let key = printable(row.key.as_deref().unwrap_or("an experiment without a key"));
    let outcome = match (&row.variant, is_flag) {
        (Some(variant), false) => format!("{GOOD}{}{GOOD:#}", printable(variant)),
        (None, false) => "not in it".to_owned(),
        (variant, true) => format!("variant {}", printable(variant.as_deref().unwrap_or("none"))),
    };
    let _ = writeln!(text, "{STRONG}{key}{STRONG:#}: {outcome} ({})", row.reason.name());
    for check in &row.checks {
        let _ = writeln!(text, "  {QUIET}{:<9}{QUIET:#} {}", check.name, printable(&check.detail));
    }
    if is_flag {
        let value = match &row.value {
            Value::Null => "none".to_owned(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        let (value, experiment) = (printable(&value), printable(row.experiment.as_deref().unwrap_or("none")));
        let _ = writeln!(text, "  {QUIET}value     {QUIET:#} {value}\n  {QUIET}experiment{QUIET:#} {experiment}");
    }
    if let Some(problem) = &row.problem {
        let _ = writeln!(text, "  {}", printable(problem));
    }
}

/// The answer of `evaluate`, with the checks of each decision.
pub(super) fn to_json(answer: &Answer) -> Value {
    let mut json = answer.to_json();
    let rows = answer.rows.iter().filter(|row| row.key.is_some());
    let decisions = json.get_mut("decisions").and_then(Value::as_array_mut).into_iter().flatten();
    for (row, decision) in rows.zip(decisions) {
        let Some(members) = decision.as_object_mut() else { continue };
        let steps = row.checks.iter().map(|check| json!({"step": check.name, "says": check.detail}));
        members.insert("steps".to_owned(), steps.collect());
        members.insert("problem".to_owned(), json!(row.problem));
    }
    if let Some(members) = json.as_object_mut() {
        members.insert("ignored_preview".to_owned(), json!(answer.ignored_preview));
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgesplit_formats::Options;

    #[test]
    fn text_escapes_control_and_bidi_characters() {
        let config = json!({"features": {"a\u{1b}[2J\u{9b}": {"defaultValue": "user\u{202e}nimda\nvariant"}}});
        let format = edgesplit_formats::formats().find(|format| format.name() == "growthbook").unwrap();
        let compiled = edgesplit_formats::compile_bytes(config.to_string().as_bytes(), &Options::new(format, 64));
        let line = json!({"id": "u1"});
        let request = Request::read(Node::root(&line), &mut Problems::new()).unwrap();
        let text = to_text(&Answer::new(&compiled.snapshot.unwrap(), None, &request, 0, true));
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{text:?}");
        assert!(text.contains(r"a\u{1b}[2J\u{9b}") && text.contains(r"user\u{202e}nimda\u{a}variant"), "{text}");
    }
}
