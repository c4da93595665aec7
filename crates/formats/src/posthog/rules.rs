//! The compiled flags and cohorts: immutable, replaced whole, only read on the request path.

use super::filter::Filter;
use super::verdict::Undecided;
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

pub(super) struct Flag {
    pub(super) key: String,
    pub(super) active: bool,
    pub(super) continuity: bool,
    pub(super) by_device: bool,
    pub(super) enrolls: bool,
    pub(super) early_exit: bool,
    /// The groups that it is about.
    pub(super) aggregation: Aggregation,
    pub(super) groups: Vec<Group>,
    /// The end of the range of each variant, with its outcome.
    pub(super) variants: Vec<(f64, usize)>,
    pub(super) holdout: Option<Holdout>,
    pub(super) outcomes: Vec<Outcome>,
}

pub(super) enum Aggregation {
    Persons,
    Groups(String),
    /// A type of groups that the payload does not name.
    Unknown,
}

/// A group of conditions.
pub(super) struct Group {
    pub(super) conditions: Vec<Condition>,
    /// The share of visitors, from 0 to 1.
    pub(super) share: Option<f64>,
    /// The outcome of a variant that is given.
    pub(super) variant: Option<usize>,
    /// The groups that the conditions are about. Persons stand for the subject of the flag.
    pub(super) aggregation: Aggregation,
}

pub(super) struct Holdout {
    /// The share of visitors, from 0 to 1.
    pub(super) share: f64,
    pub(super) outcome: usize,
}

/// A requirement on a visitor.
pub(super) enum Condition {
    Property(Filter),
    /// The visitor is in the cohort at this position, or is not.
    Cohort {
        position: usize,
        is_in: bool,
    },
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
    Never,
    /// It is not understood.
    Undecided(Undecided),
}
