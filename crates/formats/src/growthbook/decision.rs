//! The input and the results of decisions.

use super::experiment::Experiment;
use edgesplit_engine::condition::StepBudget;
use edgesplit_engine::reason::Reason;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;

/// No rule was for the visitor.
pub(super) const NO_RULE: Reason = Reason::Vendor("default_value");
/// A rule forces a value.
pub(super) const FORCE: Reason = Reason::Vendor("force");
/// The visitor is in an experiment.
pub(super) const EXPERIMENT: Reason = Reason::Vendor("experiment");
/// A prerequisite that gates the whole feature was not met.
pub(super) const PREREQUISITE: Reason = Reason::Vendor("prerequisite");
/// The prerequisites form a cycle.
pub(super) const CYCLIC_PREREQUISITE: Reason = Reason::Vendor("cyclic_prerequisite");
/// The payload has no such feature.
pub(super) const UNKNOWN_FEATURE: Reason = Reason::Vendor("unknown_feature");
/// An override set the outcome.
pub(super) const OVERRIDE: Reason = Reason::Vendor("override");

/// The visitor and the request.
#[derive(Debug)]
pub struct Context<'a, A> {
    /// The attributes that rules target and hash by.
    pub attributes: &'a A,
    /// The whole URL; empty if it is unknown.
    pub url: &'a str,
    /// The overrides of the payload.
    pub overrides: Overrides<'a>,
    /// The steps that the conditions of this request may still take.
    pub steps: &'a StepBudget,
}

/// Overrides of the payload, for tests and previews.
#[derive(Debug, Clone, Copy)]
pub struct Overrides<'a> {
    /// Whether experiments run at all.
    pub enabled: bool,
    /// Whether only forced variations are assigned.
    pub qa_mode: bool,
    /// Whether the URL's query may choose variations. Visitors control it, so the filter never allows this.
    pub query_string: bool,
    /// The number of the variation by the experiment's key.
    pub variations: Option<&'a HashMap<String, i64>>,
    /// The outcome by the feature's position.
    pub outcomes: &'a [(usize, usize)],
}

impl Default for Overrides<'_> {
    fn default() -> Self {
        Overrides { enabled: true, qa_mode: false, query_string: false, variations: None, outcomes: &[] }
    }
}

/// An exposure, as GrowthBook's SDK reports it to its tracking callback.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposure<'a> {
    /// The experiment's key.
    pub experiment: &'a str,
    /// The variation's key.
    pub variation: &'a str,
    /// The name of the attribute that was hashed.
    pub attribute: &'a str,
    /// Its value.
    pub unit: Cow<'a, str>,
    /// The value with its type, if it is not a text.
    pub typed_unit: Option<&'a Value>,
    /// The variation's number, if it is known. The SDK recognizes repeated exposures by it, not by the key.
    pub number: Option<usize>,
}

/// The decision about a feature.
#[derive(Debug, Clone)]
pub struct FeatureDecision<'a> {
    /// The position in the feature's outcomes.
    pub outcome: usize,
    /// The reason.
    pub reason: Reason,
    /// The id of the rule that decided; empty if it has none.
    pub rule: &'a str,
    /// The experiment that decided.
    pub result: Option<ExperimentResult<'a>>,
}

/// The result of an experiment.
#[derive(Debug, Clone)]
pub struct ExperimentResult<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// The number of the variation; 0 for visitors who are not in it.
    pub variation: usize,
    /// Whether the visitor is in it.
    pub in_experiment: bool,
    /// Whether the variation was found by hashing, now or when its sticky bucket was made.
    pub hash_used: bool,
    /// Whether a sticky bucket decided.
    pub sticky_bucket_used: bool,
    /// The visitor's bucket.
    pub bucket: Option<f64>,
    /// The name of the attribute that was hashed.
    pub attribute: &'a str,
    /// Its value, if it has one.
    pub unit: Option<Cow<'a, str>>,
    /// The weights of a contextual bandit that the visitor was bucketed with.
    pub bandit: Option<BanditResult<'a>>,
}

/// The visitor's context of a contextual bandit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BanditResult<'a> {
    /// The context's id; [`FALLBACK_LEAF`](super::FALLBACK_LEAF) if the visitor is in none.
    pub leaf: i64,
    /// The weights of the variations there.
    pub weights: &'a [f64],
    /// The bandit's version, as the payload has it.
    pub version: Option<&'a Value>,
}

impl FeatureDecision<'_> {
    /// A decision without a rule.
    pub(super) fn without_rule(outcome: usize, reason: Reason) -> Self {
        FeatureDecision { outcome, reason, rule: "", result: None }
    }
}
