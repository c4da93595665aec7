//! `edgesplit validate`

use super::{PROBLEMS, WELL, options, read, tell};
use crate::format::{self, Format};
use crate::plugin_config::PluginConfig;
use crate::problem::Severity;
use std::path::Path;

pub(super) fn run(format: Option<Format>, plugin: Option<&Path>, file: &Path) -> Result<u8, String> {
    let mut config = None;
    let mut wrong = false;
    if let Some(plugin) = plugin {
        match PluginConfig::parse(&read(plugin)?) {
            Ok(read) => config = Some(read),
            Err(problems) => wrong |= tell(plugin, &problems),
        }
    }
    let compiled = format::compile_bytes(&read(file)?, &options(format, config.as_ref()));
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
