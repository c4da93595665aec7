//! The compiled flags and cohorts: immutable, replaced whole, only read on the request path.

use super::filter::Filter;
use super::verdict::{Undecided, Verdict};
use edgesplit_engine::flag::Outcome;
use serde_json::Value;
use std::collections::HashMap;

/// The outcomes of a flag that is off, and of one that is on without a variant. Its variants follow, then its holdout.
pub(super) const OFF: usize = 0;
pub(super) const ON: usize = 1;

/// The flags and cohorts of a payload.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) flags: Vec<Flag>,
    /// Their numbers by their keys.
    pub(super) by_key: HashMap<String, usize>,
    pub(super) cohorts: Vec<Condition>,
    /// The project's key, which events carry.
    pub(super) token: Option<String>,
}

impl Rules {
    /// The numbers of the flags in a chain. None if one is not there, or if the chain is empty.
    pub(super) fn numbers(&self, chain: &[String]) -> Option<Vec<usize>> {
        let numbers: Option<Vec<usize>> = chain.iter().map(|key| self.by_key.get(key).copied()).collect();
        numbers.filter(|numbers| !numbers.is_empty())
    }
}

/// The type of the groups that a flag or its conditions are about; none for persons. An unknown type is undecided.
pub(super) type GroupType = Result<Option<String>, Undecided>;

pub(super) struct Flag {
    pub(super) key: String,
    pub(super) active: bool,
    pub(super) continuity: bool,
    /// Whether visitors enroll in the feature, which then decides alone.
    pub(super) enrolls: bool,
    pub(super) early_exit: bool,
    pub(super) group_type: GroupType,
    /// The name of the attribute that is bucketed.
    pub(super) attribute: String,
    pub(super) groups: Vec<Group>,
    /// The end of the range of each variant, with its outcome.
    pub(super) variants: Vec<(f64, usize)>,
    /// The share of visitors in the holdout, from 0 to 1, and its outcome.
    pub(super) holdout: Option<(f64, usize)>,
    pub(super) outcomes: Vec<Outcome>,
}

/// A group of conditions.
pub(super) struct Group {
    pub(super) conditions: Vec<Condition>,
    /// The share of visitors, from 0 to 1.
    pub(super) share: Option<f64>,
    /// The outcome of a variant that is given.
    pub(super) variant: Option<usize>,
    /// Persons stand for the subject of the flag.
    pub(super) group_type: GroupType,
}

/// A requirement on a visitor.
pub(super) enum Condition {
    Property(Filter),
    /// The visitor is in the cohort at this position.
    Cohort(usize),
    /// The decision about the flag `key` is `value`. `chain` has the flags that are decided before, and is empty if the
    /// payload does not name them.
    Flag {
        key: String,
        value: Value,
        chain: Vec<String>,
    },
    /// All of these hold, or one of them.
    Entries {
        all: bool,
        entries: Vec<Condition>,
    },
    Not(Box<Condition>),
    /// The same for every visitor.
    Fixed(Verdict),
}
