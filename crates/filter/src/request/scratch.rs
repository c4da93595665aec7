//! Buffers that a worker keeps for its requests, one after the other.

use edgesplit_engine::route_index::RouteMatches;
use edgesplit_engine::snapshot::Choice;

/// Buffers that requests share one after the other, to save allocations.
#[derive(Debug, Default)]
pub struct RequestScratch {
    pub(super) experiments: RouteMatches,
    pub(super) goals: RouteMatches,
    /// The variants of the visitor, and those of them that may be exposures.
    pub(super) choices: Vec<Choice>,
    pub(super) exposed: Vec<Choice>,
}
