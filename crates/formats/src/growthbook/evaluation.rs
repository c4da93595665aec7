//! One visitor's pass over a payload.
//!
//! An [`Evaluation`] collects the exposures that the SDK would report, and the sticky buckets that it would keep. One
//! decision can lead to several experiments: those of its prerequisites, and those whose visitors go on to the next rule.

use super::decision::{Context, Exposure, FeatureDecision};
use super::experiment::{Attribute, Filter, UnitName};
use super::hash::in_range;
use super::payload::Payload;
use super::sticky::{StickyDocument, StickyDocuments};
use super::trace::Trace;
use edgesplit_engine::attribute::{AttributeValue, Attributes};
use edgesplit_engine::condition::value::JsValue;
use edgesplit_engine::condition::{Condition, LimitExceeded, look_up, spend_bytes};
use edgesplit_engine::observer::Check;
use serde_json::Value;
use std::borrow::Cow;

/// One visitor's pass over a payload.
#[derive(Debug)]
pub struct Evaluation<'a, A> {
    pub(super) payload: &'a Payload,
    pub(super) context: &'a Context<'a, A>,
    pub(super) sticky: Option<StickyDocuments>,
    pub(super) exposures: Vec<Exposure<'a>>,
    /// The state of each feature, by its position, if it was requested, itself or as a prerequisite.
    pub(super) decided: Vec<Option<Box<Progress<'a>>>>,
    /// The number of prerequisites between the requested decision and this one.
    pub(super) depth: usize,
    /// The redirect tests, by their positions, that exceeded a limit of work.
    pub(super) limited_tests: Vec<usize>,
    pub(super) trace: Trace,
}

/// The state of a feature that was requested.
#[derive(Debug)]
pub(super) enum Progress<'a> {
    /// Being decided: a second request for it is a cycle.
    Begun,
    Done(FeatureDecision<'a>),
}

impl<'a, A: Attributes> Evaluation<'a, A> {
    /// Starts a pass. Without `sticky`, sticky bucketing is off.
    pub fn new(payload: &'a Payload, context: &'a Context<'a, A>, sticky: Option<StickyDocuments>) -> Self {
        let decided = payload.features.iter().map(|_| None).collect();
        Evaluation {
            payload,
            context,
            sticky,
            exposures: Vec::new(),
            decided,
            depth: 0,
            limited_tests: Vec::new(),
            trace: Trace::default(),
        }
    }

    /// Records all checks from now on.
    pub fn observe(&mut self) {
        self.trace = Trace::recording();
    }

    /// The checks since the last call. A feature that was decided before, as a prerequisite, is not checked again.
    pub fn take_checks(&self) -> Vec<Check> {
        self.trace.take()
    }

    /// The exposures so far, each once.
    pub fn exposures(&self) -> &[Exposure<'a>] {
        &self.exposures
    }

    /// Withdraws the exposure of `experiment`, if it is the last and came after the first `before`.
    pub(super) fn withdraw(&mut self, experiment: &str, before: usize) {
        if self.exposures.len() > before {
            self.exposures.pop_if(|exposure| exposure.experiment == experiment);
        }
    }

    /// Whether the redirect test at this position exceeded a limit of work.
    pub fn is_limited(&self, test: usize) -> bool {
        self.limited_tests.contains(&test)
    }

    /// Reads the visitor's sticky buckets: `document` gives each by its name, the attribute's name and value joined by `||`.
    pub fn read_sticky(&mut self, document: &dyn Fn(&str) -> Option<StickyDocument>) {
        for attribute in &self.payload.sticky_attributes {
            let Ok(Some(unit)) = self.value(attribute) else { continue };
            let found = document(&format!("{}||{unit}", attribute.written));
            // A document names its visitor. One under another visitor's name is ignored.
            let found = found.filter(|found| found.attribute == attribute.written && found.unit == unit);
            if let (Some(documents), Some(found)) = (&mut self.sticky, found) {
                documents.add(found);
            }
        }
    }

    /// The sticky buckets as they are now.
    pub fn sticky(&self) -> Option<&StickyDocuments> {
        self.sticky.as_ref()
    }

    /// Whether `condition` holds for the visitor, if there is one.
    pub(super) fn matches(&self, condition: Option<&Condition>) -> Result<bool, LimitExceeded> {
        let Some(condition) = condition else { return Ok(true) };
        let matches = condition.matches(self.context.attributes, self.context.steps)?;
        self.trace.check("condition", matches, || condition.unmet(self.context.attributes));
        Ok(matches)
    }

    /// Whether one of `filters` excludes the visitor.
    pub(super) fn is_filtered_out(&self, filters: &'a [Filter]) -> Result<bool, LimitExceeded> {
        for filter in filters {
            let bucket = self.value(&filter.attribute)?.and_then(|unit| filter.hasher.bucket(&unit));
            let is_in = bucket.is_some_and(|bucket| filter.ranges.iter().any(|&range| in_range(bucket, range)));
            self.trace.check("filter", is_in, || shown_bucket(bucket, &filter.attribute.written));
            if !is_in {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The text of an attribute for hashing. Values that are false to JavaScript, such as 0, have none.
    pub(super) fn value(&self, attribute: &'a Attribute) -> Result<Option<Cow<'a, str>>, LimitExceeded> {
        let text = match look_up(self.context.attributes, &attribute.name, self.context.steps)? {
            AttributeValue::Missing => None,
            AttributeValue::Text(text) => Some(text).filter(|text| !text.is_empty()),
            AttributeValue::Json(value) => {
                Some(JsValue::from(value)).filter(|value| value.is_true()).map(JsValue::text)
            }
        };
        // It is hashed, and copied into an exposure.
        spend_bytes(2 * text.as_deref().map_or(0, str::len), self.context.steps)?;
        Ok(text)
    }

    /// The attribute that is hashed, with its value if there is one. The fallback attribute stands in only if buckets are
    /// sticky.
    pub(super) fn unit(&self, unit: &'a UnitName, sticky: bool) -> Result<Unit<'a>, LimitExceeded> {
        let own = self.value(&unit.attribute)?;
        if own.is_none()
            && sticky
            && self.sticky.is_some()
            && let Some(fallback) = &unit.fallback
            && let Some(value) = self.value(fallback)?
        {
            return Ok((&fallback.written, Some(value)));
        }
        Ok((&unit.attribute.written, own))
    }

    /// The value of the attribute `written` of `unit` with its type, if it is not a text.
    pub(super) fn typed_unit(&self, unit: &'a UnitName, written: &str) -> Option<&'a Value> {
        let attribute = unit.fallback.as_ref().filter(|fallback| fallback.written == written);
        match self.context.attributes.attribute(&attribute.unwrap_or(&unit.attribute).name) {
            AttributeValue::Json(value) if !value.is_string() => Some(value),
            _ => None,
        }
    }

    /// Reports an exposure, unless it was reported before.
    pub(super) fn expose(&mut self, exposure: Exposure<'a>) {
        let same = |other: &Exposure<'_>| {
            (other.experiment, other.number, other.attribute)
                == (exposure.experiment, exposure.number, exposure.attribute)
                && other.unit == exposure.unit
        };
        if !self.exposures.iter().any(same) {
            self.exposures.push(exposure);
        }
    }
}

/// The name of the attribute that is hashed, and its value.
type Unit<'a> = (&'a str, Option<Cow<'a, str>>);

/// A bucket of the attribute `attribute`, for a person.
pub(super) fn shown_bucket(bucket: Option<f64>, attribute: &str) -> String {
    match bucket {
        Some(bucket) => format!("bucket {bucket} of {attribute}"),
        None => format!("{attribute} has no value to hash"),
    }
}

/// The result of all prerequisites of a rule or an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parents {
    Pass,
    Fail { gate: bool },
    Cyclic,
}
