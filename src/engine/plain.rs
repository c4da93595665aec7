//! Plain experiments: running for everybody, bucketed by id, with no schedule, layer or whatever else there is to ask. Most
//! are, most of the time, and a request decides all of its page; so what is needed of them stands close together, a few
//! numbers each. [`decide`](super::decide) gives the same without.

use super::attribute::AttributeName;
use super::decide::Decision;
use super::hash::{BUCKETS, Murmur3};
use super::reason::Reason;
use super::snapshot::{Experiment, Snapshot, State};

/// An experiment with more variants is not plain.
pub const PLAIN_VARIANTS_MAX: usize = 6;

/// All that decides a plain experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    /// Buckets below it take part.
    share: u16,
    /// The first bucket behind each variant's; behind the last variant, that of the last.
    ends: [u16; PLAIN_VARIANTS_MAX],
    traffic: Murmur3,
    variant: Murmur3,
}

impl Plain {
    /// What decides `experiment` of `snapshot`, if it is plain.
    pub fn of(snapshot: &Snapshot, experiment: &Experiment) -> Option<Plain> {
        let Experiment { state, unit, audience, layer, traffic, starts_ms, ends_ms, forced, sticky, variants, .. } =
            experiment;
        let asks_nothing = *state == State::Running
            && *unit == AttributeName::Id
            && snapshot.holdout.is_none()
            && audience.is_none()
            && layer.is_none()
            && (*starts_ms, *ends_ms) == (None, None)
            && forced.is_empty()
            && sticky.is_none();
        let [step] = traffic.as_slice() else { return None };
        if !asks_nothing || step.from_ms != i64::MIN || variants.len() > PLAIN_VARIANTS_MAX {
            return None;
        }
        let mut ends = [u16::try_from(variants.last()?.bucket_end).ok()?; PLAIN_VARIANTS_MAX];
        for (end, variant) in ends.iter_mut().zip(variants) {
            *end = u16::try_from(variant.bucket_end).ok()?;
        }
        Some(Plain {
            share: u16::try_from(step.share).ok()?,
            ends,
            traffic: experiment.traffic_salt.hashed(),
            variant: experiment.variant_salt.hashed(),
        })
    }

    /// Decides for the visitor `id`.
    #[inline(always)]
    pub fn decide(&self, id: &[u8]) -> Decision {
        let share = u32::from(self.share);
        if share < BUCKETS && self.traffic.write(id).bucket() >= share {
            return Decision::no(Reason::Traffic);
        }
        let bucket = self.variant.write_inlined(id).bucket();
        match self.ends.iter().position(|end| bucket < u32::from(*end)) {
            Some(variant) => Decision::yes(variant, Reason::Bucketed),
            // Weights add up to all buckets, so this is not reached.
            None => Decision::no(Reason::Traffic),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::attribute::AttributeName;
    use crate::engine::decide::{Decider, Visit, decide_routed, unit};
    use crate::native;
    use serde_json::{Value, json};

    fn experiment(key: &str, weights: &[u32], more: Value) -> Value {
        let variants =
            weights.iter().enumerate().map(|(at, weight)| json!({"key": format!("v{at}"), "weight": weight}));
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
            (
                false,
                experiment("steps", &[10_000], json!({"traffic": [{"from": "2020-01-01T00:00:00Z", "share": 5_000}]})),
            ),
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
                    let long_way = decide_routed(&snapshot, experiment, visit, &visitor);
                    assert_eq!(decider.decide(number), Some(long_way), "{} for {visitor}", experiment.key);
                }
                assert_eq!(decider.decide(snapshot.experiments.len()), None);
            }
        }
    }
}
