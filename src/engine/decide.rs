//! Deciding: which variant of an experiment a visitor gets, and why. Deciding does not send, log or count.

use super::attribute::{AttributeName, AttributeValue, Attributes};
use super::hash::BUCKETS;
use super::reason::Reason;
use super::route::RequestLine;
use super::snapshot::{Experiment, Snapshot, State};
use serde_json::Value;
use std::borrow::Cow;

/// Longer ids count as absent: they are no ids.
pub const UNIT_BYTES_MAX: usize = 512;

/// What is known of a visit beside its attributes.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// Milliseconds since the epoch.
    pub now_ms: i64,
    /// The filter acts on this path.
    pub path_included: bool,
    /// The visitor may be told apart from others.
    pub consent: bool,
    /// The user agent is a bot's, and bots take no part.
    pub bot: bool,
}

/// What came out for one experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The position of the variant, if the visitor gets one.
    pub variant: Option<usize>,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    fn no(reason: Reason) -> Decision {
        Decision { variant: None, reason }
    }

    fn yes(variant: usize, reason: Reason) -> Decision {
        Decision { variant: Some(variant), reason }
    }
}

/// Decides `experiment` for one request, from the first step to the last.
pub fn decide(
    snapshot: &Snapshot,
    experiment: &Experiment,
    line: &RequestLine<'_>,
    visit: &Visit,
    attributes: &impl Attributes,
) -> Decision {
    if !visit.path_included {
        return Decision::no(Reason::PathExcluded);
    }
    if experiment.state == State::Paused {
        return Decision::no(Reason::Paused);
    }
    if !experiment.route.matches(line) {
        return Decision::no(Reason::Route);
    }
    decide_routed(snapshot, experiment, visit, attributes)
}

/// Decides `experiment` for a request that is known to be on an included path and on its route, where it is not paused.
pub fn decide_routed(
    snapshot: &Snapshot,
    experiment: &Experiment,
    visit: &Visit,
    attributes: &impl Attributes,
) -> Decision {
    if let State::Concluded(winner) = experiment.state {
        return Decision::yes(winner, Reason::Winner);
    }
    if let Some(reason) = not_scheduled(experiment, visit.now_ms) {
        return Decision::no(reason);
    }
    if visit.bot {
        return Decision::no(Reason::Bot);
    }
    if !visit.consent {
        return Decision::no(Reason::NoConsent);
    }
    let Some(unit) = unit(&experiment.unit, attributes) else {
        return Decision::no(Reason::NoUnit);
    };
    if let Some(&forced) = experiment.forced.get(&*unit) {
        return Decision::yes(forced, Reason::Forced);
    }
    if experiment.audience.as_ref().is_some_and(|audience| !audience.matches(attributes)) {
        return Decision::no(Reason::Audience);
    }
    if snapshot.holdout.as_ref().is_some_and(|holdout| holdout.salt.bucket(&unit) < holdout.share) {
        return Decision::no(Reason::Holdout);
    }
    if experiment.layer.as_ref().is_some_and(|layer| !(layer.from..layer.to).contains(&layer.salt.bucket(&unit))) {
        return Decision::no(Reason::Layer);
    }
    let share = experiment.traffic_share(visit.now_ms);
    if share < BUCKETS && experiment.traffic_salt.bucket(&unit) >= share {
        return Decision::no(Reason::Traffic);
    }
    let bucket = experiment.variant_salt.bucket(&unit);
    match experiment.variants.iter().position(|variant| bucket < variant.bucket_end) {
        Some(variant) => Decision::yes(variant, Reason::Bucketed),
        // Weights add up to all buckets, so this is not reached; nobody is in a variant that does not exist.
        None => Decision::no(Reason::Traffic),
    }
}

/// Why the schedule keeps everybody out at `now_ms`, if it does.
pub fn not_scheduled(experiment: &Experiment, now_ms: i64) -> Option<Reason> {
    if experiment.starts_ms.is_some_and(|starts_ms| now_ms < starts_ms) {
        return Some(Reason::NotStarted);
    }
    if experiment.ends_ms.is_some_and(|ends_ms| now_ms >= ends_ms) {
        return Some(Reason::Ended);
    }
    None
}

/// The value that is bucketed: text as it is, numbers and booleans as JavaScript writes them. What is empty, too long
/// or no single value counts as absent.
pub fn unit<'a>(name: &'a AttributeName, attributes: &'a impl Attributes) -> Option<Cow<'a, str>> {
    let unit = match attributes.attribute(name) {
        AttributeValue::Text(text) => text,
        AttributeValue::Json(Value::String(text)) => Cow::Borrowed(text.as_str()),
        AttributeValue::Json(Value::Bool(flag)) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        AttributeValue::Json(Value::Number(number)) => Cow::Owned(match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
            _ => number.to_string(),
        }),
        AttributeValue::Missing | AttributeValue::Json(_) => return None,
    };
    is_unit(&unit).then_some(unit)
}

/// Whether `text` can be an id.
pub fn is_unit(text: &str) -> bool {
    (1..=UNIT_BYTES_MAX).contains(&text.len())
}
