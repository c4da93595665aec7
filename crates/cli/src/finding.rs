//! Problems of a document with their effects at run time.

use crate::document::join;
use crate::plugin::NOT_FOUND;
use edgesplit_engine::printable::printable;
use edgesplit_engine::snapshot::Disabled;
use edgesplit_formats::diagnostics::{Path, Problem, Severity};
use std::fmt;

/// A problem, and its effect at run time.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) problem: Problem,
    pub(crate) effect: Option<String>,
}

/// The document that problems belong to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    Plugin,
    RefusedConfig,
    /// A config in force, with its invalid experiments or flags.
    Config(&'a [Disabled]),
}

impl Finding {
    /// A warning at `path`.
    pub(crate) fn warning(path: &Path<'_>, message: String, effect: &str) -> Finding {
        let problem = Problem { path: path.to_string(), message, severity: Severity::Warning };
        Finding { problem, effect: Some(effect.to_owned()) }
    }

    /// A problem that the filter's own reader found.
    pub(crate) fn new(problem: &Problem, subject: Subject<'_>) -> Finding {
        Finding { problem: problem.clone(), effect: effect(problem, subject).map(str::to_owned) }
    }

    /// The finding with its path in the whole document. It was found in the part at `prefix`.
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

/// Prints the findings of `file` on standard error.
pub(crate) fn print_findings(file: &str, findings: &[Finding]) {
    for finding in findings {
        let kind = if finding.is_error() { "error: " } else { "" };
        anstream::eprintln!("{}: {kind}{}", printable(file), printable(&finding.to_string()));
    }
}

fn effect(problem: &Problem, subject: Subject<'_>) -> Option<&'static str> {
    let Problem { path, message, severity } = problem;
    match (severity, subject) {
        (Severity::Error, _) if message.starts_with(NOT_FOUND) => None,
        (Severity::Error, _) if message.starts_with("given twice") => Some("only the last one applies"),
        (Severity::Error, Subject::Plugin) => Some("the filter does not start"),
        (Severity::Error, Subject::RefusedConfig) => {
            Some("the config is refused, and the last good one stays in force")
        }
        (Severity::Error, Subject::Config(_)) if path.starts_with("goals[") => Some("the goal is not counted"),
        (Severity::Error, Subject::Config(disabled)) => {
            let is_in = |disabled: &&Disabled| element(&disabled.problem) == element(path);
            disabled.iter().find(is_in).map(|_| {
                if path.starts_with("experiments") { "the experiment is disabled" } else { "the flag is disabled" }
            })
        }
        (Severity::Warning, _) if message.starts_with("unknown field") => Some("it is ignored"),
        (Severity::Warning, _) => None,
    }
}

/// The start of a path, up to an element of a list or a member of an object: `experiments[3]`, `features.button`.
fn element(path: &str) -> &str {
    let section = path.find(['.', '[']).unwrap_or(path.len());
    let rest = path.get(section..).unwrap_or_default();
    let end = match rest.strip_prefix("[\"") {
        // A name in quotes may contain dots and brackets.
        Some(_) => rest.find("\"]").map(|end| end + 2),
        None => rest.get(1..).and_then(|rest| rest.find(['.', '[', ':'])).map(|end| end + 1),
    };
    path.get(..section + end.unwrap_or(rest.len())).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_paths() {
        for (path, expected) in [
            ("experiments[3].variants[0].weight: too large", "experiments[3]"),
            ("experiments[3]", "experiments[3]"),
            ("features.button.rules[0]", "features.button"),
            ("features.button: expected an object", "features.button"),
            ("features[\"a.b\"].rules", "features[\"a.b\"]"),
            ("schema", "schema"),
        ] {
            assert_eq!(element(path), expected);
        }
    }
}
