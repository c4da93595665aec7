//! The config file of `run`.

use crate::config::{Compilation, Setting};
use crate::document::Document;
use crate::files::{Input, read};
use crate::finding::{Finding, print_findings};
use crate::output::counted;
use crate::validate::findings;
use edgesplit_engine::printable::printable;
use edgesplit_formats::{FormatRef, NATIVE};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// A config file, and its last content without errors.
pub(super) struct Watched {
    file: Input,
    setting: Arc<Setting>,
    /// The content at the last look.
    seen: Vec<u8>,
    /// The last content without errors, as JSON.
    good: Vec<u8>,
    format: FormatRef,
    experiments: usize,
    revision: Option<String>,
}

/// A change of the file.
pub(super) enum Change {
    /// It is served from now on.
    Accepted(String),
    /// It has errors: the last good one stays in force.
    Refused(String),
}

impl Watched {
    /// Opens `file`. If it has errors, prints them and returns none.
    pub(super) fn open(file: &Path, setting: Arc<Setting>) -> Result<Option<Watched>, String> {
        let file = Input::File(file.to_owned());
        let seen = read(&file)?;
        let (good, format, experiments, revision) = (Vec::new(), NATIVE, 0, None);
        let mut watched = Watched { file, setting, seen, good, format, experiments, revision };
        let (compilation, findings) = watched.compile();
        print_findings(&watched.file.to_string(), &findings);
        Ok(watched.accept(compilation).then_some(watched))
    }

    pub(super) fn file(&self) -> &Input {
        &self.file
    }

    /// The format of the config.
    pub(super) fn format(&self) -> FormatRef {
        self.format
    }

    /// The last good content as JSON.
    pub(super) fn json(&self) -> Vec<u8> {
        self.good.clone()
    }

    /// The last good content as a value.
    pub(super) fn value(&self) -> Value {
        serde_json::from_slice(&self.good).unwrap_or_default()
    }

    pub(super) fn revision(&self) -> Option<String> {
        self.revision.clone()
    }

    /// Looks at the file again. An empty file is not a change: an editor may be writing it.
    pub(super) fn look(&mut self) -> Option<Change> {
        let bytes = read(&self.file).ok().filter(|bytes| !bytes.is_empty() && *bytes != self.seen)?;
        self.seen = bytes;
        let (compilation, findings) = self.compile();
        let name = &self.file.to_string();
        let findings: String =
            findings.iter().map(|finding| format!("\n  {}", printable(&finding.to_string()))).collect();
        Some(if self.accept(compilation) {
            let experiments = counted(self.experiments as u64, "experiment", "experiments");
            Change::Accepted(format!("{name}: changed; {experiments} in force within a second{findings}"))
        } else {
            Change::Refused(format!(
                "{name}: refused, and the last good version stays in force. In a proxy that fetches it:{findings}"
            ))
        })
    }

    fn compile(&self) -> (Compilation, Vec<Finding>) {
        let document = Document::parse(&self.file.to_string(), self.seen.clone());
        let compilation = self.setting.compile(&document);
        let findings = findings(&compilation, &document.value, &self.setting, false);
        (compilation, findings)
    }

    /// Accepts the content of the last look, unless it has errors.
    fn accept(&mut self, compilation: Compilation) -> bool {
        match compilation.config {
            Some(config) if compilation.problems.errors() == 0 => {
                self.format = config.options.format;
                self.experiments = config.snapshot.experiments.len();
                self.revision = config.snapshot.revision.clone();
                self.good = config.json;
                true
            }
            _ => false,
        }
    }
}
