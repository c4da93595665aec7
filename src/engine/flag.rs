//! Flags, the way vendors' formats know them: what one can come out as, and what was decided about one visitor.
//!
//! A vendor's module lists every outcome of a flag when it compiles a config, so that whatever depends on the outcome
//! alone (header texts, effects, events) is written out once; deciding then only names one of them.

use serde_json::Value;
use std::borrow::Cow;

/// One thing a flag can come out as.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The variant's key, where there is a variant.
    pub variant: Option<String>,
    /// The experiment's or rule's own key, where one decided.
    pub experiment: Option<String>,
    /// What the flag's reader gets.
    pub value: Value,
    /// Whether this is a variant of an experiment, not of a rollout or a default.
    pub in_experiment: bool,
}

/// What a vendor's rules decided about one flag for one visitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagDecision<'a> {
    /// The position among the flag's outcomes.
    pub outcome: usize,
    /// Why, by the vendor's module's own names.
    pub reason: &'static str,
    /// Whether the vendor's SDK would report it.
    pub exposure: bool,
    /// Whom the report is about.
    pub unit: Option<Cow<'a, str>>,
}
