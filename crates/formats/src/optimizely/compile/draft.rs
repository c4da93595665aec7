//! A datafile that is being compiled.

use super::variable::{Variable, VariableTypes};
use crate::document::TEXT;
use crate::optimizely::audience::Tree;
use crate::optimizely::datafile::{Flag, Group, Rule};
use crate::optimizely::project::Project;
use edgesplit_engine::snapshot::Disabled;
use std::collections::{HashMap, HashSet};

/// A datafile that is being compiled.
#[derive(Default)]
pub(in crate::optimizely) struct Draft {
    pub(super) stage: Stage,
    pub(super) project: Project,
    pub(super) types: VariableTypes,
    pub(super) audiences: Vec<Tree>,
    /// Their positions by their ids.
    pub(super) audience_ids: HashMap<String, usize>,
    pub(super) rules: Vec<Rule>,
    pub(super) rule_ids: HashSet<String>,
    pub(super) groups: Vec<Group>,
    /// All experiments, in groups or not, in the order of the datafile.
    pub(super) experiments: Vec<Experiment>,
    /// Their rules by their keys.
    pub(super) experiment_rules: HashMap<String, usize>,
    /// Their positions by their ids. If two have the same id, the SDKs know the last.
    pub(super) experiment_ids: HashMap<String, usize>,
    /// The rules of each rollout, or the problem of one of them.
    pub(super) rollouts: Vec<Result<Vec<usize>, String>>,
    /// Their positions by their ids.
    pub(super) rollout_ids: HashMap<String, usize>,
    /// Holdouts of everything, in order.
    pub(super) holdouts: Vec<usize>,
    /// Holdouts of single rules, by the rules' ids.
    pub(super) rule_holdouts: HashMap<String, Vec<usize>>,
    /// The position of the last flag with each key.
    pub(super) flag_keys: HashMap<String, usize>,
    /// The ids of the experiments that flags name, whether or not there are such experiments.
    pub(super) used_ids: HashSet<String>,
    pub(super) flag_count: usize,
    pub(super) flag_drafts: Vec<FlagDraft>,
    /// The positions of the experiments that no flag names.
    pub(super) unused: Vec<usize>,
    /// The last of them with each key, by its number.
    pub(super) unused_keys: HashMap<String, usize>,
    pub(super) flags: Vec<Flag>,
    /// The bytes of all outcomes so far.
    pub(super) outcome_bytes: usize,
    pub(super) disabled: Vec<Disabled>,
}

/// The part of a datafile that is compiled next.
#[derive(Debug, Default)]
pub(super) enum Stage {
    #[default]
    Head,
    /// An element of the list with this number.
    List(usize, usize),
    /// The flag draft with this number.
    Flag(usize),
    /// The unused experiment with this number.
    Experiment(usize),
    Refused,
    Done,
}

/// An experiment of the datafile.
pub(super) struct Experiment {
    /// Its key, even if the rest is wrong.
    pub(super) key: Option<String>,
    /// The position of its rule, or its problem.
    pub(super) rule: Result<usize, String>,
    /// Whether visitors outside its traffic get the variation that the flag's rollout gives everyone else, as a variation of
    /// this experiment.
    pub(super) is_feature_rollout: bool,
    /// The position of its group in the datafile.
    pub(super) group: Option<usize>,
    /// Its own position, in its group or in `experiments`.
    pub(super) index: usize,
}

/// A flag as the datafile has it, its ids looked up.
pub(super) struct FlagDraft {
    pub(super) key: String,
    pub(super) position: usize,
    pub(super) variables: Vec<Variable>,
    /// Positions in [`Draft::experiments`].
    pub(super) experiments: Vec<usize>,
    /// Position in [`Draft::rollouts`].
    pub(super) rollout: Option<usize>,
}

crate::document! {
    pub(super) struct IdWire {
        /// The id.
        pub(super) id: String => TEXT,
    }
}
