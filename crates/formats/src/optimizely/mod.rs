//! Optimizely Feature Experimentation: datafiles (version 4), decided bit for bit as Optimizely's own SDKs do.
//!
//! Decisions cover each flag, and each experiment that no flag uses. The semantics are those of the SDKs of 2026:
//! holdouts of every flag and of single rules, feature rollouts, typed and untyped audiences, groups, whitelists,
//! `$opt_bucketing_id`. A contextual bandit (CMAB) would need a call to Optimizely for every decision, and no request waits
//! for one: it is skipped, as by the SDKs' synchronous decisions. Where the SDKs differ, the JavaScript SDK counts.
//!
//! A datafile that is not JSON or has another version is refused as a whole. Any other problem is reported with its path and
//! disables the parts that it affects:
//!
//! - A flag, experiment, rollout or holdout of a wrong shape is disabled alone; so is a flag that needs a disabled one,
//!   since its visitors would fall to the next rule otherwise.
//! - An unknown id means the same as to the SDKs: an audience that no visitor is known to be in, traffic without a
//!   variation, a whitelist entry that does not count, a missing rule.
//! - An unknown field is ignored: a newer datafile may meet an older module.
//!
//! | module | purpose |
//! |---|---|
//! | `compile` | JSON to [`Datafile`], with problems |
//! | `datafile` | the compiled datafile |
//! | `audience` | the audiences of experiments |
//! | `decide` | the decisions, with their reasons |
//! | `impression` | the events, as they are written |

mod audience;
mod compile;
mod datafile;
mod decide;
mod evaluator;
mod format;
mod impression;
mod project;

pub use audience::AUDIENCE_DEPTH_MAX;
pub use datafile::{Datafile, Flag, VERSION};
pub use decide::Decision;
pub use format::Optimizely;
pub use impression::{BATCH_TAIL, Event, EventKind, Impression, RuleType};
pub use project::{Project, ReportedAttribute};

use crate::diagnostics::{Node, Problems};
use compile::draft::Draft;
use serde_json::Value;

/// The result of compiling a datafile.
#[derive(Debug)]
pub struct Compiled {
    /// The datafile; none if it is refused as a whole.
    pub datafile: Option<Datafile>,
    /// All problems, including warnings.
    pub problems: Problems,
}

/// Compiles the datafile `value`.
pub fn compile(value: &Value) -> Compiled {
    let mut problems = Problems::new();
    let mut draft = Draft::default();
    while draft.step(Node::root(value), &mut problems).is_some() {}
    Compiled { datafile: draft.finish().0, problems }
}

#[cfg(test)]
mod tests;
