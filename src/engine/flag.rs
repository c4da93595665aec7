//! Flags: what the rules of a vendor's format decide, in a shape that all vendors share.
//!
//! Everything a flag can come out as is listed when its config is compiled, so that whatever a request needs of it can be
//! prepared by then; a decision is a place in that list.

use serde_json::Value;
use std::borrow::Cow;

/// One thing a flag can come out as.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The variation's key; none outside of experiments.
    pub variant: Option<String>,
    /// The experiment's or rule's own key.
    pub experiment: Option<String>,
    /// The value, as JSON.
    pub value: Value,
    /// Whether the visitor takes part in an experiment.
    pub in_experiment: bool,
}

/// What a vendor's rules decided about one flag for one visitor.
#[derive(Debug, Clone, PartialEq)]
pub struct FlagDecision<'a> {
    /// The place in the flag's `outcomes()`.
    pub outcome: usize,
    /// The vendor's own reason, in snake case.
    pub reason: &'static str,
    /// Whether the vendor's SDK would report it.
    pub exposure: bool,
    /// The value that was bucketed.
    pub unit: Option<Cow<'a, str>>,
}
