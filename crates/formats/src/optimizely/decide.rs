//! Decides the variation of a flag for a visitor, with the reason. Sends, logs and counts nothing.
//!
//! The order is the SDKs': holdouts of everything, then the flag's experiments one by one (the rule's own holdouts,
//! status, whitelist, audience, group, traffic), then the rules of its rollout.

use super::audience::explain::unmet;
use super::datafile::{Datafile, Flag, Range, Rule, Step};
use edgesplit_engine::attribute::{AttributeValue, Attributes};
use edgesplit_engine::hash::seeded_bucket;
use edgesplit_engine::observer::{IS_OBSERVABLE, Observer};
use edgesplit_engine::reason::Reason;
use serde_json::Value;

/// The seed of the SDKs' murmur3.
const HASH_SEED: u32 = 1;

/// Bucketed into a variation of one of the flag's experiments.
const FEATURE_TEST: Reason = Reason::Vendor("feature_test");
/// Bucketed into a variation of an experiment that no flag uses.
const EXPERIMENT: Reason = Reason::Vendor("experiment");
/// Bucketed into one of the rules of the flag's rollout.
const ROLLOUT: Reason = Reason::Vendor("rollout");
/// The last rule is a contextual bandit: it chooses by a call to Optimizely for each decision, and no request waits for
/// one.
const CMAB: Reason = Reason::Vendor("cmab");
/// There is no rule to decide by.
const NO_RULE: Reason = Reason::Vendor("no_rule");
/// The last rule's experiment does not run.
const NOT_RUNNING: Reason = Reason::Vendor("not_running");
/// Another experiment of the group has the user, or none of them.
const GROUP: Reason = Reason::Vendor("group");

/// The outcome of a flag that no rule decides.
const NO_RULE_OUTCOME: usize = 0;

/// A visitor to decide for.
struct Visitor<'a, A> {
    user_id: &'a str,
    /// The value that is hashed: the user's id, or the attribute `$opt_bucketing_id`.
    bucketing_id: &'a str,
    attributes: &'a A,
    observer: &'a mut dyn Observer,
}

impl<A> Visitor<'_, A> {
    /// Reports a check of `rule`.
    fn check(&mut self, rule: &Rule, name: &str, passed: bool, detail: impl FnOnce() -> String) {
        if IS_OBSERVABLE && self.observer.is_active() {
            self.observer.check(&format!("{} {}: {name}", rule.kind, rule.key), passed, format_args!("{}", detail()));
        }
    }
}

/// The decision about a flag for a visitor.
#[derive(Debug)]
pub struct Decision {
    /// The position among the flag's outcomes.
    pub outcome: usize,
    /// The reason.
    pub reason: Reason,
    /// Whether the SDKs would report it.
    pub exposure: bool,
    /// The outcome of a holdout that is reported too: the visitor is held out, though not from this decision.
    pub holdout: Option<usize>,
}

/// The position of a variation or an outcome, or the reason for none.
type Variation = Result<(usize, Reason), Reason>;

impl Datafile {
    /// Decides `flag`, which is one of [`Datafile::flags`]. `observer` receives the checks.
    pub fn decide(
        &self,
        flag: &Flag,
        user_id: &str,
        attributes: &impl Attributes,
        observer: &mut dyn Observer,
    ) -> Decision {
        let decide = |visitor: &mut Visitor<'_, _>| self.outcome(flag, visitor);
        let (outcome, reason, holdout) = self.with_visitor(user_id, attributes, observer, decide);
        let exposure = match reason {
            ROLLOUT => self.project.send_flag_decisions,
            // Optimizely also counts visitors who get a flag's default; an experiment that no flag uses has none.
            _ if outcome == NO_RULE_OUTCOME => self.project.send_flag_decisions && !flag.is_experiment,
            _ => true,
        };
        Decision { outcome, reason, exposure, holdout }
    }

    /// The key of the variation of the experiment `key`, as the SDKs' `getVariation` gives it. Flags and holdouts have no
    /// influence on it.
    pub fn variation(&self, key: &str, user_id: &str, attributes: &impl Attributes) -> Option<&str> {
        let rule = self.rules.get(*self.experiments.get(key)?)?;
        let decide = |visitor: &mut Visitor<'_, _>| self.experiment(rule, visitor);
        let (position, _) = self.with_visitor(user_id, attributes, &mut (), decide).ok()?;
        rule.variations.get(position).map(|variation| variation.key.as_str())
    }

    /// The key of the variation that `bucketing_id` is bucketed into by groups and traffic alone: the status and the audience
    /// of the experiment `key` are ignored.
    pub fn bucketed_variation(&self, key: &str, bucketing_id: &str) -> Option<&str> {
        let rule = self.rules.get(*self.experiments.get(key)?)?;
        let decide = |visitor: &mut Visitor<'_, _>| self.bucket(rule, visitor);
        let position = self.with_visitor(bucketing_id, &Value::Null, &mut (), decide).ok()?;
        rule.variations.get(position).map(|variation| variation.key.as_str())
    }

    fn with_visitor<A: Attributes, T>(
        &self,
        user_id: &str,
        attributes: &A,
        observer: &mut dyn Observer,
        decide: impl FnOnce(&mut Visitor<'_, A>) -> T,
    ) -> T {
        let given = attributes.attribute(&self.bucketing_id);
        let bucketing_id: &str = match &given {
            AttributeValue::Text(text) => text,
            AttributeValue::Json(Value::String(text)) => text,
            // Other types do not count.
            AttributeValue::Json(_) | AttributeValue::Missing => user_id,
        };
        decide(&mut Visitor { user_id, bucketing_id, attributes, observer })
    }

    /// The outcome and its reason, and the outcome of a holdout that the visitor is in beside it.
    fn outcome(&self, flag: &Flag, visitor: &mut Visitor<'_, impl Attributes>) -> (usize, Reason, Option<usize>) {
        let held = self.held_out(&flag.holdouts, visitor);
        if let Some((outcome, false)) = held {
            return (outcome, Reason::Holdout, None);
        }
        // A visitor who is held out, but not from deliveries, gets the rollout's variation, and both are reported.
        let tested = match held {
            Some(_) => Err(Reason::Holdout),
            None => self.test(flag, visitor),
        };
        let decided = tested.or_else(|missed| self.rollout(&flag.rollout, missed, visitor));
        let missed = |missed| (NO_RULE_OUTCOME, if held.is_some() { Reason::Holdout } else { missed });
        let (outcome, reason) = decided.unwrap_or_else(missed);
        (outcome, reason, held.map(|(outcome, _)| outcome))
    }

    /// The outcome of the flag's experiments, else the reason why they have none.
    fn test(&self, flag: &Flag, visitor: &mut Visitor<'_, impl Attributes>) -> Variation {
        let mut missed = NO_RULE;
        for step in &flag.experiments {
            if let Some((outcome, _)) = self.held_out(&step.holdouts, visitor) {
                return Ok((outcome, Reason::Holdout));
            }
            let Some(rule) = self.rules.get(step.rule) else { continue };
            match self.experiment(rule, visitor) {
                Ok((position, FEATURE_TEST)) if flag.is_experiment => {
                    return Ok((step.outcomes_from + position, EXPERIMENT));
                }
                Ok((position, reason)) => return Ok((step.outcomes_from + position, reason)),
                Err(reason) => missed = reason,
            }
        }
        Err(missed)
    }

    /// The outcome of the first of these holdouts that has the visitor, and whether it spares rollouts.
    fn held_out(&self, holdouts: &[Step], visitor: &mut Visitor<'_, impl Attributes>) -> Option<(usize, bool)> {
        holdouts.iter().find_map(|step| {
            let rule = self.rules.get(step.rule)?;
            let Visitor { user_id, bucketing_id, attributes, .. } = *visitor;
            // The parts of a holdout are no checks of their own: failing one of them excludes no visitor.
            let mut unobserved = Visitor { user_id, bucketing_id, attributes, observer: &mut () };
            let is_about = rule.is_running && self.is_in_audience(rule, &mut unobserved);
            let position = is_about.then(|| self.bucket(rule, &mut unobserved).ok()).flatten();
            if IS_OBSERVABLE && visitor.observer.is_active() {
                let name = format!("holdout {}", rule.key);
                let bucket = seeded_bucket(HASH_SEED, bucketing_id, &rule.id);
                visitor.observer.check(&name, position.is_none(), format_args!("bucket {bucket}"));
            }
            Some((step.outcomes_from + position?, rule.spares_rollouts))
        })
    }

    /// The variation of an experiment.
    fn experiment(&self, rule: &Rule, visitor: &mut Visitor<'_, impl Attributes>) -> Variation {
        visitor.check(rule, "running", rule.is_running, String::new);
        if !rule.is_running {
            return Err(NOT_RUNNING);
        }
        if let Some(forced) = rule.forced.get(visitor.user_id).and_then(|key| rule.variation_of_key(key)) {
            visitor.check(rule, "forced variation", true, || variation_key(rule, forced));
            return Ok((forced, Reason::Forced));
        }
        if !self.is_in_audience(rule, visitor) {
            return Err(Reason::Audience);
        }
        self.bucket(rule, visitor).map(|position| (position, FEATURE_TEST))
    }

    /// The outcome of a rollout, else the reason why it has none; `missed` if it has no rules.
    fn rollout(&self, steps: &[Step], mut missed: Reason, visitor: &mut Visitor<'_, impl Attributes>) -> Variation {
        let mut rest = steps;
        while let [step, after @ ..] = rest {
            rest = after;
            if let Some((outcome, _)) = self.held_out(&step.holdouts, visitor) {
                return Ok((outcome, Reason::Holdout));
            }
            let Some(rule) = self.rules.get(step.rule) else { continue };
            if !self.is_in_audience(rule, visitor) {
                missed = Reason::Audience;
                continue;
            }
            match self.bucket(rule, visitor) {
                Ok(position) => return Ok((step.outcomes_from + position, ROLLOUT)),
                Err(reason) => missed = reason,
            }
            // A visitor in the audience of a rule but not in its traffic goes on to the last rule, which is for everyone else.
            rest = after.last().map(std::slice::from_ref).unwrap_or_default();
        }
        Err(missed)
    }

    fn is_in_audience(&self, rule: &Rule, visitor: &mut Visitor<'_, impl Attributes>) -> bool {
        let Some(tree) = &rule.audience else { return true };
        let holds = tree.holds(&self.audiences, visitor.attributes) == Some(true);
        let attributes = visitor.attributes;
        let detail = || if holds { String::new() } else { unmet(tree, &self.audiences, attributes) };
        visitor.check(rule, "audience", holds, detail);
        holds
    }

    /// The position of the variation that the visitor is bucketed into.
    fn bucket(&self, rule: &Rule, visitor: &mut Visitor<'_, impl Attributes>) -> Result<usize, Reason> {
        if rule.is_cmab {
            visitor.check(rule, "contextual bandit", false, String::new);
            return Err(CMAB);
        }
        if let Some(group) = rule.group.and_then(|group| self.groups.get(group)) {
            let bucket = seeded_bucket(HASH_SEED, visitor.bucketing_id, &group.id);
            let experiment = find(&group.allocation, bucket);
            let is_own = experiment.is_some_and(|id| *id == rule.id);
            visitor.check(rule, "group", is_own, || match experiment {
                Some(id) => format!("bucket {bucket} of group {} belongs to experiment {id:?}", group.id),
                None => format!("bucket {bucket} of group {} belongs to no experiment", group.id),
            });
            if !is_own {
                return Err(GROUP);
            }
        }
        let bucket = seeded_bucket(HASH_SEED, visitor.bucketing_id, &rule.id);
        let position = find(&rule.allocation, bucket).copied().flatten();
        visitor.check(rule, "traffic", position.is_some(), || match position {
            Some(position) => format!("bucket {bucket} is variation {}", variation_key(rule, position)),
            None => format!("bucket {bucket} has no variation"),
        });
        position.ok_or(Reason::Traffic)
    }
}

fn variation_key(rule: &Rule, position: usize) -> String {
    rule.variations.get(position).map(|variation| variation.key.clone()).unwrap_or_default()
}

/// The target of `bucket`: the first range that ends behind it.
fn find<T>(ranges: &[Range<T>], bucket: u32) -> Option<&T> {
    ranges.iter().find(|range| bucket < range.end).map(|range| &range.to)
}
