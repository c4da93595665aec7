//! A compiled datafile: immutable, replaced whole, only read on the request path.

use super::audience::Tree;
use super::impression::Impression;
use super::project::Project;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::snapshot::Disabled;
use std::collections::HashMap;

/// The version of datafiles that are read.
pub const VERSION: &str = "4";

/// Everything the engine knows of one datafile.
#[derive(Debug)]
pub struct Datafile {
    /// The project, as events name it.
    pub project: Project,
    /// What is decided: the flags, then the experiments that no flag uses, each in the order of the datafile.
    pub flags: Vec<Flag>,
    /// What is wrong among them and switched off alone. Positions count on from the flags to the experiments.
    pub disabled: Vec<Disabled>,
    pub(super) rules: Vec<Rule>,
    /// Experiments by their keys, those that flags use too.
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
    /// Where it stands: first all flags, then all experiments that no flag uses, disabled ones counted.
    pub position: usize,
    pub(super) is_experiment: bool,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) impressions: Vec<Impression>,
    pub(super) holdouts: Vec<Step>,
    pub(super) experiments: Vec<Step>,
    pub(super) rollout: Vec<Step>,
}

impl Flag {
    /// All it can come out as. The first one is what visitors get whom no rule takes.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// What an event says of the outcome at this position.
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

/// An experiment, a rule of a rollout or a holdout: they are decided alike.
#[derive(Debug)]
pub(super) struct Rule {
    /// `experiment`, `rule` or `holdout`, for people.
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) key: String,
    /// The layer's id; of holdouts, which have none, empty.
    pub(super) campaign_id: String,
    pub(super) is_running: bool,
    /// Of holdouts: its visitors still get what rollouts deliver.
    pub(super) spares_rollouts: bool,
    /// The variation's position by the user's id.
    pub(super) forced: HashMap<String, usize>,
    /// Everybody without one.
    pub(super) audience: Option<Tree>,
    /// Position in [`Datafile::groups`].
    pub(super) group: Option<usize>,
    /// The share that a contextual bandit decides about, where it is one.
    pub(super) cmab_share: Option<u32>,
    /// The variations' positions; none where a range leads nowhere.
    pub(super) allocation: Vec<Range<Option<usize>>>,
    pub(super) variations: Vec<Variation>,
}

/// What a part of the buckets leads to, up to `end`.
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
    /// The flag is on.
    pub(super) enabled: bool,
    /// The values it has for variables, by their ids. They count where the flag is on.
    pub(super) values: Vec<(String, serde_json::Value)>,
}

/// Experiments that exclude each other.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: String,
    /// Experiments' ids; what is empty or unknown leads to none of them.
    pub(super) allocation: Vec<Range<String>>,
}
