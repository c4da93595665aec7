//! `edgesplit validate`

use super::{PROBLEMS, WELL, options, read, tell};
use crate::format::{self, Format};
use crate::plugin_config::PluginConfig;
use crate::problem::{Problems, Severity};
use serde_json::{Value, json};
use std::path::Path;

pub(super) fn run(format: Option<Format>, plugin: Option<&Path>, file: &Path, json: bool) -> Result<u8, String> {
    let mut config = None;
    let mut wrong = false;
    let mut of_plugin = Vec::new();
    if let Some(plugin) = plugin {
        match PluginConfig::parse(&read(plugin)?) {
            Ok(read) => config = Some(read),
            Err(problems) if json => {
                wrong |= problems.errors() > 0;
                of_plugin = told(&problems);
            }
            Err(problems) => wrong |= tell(plugin, &problems),
        }
    }
    let compiled = format::compile_bytes(&read(file)?, &options(format, config.as_ref()));
    if json {
        wrong |= compiled.problems.errors() > 0;
        let snapshot = compiled.snapshot.as_ref();
        let answer = json!({
            "problems": told(&compiled.problems),
            "plugin_problems": of_plugin,
            "refused": snapshot.is_none(),
            "experiments": snapshot.map_or(0, |snapshot| snapshot.experiments.len()),
            "disabled": snapshot.map_or(0, |snapshot| snapshot.disabled.len()),
            "goals": snapshot.map_or(0, |snapshot| snapshot.goals.len()),
        });
        println!("{answer:#}");
        return Ok(if wrong { PROBLEMS } else { WELL });
    }
    for problem in compiled.problems.iter() {
        let kind = if problem.severity == Severity::Warning { "warning: " } else { "" };
        println!("{kind}{problem}");
    }
    wrong |= compiled.problems.errors() > 0;
    match &compiled.snapshot {
        None => eprintln!("{}: refused whole: the last good config would stay in force", file.display()),
        Some(snapshot) => eprintln!(
            "{}: {} experiments in force, {} disabled, {} goals",
            file.display(),
            snapshot.experiments.len(),
            snapshot.disabled.len(),
            snapshot.goals.len()
        ),
    }
    Ok(if wrong { PROBLEMS } else { WELL })
}

fn told(problems: &Problems) -> Vec<Value> {
    let severity = |severity| if severity == Severity::Error { "error" } else { "warning" };
    let problems = problems.iter();
    problems.map(|one| json!({"path": one.path, "message": one.message, "severity": severity(one.severity)})).collect()
}
