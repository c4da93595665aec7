//! Deciding: which variant of an experiment a visitor gets, and why. Deciding does not send, log or count.

use super::attribute::{AttributeName, AttributeValue, Attributes};
use super::condition::{LimitExceeded, StepBudget};
use super::flag::{FlagEvaluator, FlagSink, FlagVisitor};
use super::hash::BUCKETS;
use super::reason::Reason;
use super::route::RequestLine;
use super::snapshot::{Experiment, Snapshot, State};
use crate::number;
use serde_json::Value;
use std::borrow::Cow;

/// Longer ids count as absent: they are no ids.
pub const UNIT_BYTES_MAX: usize = 512;

/// What is known of a visit beside its attributes.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// Milliseconds since the epoch.
    pub now_ms: i64,
    /// The filter acts on this path.
    pub path_included: bool,
    /// The visitor may be told apart from others.
    pub consent: bool,
    /// The user agent is a bot's, and bots take no part.
    pub bot: bool,
    /// Experiments and the variants of them that a preview link shows, by their keys. Those that are unknown do nothing.
    pub preview: &'a [(String, String)],
    /// The variants that the visitor's browser was given before. Those that are unknown do nothing.
    pub sticky: &'a [StickyBucket<'a>],
    /// The tags of variants that are switched off. Only links and `forced` still lead to them.
    pub off: &'a [u64],
}

impl Visit<'_> {
    /// A visit that nothing restricts and nothing is known of: the filter acts on its path, and the visitor may take part.
    #[inline(always)]
    pub const fn unrestricted(now_ms: i64) -> Visit<'static> {
        Visit { now_ms, path_included: true, consent: true, bot: false, preview: &[], sticky: &[], off: &[] }
    }
}

/// A variant that a browser was given before, each experiment once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyBucket<'a> {
    /// The key of the experiment.
    pub experiment: Cow<'a, str>,
    /// The version of its sticky buckets then.
    pub version: u32,
    /// The key of the variant.
    pub variant: Cow<'a, str>,
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
    pub(super) fn no(reason: Reason) -> Decision {
        Decision { variant: None, reason }
    }

    pub(super) fn yes(variant: usize, reason: Reason) -> Decision {
        Decision { variant: Some(variant), reason }
    }
}

/// Decides `experiment` for one request, from the first check to the last. All decisions of a request share `steps`.
pub fn decide(
    snapshot: &Snapshot,
    experiment: &Experiment,
    line: &RequestLine<'_>,
    visit: &Visit<'_>,
    attributes: &impl Attributes,
    steps: &StepBudget,
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
    decide_routed(snapshot, experiment, visit, attributes, steps)
}

/// Decides `experiment` for a request that is known to be on an included path and on its route, where it is not paused.
/// All decisions of a request share `steps`.
pub fn decide_routed(
    snapshot: &Snapshot,
    experiment: &Experiment,
    visit: &Visit<'_>,
    attributes: &impl Attributes,
    steps: &StepBudget,
) -> Decision {
    if let Some(variant) = previewed(experiment, visit) {
        return Decision::yes(variant, Reason::Preview);
    }
    if let State::Concluded(winner) = experiment.state {
        return Decision::yes(winner, Reason::Winner);
    }
    if let Some(reason) = not_scheduled(experiment, visit.now_ms).or_else(|| not_told_apart(visit)) {
        return Decision::no(reason);
    }
    let Some(unit) = unit(&experiment.unit, attributes) else {
        return Decision::no(Reason::NoUnit);
    };
    if let Some(&forced) = experiment.forced.get(&*unit) {
        return Decision::yes(forced, Reason::Forced);
    }
    match experiment.audience.as_ref().map_or(Ok(true), |audience| audience.matches(attributes, steps)) {
        Ok(true) => {}
        Ok(false) => return Decision::no(Reason::Audience),
        Err(LimitExceeded) => return Decision::no(Reason::Limit),
    }
    if snapshot.holdout.as_ref().is_some_and(|holdout| holdout.salt.bucket(&unit) < holdout.share) {
        return Decision::no(Reason::Holdout);
    }
    if experiment.layer.as_ref().is_some_and(|layer| !(layer.from..layer.to).contains(&layer.salt.bucket(&unit))) {
        return Decision::no(Reason::Layer);
    }
    if let Some(variant) = remembered(experiment, visit) {
        return unless_off(experiment, visit, variant, Reason::Sticky);
    }
    let share = experiment.traffic_share(visit.now_ms);
    if share < BUCKETS && experiment.traffic_salt.bucket(&unit) >= share {
        return Decision::no(Reason::Traffic);
    }
    let bucket = experiment.variant_salt.bucket(&unit);
    match experiment.variants.iter().position(|variant| bucket < variant.bucket_end) {
        Some(variant) => unless_off(experiment, visit, variant, Reason::Bucketed),
        // Weights add up to all buckets, so this is not reached; nobody is in a variant that does not exist.
        None => Decision::no(Reason::Traffic),
    }
}

/// The variant, or none where it is switched off: the visitor sees what everybody sees who is in no experiment.
fn unless_off(experiment: &Experiment, visit: &Visit<'_>, variant: usize, reason: Reason) -> Decision {
    let is_off = |tag| visit.off.contains(&tag);
    if !visit.off.is_empty() && experiment.variants.get(variant).is_some_and(|variant| is_off(variant.tag)) {
        return Decision::no(Reason::Guardrail);
    }
    Decision::yes(variant, reason)
}

/// The variant that a preview link shows, if it names one that there is.
pub fn previewed(experiment: &Experiment, visit: &Visit<'_>) -> Option<usize> {
    let (_, variant) = visit.preview.iter().find(|(key, _)| *key == experiment.key)?;
    experiment.variant(variant)
}

/// The variant that the visitor's browser was given before, if the experiment keeps visitors in theirs and still has it.
pub fn remembered(experiment: &Experiment, visit: &Visit<'_>) -> Option<usize> {
    let version = experiment.sticky?;
    let bucket = visit.sticky.iter().find(|bucket| bucket.experiment == experiment.key)?;
    if bucket.version == version { experiment.variant(&bucket.variant) } else { None }
}

/// Why the visitor may not be told apart from others, if so.
pub fn not_told_apart(visit: &Visit<'_>) -> Option<Reason> {
    match (visit.bot, visit.consent) {
        (true, _) => Some(Reason::Bot),
        (false, false) => Some(Reason::NoConsent),
        (false, true) => None,
    }
}

/// Decides the experiments at `candidates`, which are `rules`' flags, for a request that is known to be on an included path
/// and on their routes. `sink` hears of each once, in no particular order.
pub fn decide_flags(
    snapshot: &Snapshot,
    rules: &dyn FlagEvaluator,
    candidates: &[u32],
    visit: &Visit<'_>,
    visitor: &FlagVisitor<'_>,
    sink: &mut dyn FlagSink,
) {
    let found = candidates.iter().filter_map(|&candidate| snapshot.experiments.get(candidate as usize));
    let (mut asked, mut shown) = (Vec::with_capacity(candidates.len()), Vec::new());
    let refused = not_told_apart(visit);
    for experiment in found {
        let State::Flag(number) = experiment.state else { continue };
        match (previewed(experiment, visit), refused) {
            (Some(variant), _) => shown.push((number, variant)),
            (None, Some(reason)) => sink.decided(number, None, reason),
            (None, None) => asked.push(number),
        }
    }
    for &(number, variant) in &shown {
        sink.decided(number, Some(variant), Reason::Preview);
    }
    if !asked.is_empty() {
        rules.decide(&asked, &FlagVisitor { previewed: &shown, ..*visitor }, sink);
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
        AttributeValue::Json(Value::Number(number)) => Cow::Owned(match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => number::javascript(float),
            None => number.to_string(),
        }),
        AttributeValue::Missing | AttributeValue::Json(_) => return None,
    };
    is_unit(unit.as_bytes()).then_some(unit)
}

/// Whether `text` can be an id.
pub fn is_unit(text: &[u8]) -> bool {
    (1..=UNIT_BYTES_MAX).contains(&text.len())
}
