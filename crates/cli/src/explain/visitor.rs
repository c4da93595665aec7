//! The decisions for one visitor, with the checks that led to them.

use super::args::Arguments;
use super::identity::Identity;
use crate::evaluate::{Answer, Request, Row};
use crate::output::{BAD, GOOD, QUIET, STRONG};
use edgesplit_engine::printable::printable;
use edgesplit_engine::snapshot::Snapshot;
use edgesplit_filter::plugin_config::PluginConfig;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The arguments as a line of `evaluate`.
fn line(args: &Arguments) -> Value {
    let texts = |pairs: &[(String, String)]| -> Map<String, Value> {
        pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    json!({
        "id": args.id, "attributes": args.attributes, "host": args.host, "path": args.path.as_ref().map(|path| &path.text),
        "method": args.method, "headers": texts(&args.headers), "cookies": texts(&args.cookies),
    })
}

/// The decisions for a visitor, and the visitor's identity.
pub(super) struct Explanation {
    answer: Answer,
    /// Without a plugin configuration, the id is the one of the arguments.
    identity: Option<Identity>,
}

impl Explanation {
    /// Decides every experiment or flag for the visitor.
    pub(super) fn new(
        snapshot: &Snapshot,
        plugin: Option<&PluginConfig>,
        args: &Arguments,
        now_ms: i64,
    ) -> Result<Explanation, String> {
        let line = line(args);
        let request = Request::read(&line)?;
        Ok(Explanation {
            answer: Answer::new(snapshot, plugin, &request, now_ms, true),
            identity: plugin.map(|plugin| Identity::new(&request, &plugin.visitor)),
        })
    }

    /// The explanation for people.
    pub(super) fn to_text(&self) -> String {
        let Explanation { answer, identity } = self;
        let mut text = String::new();
        // Writing to a string cannot fail.
        if let Some(identity) = identity {
            let _ = writeln!(text, "{STRONG}visitor{STRONG:#}: {}", identity.text);
            if let Some(problem) = &identity.problem {
                let _ = writeln!(text, "  {BAD}no request can supply this id{BAD:#}: {problem}");
            }
        }
        if let Some(problem) = &answer.ignored_preview {
            let _ = writeln!(text, "{BAD}the preview link is ignored{BAD:#}: {}", printable(problem));
        }
        for row in &answer.rows {
            write_row(&mut text, row, answer.is_flags);
        }
        let shown = |text: &str| if text.is_empty() { "(none)".to_owned() } else { text.to_owned() };
        let _ = writeln!(text, "\nassignments  {}", shown(&answer.assignments));
        let _ = writeln!(text, "cache key    {}", shown(&answer.cache_key));
        text
    }

    /// The answer of `evaluate`, with the checks of each decision.
    pub(super) fn to_json(&self) -> Value {
        let Explanation { answer, identity } = self;
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
            let visitor = |identity: &Identity| json!({"identity": identity.text, "problem": identity.problem});
            members.insert("visitor".to_owned(), identity.as_ref().map_or(Value::Null, visitor));
        }
        json
    }
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
        let _ = write!(text, "  {QUIET}{:<9}{QUIET:#} {}", check.name, printable(&check.detail));
        if is_flag {
            // Details of vendors' checks show the values, and not the result.
            let (style, result) = if check.passed { (GOOD, "passed") } else { (BAD, "failed") };
            let separator = if check.detail.is_empty() { "" } else { ": " };
            let _ = write!(text, "{separator}{style}{result}{style:#}");
        }
        text.push('\n');
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
