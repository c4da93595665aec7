//! Deciding for one visitor, as GrowthBook's JavaScript SDK does (spec 0.8.0, SDK 1.8.0: `core.ts`).
//!
//! An [`Evaluation`] is one visitor's pass over a payload. What the SDK would report, and what it would keep in sticky
//! buckets, is gathered on the way: a decision can come with several experiments, those of its prerequisites and those
//! whose visitors go on to the next rule.

use super::decision::{BanditResult, Context, ExperimentResult, Exposure, FeatureDecision, Reason};
use super::experiment::{Attribute, Experiment, FALLBACK_LEAF, Filter, UnitName};
use super::feature::{DEFAULT_VALUE, Force, NO_VALUE, Rule, RuleKind, Share};
use super::hash::in_range;
use super::payload::Payload;
use super::prerequisites::PREREQUISITE_DEPTH_MAX;
use super::run::Run;
use super::sticky::{StickyDocument, StickyDocuments};
use super::trace::Trace;
use super::url;
use edgesplit_engine::attribute::{AttributeValue, Attributes};
use edgesplit_engine::condition::value::JsValue;
use edgesplit_engine::condition::{Condition, LimitExceeded};
use edgesplit_engine::flag::FlagDecision;
use edgesplit_engine::observer::Check;
use std::borrow::Cow;

/// One visitor's pass over a payload.
#[derive(Debug)]
pub struct Evaluation<'a, A> {
    pub(super) payload: &'a Payload,
    pub(super) context: &'a Context<'a, A>,
    pub(super) sticky: Option<StickyDocuments>,
    pub(super) exposures: Vec<Exposure<'a>>,
    /// What came out for each feature, by its place, if it was asked for so far, itself or as a prerequisite.
    decided: Vec<Option<Box<Progress<'a>>>>,
    /// How many prerequisites deep this is.
    depth: usize,
    /// The redirect tests, by their places, that exceeded a limit of work.
    pub(super) limited_tests: Vec<usize>,
    pub(super) trace: Trace,
}

#[derive(Debug)]
enum Progress<'a> {
    /// Asking for it again is a circle.
    Begun,
    Done(FeatureDecision<'a>),
}

impl<'a, A: Attributes> Evaluation<'a, A> {
    /// Starts a pass. Without `sticky`, sticky bucketing is off.
    pub fn new(payload: &'a Payload, context: &'a Context<'a, A>, sticky: Option<StickyDocuments>) -> Self {
        let decided = payload.features.iter().map(|_| None).collect();
        Evaluation {
            payload,
            context,
            sticky,
            exposures: Vec::new(),
            decided,
            depth: 0,
            limited_tests: Vec::new(),
            trace: Trace::default(),
        }
    }

    /// Records all checks from now on.
    pub fn observe(&mut self) {
        self.trace = Trace::recording();
    }

    /// The checks since the last call. A feature that was decided before, as a prerequisite, is not checked again.
    pub fn take_checks(&self) -> Vec<Check> {
        self.trace.take()
    }

    /// What the SDK would have reported so far, each once.
    pub fn exposures(&self) -> &[Exposure<'a>] {
        &self.exposures
    }

    /// Whether the redirect test at this place exceeded a limit of work.
    pub fn is_limited(&self, test: usize) -> bool {
        self.limited_tests.contains(&test)
    }

    /// Reads the visitor's sticky buckets: `document` gives each by its name, the attribute's name and value joined by `||`.
    pub fn read_sticky(&mut self, document: &dyn Fn(&str) -> Option<StickyDocument>) {
        for attribute in &self.payload.sticky_attributes {
            let Some(unit) = self.value(attribute) else { continue };
            let found = document(&format!("{}||{unit}", attribute.written));
            // A document says itself whose it is: one under another's name is nobody's.
            let found = found.filter(|found| found.attribute == attribute.written && found.unit == unit);
            if let (Some(documents), Some(found)) = (&mut self.sticky, found) {
                documents.add(found);
            }
        }
    }

    /// The sticky buckets as they are now.
    pub fn sticky(&self) -> Option<&StickyDocuments> {
        self.sticky.as_ref()
    }

    /// Decides the feature at the place `feature`, in the shape that all vendors share.
    pub fn flag(&mut self, feature: usize) -> FlagDecision<'a> {
        let decision = self.feature(feature);
        let result = decision.result.as_ref();
        FlagDecision {
            outcome: decision.outcome,
            reason: decision.reason.reason(),
            exposure: result.is_some_and(|result| result.hash_used),
            unit: result.and_then(|result| result.unit.clone()),
        }
    }

    /// Decides the feature at the place `feature`.
    ///
    /// That a feature is decided once, for itself and for all that it is a prerequisite of, changes nothing: one that
    /// runs into a circle does so wherever the circle is entered.
    pub fn feature(&mut self, feature: usize) -> FeatureDecision<'a> {
        match self.decided.get(feature).and_then(Option::as_deref) {
            None => {}
            Some(Progress::Begun) => return FeatureDecision::without_rule(NO_VALUE, Reason::CyclicPrerequisite),
            Some(Progress::Done(decision)) => return decision.clone(),
        }
        // What is not asked for costs nothing: a request asks for the features of its routes.
        self.note(feature, Progress::Begun);
        self.depth += 1;
        let decision = if self.depth > PREREQUISITE_DEPTH_MAX {
            // Only a circle gets here: longer chains are disabled when they are compiled.
            FeatureDecision::without_rule(NO_VALUE, Reason::CyclicPrerequisite)
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
            return without_rule(outcome, Reason::Override);
        }
        let payload = self.payload;
        let Some(feature) = payload.features.get(at) else {
            return without_rule(NO_VALUE, Reason::UnknownFeature);
        };
        for (number, rule) in (1..).zip(&feature.rules) {
            self.trace.enter(|| rule.label(number));
            let decision = self.rule_with_parents(rule);
            self.trace.leave();
            if let Some(decision) = decision? {
                return Ok(decision);
            }
        }
        without_rule(DEFAULT_VALUE, Reason::DefaultValue)
    }

    /// The decision of `rule`; none if the next rule has to decide.
    fn rule_with_parents(&mut self, rule: &'a Rule) -> Result<Option<FeatureDecision<'a>>, LimitExceeded> {
        let without_value = |reason| Ok(Some(FeatureDecision::without_rule(NO_VALUE, reason)));
        match self.parents_pass(&rule.parents)? {
            Parents::Pass => self.rule(rule),
            Parents::Fail { gate: false } => Ok(None),
            Parents::Fail { gate: true } => without_value(Reason::Prerequisite),
            Parents::Cyclic => without_value(Reason::CyclicPrerequisite),
        }
    }

    /// The decision of `rule`, whose prerequisites are met; none if the next rule has to decide.
    fn rule(&mut self, rule: &'a Rule) -> Result<Option<FeatureDecision<'a>>, LimitExceeded> {
        if rule.filters.as_ref().is_some_and(|filters| self.is_filtered_out(filters)) {
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
                        number: track.number,
                    });
                }
                Some(FeatureDecision { outcome: force.outcome, reason: Reason::Force, rule: &rule.id, result: None })
            }
            RuleKind::Experiment(experiment, first) => {
                let result = self.run(experiment)?;
                let passthrough = || experiment.variations.get(result.variation).is_some_and(|with| with.passthrough);
                if !result.in_experiment || passthrough() {
                    return Ok(None);
                }
                let outcome = first + result.variation;
                Some(FeatureDecision { outcome, reason: Reason::Experiment, rule: &rule.id, result: Some(result) })
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
        let (attribute, unit) = self.unit(&rollout.unit, force.sticky);
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

    /// Whether `condition` holds for the visitor, if there is one.
    pub(super) fn matches(&self, condition: Option<&Condition>) -> Result<bool, LimitExceeded> {
        let Some(condition) = condition else { return Ok(true) };
        let matches = condition.matches(self.context.attributes, self.context.steps)?;
        self.trace.check("condition", matches, || condition.unmet(self.context.attributes));
        Ok(matches)
    }

    /// Whether all of `parents` have the values that are asked for.
    pub(super) fn parents_pass(&mut self, parents: &'a [super::experiment::Parent]) -> Result<Parents, LimitExceeded> {
        for parent in parents {
            let outcome = match parent.feature {
                Some(feature) => {
                    self.trace.enter(|| format!("prerequisite {}", parent.id));
                    let decision = self.feature(feature);
                    self.trace.leave();
                    match decision.reason {
                        Reason::CyclicPrerequisite => return Ok(Parents::Cyclic),
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
                format!("{} is {}", parent.id, value.unwrap_or(&serde_json::Value::Null))
            });
            if !passes {
                return Ok(Parents::Fail { gate: parent.gate });
            }
        }
        Ok(Parents::Pass)
    }

    pub(super) fn is_filtered_out(&self, filters: &'a [Filter]) -> bool {
        filters.iter().any(|filter| {
            let bucket = self.value(&filter.attribute).and_then(|unit| filter.hasher.bucket(&unit));
            let is_in = bucket.is_some_and(|bucket| filter.ranges.iter().any(|&range| in_range(bucket, range)));
            self.trace.check("filter", is_in, || shown_bucket(bucket, &filter.attribute.written));
            !is_in
        })
    }

    /// The text of an attribute that can be hashed: what is empty, 0 or false to JavaScript cannot.
    pub(super) fn value(&self, attribute: &'a Attribute) -> Option<Cow<'a, str>> {
        match self.context.attributes.attribute(&attribute.name) {
            AttributeValue::Missing => None,
            AttributeValue::Text(text) => Some(text).filter(|text| !text.is_empty()),
            AttributeValue::Json(value) => {
                Some(JsValue::from(value)).filter(|value| value.is_true()).map(JsValue::text)
            }
        }
    }

    /// The attribute that is hashed, with its value if there is one. Only where buckets are sticky another stands in.
    pub(super) fn unit(&self, unit: &'a UnitName, sticky: bool) -> (&'a str, Option<Cow<'a, str>>) {
        let own = self.value(&unit.attribute);
        if own.is_none()
            && sticky
            && self.sticky.is_some()
            && let Some(fallback) = &unit.fallback
            && let Some(value) = self.value(fallback)
        {
            return (&fallback.written, Some(value));
        }
        (&unit.attribute.written, own)
    }

    pub(super) fn expose(&mut self, exposure: Exposure<'a>) {
        let same = |other: &Exposure<'_>| {
            (other.experiment, other.number, other.attribute)
                == (exposure.experiment, exposure.number, exposure.attribute)
                && other.unit == exposure.unit
        };
        if !self.exposures.iter().any(same) {
            self.exposures.push(exposure);
        }
    }

    /// Runs an experiment.
    pub fn run(&mut self, experiment: &'a Experiment) -> Result<ExperimentResult<'a>, LimitExceeded> {
        let run = self.run_to_end(experiment)?;
        let (variation, hash_used, bucket, sticky_bucket_used) = match run {
            Run::Out { blocked } => (None, false, None, blocked),
            Run::Forced(variation) => (variation, false, None, false),
            Run::Bucketed { variation, bucket, sticky, .. } => (Some(variation), true, Some(bucket), sticky),
        };
        let variation = variation.filter(|&variation| variation < experiment.variations.len());
        let in_experiment = variation.is_some();
        let (attribute, unit) = self.unit(&experiment.unit, experiment.sticky.is_some());
        let result = ExperimentResult {
            experiment,
            variation: variation.unwrap_or_default(),
            in_experiment,
            hash_used,
            sticky_bucket_used,
            bucket,
            attribute,
            unit,
            bandit: match run {
                Run::Bucketed { leaf, .. } if in_experiment => bandit_result(experiment, leaf),
                _ => None,
            },
        };
        if hash_used {
            self.report(experiment, &result);
        }
        Ok(result)
    }

    /// Keeps the visitor's bucket and reports the exposure.
    fn report(&mut self, experiment: &'a Experiment, result: &ExperimentResult<'a>) {
        let Some(unit) = &result.unit else { return };
        let variation = experiment.variations.get(result.variation).map_or("0", |variation| &variation.key);
        if let (Some(documents), Some(sticky)) = (&mut self.sticky, &experiment.sticky) {
            documents.keep(result.attribute, unit, &sticky.key, variation);
        }
        self.expose(Exposure {
            experiment: &experiment.key,
            variation,
            attribute: result.attribute,
            unit: unit.clone(),
            number: Some(result.variation),
        });
    }

    /// The variation that the URL's query asks for, where it may.
    pub(super) fn query_override(&self, experiment: &Experiment) -> Option<usize> {
        let overrides = &self.context.overrides;
        let variations = experiment.variations.len();
        overrides.query_string.then(|| url::query_override(&experiment.key, self.context.url, variations)).flatten()
    }
}

/// A bucket of the attribute `attribute`, for a person.
pub(super) fn shown_bucket(bucket: Option<f64>, attribute: &str) -> String {
    match bucket {
        Some(bucket) => format!("bucket {bucket} of {attribute}"),
        None => format!("{attribute} has no value to hash"),
    }
}

fn bandit_result(experiment: &Experiment, leaf: Option<usize>) -> Option<BanditResult<'_>> {
    let bandit = experiment.bandit.as_ref()?;
    let version = bandit.version.as_ref();
    Some(match leaf.and_then(|leaf| bandit.leaves.get(leaf)) {
        Some(leaf) => BanditResult { leaf: leaf.id, weights: &leaf.weights, version },
        None => BanditResult { leaf: FALLBACK_LEAF, weights: &experiment.weights, version },
    })
}

/// What prerequisites say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parents {
    Pass,
    Fail { gate: bool },
    Cyclic,
}
