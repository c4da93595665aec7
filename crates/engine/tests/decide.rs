//! Tests of `decide` on configs in the native format.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::{StepBudget, request_budget};
use edgesplit_engine::decide::*;
use edgesplit_engine::route::RequestLine;
use edgesplit_engine::snapshot::Snapshot;
use edgesplit_engine::snapshot::Variant;
use edgesplit_formats::native;
use serde_json::Value;
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

fn decided(snapshot: &Snapshot, visit: &DecisionInput<'_>, unit: Option<&str>) -> (Option<String>, &'static str) {
    let line = RequestLine { host: b"h".into(), path: b"/", method: b"GET" };
    let experiment = &snapshot.experiments[0];
    let decision = evaluate(snapshot, experiment, &line, visit, &json!({ "id": unit }), &mut ());
    (decision.variant.map(|variant| experiment.variants[variant].key.clone()), decision.reason.name())
}

fn anyone() -> DecisionInput<'static> {
    DecisionInput::unrestricted(NOW_MS, Box::leak(Box::new(request_budget())))
}

fn remembered(experiment: &str, version: u32, variant: &str) -> [StickyBucket<'static>; 1] {
    [StickyBucket { experiment: experiment.to_owned().into(), version, variant: variant.to_owned().into() }]
}

#[test]
fn preview_is_checked_after_the_route_and_before_the_visitor() {
    let link = |variant: &str| [("other".to_owned(), "x".to_owned()), ("nav".to_owned(), variant.to_owned())];
    let (never, gone) = (link("never"), link("gone"));
    for (more, visit, unit, expected) in [
        (json!({}), anyone(), Some("u1"), "preview"),
        (json!({"state": "concluded", "winner": "mega"}), anyone(), None, "preview"),
        (json!({"starts": "2100-01-01T00:00:00Z"}), anyone(), None, "preview"),
        (json!({"ends": "2000-01-01T00:00:00Z"}), anyone(), None, "preview"),
        (json!({}), DecisionInput { bot: true, ..anyone() }, None, "preview"),
        (json!({}), DecisionInput { consent: false, ..anyone() }, None, "preview"),
        (json!({"forced": {"u1": "plain"}, "audience": {"id": "u2"}}), anyone(), Some("u1"), "preview"),
        (json!({"traffic": 0}), anyone(), Some("u1"), "preview"),
        (json!({"state": "paused"}), anyone(), Some("u1"), "paused"),
        (json!({"route": {"paths": ["/other"]}}), anyone(), Some("u1"), "route"),
        (json!({}), DecisionInput { path_included: false, ..anyone() }, Some("u1"), "path_excluded"),
    ] {
        let snapshot = snapshot(&more);
        let variant = (expected == "preview").then(|| "never".to_owned());
        let decision = decided(&snapshot, &DecisionInput { preview: &never, ..visit }, unit);
        assert_eq!(decision, (variant, expected), "{more}");
        // A variant that is not there shows nothing, and changes nothing.
        let with_gone = DecisionInput { preview: &gone, ..visit };
        assert_eq!(decided(&snapshot, &with_gone, unit), decided(&snapshot, &visit, unit), "{more}");
    }
}

#[test]
fn sticky_variant_is_checked_between_layer_and_traffic() {
    let sticky = |more: Value| {
        let mut all = json!({"sticky": true, "variants": [{"key": "plain", "weight": 9998, "baseline": true},
            {"key": "mega", "weight": 1}, {"key": "never", "weight": 0}, {"key": "rare", "weight": 1}]});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let rare = remembered("nav", 0, "rare");
    for (more, visit, unit, expected) in [
        (json!({}), anyone(), Some("u1"), "sticky"),
        (json!({"traffic": 0}), anyone(), Some("u1"), "sticky"),
        (json!({"state": "concluded", "winner": "mega"}), anyone(), Some("u1"), "winner"),
        (json!({"ends": "2000-01-01T00:00:00Z"}), anyone(), Some("u1"), "ended"),
        (json!({}), DecisionInput { bot: true, ..anyone() }, Some("u1"), "bot"),
        (json!({}), DecisionInput { consent: false, ..anyone() }, Some("u1"), "no_consent"),
        (json!({}), anyone(), None, "no_unit"),
        (json!({"forced": {"u1": "plain"}}), anyone(), Some("u1"), "forced"),
        (json!({"audience": {"id": "u2"}}), anyone(), Some("u1"), "audience"),
        (json!({"holdout": {"key": "q", "share": 10000}}), anyone(), Some("u1"), "holdout"),
        (json!({"layer": {"name": "l", "slots": [0, 1]}}), anyone(), Some("u1"), "layer"),
    ] {
        let snapshot = snapshot(&sticky(more.clone()));
        let (variant, reason) = decided(&snapshot, &DecisionInput { sticky: &rare, ..visit }, unit);
        assert_eq!(reason, expected, "{more}");
        assert_eq!(variant.as_deref() == Some("rare"), expected == "sticky", "{more}");
    }
    // A bucket that does not fit the experiment is ignored.
    for (more, odd) in [
        (json!({}), remembered("nav", 0, "gone")),
        (json!({}), remembered("other", 0, "rare")),
        (json!({}), remembered("nav", 1, "rare")),
        (json!({"sticky_version": 2}), remembered("nav", 1, "rare")),
        (json!({"sticky": false}), remembered("nav", 0, "rare")),
        // A variant of weight 0 is off, and its bucket may be forged.
        (json!({}), remembered("nav", 0, "never")),
    ] {
        let snapshot = snapshot(&sticky(more.clone()));
        let (variant, reason) = decided(&snapshot, &DecisionInput { sticky: &odd, ..anyone() }, Some("u1"));
        assert_eq!(reason, "bucketed", "{more} {odd:?}");
        assert_eq!(variant.as_deref(), Some("plain"), "{more} {odd:?}");
    }
}

#[test]
fn variant_that_is_off_is_shown_by_preview_and_forced_only() {
    let (link, sticky) = ([("nav".to_owned(), "mega".to_owned())], remembered("nav", 0, "mega"));
    let off = [Variant::tag("other", "mega"), Variant::tag("nav", "mega")];
    let visit = DecisionInput { off: &off, ..anyone() };
    let all_mega = json!({"sticky": true, "variants": [
        {"key": "plain", "weight": 0, "baseline": true}, {"key": "mega", "weight": 10_000}]});
    let with = |more: Value| {
        let mut all = all_mega.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        snapshot(&all)
    };
    let mega = |reason| (Some("mega".to_owned()), reason);
    assert_eq!(decided(&with(json!({})), &anyone(), Some("u1")), mega("bucketed"));
    assert_eq!(decided(&with(json!({})), &visit, Some("u1")), (None, "guardrail"));
    assert_eq!(decided(&with(json!({})), &DecisionInput { sticky: &sticky, ..visit }, Some("u1")), (None, "guardrail"));
    assert_eq!(decided(&with(json!({})), &DecisionInput { preview: &link, ..visit }, Some("u1")), mega("preview"));
    assert_eq!(decided(&with(json!({"forced": {"u1": "mega"}})), &visit, Some("u1")), mega("forced"));
    assert_eq!(decided(&with(json!({"traffic": 0})), &visit, Some("u1")), (None, "traffic"));
    assert_eq!(decided(&with(json!({"key": "another"})), &visit, Some("u1")), mega("bucketed"));
}

#[test]
fn sticky_visitors_keep_their_variant_under_new_traffic_and_weights() {
    let at = |traffic: u32, mega: u32| {
        snapshot(&json!({"sticky": true, "traffic": traffic, "variants": [
            {"key": "plain", "weight": 10_000 - mega}, {"key": "mega", "weight": mega}]}))
    };
    let (before, more_traffic, other_weights) = (at(1_000, 5_000), at(5_000, 5_000), at(5_000, 1_000));
    let (mut known, mut joined, mut moved) = (0, 0, 0);
    for number in 0..10_000 {
        let unit = format!("visitor-{number}");
        let first = decided(&before, &anyone(), Some(&unit)).0;
        let second = decided(&more_traffic, &anyone(), Some(&unit)).0;
        joined += usize::from(first.is_none() && second.is_some());
        let Some(variant) = first else { continue };
        known += 1;
        assert_eq!(second.as_ref(), Some(&variant), "{unit}");
        moved += usize::from(decided(&other_weights, &anyone(), Some(&unit)).0.as_ref() != Some(&variant));
        let buckets = remembered("nav", 0, &variant);
        let visit = DecisionInput { sticky: &buckets, ..anyone() };
        for snapshot in [&more_traffic, &other_weights] {
            assert_eq!(decided(snapshot, &visit, Some(&unit)), (Some(variant.clone()), "sticky"), "{unit}");
        }
    }
    assert!((900..1_100).contains(&known) && (3_800..4_200).contains(&joined), "{known} and {joined} more");
    assert!((300..500).contains(&moved), "without the cookie {moved} of {known} move");
}

/// A request with a long query.
struct LongQuery;

impl Attributes for LongQuery {
    fn attribute<'a>(&'a self, _name: &'a AttributeName) -> AttributeValue<'a> {
        AttributeValue::Text("u1".into())
    }

    fn look_up_bytes(&self, name: &AttributeName) -> usize {
        if *name == AttributeName::Id { 0 } else { 60_000 }
    }
}

#[test]
fn look_up_of_a_unit_takes_steps() {
    let snapshot = snapshot(&json!({"unit": "query.u"}));
    let line = RequestLine { host: b"h".into(), path: b"/", method: b"GET" };
    let steps = StepBudget::new(40_000);
    let input = DecisionInput::unrestricted(NOW_MS, &steps);
    let reasons = [(); 2]
        .map(|()| evaluate(&snapshot, &snapshot.experiments[0], &line, &input, &LongQuery, &mut ()).reason.name());
    assert_eq!(reasons, ["bucketed", "limit"]);
}
