//! Deciding: which variant of an experiment a visitor gets, and why. Deciding does not send, log or count.

use super::attribute::{AttributeName, AttributeValue, Attributes};
use super::flag::{FlagRules, FlagSink, FlagVisitor};
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

/// Decides `experiment` for one request, from the first step to the last.
pub fn decide(
    snapshot: &Snapshot,
    experiment: &Experiment,
    line: &RequestLine<'_>,
    visit: &Visit<'_>,
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

/// Decides experiments for one request that is known to be on an included path and on their routes, where they are not paused.
#[derive(Debug)]
pub struct Decider<'a, A> {
    snapshot: &'a Snapshot,
    visit: &'a Visit<'a>,
    attributes: &'a A,
    /// What plain experiments need of the visitor: the id, or why there is none. `None` where even they have to be asked more.
    id: Option<Result<&'a [u8], Reason>>,
    has_asked_more: bool,
}

impl<'a, A: Attributes> Decider<'a, A> {
    /// Finds out once what all experiments ask. `id` is the [`unit()`] of [`AttributeName::Id`].
    #[inline(always)]
    pub fn new(
        snapshot: &'a Snapshot,
        visit: &'a Visit<'a>,
        attributes: &'a A,
        id: Option<&'a [u8]>,
    ) -> Decider<'a, A> {
        let is_plain = visit.preview.is_empty() && visit.off.is_empty();
        let id = is_plain.then(|| match not_told_apart(visit) {
            Some(reason) => Err(reason),
            None => id.ok_or(Reason::NoUnit),
        });
        Decider { snapshot, visit, attributes, id, has_asked_more: false }
    }

    /// Whether more was asked for any experiment so far than the visitor's id.
    pub fn has_asked_more(&self) -> bool {
        self.has_asked_more
    }

    /// Decides the experiment at the position `number`; nothing where there is none.
    #[inline(always)]
    pub fn decide(&mut self, number: usize) -> Option<Decision> {
        if let (Some(id), Some(Some(plain))) = (self.id, self.snapshot.plain.get(number)) {
            return Some(match id {
                Ok(id) => plain.decide(id),
                Err(reason) => Decision::no(reason),
            });
        }
        self.has_asked_more = true;
        let experiment = self.snapshot.experiments.get(number)?;
        Some(decide_routed(self.snapshot, experiment, self.visit, self.attributes))
    }
}

/// Decides `experiment` for a request that is known to be on an included path and on its route, where it is not paused.
pub fn decide_routed(
    snapshot: &Snapshot,
    experiment: &Experiment,
    visit: &Visit<'_>,
    attributes: &impl Attributes,
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
    if experiment.audience.as_ref().is_some_and(|audience| !audience.matches(attributes)) {
        return Decision::no(Reason::Audience);
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
    rules: &dyn FlagRules,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::snapshot::Variant;
    use crate::native;
    use serde_json::json;

    const NOW_MS: i64 = 1_780_000_000_000;

    fn snapshot(more: &Value) -> Snapshot {
        let mut experiment = json!({"key": "nav", "state": "running", "variants": [
            {"key": "plain", "weight": 5000, "baseline": true}, {"key": "mega", "weight": 5000},
            {"key": "never", "weight": 0}]});
        experiment.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let holdout = experiment.as_object_mut().unwrap().remove("holdout");
        let config = json!({"schema": 1, "holdout": holdout, "experiments": [experiment]});
        native::compile(&config, 64).snapshot.unwrap()
    }

    fn decided(snapshot: &Snapshot, visit: &Visit<'_>, unit: Option<&str>) -> (Option<String>, &'static str) {
        let line = RequestLine { host: b"h".into(), path: b"/", method: b"GET" };
        let experiment = &snapshot.experiments[0];
        let decision = decide(snapshot, experiment, &line, visit, &json!({ "id": unit }));
        (decision.variant.map(|variant| experiment.variants[variant].key.clone()), decision.reason.name())
    }

    const VISIT: Visit<'_> = Visit::unrestricted(NOW_MS);

    fn remembered(experiment: &str, version: u32, variant: &str) -> [StickyBucket<'static>; 1] {
        [StickyBucket { experiment: experiment.to_owned().into(), version, variant: variant.to_owned().into() }]
    }

    #[test]
    fn a_preview_comes_behind_the_route_and_before_everything_about_the_visitor() {
        let link = |variant: &str| [("other".to_owned(), "x".to_owned()), ("nav".to_owned(), variant.to_owned())];
        let (never, gone) = (link("never"), link("gone"));
        for (more, visit, unit, expected) in [
            (json!({}), VISIT, Some("u1"), "preview"),
            (json!({"state": "concluded", "winner": "mega"}), VISIT, None, "preview"),
            (json!({"starts": "2100-01-01T00:00:00Z"}), VISIT, None, "preview"),
            (json!({"ends": "2000-01-01T00:00:00Z"}), VISIT, None, "preview"),
            (json!({}), Visit { bot: true, ..VISIT }, None, "preview"),
            (json!({}), Visit { consent: false, ..VISIT }, None, "preview"),
            (json!({"forced": {"u1": "plain"}, "audience": {"id": "u2"}}), VISIT, Some("u1"), "preview"),
            (json!({"traffic": 0}), VISIT, Some("u1"), "preview"),
            (json!({"state": "paused"}), VISIT, Some("u1"), "paused"),
            (json!({"route": {"paths": ["/other"]}}), VISIT, Some("u1"), "route"),
            (json!({}), Visit { path_included: false, ..VISIT }, Some("u1"), "path_excluded"),
        ] {
            let snapshot = snapshot(&more);
            let variant = (expected == "preview").then(|| "never".to_owned());
            let decision = decided(&snapshot, &Visit { preview: &never, ..visit }, unit);
            assert_eq!(decision, (variant, expected), "{more}");
            // A variant that is not there shows nothing, and changes nothing.
            let with_gone = Visit { preview: &gone, ..visit };
            assert_eq!(decided(&snapshot, &with_gone, unit), decided(&snapshot, &visit, unit), "{more}");
        }
    }

    #[test]
    fn a_sticky_variant_comes_behind_the_layer_and_before_the_traffic() {
        let sticky = |more: Value| {
            let mut all = json!({"sticky": true});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        let never = remembered("nav", 0, "never");
        for (more, visit, unit, expected) in [
            (json!({}), VISIT, Some("u1"), "sticky"),
            (json!({"traffic": 0}), VISIT, Some("u1"), "sticky"),
            (json!({"state": "concluded", "winner": "mega"}), VISIT, Some("u1"), "winner"),
            (json!({"ends": "2000-01-01T00:00:00Z"}), VISIT, Some("u1"), "ended"),
            (json!({}), Visit { bot: true, ..VISIT }, Some("u1"), "bot"),
            (json!({}), Visit { consent: false, ..VISIT }, Some("u1"), "no_consent"),
            (json!({}), VISIT, None, "no_unit"),
            (json!({"forced": {"u1": "plain"}}), VISIT, Some("u1"), "forced"),
            (json!({"audience": {"id": "u2"}}), VISIT, Some("u1"), "audience"),
            (json!({"holdout": {"key": "q", "share": 10000}}), VISIT, Some("u1"), "holdout"),
            (json!({"layer": {"name": "l", "slots": [0, 1]}}), VISIT, Some("u1"), "layer"),
        ] {
            let snapshot = snapshot(&sticky(more.clone()));
            let (variant, reason) = decided(&snapshot, &Visit { sticky: &never, ..visit }, unit);
            assert_eq!(reason, expected, "{more}");
            assert_eq!(variant.as_deref() == Some("never"), expected == "sticky", "{more}");
        }
        // What does not fit the experiment is no bucket of it.
        for (more, odd) in [
            (json!({}), remembered("nav", 0, "gone")),
            (json!({}), remembered("other", 0, "never")),
            (json!({}), remembered("nav", 1, "never")),
            (json!({"sticky_version": 2}), remembered("nav", 1, "never")),
            (json!({"sticky": false}), remembered("nav", 0, "never")),
        ] {
            let snapshot = snapshot(&sticky(more.clone()));
            let (variant, reason) = decided(&snapshot, &Visit { sticky: &odd, ..VISIT }, Some("u1"));
            assert_eq!(reason, "bucketed", "{more} {odd:?}");
            assert_ne!(variant.as_deref(), Some("never"));
        }
    }

    #[test]
    fn a_variant_that_is_off_is_shown_to_those_only_who_ask_for_it() {
        let (link, sticky) = ([("nav".to_owned(), "mega".to_owned())], remembered("nav", 0, "mega"));
        let off = [Variant::tag("other", "mega"), Variant::tag("nav", "mega")];
        let visit = Visit { off: &off, ..VISIT };
        let all_mega = json!({"sticky": true, "variants": [
            {"key": "plain", "weight": 0, "baseline": true}, {"key": "mega", "weight": 10_000}]});
        let with = |more: Value| {
            let mut all = all_mega.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            snapshot(&all)
        };
        let mega = |reason| (Some("mega".to_owned()), reason);
        assert_eq!(decided(&with(json!({})), &VISIT, Some("u1")), mega("bucketed"));
        assert_eq!(decided(&with(json!({})), &visit, Some("u1")), (None, "guardrail"));
        assert_eq!(decided(&with(json!({})), &Visit { sticky: &sticky, ..visit }, Some("u1")), (None, "guardrail"));
        assert_eq!(decided(&with(json!({})), &Visit { preview: &link, ..visit }, Some("u1")), mega("preview"));
        assert_eq!(decided(&with(json!({"forced": {"u1": "mega"}})), &visit, Some("u1")), mega("forced"));
        assert_eq!(decided(&with(json!({"traffic": 0})), &visit, Some("u1")), (None, "traffic"));
        assert_eq!(decided(&with(json!({"key": "another"})), &visit, Some("u1")), mega("bucketed"));
    }

    #[test]
    fn more_traffic_and_other_weights_move_nobody_whose_browser_remembers() {
        let at = |traffic: u32, mega: u32| {
            snapshot(&json!({"sticky": true, "traffic": traffic, "variants": [
                {"key": "plain", "weight": 10_000 - mega}, {"key": "mega", "weight": mega}]}))
        };
        let (before, more_traffic, other_weights) = (at(1_000, 5_000), at(5_000, 5_000), at(5_000, 1_000));
        let (mut known, mut joined, mut moved) = (0, 0, 0);
        for number in 0..10_000 {
            let unit = format!("visitor-{number}");
            let first = decided(&before, &VISIT, Some(&unit)).0;
            let second = decided(&more_traffic, &VISIT, Some(&unit)).0;
            joined += usize::from(first.is_none() && second.is_some());
            let Some(variant) = first else { continue };
            known += 1;
            assert_eq!(second.as_ref(), Some(&variant), "{unit}");
            moved += usize::from(decided(&other_weights, &VISIT, Some(&unit)).0.as_ref() != Some(&variant));
            let buckets = remembered("nav", 0, &variant);
            let visit = Visit { sticky: &buckets, ..VISIT };
            for snapshot in [&more_traffic, &other_weights] {
                assert_eq!(decided(snapshot, &visit, Some(&unit)), (Some(variant.clone()), "sticky"), "{unit}");
            }
        }
        assert!((900..1_100).contains(&known) && (3_800..4_200).contains(&joined), "{known} and {joined} more");
        assert!((300..500).contains(&moved), "without the cookie {moved} of {known} move");
    }
}
