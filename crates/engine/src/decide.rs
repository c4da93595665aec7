//! The evaluator: which variant of an experiment a visitor gets, and why. It does not send, log or count.
//!
//! The checks and their order are those of the contract. Each is written once and reports to an [`Observer`].

use super::attribute::{AttributeName, AttributeValue, Attributes};
use super::condition::{LimitExceeded, StepBudget, look_up};
pub use super::decision::{Decision, DecisionInput, StickyBucket};
use super::hash::BUCKETS;
use super::observer::Observer;
use super::reason::Reason;
use super::route::RequestLine;
use super::snapshot::{Experiment, Snapshot, State};
use crate::number;
use serde_json::Value;
use std::borrow::Cow;

/// The longest id in bytes; a longer one counts as absent.
pub const UNIT_BYTES_MAX: usize = 512;

/// Decides `experiment` for one request.
pub fn evaluate(
    snapshot: &Snapshot,
    experiment: &Experiment,
    line: &RequestLine<'_>,
    input: &DecisionInput<'_>,
    attributes: &impl Attributes,
    observer: &mut impl Observer,
) -> Decision {
    match check_request(experiment, line, input, observer) {
        Some(reason) => Decision::no(reason),
        None => evaluate_on_route(snapshot, experiment, input, &Units::new(snapshot, input, attributes), observer),
    }
}

/// The values that experiments bucket a visitor by. The id is looked up once for all of them.
#[derive(Debug)]
pub struct Units<'a, A> {
    attributes: &'a A,
    id: Option<Cow<'a, str>>,
    /// Whether no check applies to the visitor beside those of an experiment itself.
    is_unrestricted: bool,
}

impl<'a, A: Attributes> Units<'a, A> {
    /// The units of the visitor with these attributes, for decisions with `input`.
    #[inline(always)]
    pub fn new(snapshot: &Snapshot, input: &DecisionInput<'_>, attributes: &'a A) -> Units<'a, A> {
        let is_unrestricted = snapshot.holdout.is_none() && !input.has_checks();
        Units { attributes, id: text_unit(attributes.id()), is_unrestricted }
    }

    /// The value that `experiment` buckets by.
    fn of<'b>(&'b self, experiment: &'b Experiment, steps: &StepBudget) -> Result<Option<Cow<'b, str>>, LimitExceeded> {
        if experiment.unit == AttributeName::Id {
            return Ok(self.id.as_deref().map(Cow::Borrowed));
        }
        look_up(self.attributes, &experiment.unit, steps).map(text_unit)
    }
}

/// Decides an experiment whose request is known to pass [`evaluate`]'s first checks: path, state and route. The filter finds
/// such experiments by the snapshot's index.
#[inline(always)]
pub fn evaluate_on_route<O: Observer>(
    snapshot: &Snapshot,
    experiment: &Experiment,
    input: &DecisionInput<'_>,
    units: &Units<'_, impl Attributes>,
    observer: &mut O,
) -> Decision {
    // Without any check, which most experiments are, a decision reads little data and no more code than this.
    let is_plain = experiment.core.is_plain && units.is_unrestricted && !observer.is_active();
    match units.id.as_deref().filter(|_| is_plain) {
        Some(id) => allocate(experiment, input, id, observer),
        None => check_all(snapshot, experiment, input, units, observer),
    }
}

/// Makes all checks, in their order.
#[inline(never)]
fn check_all<O: Observer>(
    snapshot: &Snapshot,
    experiment: &Experiment,
    input: &DecisionInput<'_>,
    units: &Units<'_, impl Attributes>,
    observer: &mut O,
) -> Decision {
    if let Some(decision) = check_visitor(experiment, input, observer) {
        return decision;
    }
    let (unit, reason) = match units.of(experiment, input.steps) {
        Ok(unit) => (unit, Reason::NoUnit),
        Err(LimitExceeded) => (None, Reason::Limit),
    };
    let Some(unit) = unit else {
        let detail = either(reason == Reason::Limit, ["has no value to bucket by", "takes too long to look up"]);
        observer.check("unit", false, format_args!("{} {detail}", experiment.unit.written()));
        return Decision::no(reason);
    };
    if observer.is_active() {
        observer.check("unit", true, format_args!("{} is {unit:?}", experiment.unit.written()));
    }
    if let Some(decision) = check_unit(snapshot, experiment, input, units.attributes, (&unit, observer)) {
        return decision;
    }
    if let Some(decision) = check_traffic(experiment, input, &unit, observer) {
        return decision;
    }
    allocate(experiment, input, &unit, observer)
}

/// The checks of the request: path, state, route. Returns the reason of the one that excludes it.
pub fn check_request(
    experiment: &Experiment,
    line: &RequestLine<'_>,
    input: &DecisionInput<'_>,
    observer: &mut impl Observer,
) -> Option<Reason> {
    let included = input.path_included;
    let detail = either(included, ["the plugin configuration excludes this path", "the filter acts on this path"]);
    observer.check("path", included, format_args!("{detail}"));
    if !included {
        return Some(Reason::PathExcluded);
    }
    let active = experiment.state != State::Paused;
    observer.check("state", active, format_args!("{}", either(active, ["paused", "not paused"])));
    if !active {
        return Some(Reason::Paused);
    }
    let on_route = experiment.route.matches(line, input.steps);
    if observer.is_active() {
        let [method, path, host] = [line.method, line.path, &line.host].map(String::from_utf8_lossy);
        let matches = match on_route {
            Ok(matches) => either(matches, ["does not match", "matches"]),
            Err(LimitExceeded) => "exceeds the limit of work",
        };
        observer.check("route", on_route == Ok(true), format_args!("{method} {path} on {host:?} {matches}"));
    }
    match on_route {
        Ok(true) => None,
        Ok(false) => Some(Reason::Route),
        Err(LimitExceeded) => Some(Reason::Limit),
    }
}

/// The checks before the unit: preview, winner, schedule, bot, consent.
#[inline(always)]
fn check_visitor(experiment: &Experiment, input: &DecisionInput<'_>, observer: &mut impl Observer) -> Option<Decision> {
    if !input.preview.is_empty() {
        let shown = previewed(experiment, input);
        match shown.and_then(|variant| experiment.variants.get(variant)) {
            Some(variant) => observer.check("preview", true, format_args!("the link shows {}", variant.key)),
            None => observer.check("preview", true, format_args!("the link shows no variant of this experiment")),
        }
        if let Some(variant) = shown {
            return Some(Decision::yes(variant, Reason::Preview));
        }
    }
    if let State::Concluded(winner) = experiment.state {
        let key = experiment.variants.get(winner).map_or("", |variant| variant.key.as_str());
        observer.check("winner", true, format_args!("concluded: everyone gets {key}"));
        return Some(Decision::yes(winner, Reason::Winner));
    }
    let scheduled = schedule_reason(experiment, input.now_ms);
    let detail = match scheduled {
        Some(Reason::Ended) => "the end has passed",
        Some(_) => "the start is still to come",
        None if experiment.starts_ms.is_none() && experiment.ends_ms.is_none() => "no start or end is set",
        None => "between start and end",
    };
    observer.check("schedule", scheduled.is_none(), format_args!("{detail}"));
    if let Some(reason) = scheduled {
        return Some(Decision::no(reason));
    }
    let detail = either(input.bot, ["not a bot", "the user agent is a bot's"]);
    observer.check("bot", !input.bot, format_args!("{detail}"));
    if !input.bot {
        let detail = either(input.consent, ["missing, or the visitor objected", "given, or not required"]);
        observer.check("consent", input.consent, format_args!("{detail}"));
    }
    input.exclusion_reason().map(Decision::no)
}

/// The checks of the unit before its buckets: forced, audience, holdout, layer, sticky.
#[inline(always)]
fn check_unit<O: Observer>(
    snapshot: &Snapshot,
    experiment: &Experiment,
    input: &DecisionInput<'_>,
    attributes: &impl Attributes,
    (unit, observer): (&str, &mut O),
) -> Option<Decision> {
    match experiment.forced.get(unit).and_then(|&at| Some((at, experiment.variants.get(at)?))) {
        Some((at, variant)) => {
            observer.check("forced", true, format_args!("the config forces {} for this unit", variant.key));
            return Some(Decision::yes(at, Reason::Forced));
        }
        None => observer.check("forced", true, format_args!("no variant is forced")),
    }
    match &experiment.audience {
        None => observer.check("audience", true, format_args!("all visitors")),
        Some(audience) => {
            let reason = match audience.matches(attributes, input.steps) {
                Ok(true) => None,
                Ok(false) => Some(Reason::Audience),
                Err(LimitExceeded) => Some(Reason::Limit),
            };
            if observer.is_active() {
                let detail = match reason {
                    None => "matches".to_owned(),
                    Some(Reason::Limit) => "exceeds the limit of work".to_owned(),
                    Some(_) => audience.unmet(attributes),
                };
                observer.check("audience", reason.is_none(), format_args!("{detail}"));
            }
            if let Some(reason) = reason {
                return Some(Decision::no(reason));
            }
        }
    }
    if let Some(holdout) = &snapshot.holdout {
        let (bucket, share) = (holdout.salt.bucket(unit), holdout.share);
        let result = either(bucket < share, ["not held out", "held out"]);
        observer.check("holdout", bucket >= share, format_args!("bucket {bucket}; held out below {share}: {result}"));
        if bucket < share {
            return Some(Decision::no(Reason::Holdout));
        }
    }
    if let Some(layer) = &experiment.layer {
        let (bucket, slots) = (layer.salt.bucket(unit), layer.from..layer.to);
        let inside = slots.contains(&bucket);
        let (from, to, result) = (layer.from, layer.to, either(inside, ["out", "in"]));
        observer.check("layer", inside, format_args!("bucket {bucket}; its slots are [{from}, {to}): {result}"));
        if !inside {
            return Some(Decision::no(Reason::Layer));
        }
    }
    check_sticky(experiment, experiment.sticky?, input, observer)
}

/// The check of the variant that the browser had before.
fn check_sticky(
    experiment: &Experiment,
    version: u32,
    input: &DecisionInput<'_>,
    observer: &mut impl Observer,
) -> Option<Decision> {
    let Some(bucket) = input.sticky.iter().find(|bucket| bucket.experiment == experiment.key) else {
        observer.check("sticky", true, format_args!("the browser remembers no variant"));
        return None;
    };
    let (key, then) = (&*bucket.variant, bucket.version);
    if then != version {
        let detail = format_args!("the browser remembers {key:?} of version {then}; the current version is {version}");
        observer.check("sticky", true, detail);
        return None;
    }
    let Some(variant) = experiment.variant(key) else {
        let detail = format_args!("the browser remembers {key:?}, which the experiment does not have");
        observer.check("sticky", true, detail);
        return None;
    };
    // Else a forged cookie would reach a variant that is off.
    if experiment.weight(variant) == 0 {
        observer.check("sticky", true, format_args!("the browser remembers {key}, whose weight is 0 now"));
        return None;
    }
    observer.check("sticky", true, format_args!("the browser remembers {key}"));
    Some(unless_off(experiment, input, variant, Reason::Sticky, observer))
}

/// The check of the traffic share.
fn check_traffic(
    experiment: &Experiment,
    input: &DecisionInput<'_>,
    unit: &str,
    observer: &mut impl Observer,
) -> Option<Decision> {
    let share = experiment.traffic_share(input.now_ms);
    // At full traffic the bucket need not be known.
    if share < BUCKETS || observer.is_active() {
        let bucket = experiment.traffic_salt.bucket(unit);
        let result = either(bucket < share, ["out", "in"]);
        observer.check("traffic", bucket < share, format_args!("bucket {bucket}; takes part below {share}: {result}"));
        if bucket >= share {
            return Some(Decision::no(Reason::Traffic));
        }
    }
    None
}

/// The variant of the unit's bucket.
#[inline(always)]
fn allocate(experiment: &Experiment, input: &DecisionInput<'_>, unit: &str, observer: &mut impl Observer) -> Decision {
    let bucket = experiment.core.variant_salt.bucket(unit);
    if observer.is_active() {
        let starts = std::iter::once(0).chain(experiment.variants.iter().map(|variant| variant.bucket_end));
        let ranges = experiment.variants.iter().zip(starts);
        let ranges: Vec<String> =
            ranges.map(|(variant, start)| format!("{} [{start}, {})", variant.key, variant.bucket_end)).collect();
        observer.check("variant", true, format_args!("bucket {bucket} of {}", ranges.join(", ")));
    }
    let first = experiment.core.first_ends.iter().position(|end| bucket < *end);
    match first.or_else(|| later_variant(experiment, bucket)) {
        Some(variant) => unless_off(experiment, input, variant, Reason::Bucketed, observer),
        // Weights add up to all buckets, so this is not reached.
        None => Decision::no(Reason::Traffic),
    }
}

/// The variant of a bucket, where it is not one of the first.
#[cold]
#[inline(never)]
fn later_variant(experiment: &Experiment, bucket: u32) -> Option<usize> {
    experiment.variants.iter().position(|variant| bucket < variant.bucket_end)
}

/// The variant, or none if a guardrail has switched it off.
#[inline(always)]
fn unless_off(
    experiment: &Experiment,
    input: &DecisionInput<'_>,
    variant: usize,
    reason: Reason,
    observer: &mut impl Observer,
) -> Decision {
    let is_on = input.off.is_empty() || check_guardrail(experiment, input, variant, observer);
    if is_on { Decision::yes(variant, reason) } else { Decision::no(Reason::Guardrail) }
}

/// Whether the variant is on.
#[inline(never)]
fn check_guardrail(
    experiment: &Experiment,
    input: &DecisionInput<'_>,
    variant: usize,
    observer: &mut impl Observer,
) -> bool {
    let Some(found) = experiment.variants.get(variant) else { return true };
    let is_on = !input.off.contains(&found.tag);
    let state = either(is_on, ["is switched off", "is not switched off"]);
    observer.check("guardrail", is_on, format_args!("{} {state}", found.key));
    is_on
}

fn either(condition: bool, [no, yes]: [&'static str; 2]) -> &'static str {
    if condition { yes } else { no }
}

/// The variant that a preview link shows, if it names one that the experiment has.
pub(crate) fn previewed(experiment: &Experiment, input: &DecisionInput<'_>) -> Option<usize> {
    let (_, variant) = input.preview.iter().find(|(key, _)| *key == experiment.key)?;
    experiment.variant(variant)
}

/// The reason of a schedule that excludes every visitor at `now_ms`, if it does.
pub fn schedule_reason(experiment: &Experiment, now_ms: i64) -> Option<Reason> {
    if experiment.starts_ms.is_some_and(|starts_ms| now_ms < starts_ms) {
        return Some(Reason::NotStarted);
    }
    if experiment.ends_ms.is_some_and(|ends_ms| now_ms >= ends_ms) {
        return Some(Reason::Ended);
    }
    None
}

/// The value that is bucketed: text as it is, numbers and booleans as JavaScript writes them. A value that is empty, too long
/// or not scalar counts as absent.
pub fn unit<'a>(name: &'a AttributeName, attributes: &'a impl Attributes) -> Option<Cow<'a, str>> {
    text_unit(attributes.attribute(name))
}

#[inline(always)]
fn text_unit(value: AttributeValue<'_>) -> Option<Cow<'_, str>> {
    let unit = match value {
        AttributeValue::Text(text) => text,
        AttributeValue::Json(value) => json_unit(value)?,
        AttributeValue::Missing => return None,
    };
    is_unit(unit.as_bytes()).then_some(unit)
}

#[cold]
#[inline(never)]
fn json_unit(value: &Value) -> Option<Cow<'_, str>> {
    Some(match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Bool(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        Value::Number(number) => Cow::Owned(match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => number::javascript(float),
            None => number.to_string(),
        }),
        _ => return None,
    })
}

/// Whether `text` has the length of an id.
pub fn is_unit(text: &[u8]) -> bool {
    (1..=UNIT_BYTES_MAX).contains(&text.len())
}
