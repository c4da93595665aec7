//! Decides flags for a visitor.

use super::filter::Filter;
use super::rules::{Condition, Flag, Group, OFF, ON, Rules};
use super::verdict::{Cause, Undecided, Verdict};
use crate::digest::sha1_start;
use crate::metered::Metered;
#[cfg(not(target_arch = "wasm32"))]
use crate::report::shown;
use crate::report::{report, report_limit};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::CONDITION_DEPTH_MAX;
use edgesplit_engine::condition::value::JsValue;
use edgesplit_engine::flag::{FlagEvaluator, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::free::free_from;
use edgesplit_engine::observer::{IS_OBSERVABLE, Observer};
use edgesplit_engine::reason::Reason;
use serde_json::Value;
use std::cell::RefCell;

/// How many flags and cohorts may be nested in each other.
const DEPTH_MAX: usize = CONDITION_DEPTH_MAX;

/// The start of the name of the attribute with the key of a group.
pub(super) const GROUPS: &str = "$groups.";

/// The attribute with the id of the visitor's device.
pub(super) const DEVICE: &str = "$device_id";

impl FlagEvaluator for Rules {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        for &number in flags {
            let Some(flag) = self.flags.get(number) else { continue };
            let Some(id) = visitor.id else {
                sink.decided(number, None, Reason::NoUnit);
                continue;
            };
            let context = Metered::new(visitor, &flag.outcomes);
            let evaluation = Evaluation { rules: self, context: &context, id, known: RefCell::default() };
            match evaluation.flag(flag, None, sink) {
                _ if context.is_exceeded() => report_limit(sink, number),
                Err(error) => sink.decided(number, None, Reason::Vendor(error.cause.name())),
                Ok(Decided { outcome, reason, unit }) => {
                    let (decided, unit) = ((outcome, Reason::Vendor(reason)), Some((&*flag.attribute, &*unit)));
                    report(sink, (number, &flag.key), &flag.outcomes, decided, unit);
                }
            }
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        self.flags.get(flag).map_or(&[], |flag| &flag.outcomes)
    }

    fn free(&mut self, left: &mut usize) {
        free_from(&mut self.flags, left, |flag| {
            flag.outcomes.len() + flag.groups.iter().map(|group| 1 + group.conditions.len()).sum::<usize>()
        });
        free_from(&mut self.cohorts, left, |_| 1);
    }
}

/// A decision, with the value that was bucketed.
struct Decided {
    outcome: usize,
    reason: &'static str,
    unit: String,
}

/// The result of a group of conditions.
enum Held {
    /// The outcome.
    Yes(usize),
    No,
    OutOfShare,
}

/// The subject of a flag: a person, or the group of a type.
#[derive(Clone, Copy)]
struct Subject<'a> {
    /// The type of the group.
    group: Option<&'a str>,
    /// The value that is bucketed.
    unit: &'a str,
    /// The value that is bucketed by the flags that this one depends on: the id, or the key of the group.
    distinct: &'a str,
    /// How many flags and cohorts it is nested in.
    depth: usize,
}

/// The decision of one flag, with those that it depends on.
struct Evaluation<'a> {
    rules: &'a Rules,
    context: &'a Metered<'a>,
    /// The id of the visitor.
    id: &'a str,
    /// The outcomes of the flags that were decided on the way, none for undecided ones, by their numbers.
    known: RefCell<Vec<(usize, Option<usize>)>>,
}

/// The bucket of a value, from 0 to 1.
pub(super) fn bucket(parts: &[&str]) -> f64 {
    const END: f64 = 0x0fff_ffff_ffff_ffff_u64 as f64;
    (sha1_start(parts) >> 4) as f64 / END
}

impl Evaluation<'_> {
    /// Decides `flag`. The flag of the subject `child` depends on it.
    fn flag(&self, flag: &Flag, child: Option<Subject<'_>>, observer: &mut dyn Observer) -> Result<Decided, Undecided> {
        let off = |reason| Ok(Decided { outcome: OFF, reason, unit: String::new() });
        observer.check("active", flag.active, format_args!(""));
        if !flag.active {
            return off("flag_disabled");
        }
        if flag.continuity {
            return Err(Cause::Continuity.into());
        }
        let (group, unit) = match (&flag.group_type, child) {
            (Ok(None), _) if flag.attribute == DEVICE => {
                let cause = || if self.is_undecidable(flag) { Cause::Definition } else { Cause::Context };
                let device = self.text(AttributeName::Exact(DEVICE.to_owned()));
                (None, device.filter(|device| !device.is_empty()).ok_or_else(cause)?)
            }
            (_, Some(child)) => (None, child.distinct.to_owned()),
            (Ok(None), None) => (None, self.id.to_owned()),
            (Ok(Some(name)), None) => match self.group_key(name) {
                Some(key) => (Some(name.as_str()), key),
                None => return off("no_group_type"),
            },
            (Err(error), None) => return Err(*error),
        };
        let distinct = if group.is_some() { &unit } else { self.id };
        let subject = Subject { unit: &unit, ..child.unwrap_or(Subject { group, unit: &unit, distinct, depth: 0 }) };
        let (outcome, reason) = self.outcome(flag, subject, observer)?;
        Ok(Decided { outcome, reason, unit })
    }

    /// Decides by the holdout and the groups of conditions.
    fn outcome(
        &self,
        flag: &Flag,
        subject: Subject<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(usize, &'static str), Undecided> {
        if flag.enrolls {
            let has_enrolled = self.has_enrolled(flag, subject)?;
            return Ok(if has_enrolled { (ON, "condition_match") } else { (OFF, "no_condition_match") });
        }
        if let Some((share, outcome)) = flag.holdout
            && (share >= 1.0 || bucket(&["holdout-", subject.unit]) <= share)
        {
            return Ok((outcome, "holdout_condition_value"));
        }
        let (mut reason, mut undecided) = ("no_condition_match", None);
        for (position, group) in flag.groups.iter().enumerate() {
            let result = self.group(flag, group, subject);
            if IS_OBSERVABLE && observer.is_active() {
                self.explain(position, group, subject, &result, observer);
            }
            match result {
                Ok(Held::Yes(outcome)) => return Ok((outcome, "condition_match")),
                Ok(Held::No) => {}
                Ok(Held::OutOfShare) => {
                    reason = "out_of_rollout_bound";
                    if flag.early_exit {
                        break;
                    }
                }
                Err(error) if error.at_once => {
                    let cause = if self.is_undecidable(flag) { Cause::Definition } else { error.cause };
                    return Err(Undecided { cause, at_once: true });
                }
                Err(error) => undecided = Some(error.after(undecided)),
            }
        }
        undecided.map_or(Ok((OFF, reason)), Err)
    }

    /// Whether the person has enrolled in the feature.
    fn has_enrolled(&self, flag: &Flag, subject: Subject<'_>) -> Verdict {
        if subject.group.is_some() || flag.group_type != Ok(None) {
            return Err(Cause::Definition.into());
        }
        match self.context.attribute(&AttributeName::Exact(format!("$feature_enrollment/{}", flag.key))) {
            AttributeValue::Missing => Err(Cause::Context.into()),
            actual => Ok(matches!(JsValue::of(&actual), JsValue::Bool(true) | JsValue::Text("true"))),
        }
    }

    fn group(&self, flag: &Flag, group: &Group, subject: Subject<'_>) -> Result<Held, Undecided> {
        let key;
        let subject = match &group.group_type {
            Ok(None) => subject,
            // The groups of a visitor are not known to the flags that others depend on.
            Ok(Some(name)) if subject.depth == 0 => {
                let Some(found) = self.group_key(name) else { return Ok(Held::No) };
                key = found;
                Subject { group: Some(name), unit: &key, ..subject }
            }
            _ => return Ok(Held::No),
        };
        if !self.context.spend(subject.unit.len() + flag.variants.len()) {
            return Ok(Held::No);
        }
        let mut undecided = None;
        for condition in &group.conditions {
            match self.condition(condition, subject) {
                Ok(true) => {}
                Ok(false) => return Ok(Held::No),
                Err(error) => undecided = Some(error.after(undecided)),
            }
        }
        undecided.map_or(Ok(()), Err)?;
        if group.share.is_some_and(|share| bucket(&[&flag.key, ".", subject.unit]) > share) {
            return Ok(Held::OutOfShare);
        }
        Ok(Held::Yes(group.variant.unwrap_or_else(|| {
            let hash = bucket(&[&flag.key, ".", subject.unit, "variant"]);
            flag.variants.iter().find(|(end, _)| hash < *end).map_or(ON, |(_, outcome)| *outcome)
        })))
    }

    fn condition(&self, condition: &Condition, subject: Subject<'_>) -> Verdict {
        match condition {
            Condition::Fixed(verdict) => *verdict,
            Condition::Property(filter) => {
                filter.passes(&self.property(filter, subject, &mut AttributeName::Id), self.context)
            }
            Condition::Cohort(position) => match self.rules.cohorts.get(*position) {
                Some(cohort) => self.condition(cohort, subject),
                None => Err(Undecided::AT_ONCE),
            },
            Condition::Flag { key, value, chain } => self.dependency(key, value, chain, self.nested(subject)?),
            Condition::Entries { all, entries } => self.entries(*all, entries, self.nested(subject)?),
            Condition::Not(condition) => Ok(!self.condition(condition, subject)?),
        }
    }

    /// The subject one level deeper. Conditions that are nested too deep are undecided.
    fn nested<'s>(&self, subject: Subject<'s>) -> Result<Subject<'s>, Undecided> {
        let is_allowed = subject.depth < DEPTH_MAX && self.context.spend(0);
        is_allowed.then_some(Subject { depth: subject.depth + 1, ..subject }).ok_or(Undecided::AT_ONCE)
    }

    /// Whether all of these conditions hold, or one of them.
    fn entries(&self, all: bool, entries: &[Condition], subject: Subject<'_>) -> Verdict {
        let (mut is_decided, mut undecided) = (false, None);
        for entry in entries {
            match self.condition(entry, subject) {
                Ok(holds) => is_decided |= holds != all,
                Err(error) if error.at_once => return Err(error),
                Err(error) => undecided = Some(error.after(undecided)),
            }
        }
        undecided.filter(|_| !is_decided).map_or(Ok(is_decided != all), Err)
    }

    /// The property that `filter` is about. Its attribute may be given a `name`.
    fn property<'s>(
        &'s self,
        filter: &'s Filter,
        subject: Subject<'s>,
        name: &'s mut AttributeName,
    ) -> AttributeValue<'s> {
        match subject.group {
            None if filter.key == "distinct_id" => AttributeValue::Text(self.id.into()),
            None => self.context.attribute(&filter.name),
            Some(_) if filter.key == "$group_key" => AttributeValue::Text(subject.unit.into()),
            Some(group) => {
                *name = AttributeName::Named(format!("$group_properties.{group}.{}", filter.key));
                self.context.attribute(name)
            }
        }
    }

    /// Whether the decision about the flag `key` is `expected`. The flags of `chain` are decided before.
    fn dependency(&self, key: &str, expected: &Value, chain: &[String], subject: Subject<'_>) -> Verdict {
        let known = |flag: usize| self.known.borrow().iter().find(|(known, _)| *known == flag).map(|known| known.1);
        for parent in self.rules.numbers(chain).ok_or(Cause::Definition)? {
            if known(parent).is_none() {
                self.parent(parent, subject)?;
            }
        }
        let flag = *self.rules.by_key.get(key).ok_or(Cause::Definition)?;
        let outcome = known(flag).ok_or(Cause::Definition)?.ok_or(Cause::Dependency)?;
        let variant = self.rules.flags.get(flag).and_then(|flag| flag.outcomes.get(outcome)?.variant.as_deref());
        Ok(match variant {
            Some(variant) => expected.as_bool().unwrap_or(expected == variant),
            None => expected.as_bool() == Some(outcome == ON),
        })
    }

    /// Decides the flag with this number, which the flag of `child` depends on.
    fn parent(&self, number: usize, child: Subject<'_>) -> Result<(), Undecided> {
        let flag = self.rules.flags.get(number).ok_or(Cause::Definition)?;
        let decided = self.flag(flag, Some(child), &mut ()).map(|decided| decided.outcome);
        if !decided.is_err_and(|error| error.at_once) {
            self.known.borrow_mut().push((number, decided.ok()));
        }
        decided.map(drop).map_err(|error| Undecided { cause: Cause::Dependency, ..error })
    }

    /// The key of the visitor's group of a type.
    fn group_key(&self, group: &str) -> Option<String> {
        self.text(AttributeName::Named(format!("{GROUPS}{group}")))
    }

    fn text(&self, name: AttributeName) -> Option<String> {
        self.context.text(&name).map(|text| text.into_owned())
    }

    /// Whether no visitor can make every condition of `flag` decidable.
    fn is_undecidable(&self, flag: &Flag) -> bool {
        let mut conditions = flag.groups.iter().flat_map(|group| &group.conditions);
        flag.group_type.is_err() || conditions.any(|condition| self.is_unsupported(condition, &mut Vec::new()))
    }

    fn is_unsupported(&self, condition: &Condition, visited: &mut Vec<usize>) -> bool {
        let mut is_any = |conditions: &[Condition]| conditions.iter().any(|one| self.is_unsupported(one, visited));
        match condition {
            _ if !self.context.spend(0) => true,
            Condition::Fixed(verdict) => verdict.is_err(),
            Condition::Property(filter) => filter.is_unusable(),
            Condition::Flag { chain, .. } => self.rules.numbers(chain).is_none(),
            Condition::Not(condition) => is_any(std::slice::from_ref(condition)),
            Condition::Entries { entries, .. } => is_any(entries),
            Condition::Cohort(position) if visited.contains(position) => false,
            Condition::Cohort(position) => {
                visited.push(*position);
                self.rules.cohorts.get(*position).is_none_or(|cohort| self.is_unsupported(cohort, visited))
            }
        }
    }

    /// Reports the result of a group of conditions, with the first that does not hold and the value that it saw.
    #[cfg(not(target_arch = "wasm32"))]
    fn explain(
        &self,
        position: usize,
        group: &Group,
        subject: Subject<'_>,
        result: &Result<Held, Undecided>,
        observer: &mut dyn Observer,
    ) {
        let failed = || match group.conditions.iter().find(|one| self.condition(one, subject) != Ok(true)) {
            None => "about groups that the visitor is not in".to_owned(),
            Some(Condition::Property(filter)) => {
                let value = shown(&self.property(filter, subject, &mut AttributeName::Id));
                format!("{} is {value}, expected {}", filter.key, filter.shown)
            }
            Some(Condition::Flag { key, value, .. }) => format!("the flag {key:?} is not {value}"),
            Some(Condition::Fixed(Ok(_))) => "never".to_owned(),
            Some(_) => "the cohort".to_owned(),
        };
        let detail = match result {
            Ok(Held::Yes(_)) => String::new(),
            Ok(Held::OutOfShare) => format!(": outside the share of {}", group.share.unwrap_or_default()),
            Ok(Held::No) => format!(": {}", failed()),
            Err(error) => format!(": {}; {}", failed(), error.cause.name()),
        };
        observer.check("group", matches!(result, Ok(Held::Yes(_))), format_args!("groups[{position}]{detail}"));
    }

    #[cfg(target_arch = "wasm32")]
    fn explain(&self, _: usize, _: &Group, _: Subject<'_>, _: &Result<Held, Undecided>, _: &mut dyn Observer) {}
}
