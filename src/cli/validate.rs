//! `edgesplit validate`

use super::{PROBLEMS, WELL, read, tell};
use crate::native;
use crate::plugin_config::{PluginConfig, Request};
use crate::problem::Severity;
use std::path::Path;

pub(super) fn run(plugin: Option<&Path>, file: &Path) -> Result<u8, String> {
    let mut budget = Request::default().cache_key.budget;
    let mut wrong = false;
    if let Some(plugin) = plugin {
        match PluginConfig::parse(&read(plugin)?) {
            Ok(config) => budget = config.request.cache_key.budget,
            Err(problems) => wrong |= tell(plugin, &problems),
        }
    }
    let compiled = native::compile_bytes(&read(file)?, budget);
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
