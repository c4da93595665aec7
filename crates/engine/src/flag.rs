//! Flags of vendors' formats: their outcomes, the decisions for a visitor, and the reports of those.
//!
//! A vendor's module lists every outcome of a flag when it compiles a config, and the texts, effects
//! and events that depend on the outcome alone are prepared once. A decision only names an outcome.

use super::attribute::Attributes;
use super::condition::StepBudget;
use super::observer::Observer;
use super::reason::Reason;
use serde_json::Value;
use std::any::Any;
use std::fmt;

/// An outcome of a flag.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The variant's key, where there is a variant.
    pub variant: Option<String>,
    /// The experiment's or rule's own key, where one decided.
    pub experiment: Option<String>,
    /// The value of the flag.
    pub value: Value,
    /// Whether this is a variant of an experiment, not of a rollout or a default.
    pub in_experiment: bool,
}

/// Looks up the sticky buckets that the visitor's browser stores under a name.
pub type StickyStore<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A visitor, for vendors' rules.
#[derive(Clone, Copy)]
pub struct FlagVisitor<'a> {
    /// The visitor's id.
    pub id: Option<&'a str>,
    /// The attributes of the visitor and the request.
    pub attributes: &'a dyn Attributes,
    /// Flags whose outcome a preview sets, by their numbers.
    pub previewed: &'a [(usize, usize)],
    /// The sticky buckets of the visitor's browser; none where sticky bucketing is off.
    pub sticky_store: Option<&'a StickyStore<'a>>,
    /// The steps that the conditions of this request may still take.
    pub steps: &'a StepBudget,
    /// Milliseconds since the epoch.
    pub now_ms: i64,
}

impl<'a> FlagVisitor<'a> {
    /// A visitor without previews and without sticky buckets.
    pub fn new(
        id: Option<&'a str>,
        attributes: &'a dyn Attributes,
        steps: &'a StepBudget,
        now_ms: i64,
    ) -> FlagVisitor<'a> {
        FlagVisitor { id, attributes, previewed: &[], sticky_store: None, steps, now_ms }
    }
}

impl fmt::Debug for FlagVisitor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlagVisitor").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A report that the vendor's SDK would make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagExposure<'a> {
    /// The experiment's own key; the flag's where no experiment decided.
    pub experiment: &'a str,
    /// The variant's key, where there is a variant.
    pub variant: Option<&'a str>,
    /// The name of the attribute that was bucketed.
    pub attribute: &'a str,
    /// Its value.
    pub unit: &'a str,
    /// The value with its type, if it is not a text.
    pub typed_unit: Option<&'a Value>,
    /// The flag and its outcome, where the report is about those.
    pub outcome: Option<(usize, usize)>,
}

/// Receives the results of deciding flags. It also observes the checks: those reported before `decided` belong to the
/// flag that it names.
pub trait FlagSink: Observer {
    /// The flag `flag` is decided; `outcome` is none if nothing is known about this visitor.
    fn decided(&mut self, flag: usize, outcome: Option<usize>, reason: Reason);

    /// Reports an exposure.
    fn exposed(&mut self, _exposure: &FlagExposure<'_>) {}

    /// Redirects the visitor to `location`. False if the redirect is refused.
    fn redirected(&mut self, _location: &str) -> bool {
        true
    }

    /// Stores `value` under `name` in the visitor's browser.
    fn kept(&mut self, _name: &str, _value: &str) {}
}

/// Collects the decisions about flags.
#[derive(Debug, Default)]
pub struct FlagDecisions {
    /// The flags' numbers, in rising order, with the outcome of each, if it has one, and why.
    pub decided: Vec<(usize, Option<usize>, Reason)>,
    /// The target of a redirect.
    pub redirect: Option<String>,
}

impl Observer for FlagDecisions {
    fn check(&mut self, _name: &str, _passed: bool, _detail: fmt::Arguments<'_>) {}
}

impl FlagSink for FlagDecisions {
    fn decided(&mut self, flag: usize, outcome: Option<usize>, reason: Reason) {
        self.decided.push((flag, outcome, reason));
    }

    fn redirected(&mut self, location: &str) -> bool {
        self.redirect = Some(location.to_owned());
        true
    }
}

/// The compiled rules of a vendor's config.
pub trait FlagEvaluator: Any + Send + Sync {
    /// Decides `flags`, given by their numbers in rising order, for one visitor. Each is reported to `sink` once, after
    /// the checks that led to it.
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink);

    /// All outcomes of the flag `flag`.
    fn outcomes(&self, flag: usize) -> &[Outcome];

    /// Frees the next parts of an evaluator that is no longer used, and takes their number from `left`.
    fn free(&mut self, _left: &mut usize) {}
}

impl dyn FlagEvaluator {
    /// The vendor's own type, for the code that writes its events.
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        let evaluator: &dyn Any = self;
        evaluator.downcast_ref()
    }
}

// A `Debug` bound on the trait would bring the code that prints a whole compiled config into the module.
impl fmt::Debug for dyn FlagEvaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlagEvaluator")
    }
}
