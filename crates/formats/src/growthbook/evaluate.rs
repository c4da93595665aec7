//! Deciding a feature by its rules, as GrowthBook's JavaScript SDK does (spec 0.8.0, SDK 1.8.0: `core.ts`).

use super::decision::{
    CYCLIC_PREREQUISITE, EXPERIMENT, Exposure, FORCE, FeatureDecision, NO_RULE, OVERRIDE, PREREQUISITE, UNKNOWN_FEATURE,
};
use super::evaluation::{Evaluation, Parents, Progress};
use super::experiment::Parent;
use super::feature::{DEFAULT_VALUE, Force, NO_VALUE, Rule, RuleKind, Share};
use super::hash::in_range;
use super::prerequisites::PREREQUISITE_DEPTH_MAX;
use edgesplit_engine::attribute::Attributes;
use edgesplit_engine::condition::{FLAG_STEPS, LimitExceeded, RULE_STEPS};
use edgesplit_engine::reason::Reason;
use serde_json::Value;
use std::borrow::Cow;

impl<'a, A: Attributes> Evaluation<'a, A> {
    /// Decides the feature at the position `feature`.
    ///
    /// Each feature is decided once, also as a prerequisite of others. This does not change results: a cycle is found from
    /// each of its features.
    pub fn feature(&mut self, feature: usize) -> FeatureDecision<'a> {
        match self.decided.get(feature).and_then(Option::as_deref) {
            None => {}
            Some(Progress::Begun) => return FeatureDecision::without_rule(NO_VALUE, CYCLIC_PREREQUISITE),
            Some(Progress::Done(decision)) => return decision.clone(),
        }
        // Features are decided on demand: a request only needs those of its routes.
        self.note(feature, Progress::Begun);
        self.depth += 1;
        let decision = if self.depth > PREREQUISITE_DEPTH_MAX {
            // Only a cycle gets here: longer chains are disabled when they are compiled.
            FeatureDecision::without_rule(NO_VALUE, CYCLIC_PREREQUISITE)
        } else {
            let exposures = self.exposures.len();
            self.decide(feature).unwrap_or_else(|LimitExceeded| {
                // The visitor is in none of the experiments that were run on the way.
                self.exposures.truncate(exposures);
                FeatureDecision::without_rule(NO_VALUE, Reason::Limit)
            })
        };
        self.depth -= 1;
        self.note(feature, Progress::Done(decision.clone()));
        decision
    }

    fn note(&mut self, feature: usize, progress: Progress<'a>) {
        if let Some(decided) = self.decided.get_mut(feature) {
            *decided = Some(Box::new(progress));
        }
    }

    fn decide(&mut self, at: usize) -> Result<FeatureDecision<'a>, LimitExceeded> {
        let without_rule = |outcome, reason| Ok(FeatureDecision::without_rule(outcome, reason));
        if let Some(&(_, outcome)) = self.context.overrides.outcomes.iter().find(|(feature, _)| *feature == at) {
            return without_rule(outcome, OVERRIDE);
        }
        let payload = self.payload;
        let Some(feature) = payload.features.get(at) else {
            return without_rule(NO_VALUE, UNKNOWN_FEATURE);
        };
        self.context.steps.spend(FLAG_STEPS)?;
        for (number, rule) in (1..).zip(&feature.rules) {
            self.context.steps.spend(RULE_STEPS)?;
            self.trace.enter(|| rule.label(number));
            let decision = self.rule_with_parents(rule);
            self.trace.leave();
            if let Some(decision) = decision? {
                return Ok(decision);
            }
        }
        without_rule(DEFAULT_VALUE, NO_RULE)
    }

    /// The decision of `rule`; none if the next rule has to decide.
    fn rule_with_parents(&mut self, rule: &'a Rule) -> Result<Option<FeatureDecision<'a>>, LimitExceeded> {
        let without_value = |reason| Ok(Some(FeatureDecision::without_rule(NO_VALUE, reason)));
        match self.parents_pass(&rule.parents)? {
            Parents::Pass => self.rule(rule),
            Parents::Fail { gate: false } => Ok(None),
            Parents::Fail { gate: true } => without_value(PREREQUISITE),
            Parents::Cyclic => without_value(CYCLIC_PREREQUISITE),
        }
    }

    /// The decision of `rule`, whose prerequisites are met; none if the next rule has to decide.
    fn rule(&mut self, rule: &'a Rule) -> Result<Option<FeatureDecision<'a>>, LimitExceeded> {
        if let Some(filters) = &rule.filters
            && self.is_filtered_out(filters)?
        {
            return Ok(None);
        }
        Ok(match &rule.kind {
            RuleKind::Gate => None,
            RuleKind::Force(force) => {
                if !self.is_forced(force)? {
                    return Ok(None);
                }
                for track in &force.tracks {
                    self.expose(Exposure {
                        experiment: &track.experiment,
                        variation: &track.variation,
                        attribute: &track.attribute,
                        unit: Cow::Borrowed(&track.unit),
                        typed_unit: track.typed_unit.as_ref(),
                        number: track.number,
                    });
                }
                Some(FeatureDecision { outcome: force.outcome, reason: FORCE, rule: &rule.id, result: None })
            }
            RuleKind::Experiment(experiment, first) => {
                let result = self.run(experiment)?;
                let passthrough = || experiment.variations.get(result.variation).is_some_and(|with| with.passthrough);
                if !result.in_experiment || passthrough() {
                    return Ok(None);
                }
                let outcome = first + result.variation;
                Some(FeatureDecision { outcome, reason: EXPERIMENT, rule: &rule.id, result: Some(result) })
            }
        })
    }

    fn is_forced(&self, force: &'a Force) -> Result<bool, LimitExceeded> {
        if !self.matches(force.condition.as_ref())? {
            return Ok(false);
        }
        let Some(rollout) = &force.rollout else { return Ok(true) };
        if matches!(rollout.share, Share::Coverage(0.0)) {
            self.trace.check("coverage", false, || "coverage 0".to_owned());
            return Ok(false);
        }
        let (attribute, unit) = self.unit(&rollout.unit, force.sticky)?;
        let bucket = unit.and_then(|unit| rollout.hasher.bucket(&unit));
        let is_in = bucket.is_some_and(|bucket| match rollout.share {
            Share::Range(range) => in_range(bucket, range),
            Share::Coverage(coverage) => bucket <= coverage,
        });
        self.trace.check("coverage", is_in, || match (bucket, rollout.share) {
            (None, _) => format!("{attribute} has no value to hash"),
            (Some(bucket), Share::Range((from, to))) => format!("bucket {bucket} of {attribute}, range {from} to {to}"),
            (Some(bucket), Share::Coverage(coverage)) => format!("bucket {bucket} of {attribute}, coverage {coverage}"),
        });
        Ok(is_in)
    }

    /// Whether all of `parents` have the required values.
    pub(super) fn parents_pass(&mut self, parents: &'a [Parent]) -> Result<Parents, LimitExceeded> {
        for parent in parents {
            let outcome = match parent.feature {
                Some(feature) => {
                    self.trace.enter(|| format!("prerequisite {}", parent.id));
                    let decision = self.feature(feature);
                    self.trace.leave();
                    match decision.reason {
                        CYCLIC_PREREQUISITE => return Ok(Parents::Cyclic),
                        Reason::Limit => return Err(LimitExceeded),
                        _ => decision.outcome,
                    }
                }
                None => NO_VALUE,
            };
            let passes = parent.passes.get(outcome).copied().unwrap_or(false);
            self.trace.check("prerequisite", passes, || {
                let outcomes = parent.feature.and_then(|feature| Some(&self.payload.features.get(feature)?.outcomes));
                let value = outcomes.and_then(|outcomes| Some(&outcomes.get(outcome)?.value));
                format!("{} is {}", parent.id, value.unwrap_or(&Value::Null))
            });
            if !passes {
                return Ok(Parents::Fail { gate: parent.gate });
            }
        }
        Ok(Parents::Pass)
    }
}
