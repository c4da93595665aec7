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
