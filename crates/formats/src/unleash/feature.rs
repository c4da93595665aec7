//! The compiled features: immutable, replaced whole, only read on the request path.

use super::constraint::{Constraint, Source};
use edgesplit_engine::flag::Outcome;

/// The outcome of a feature that is off, and of one that is on without a variant. Its variants follow.
pub(super) const OFF: usize = 0;
pub(super) const ON: usize = 1;

/// The features and segments of a payload.
#[derive(Default)]
pub(super) struct Features {
    pub(super) features: Vec<Feature>,
    pub(super) segments: Vec<Vec<Constraint>>,
}

pub(super) struct Feature {
    pub(super) name: String,
    /// Its position in the payload.
    pub(super) position: usize,
    pub(super) enabled: bool,
    pub(super) parents: Vec<Parent>,
    /// None if one of them is not understood: the feature is off then.
    pub(super) strategies: Option<Vec<Strategy>>,
    pub(super) variants: Variants,
    pub(super) outcomes: Vec<Outcome>,
}

/// A feature that another one depends on.
pub(super) struct Parent {
    pub(super) name: String,
    /// Its number; none if there is no such feature.
    pub(super) feature: Option<usize>,
    pub(super) enabled: bool,
    pub(super) variants: Vec<String>,
}

pub(super) struct Strategy {
    pub(super) gate: Gate,
    pub(super) constraints: Vec<Constraint>,
    /// The positions of its segments.
    pub(super) segments: Vec<usize>,
    pub(super) variants: Variants,
}

/// The condition of a strategy itself.
pub(super) enum Gate {
    Always,
    Check(Constraint),
    /// None stands for the name of the feature that is decided.
    Rollout {
        percent: u32,
        stickiness: Stickiness,
        group: Option<String>,
    },
}

/// The value that is bucketed.
pub(super) enum Stickiness {
    /// The user's id, else the session's.
    Default {
        session: Source,
    },
    Random,
    Field(Source),
}

/// Variants of a feature or of a strategy.
pub(super) struct Variants {
    pub(super) list: Vec<Variant>,
    pub(super) stickiness: Stickiness,
    pub(super) group: String,
    /// The outcome of the first one.
    pub(super) first_outcome: usize,
}

pub(super) struct Variant {
    pub(super) weight: u32,
    /// Fields with the values that always lead to it.
    pub(super) overrides: Vec<(Source, Vec<String>)>,
}
