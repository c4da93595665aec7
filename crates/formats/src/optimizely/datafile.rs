//! A compiled datafile: immutable, replaced whole, only read on the request path.

use super::audience::Tree;
use super::impression::Impression;
use super::project::Project;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::snapshot::Disabled;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The version of datafiles that are read.
pub const VERSION: &str = "4";

/// A compiled datafile.
#[derive(Debug)]
pub struct Datafile {
    /// The project, as events name it.
    pub project: Project,
    /// The flags, then the experiments that no flag uses, each in the order of the datafile.
    pub flags: Vec<Flag>,
    /// The invalid ones, each disabled alone. Positions count on from the flags to the experiments.
    pub disabled: Vec<Disabled>,
    pub(super) rules: Vec<Rule>,
    /// All experiments by their keys, including those that flags use.
    pub(super) experiments: HashMap<String, usize>,
    pub(super) groups: Vec<Group>,
    pub(super) audiences: Vec<Tree>,
    /// The attribute that is bucketed instead of the user's id.
    pub(super) bucketing_id: AttributeName,
}

/// A flag, or an experiment that no flag uses.
#[derive(Debug)]
pub struct Flag {
    /// Its key, unique in [`Datafile::flags`].
    pub key: String,
    /// Its position: first all flags, then all experiments that no flag uses, including disabled ones.
    pub position: usize,
    pub(super) is_experiment: bool,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) impressions: Vec<Impression>,
    pub(super) holdouts: Vec<Step>,
    pub(super) experiments: Vec<Step>,
    pub(super) rollout: Vec<Step>,
}

impl Flag {
    /// Its outcomes. The first one is for visitors without a rule.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// The report of the outcome at this position.
    pub fn impression(&self, outcome: usize) -> Option<&Impression> {
        self.impressions.get(outcome)
    }
}

/// A rule of a flag.
#[derive(Debug)]
pub(super) struct Step {
    /// Position in [`Datafile::rules`].
    pub(super) rule: usize,
    /// The position of its first variation's outcome; the others follow.
    pub(super) outcomes_from: usize,
    /// Holdouts of this rule alone.
    pub(super) holdouts: Vec<Step>,
}

/// An experiment, a rule of a rollout or a holdout: they are decided the same way.
#[derive(Debug)]
pub(super) struct Rule {
    /// `experiment`, `rule` or `holdout`, for people.
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) key: String,
    /// The layer's id; empty for holdouts, which have none.
    pub(super) campaign_id: String,
    pub(super) is_running: bool,
    /// For holdouts: whether its visitors still get rollouts.
    pub(super) spares_rollouts: bool,
    /// The variation's key by the user's id.
    pub(super) forced: HashMap<String, String>,
    /// The audience; none for all visitors.
    pub(super) audience: Option<Tree>,
    /// Position in [`Datafile::groups`].
    pub(super) group: Option<usize>,
    /// Whether it is a contextual bandit, which the SDKs' synchronous decisions skip.
    pub(super) is_cmab: bool,
    /// The variations' positions; none for a range without a variation.
    pub(super) allocation: Vec<Range<Option<usize>>>,
    pub(super) variations: Vec<Variation>,
}

impl Rule {
    /// The position of the variation with this key: the last one, if two have it.
    pub(super) fn variation_of_key(&self, key: &str) -> Option<usize> {
        self.variations.iter().rposition(|variation| variation.key == key)
    }
}

/// The target of a range of buckets, up to `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range<T> {
    pub(super) end: u32,
    pub(super) to: T,
}

/// A variation of a rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Variation {
    pub(super) id: String,
    pub(super) key: String,
    /// Whether the flag is on.
    pub(super) enabled: bool,
    /// The values of variables, by their ids. They count if the flag is on.
    pub(super) values: Map<String, Value>,
}

/// Experiments that exclude each other.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: String,
    /// The experiments' ids. Empty and unknown ids select none.
    pub(super) allocation: Vec<Range<String>>,
}
