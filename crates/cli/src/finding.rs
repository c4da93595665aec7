//! Problems of a document with their effects at run time.

use crate::document::join;
use crate::plugin::NOT_FOUND;
use edgesplit_formats::diagnostics::{Path, Problem, Severity};
use std::fmt;

/// A problem, and its effect at run time.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) problem: Problem,
    pub(crate) effect: Option<String>,
}

/// The kind of document that problems belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Plugin,
    /// A config, and whether it is refused as a whole.
    Config {
        is_refused: bool,
    },
}

impl Finding {
    /// A warning at `path`.
    pub(crate) fn warning(path: &Path<'_>, message: String, effect: &str) -> Finding {
        let problem = Problem { path: path.to_string(), message, severity: Severity::Warning };
        Finding { problem, effect: Some(effect.to_owned()) }
    }

    /// A problem that the filter's own reader found.
    pub(crate) fn new(problem: &Problem, subject: Subject) -> Finding {
        Finding { problem: problem.clone(), effect: effect(problem, subject).map(str::to_owned) }
    }

    /// The finding in the whole document, of which its document is the part at `prefix`.
    pub(crate) fn below(mut self, prefix: &str) -> Finding {
        self.problem.path = join(prefix, &self.problem.path);
        self
    }

    pub(crate) fn is_error(&self) -> bool {
        self.problem.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_error() {
            f.write_str("warning: ")?;
        }
        self.problem.fmt(f)?;
        match &self.effect {
            Some(effect) => write!(f, " (effect: {effect})"),
            None => Ok(()),
        }
    }
}

fn effect(problem: &Problem, subject: Subject) -> Option<&'static str> {
    let Problem { path, message, severity } = problem;
    match (severity, subject) {
        (Severity::Error, _) if message.starts_with(NOT_FOUND) => None,
        (Severity::Error, _) if message.starts_with("given twice") => Some("only the last one applies"),
        (Severity::Error, Subject::Plugin) => Some("the filter does not start"),
        (Severity::Error, Subject::Config { is_refused: true }) => {
            Some("the config is refused, and the last good one stays in force")
        }
        (Severity::Error, Subject::Config { is_refused: false }) => {
            let section = path.split(['.', '[']).next().unwrap_or_default();
            match section {
                "experiments" | "layers" => Some("the experiment is disabled"),
                "goals" => Some("the goal is not counted"),
                "features" | "featureFlags" | "rollouts" => Some("the flag is disabled"),
                _ => None,
            }
        }
        (Severity::Warning, _) if message.starts_with("unknown field") => Some("it is ignored"),
        (Severity::Warning, _) => None,
    }
}
