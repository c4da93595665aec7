//! Tests of `plain` on configs in the native format.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::{Decider, Visit, decide_routed, unit};
use edgesplit_formats::native;
use serde_json::{Value, json};

fn experiment(key: &str, weights: &[u32], more: Value) -> Value {
    let variants = weights.iter().enumerate().map(|(at, weight)| json!({"key": format!("v{at}"), "weight": weight}));
    let mut experiment = json!({"key": key, "state": "running", "variants": variants.collect::<Vec<_>>()});
    experiment.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    experiment
}

#[test]
fn plain_experiments_come_out_as_they_would_the_long_way() {
    let seven = [1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 4_000];
    let experiments = [
        (true, experiment("half", &[5_000, 5_000], json!({}))),
        (true, experiment("six", &[0, 1, 3_333, 0, 6_666, 0], json!({"traffic": 10_000}))),
        (true, experiment("one", &[10_000], json!({"traffic": 3_333, "salt": "s"}))),
        (true, experiment("none", &[9_999, 1], json!({"traffic": 0}))),
        (false, experiment("seven", &seven, json!({}))),
        (false, experiment("paused", &[5_000, 5_000], json!({"state": "paused"}))),
        (false, experiment("steps", &[10_000], json!({"traffic": [{"from": "2020-01-01T00:00:00Z", "share": 5_000}]}))),
        (false, experiment("starts", &[10_000], json!({"starts": "2020-01-01T00:00:00Z"}))),
        (false, experiment("ends", &[10_000], json!({"ends": "2020-01-01T00:00:00Z"}))),
        (false, experiment("audience", &[10_000], json!({"audience": {"id": {"$ne": "u1"}}}))),
        (false, experiment("layer", &[10_000], json!({"layer": {"name": "l", "slots": [0, 5_000]}}))),
        (false, experiment("forced", &[10_000], json!({"forced": {"u1": "v0"}}))),
        (false, experiment("sticky", &[10_000], json!({"sticky": true}))),
        (false, experiment("unit", &[10_000], json!({"unit": "country"}))),
    ];
    let list = |all: &[(bool, Value)]| all.iter().map(|(_, one)| one.clone()).collect::<Vec<_>>();
    let snapshot =
        native::compile(&json!({"schema": 1, "experiments": list(&experiments)}), u64::MAX).snapshot.unwrap();
    let is_plain: Vec<bool> = snapshot.plain.iter().map(Option::is_some).collect();
    assert_eq!(is_plain, experiments.each_ref().map(|(is_plain, _)| *is_plain));
    let all = json!({"schema": 1, "holdout": {"key": "q", "share": 1}, "experiments": list(&experiments)});
    let held_out = native::compile(&all, u64::MAX).snapshot.unwrap();
    assert!(held_out.plain.iter().all(Option::is_none), "a holdout is asked before the traffic");

    let link = [("half".to_owned(), "v1".to_owned())];
    let off = [snapshot.experiments[0].variants[0].tag];
    let visit = Visit::unrestricted(1_780_000_000_000);
    let visits = [
        visit,
        Visit { bot: true, ..visit },
        Visit { consent: false, ..visit },
        Visit { preview: &link, ..visit },
        Visit { off: &off, ..visit },
    ];
    let ids = (0..500).map(|number| json!({"id": "u".repeat(number % 9) + &number.to_string(), "country": "DE"}));
    for visitor in ids.chain([json!({}), json!({"id": ""}), json!({"id": "x".repeat(513)}), json!({"id": 7})]) {
        for visit in &visits {
            let id = unit(&AttributeName::Id, &visitor);
            let mut decider = Decider::new(&snapshot, visit, &visitor, id.as_deref().map(str::as_bytes));
            for (number, experiment) in snapshot.experiments.iter().enumerate() {
                let long_way = decide_routed(&snapshot, experiment, visit, &visitor, &request_budget());
                assert_eq!(decider.decide(number), Some(long_way), "{} for {visitor}", experiment.key);
            }
            assert_eq!(decider.decide(snapshot.experiments.len()), None);
        }
    }
}
