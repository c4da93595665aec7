//! A compiled flag, and its decision.

use super::condition::Condition;
use crate::digest::md5_start;
use edgesplit_engine::condition::{CHECK_STEPS, LimitExceeded, StepBudget};
use edgesplit_engine::flag::{FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::observer::IS_OBSERVABLE;
use edgesplit_engine::reason::Reason;
use serde_json::{Map, Value};

pub(super) const DEFAULT: Reason = Reason::Vendor("default");
pub(super) const ERROR: Reason = Reason::Vendor("error");

/// A flag.
#[derive(Debug)]
pub(super) struct Flag {
    /// Its key in the payload.
    pub(super) key: String,
    /// The reason of all its decisions, if it has no other.
    pub(super) fixed: Option<Reason>,
    pub(super) allocations: Vec<Allocation>,
    /// The first one is for visitors without a variation.
    pub(super) outcomes: Vec<Outcome>,
    /// The rest of the report of each outcome but the first.
    pub(super) reports: Vec<Report>,
}

/// The members of a report that follow from the outcome.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) allocation: String,
    pub(super) extra: Map<String, Value>,
}

#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) key: String,
    /// The first and the last millisecond.
    pub(super) start_ms: Option<i64>,
    pub(super) end_ms: Option<i64>,
    /// One of them must hold, if there are any: all of its conditions.
    pub(super) rules: Vec<Vec<Condition>>,
    pub(super) splits: Vec<Split>,
}

#[derive(Debug)]
pub(super) struct Split {
    /// All of them must hold. Shards of the full range are left out.
    pub(super) shards: Vec<Shard>,
    /// None if its variation has no valid value.
    pub(super) outcome: Option<usize>,
    pub(super) reason: Reason,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) salt: String,
    pub(super) total: u32,
    /// From, and to, which is exclusive.
    pub(super) ranges: Vec<(u32, u32)>,
}

impl Flag {
    /// The outcome for a visitor, and the reason.
    pub(super) fn decide(
        &self,
        visitor: &FlagVisitor<'_>,
        sink: &mut dyn FlagSink,
    ) -> Result<(usize, Reason), LimitExceeded> {
        if let Some(reason) = self.fixed {
            return Ok((0, reason));
        }
        for allocation in &self.allocations {
            if !allocation.is_open(visitor.now_ms, sink) || !allocation.targets(visitor, sink)? {
                continue;
            }
            for split in &allocation.splits {
                if !split.shards.is_empty() && visitor.id.is_none() {
                    allocation.check(sink, "split", false, || "the visitor has no id".to_owned());
                    return Ok((0, ERROR));
                }
                let is_in = split.has(visitor.id.unwrap_or_default(), visitor.steps)?;
                allocation.check(sink, "split", is_in, || split.shown(visitor.id.unwrap_or_default()));
                if is_in {
                    return Ok(split.outcome.map_or((0, ERROR), |outcome| (outcome, split.reason)));
                }
            }
        }
        Ok((0, DEFAULT))
    }
}

impl Allocation {
    fn is_open(&self, now_ms: i64, sink: &mut dyn FlagSink) -> bool {
        let is_open = self.start_ms.is_none_or(|start| start <= now_ms) && self.end_ms.is_none_or(|end| now_ms <= end);
        if !is_open {
            self.check(sink, "dates", false, || "not yet, or no longer".to_owned());
        }
        is_open
    }

    /// Whether one of the rules holds.
    fn targets(&self, visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) -> Result<bool, LimitExceeded> {
        if self.rules.is_empty() {
            return Ok(true);
        }
        let mut unmet = Vec::new();
        for rule in &self.rules {
            match first_unmet(rule, visitor)? {
                None => {
                    self.check(sink, "rules", true, String::new);
                    return Ok(true);
                }
                Some(condition) => unmet.extend((IS_OBSERVABLE && sink.is_active()).then_some(condition)),
            }
        }
        self.check(sink, "rules", false, || shown_unmet(&unmet, visitor));
        Ok(false)
    }

    /// Reports a check of this allocation.
    fn check(&self, sink: &mut dyn FlagSink, name: &str, passed: bool, detail: impl FnOnce() -> String) {
        if IS_OBSERVABLE && sink.is_active() {
            sink.check(&format!("allocation {}: {name}", self.key), passed, format_args!("{}", detail()));
        }
    }
}

fn first_unmet<'a>(rule: &'a [Condition], visitor: &FlagVisitor<'_>) -> Result<Option<&'a Condition>, LimitExceeded> {
    for condition in rule {
        if !condition.holds(visitor)? {
            return Ok(Some(condition));
        }
    }
    Ok(None)
}

#[cfg(not(target_arch = "wasm32"))]
fn shown_unmet(unmet: &[&Condition], visitor: &FlagVisitor<'_>) -> String {
    unmet.iter().map(|condition| condition.unmet(visitor)).collect::<Vec<_>>().join("; ")
}

#[cfg(target_arch = "wasm32")]
fn shown_unmet(_unmet: &[&Condition], _visitor: &FlagVisitor<'_>) -> String {
    String::new()
}

impl Split {
    fn has(&self, id: &str, steps: &StepBudget) -> Result<bool, LimitExceeded> {
        for shard in &self.shards {
            // A digest takes about a step for four bytes, and whole blocks.
            steps.spend(2 * CHECK_STEPS + ((shard.salt.len() + id.len()) / 4) as u32 + shard.ranges.len() as u32)?;
            let number = shard.number(id);
            if !shard.ranges.iter().any(|(from, to)| (*from..*to).contains(&number)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The numbers of its shards, for a person.
    fn shown(&self, id: &str) -> String {
        let shown = |shard: &Shard| format!("shard {} of {:?} in {:?}", shard.number(id), shard.salt, shard.ranges);
        self.shards.iter().map(shown).collect::<Vec<_>>().join("; ")
    }
}

impl Shard {
    fn number(&self, id: &str) -> u32 {
        md5_start(&[&self.salt, "-", id]).checked_rem(self.total).unwrap_or_default()
    }
}
