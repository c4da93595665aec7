//! Deciding: which variation of a flag a visitor gets, and why. Deciding does not send, log or count.
//!
//! The order is the SDKs': holdouts of everything, then the flag's experiments one by one (the rule's own holdouts,
//! running, whitelist, audience, group, traffic), then the rules of its rollout.

use super::datafile::{Datafile, Flag, Range, Rule, Step};
use super::reason::Reason;
use edgesplit_engine::attribute::{AttributeValue, Attributes};
use edgesplit_engine::flag::FlagDecision;
use edgesplit_engine::hash::seeded_bucket;
use serde_json::Value;

/// The seed of the SDKs' murmur3.
const HASH_SEED: u32 = 1;

/// The outcome of a flag that no rule decides.
const NO_RULE_OUTCOME: usize = 0;

/// A visitor, while something is decided about them.
struct Visitor<'a, A> {
    user_id: &'a str,
    /// The user's id, or what `$opt_bucketing_id` says is hashed instead.
    bucketing_id: &'a str,
    attributes: &'a A,
}

/// A variation's position, or why there is none.
type Variation = Result<(usize, Reason), Reason>;

impl Datafile {
    /// Decides `flag`, which is one of [`Datafile::flags`].
    pub fn decide<'a>(&self, flag: &Flag, user_id: &'a str, attributes: &impl Attributes) -> FlagDecision<'a> {
        let (outcome, reason) = self.with_visitor(user_id, attributes, |visitor| self.outcome(flag, visitor));
        FlagDecision {
            outcome,
            reason: reason.reason(),
            exposure: self.is_reported(flag, reason),
            unit: Some(user_id.into()),
        }
    }

    /// The key of the variation of the experiment `key`, as the SDKs' `getVariation` answers: flags and holdouts do not
    /// come into it.
    pub fn variation(&self, key: &str, user_id: &str, attributes: &impl Attributes) -> Option<&str> {
        let rule = self.rules.get(*self.experiments.get(key)?)?;
        let (position, _) = self.with_visitor(user_id, attributes, |visitor| self.experiment(rule, visitor)).ok()?;
        rule.variations.get(position).map(|variation| variation.key.as_str())
    }

    /// The key of the variation that `bucketing_id` is bucketed into, whoever the experiment `key` is for and whether
    /// or not it runs: groups and traffic alone.
    pub fn bucketed_variation(&self, key: &str, bucketing_id: &str) -> Option<&str> {
        let rule = self.rules.get(*self.experiments.get(key)?)?;
        let position = self.bucket(rule, bucketing_id).ok()?;
        rule.variations.get(position).map(|variation| variation.key.as_str())
    }

    fn with_visitor<A: Attributes, T>(
        &self,
        user_id: &str,
        attributes: &A,
        decide: impl FnOnce(&Visitor<'_, A>) -> T,
    ) -> T {
        let given = attributes.attribute(&self.bucketing_id);
        let bucketing_id: &str = match &given {
            AttributeValue::Text(text) => text,
            AttributeValue::Json(Value::String(text)) => text,
            // What is no text does not count.
            AttributeValue::Json(_) | AttributeValue::Missing => user_id,
        };
        decide(&Visitor { user_id, bucketing_id, attributes })
    }

    fn is_reported(&self, flag: &Flag, reason: Reason) -> bool {
        match reason {
            Reason::FeatureTest | Reason::Forced | Reason::Holdout | Reason::Experiment => true,
            // The SDKs fail such a decision where they get no answer, and report nothing.
            Reason::Cmab | Reason::Disabled => false,
            Reason::Rollout => self.project.send_flag_decisions,
            // Optimizely also counts who gets a flag's default; an experiment that no flag uses has none.
            Reason::NoRule | Reason::NotRunning | Reason::Audience | Reason::Group | Reason::Traffic => {
                self.project.send_flag_decisions && !flag.is_experiment
            }
        }
    }

    fn outcome(&self, flag: &Flag, visitor: &Visitor<'_, impl Attributes>) -> (usize, Reason) {
        let held = self.held_out(&flag.holdouts, false, visitor);
        if let Some((outcome, false)) = held {
            return (outcome, Reason::Holdout);
        }
        let mut missed = Reason::NoRule;
        // Who is held out, but not from deliveries, gets what the rollout delivers.
        if held.is_none() {
            for step in &flag.experiments {
                if let Some((outcome, _)) = self.held_out(&step.holdouts, false, visitor) {
                    return (outcome, Reason::Holdout);
                }
                let Some(rule) = self.rules.get(step.rule) else { continue };
                match self.experiment(rule, visitor) {
                    Ok((position, Reason::FeatureTest)) if flag.is_experiment => {
                        return (step.outcomes_from + position, Reason::Experiment);
                    }
                    Ok((position, reason)) => return (step.outcomes_from + position, reason),
                    Err(Reason::Cmab) => return (NO_RULE_OUTCOME, Reason::Cmab),
                    Err(reason) => missed = reason,
                }
            }
        }
        match self.rollout(&flag.rollout, missed, visitor) {
            Ok(delivered) => delivered,
            Err(missed) => match held {
                Some((outcome, _)) => (outcome, Reason::Holdout),
                None => (NO_RULE_OUTCOME, missed),
            },
        }
    }

    /// The outcome of the first of these holdouts that has the visitor, and whether it spares rollouts.
    fn held_out(
        &self,
        holdouts: &[Step],
        delivering: bool,
        visitor: &Visitor<'_, impl Attributes>,
    ) -> Option<(usize, bool)> {
        holdouts.iter().find_map(|step| {
            let rule = self.rules.get(step.rule)?;
            if !rule.is_running || (delivering && rule.spares_rollouts) || !self.is_in_audience(rule, visitor) {
                return None;
            }
            let position = self.bucket(rule, visitor.bucketing_id).ok()?;
            Some((step.outcomes_from + position, rule.spares_rollouts))
        })
    }

    /// The variation of an experiment.
    fn experiment(&self, rule: &Rule, visitor: &Visitor<'_, impl Attributes>) -> Variation {
        if !rule.is_running {
            return Err(Reason::NotRunning);
        }
        if let Some(&forced) = rule.forced.get(visitor.user_id) {
            return Ok((forced, Reason::Forced));
        }
        if !self.is_in_audience(rule, visitor) {
            return Err(Reason::Audience);
        }
        self.bucket(rule, visitor.bucketing_id).map(|position| (position, Reason::FeatureTest))
    }

    /// The outcome of a rollout, else why it has none; `missed` where it has no rules.
    fn rollout(
        &self,
        steps: &[Step],
        mut missed: Reason,
        visitor: &Visitor<'_, impl Attributes>,
    ) -> Result<(usize, Reason), Reason> {
        let mut rest = steps;
        while let [step, after @ ..] = rest {
            rest = after;
            if let Some((outcome, _)) = self.held_out(&step.holdouts, true, visitor) {
                return Ok((outcome, Reason::Holdout));
            }
            let Some(rule) = self.rules.get(step.rule) else { continue };
            if !self.is_in_audience(rule, visitor) {
                missed = Reason::Audience;
                continue;
            }
            match self.bucket(rule, visitor.bucketing_id) {
                Ok(position) => return Ok((step.outcomes_from + position, Reason::Rollout)),
                Err(reason) => missed = reason,
            }
            // Whom a rule is for but who is not in its traffic goes on to the last rule, which is for everyone else.
            rest = after.last().map(std::slice::from_ref).unwrap_or_default();
        }
        Err(missed)
    }

    fn is_in_audience(&self, rule: &Rule, visitor: &Visitor<'_, impl Attributes>) -> bool {
        let Some(tree) = &rule.audience else { return true };
        tree.holds(&self.audiences, visitor.attributes) == Some(true)
    }

    /// The position of the variation that `bucketing_id` is bucketed into.
    fn bucket(&self, rule: &Rule, bucketing_id: &str) -> Result<usize, Reason> {
        if let Some(group) = rule.group.and_then(|group| self.groups.get(group)) {
            let experiment = find(&group.allocation, bucketing_id, &group.id);
            if experiment.is_none_or(|id| *id != rule.id) {
                return Err(Reason::Group);
            }
        }
        if let Some(share) = rule.cmab_share {
            let takes_part = seeded_bucket(HASH_SEED, bucketing_id, &rule.id) < share;
            return Err(if takes_part { Reason::Cmab } else { Reason::Traffic });
        }
        find(&rule.allocation, bucketing_id, &rule.id).and_then(|position| *position).ok_or(Reason::Traffic)
    }
}

/// What the bucket of `bucketing_id` in `parent_id` leads to: the first range that ends behind it.
fn find<'a, T>(ranges: &'a [Range<T>], bucketing_id: &str, parent_id: &str) -> Option<&'a T> {
    let bucket = seeded_bucket(HASH_SEED, bucketing_id, parent_id);
    ranges.iter().find(|range| bucket < range.end).map(|range| &range.to)
}
