//! The requirements of flags on one visitor.

use super::filter::Filter;
use super::rules::{Aggregation, Condition, Flag, Group, OFF, ON, Rules};
use super::verdict::{Cause, Undecided, Verdict};
use crate::digest::sha1_start;
use crate::metered::Metered;
#[cfg(not(target_arch = "wasm32"))]
use crate::report::shown;
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::CONDITION_DEPTH_MAX;
use edgesplit_engine::observer::{IS_OBSERVABLE, Observer};
use serde_json::Value;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};

/// How many flags and cohorts may be nested in each other.
const DEPTH_MAX: usize = CONDITION_DEPTH_MAX;

/// The start of the name of the attribute with the key of a group.
pub(super) const GROUPS: &str = "$groups.";

/// A decision about a flag: its outcome, and whether some group of conditions held for more visitors than its share.
#[derive(Clone, Copy)]
pub(super) struct Decided {
    pub(super) outcome: usize,
    pub(super) out_of_share: bool,
}

/// The subject of a flag: a person, or the group of a type.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The type of the group.
    pub(super) group: Option<&'a str>,
    /// The value that is bucketed.
    pub(super) unit: &'a str,
}

/// Decides the requirements of one flag, and those of the flags that it depends on.
pub(super) struct Evaluation<'a> {
    pub(super) rules: &'a Rules,
    pub(super) context: &'a Metered<'a>,
    /// The id of the visitor.
    pub(super) id: &'a str,
    /// The id, or the key of the group that the flag is about: the value that is bucketed by flags that it depends on.
    pub(super) distinct: &'a str,
    /// The outcomes of the flags that were decided on the way, none for undecided ones, by their numbers.
    known: RefCell<Vec<(usize, Option<usize>)>>,
    depth: Cell<usize>,
}

/// The bucket of a value, from 0 to 1.
pub(super) fn bucket(parts: &[&str]) -> f64 {
    const END: f64 = 0x0fff_ffff_ffff_ffff_u64 as f64;
    (sha1_start(parts) >> 4) as f64 / END
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(rules: &'a Rules, context: &'a Metered<'a>, id: &'a str, distinct: &'a str) -> Evaluation<'a> {
        Evaluation { rules, context, id, distinct, known: RefCell::default(), depth: Cell::new(0) }
    }

    /// The key of the visitor's group of a type.
    pub(super) fn group_key(&self, group: &str) -> Option<String> {
        self.context.text(&AttributeName::Named(format!("{GROUPS}{group}"))).map(Cow::into_owned)
    }

    /// Decides by the holdout and the groups of conditions of `flag`. A flag that another one depends on `is_parent`.
    pub(super) fn flag(
        &self,
        flag: &Flag,
        subject: Subject<'_>,
        is_parent: bool,
        observer: &mut dyn Observer,
    ) -> Result<Decided, Undecided> {
        let decided = |outcome, out_of_share| Ok(Decided { outcome, out_of_share });
        if flag.enrolls {
            return decided(usize::from(self.enrollment(flag, subject)?), false);
        }
        if let Some(holdout) = &flag.holdout
            && (holdout.share >= 1.0 || bucket(&["holdout-", subject.unit]) <= holdout.share)
        {
            return decided(holdout.outcome, false);
        }
        let (mut out_of_share, mut undecided) = (false, None);
        for (position, group) in flag.groups.iter().enumerate() {
            let result = self.group(flag, group, subject, is_parent);
            if IS_OBSERVABLE && observer.is_active() {
                self.explain(position, group, subject, &result, observer);
            }
            match result {
                Ok(Held::Yes(outcome)) => return decided(outcome, out_of_share),
                Ok(Held::No) => {}
                Ok(Held::OutOfShare) => {
                    out_of_share = true;
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
        undecided.map_or(decided(OFF, out_of_share), Err)
    }

    /// Whether the visitor has enrolled in the feature.
    fn enrollment(&self, flag: &Flag, subject: Subject<'_>) -> Verdict {
        if subject.group.is_some() {
            return Err(Cause::Definition.into());
        }
        let name = AttributeName::Exact(format!("$feature_enrollment/{}", flag.key));
        match self.context.attribute(&name) {
            AttributeValue::Missing => Err(Cause::Context.into()),
            AttributeValue::Text(text) => Ok(text == "true"),
            AttributeValue::Json(value) => Ok(*value == Value::Bool(true) || value.as_str() == Some("true")),
        }
    }

    fn group(&self, flag: &Flag, group: &Group, subject: Subject<'_>, is_parent: bool) -> Result<Held, Undecided> {
        let key;
        let subject = match &group.aggregation {
            Aggregation::Persons => subject,
            // The groups of a visitor are not known to the flags that others depend on.
            Aggregation::Groups(name) if !is_parent => {
                let Some(found) = self.group_key(name) else { return Ok(Held::No) };
                key = found;
                Subject { group: Some(name), unit: &key }
            }
            Aggregation::Groups(_) | Aggregation::Unknown => return Ok(Held::No),
        };
        self.context.spend(subject.unit.len() + flag.variants.len());
        let mut undecided = None;
        for condition in &group.conditions {
            match self.condition(condition, subject) {
                Ok(true) => {}
                Ok(false) => return Ok(Held::No),
                Err(error) => undecided = Some(error.after(undecided)),
            }
        }
        if let Some(error) = undecided {
            return Err(error);
        }
        if group.share.is_some_and(|share| bucket(&[&flag.key, ".", subject.unit]) > share) {
            return Ok(Held::OutOfShare);
        }
        Ok(Held::Yes(group.variant.unwrap_or_else(|| {
            let hash = bucket(&[&flag.key, ".", subject.unit, "variant"]);
            flag.variants.iter().find(|(end, _)| hash < *end).map_or(ON, |(_, outcome)| *outcome)
        })))
    }

    /// Runs `inner` one level deeper. Conditions that are nested too deep are undecided.
    fn nested(&self, inner: impl FnOnce() -> Verdict) -> Verdict {
        let depth = self.depth.get();
        if depth >= DEPTH_MAX || !self.context.spend(0) {
            return Err(Undecided::AT_ONCE);
        }
        self.depth.set(depth + 1);
        let verdict = inner();
        self.depth.set(depth);
        verdict
    }

    fn condition(&self, condition: &Condition, subject: Subject<'_>) -> Verdict {
        match condition {
            Condition::Never => Ok(false),
            Condition::Property(filter) => {
                self.with_property(filter, subject, &mut |value| filter.passes(value, self.context))
            }
            Condition::Cohort { position, is_in } => {
                let cohort = self.rules.cohorts.get(*position).ok_or(Undecided::AT_ONCE)?;
                Ok(self.condition(cohort, subject)? == *is_in)
            }
            Condition::Flag { key, value, chain } => self.nested(|| self.dependency(key, value, chain, subject)),
            Condition::Entries { all, entries } => self.nested(|| self.entries(*all, entries, subject)),
            Condition::Not(condition) => Ok(!self.condition(condition, subject)?),
            Condition::Undecided(undecided) => Err(*undecided),
        }
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
        match undecided {
            Some(undecided) if !is_decided => Err(undecided),
            _ => Ok(is_decided != all || entries.is_empty()),
        }
    }

    /// Calls `each` with the property that `filter` is about.
    fn with_property(
        &self,
        filter: &Filter,
        subject: Subject<'_>,
        each: &mut dyn FnMut(&AttributeValue<'_>) -> Verdict,
    ) -> Verdict {
        match subject.group {
            None if filter.key == "distinct_id" => each(&AttributeValue::Text(self.id.into())),
            None => each(&self.context.attribute(&filter.name)),
            Some(_) if filter.key == "$group_key" => each(&AttributeValue::Text(subject.unit.into())),
            Some(group) => {
                let name = AttributeName::Named(format!("$group_properties.{group}.{}", filter.key));
                each(&self.context.attribute(&name))
            }
        }
    }

    /// Whether the decision about the flag `key` is `expected`.
    fn dependency(&self, key: &str, expected: &Value, chain: &[String], subject: Subject<'_>) -> Verdict {
        let number = |key: &str| self.rules.by_key.get(key).copied();
        if chain.is_empty() || chain.iter().any(|key| number(key).is_none()) {
            return Err(Cause::Definition.into());
        }
        let known = |flag: usize| self.known.borrow().iter().find(|(known, _)| *known == flag).map(|known| known.1);
        for parent in chain.iter().filter_map(|key| number(key)) {
            if known(parent).is_none() {
                self.parent(parent, subject)?;
            }
        }
        let flag = number(key).ok_or(Cause::Definition)?;
        let outcome = known(flag).ok_or(Cause::Definition)?.ok_or(Cause::Dependency)?;
        let variant = self.rules.flags.get(flag).and_then(|flag| flag.outcomes.get(outcome)?.variant.as_deref());
        Ok(match (variant, expected) {
            (Some(_), Value::Bool(expected)) => *expected,
            (Some(variant), expected) => expected.as_str() == Some(variant),
            (None, expected) => expected.as_bool() == Some(outcome == ON),
        })
    }

    /// Decides the flag with this number, which another one depends on.
    fn parent(&self, number: usize, subject: Subject<'_>) -> Result<(), Undecided> {
        let flag = self.rules.flags.get(number).ok_or(Cause::Definition)?;
        let decided = self.parent_outcome(flag, subject);
        if !decided.is_err_and(|error| error.at_once) {
            self.known.borrow_mut().push((number, decided.ok()));
        }
        decided.map(drop).map_err(|error| Undecided { cause: Cause::Dependency, ..error })
    }

    fn parent_outcome(&self, flag: &Flag, subject: Subject<'_>) -> Result<usize, Undecided> {
        if !flag.active {
            return Ok(OFF);
        }
        if flag.continuity {
            return Err(Cause::Continuity.into());
        }
        let device = match flag.aggregation {
            Aggregation::Persons if flag.by_device => Some(self.device().ok_or(Cause::Context)?),
            _ => None,
        };
        let subject = Subject { unit: device.as_deref().unwrap_or(self.distinct), ..subject };
        Ok(self.flag(flag, subject, true, &mut ())?.outcome)
    }

    /// The id of the visitor's device.
    pub(super) fn device(&self) -> Option<String> {
        let name = AttributeName::Exact("$device_id".to_owned());
        self.context.text(&name).filter(|device| !device.is_empty()).map(Cow::into_owned)
    }

    /// Whether no visitor can make every condition of `flag` decidable.
    pub(super) fn is_undecidable(&self, flag: &Flag) -> bool {
        let mut conditions = flag.groups.iter().flat_map(|group| &group.conditions);
        matches!(flag.aggregation, Aggregation::Unknown)
            || conditions.any(|condition| self.is_unsupported(condition, &mut Vec::new()))
    }

    fn is_unsupported(&self, condition: &Condition, visited: &mut Vec<usize>) -> bool {
        self.context.spend(0);
        match condition {
            Condition::Never => false,
            Condition::Undecided(_) => true,
            Condition::Property(filter) => filter.is_unusable(),
            Condition::Flag { chain, .. } => {
                chain.is_empty() || chain.iter().any(|key| !self.rules.by_key.contains_key(key))
            }
            Condition::Cohort { position, .. } if visited.contains(position) => false,
            Condition::Cohort { position, .. } => {
                visited.push(*position);
                self.rules.cohorts.get(*position).is_none_or(|cohort| self.is_unsupported(cohort, visited))
            }
            Condition::Not(condition) => self.is_unsupported(condition, visited),
            Condition::Entries { entries, .. } => entries.iter().any(|entry| self.is_unsupported(entry, visited)),
        }
    }

    /// Reports the result of a group of conditions.
    #[cfg(not(target_arch = "wasm32"))]
    fn explain(
        &self,
        position: usize,
        group: &Group,
        subject: Subject<'_>,
        result: &Result<Held, Undecided>,
        observer: &mut dyn Observer,
    ) {
        let (passed, detail) = match result {
            Ok(Held::Yes(_)) => (true, String::new()),
            Ok(Held::OutOfShare) => (false, format!(": outside the share of {}", group.share.unwrap_or_default())),
            Ok(Held::No) => (false, format!(": {}", self.failed(group, subject))),
            Err(error) => (false, format!(": {}; {}", self.failed(group, subject), error.cause.name())),
        };
        observer.check("group", passed, format_args!("groups[{position}]{detail}"));
    }

    #[cfg(target_arch = "wasm32")]
    fn explain(&self, _: usize, _: &Group, _: Subject<'_>, _: &Result<Held, Undecided>, _: &mut dyn Observer) {}

    /// The first condition that does not hold, with the value that it saw.
    #[cfg(not(target_arch = "wasm32"))]
    fn failed(&self, group: &Group, subject: Subject<'_>) -> String {
        let mut conditions = group.conditions.iter();
        let failed = conditions.find(|condition| !matches!(self.condition(condition, subject), Ok(true)));
        let Some(failed) = failed else { return "about groups that the visitor is not in".to_owned() };
        match failed {
            Condition::Property(filter) => {
                let mut value = String::new();
                let _ = self.with_property(filter, subject, &mut |found| {
                    value = shown(found);
                    Ok(true)
                });
                format!("{} is {value}, expected {}", filter.key, filter.shown)
            }
            Condition::Flag { key, value, .. } => format!("the flag {key:?} is not {value}"),
            Condition::Never => "never".to_owned(),
            _ => "the cohort".to_owned(),
        }
    }
}

/// The result of a group of conditions.
enum Held {
    /// The outcome.
    Yes(usize),
    No,
    OutOfShare,
}
