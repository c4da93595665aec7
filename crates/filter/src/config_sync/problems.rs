//! The problems of a config, in the proxy's log.

use crate::host::Host;
use edgesplit_formats::diagnostics::{Problems, Severity};

/// How many problems of one config are written to the log.
const LOGGED_PROBLEMS_MAX: usize = 20;

/// Writes the problems of a config to the proxy's log, and how many experiments or flags they disable.
pub fn log_problems(host: &impl Host, config: &str, problems: &Problems, disabled: usize) {
    for problem in problems.iter().take(LOGGED_PROBLEMS_MAX) {
        let level = match problem.severity {
            Severity::Error => log::Level::Error,
            Severity::Warning => log::Level::Warn,
        };
        host.log(level, &format!("{config}: {problem}"));
    }
    let more = problems.iter().count().saturating_sub(LOGGED_PROBLEMS_MAX);
    if more > 0 {
        host.log(log::Level::Warn, &format!("{config}: {more} more problems"));
    }
    if disabled > 0 {
        let text = format!("{config}: disabled experiments or flags: {disabled}; the others are in force");
        host.log(log::Level::Warn, &text);
    }
}
