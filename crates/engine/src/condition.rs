//! Conditions on attributes, in GrowthBook's Mongo-like language: the `audience` of native experiments, and whatever a
//! GrowthBook payload targets by.
//!
//! A condition is compiled once, with every problem in it named by its JSON path, and then only read. Its meaning is
//! that of GrowthBook's JavaScript SDK (spec 0.8.0, SDK 1.8.0: `mongrule.ts`), JavaScript's coercions included: a
//! missing attribute is `null`, which counts as 0 in a numeric comparison and so passes `{"$lt": 10}`.
//!
//! - `compile`: JSON to the tree of this file, with problems;
//! - `groups`: saved groups, which conditions refer to by their ids;
//! - `value`: what JavaScript makes of a value: text, number, truth, order;
//! - `regex`: JavaScript's regular expressions.

pub mod value;

use super::attribute::{AttributeName, Attributes};
use js_regex::JsRegex;
use serde_json::Value;
use std::cmp::Ordering;
use std::sync::Arc;
use value::{Actual, Members};

/// How many conditions may stand inside each other. It bounds the stack that compiling and matching take.
pub const CONDITION_DEPTH_MAX: usize = 32;

/// How many tests one condition may come to, the conditions of the saved groups it names included.
pub const CONDITION_TESTS_MAX: usize = 10_000;

/// A compiled condition: all of its tests must hold. Without any it matches everything.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Its members.
    pub tests: Vec<Test>,
}

/// One member of a condition.
#[derive(Debug, Clone)]
pub enum Test {
    /// `$or`: one of these, where there are any.
    Any(Vec<Condition>),
    /// `$and`
    All(Vec<Condition>),
    /// `$not`, and `$nor` around an `Any`.
    Not(Condition),
    /// The attribute's value passes the check.
    Attribute(AttributeName, Check),
    /// What cannot be understood matches nothing.
    Never,
}

/// What a value must be.
#[derive(Debug, Clone)]
pub enum Check {
    /// Its text is this one.
    Text(Box<str>),
    /// Its text in lower case is this one.
    FoldedText(Box<str>),
    /// It is this number, as JavaScript converts it: `null`, `""` and `false` are 0.
    Number(f64),
    /// It is not null and as true as this.
    Truth(bool),
    /// It is null or missing.
    Null,
    /// It is this list or object, down to the last member.
    Same(Value),
    /// It passes all of these.
    Operators(Vec<Operator>),
}

/// Says of an order whether it is the one asked for, such as [`Ordering::is_lt`].
pub type Accepts = fn(Ordering) -> bool;

/// One operator and its operand.
#[derive(Debug, Clone)]
pub enum Operator {
    /// `$eq` (true) and `$ne` (false): the same type and value, nothing converted.
    Identical(Value, bool),
    /// `$lt`, `$lte`, `$gt`, `$gte`
    Order(Accepts, Value),
    /// `$veq`, `$vne`, `$vlt`, `$vlte`, `$vgt`, `$vgte`: the operand as `value::padded_version` spells it.
    Version(Accepts, Box<[u16]>),
    /// `$exists`
    Exists(bool),
    /// `$in`, `$ini`, `$inGroup` (true) and `$nin`, `$nini`, `$notInGroup` (false).
    In(Arc<Members>, bool),
    /// `$not`
    Not(Box<Check>),
    /// `$size`: the number of a list's elements passes.
    Size(Box<Check>),
    /// `$elemMatch` with operators: they pass for one element.
    Element(Box<Check>),
    /// `$elemMatch` with a condition: one element's own members match it.
    ElementMembers(Condition),
    /// `$all`, `$alli`: each of these passes for some element.
    Every(Vec<Check>),
    /// `$regex`, `$regexi`
    Regex(JsRegex),
    /// `$type`
    Type(Box<str>),
    /// What cannot be understood matches nothing.
    Never,
}

impl Condition {
    /// Whether the condition holds for these attributes.
    pub fn matches(&self, attributes: &impl Attributes) -> bool {
        self.tests.iter().all(|test| match test {
            Test::Any(conditions) => {
                conditions.is_empty() || conditions.iter().any(|condition| condition.matches(attributes))
            }
            Test::All(conditions) => conditions.iter().all(|condition| condition.matches(attributes)),
            Test::Not(condition) => !condition.matches(attributes),
            Test::Attribute(name, check) => check.passes(Actual::of(&attributes.attribute(name))),
            Test::Never => false,
        })
    }

    /// The condition with this one member.
    pub fn of(test: Test) -> Condition {
        Condition { tests: vec![test] }
    }
}

impl Check {
    fn passes(&self, actual: Actual<'_>) -> bool {
        match self {
            Check::Text(text) => actual.text() == **text,
            Check::FoldedText(text) => value::lower_case(&actual.text()) == **text,
            Check::Number(number) => actual.number() == *number,
            Check::Truth(truth) => !actual.is_null() && actual.is_true() == *truth,
            Check::Null => actual.is_null(),
            Check::Same(value) => actual.is_same(value),
            Check::Operators(operators) => operators.iter().all(|operator| operator.passes(actual)),
        }
    }
}

impl Operator {
    fn passes(&self, actual: Actual<'_>) -> bool {
        match self {
            Operator::Identical(value, expected) => actual.is_identical(value) == *expected,
            Operator::Order(accepts, value) => actual.compare(Actual::from(value)).is_some_and(accepts),
            Operator::Version(accepts, version) => {
                accepts(value::padded_version(&actual.version()).cmp(version.iter().copied()))
            }
            Operator::Exists(expected) => actual.is_null() != *expected,
            Operator::In(members, expected) => members.meet(actual) == *expected,
            Operator::Not(check) => !check.passes(actual),
            Operator::Size(check) => {
                actual.list().is_some_and(|elements| check.passes(Actual::Number(elements.len() as f64)))
            }
            Operator::Element(check) => present(actual).any(|element| check.passes(Actual::from(element))),
            Operator::ElementMembers(condition) => present(actual).any(|element| condition.matches(element)),
            Operator::Every(checks) => actual.list().is_some_and(|elements| {
                checks.iter().all(|check| elements.iter().any(|element| check.passes(Actual::from(element))))
            }),
            Operator::Regex(regex) => regex.is_match(&actual.text()),
            Operator::Type(name) => actual.type_name() == &**name,
            Operator::Never => false,
        }
    }
}

/// The elements `$elemMatch` looks at: those of a list that are not null.
fn present<'a>(actual: Actual<'a>) -> impl Iterator<Item = &'a Value> {
    actual.list().unwrap_or_default().iter().filter(|element| !element.is_null())
}
