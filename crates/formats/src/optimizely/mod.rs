//! Optimizely Feature Experimentation: datafiles (version 4), decided bit for bit as Optimizely's own SDKs do.
//!
//! What is decided is each flag, and each experiment that no flag uses. The semantics are those of the SDKs of 2026:
//! holdouts of every flag and of single rules, feature rollouts, typed and untyped audiences, groups, whitelists,
//! `$opt_bucketing_id`. A contextual bandit (CMAB) asks Optimizely at every decision, which no request waits for:
//! whoever takes part in one gets the default, with the reason `cmab`.
//!
//! A datafile that is not JSON or has another version is refused whole. All else that is wrong is reported with its
//! path and disables what it touches:
//!
//! - A flag, experiment, rollout or holdout of a wrong shape is disabled alone; so is a flag that needs a disabled one,
//!   since deciding without it would hand its visitors to the next rule.
//! - An id that leads nowhere is what it is to the SDKs: an audience nobody is known to be in, traffic that gets no
//!   variation, a whitelist entry that does not count, a rule that is not there.
//! - An unknown field is ignored: a newer datafile may meet an older module.
//!
//! | module | what it is for |
//! |---|---|
//! | `compile` | JSON to [`Datafile`], with problems |
//! | `datafile` | what is compiled |
//! | `audience` | who an experiment is for |
//! | `decide` | which variation, and why |
//! | `impression` | what is reported, and how it is written |

mod audience;
mod compile;
mod datafile;
mod decide;
mod evaluator;
mod format;
mod impression;
mod project;
mod reason;

pub use audience::AUDIENCE_DEPTH_MAX;
pub use datafile::{Datafile, Flag, VERSION};
pub use format::Optimizely;
pub use impression::{BATCH_TAIL, Client, EVENTS_PATH, Event, EventKind, Impression, RuleType};
pub use project::{Project, ReportedAttribute};
pub use reason::Reason;

use crate::diagnostics::{Node, Path, Problems};
use compile::draft::Draft;
use serde_json::Value;

/// What compiling found and made.
#[derive(Debug)]
pub struct Compiled {
    /// The datafile; none where it is refused whole.
    pub datafile: Option<Datafile>,
    /// Everything that is wrong, warnings included.
    pub problems: Problems,
}

/// Parses and compiles `bytes`.
pub fn compile_bytes(bytes: &[u8]) -> Compiled {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => compile(&value),
        Err(error) => {
            let mut problems = Problems::new();
            problems.error(&Path::Root, format!("not JSON: {error}"));
            Compiled { datafile: None, problems }
        }
    }
}

/// Compiles the datafile `value`.
pub fn compile(value: &Value) -> Compiled {
    compile_at(value, &Path::Root)
}

/// Compiles the datafile `value` that stands at `path` in another document.
pub fn compile_at(value: &Value, path: &Path<'_>) -> Compiled {
    let mut problems = Problems::new();
    let mut draft = Draft::default();
    while draft.step(Node { value, path }, &mut problems).is_some() {}
    Compiled { datafile: draft.finish(), problems }
}

#[cfg(test)]
mod tests;
