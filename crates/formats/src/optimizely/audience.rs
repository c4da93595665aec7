//! Audiences: the visitors of an experiment.
//!
//! A condition holds, does not hold, or is unknown: if an attribute is missing or has another type than the condition
//! needs, or if the condition itself is invalid. `and`, `or` and `not` carry the unknown on (Kleene's logic),
//! so the negation of an unknown condition does not let all visitors in. Only a condition that holds counts.

mod compile;
pub(super) mod explain;
mod version;

pub(super) use compile::{Compiler, attribute_name};

use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::Accepts;
use edgesplit_engine::number;
use serde_json::{Number, Value};

/// How many conditions may stand inside each other. It bounds the stack that compiling and matching take.
pub const AUDIENCE_DEPTH_MAX: usize = 64;

/// Larger numbers are not exact as doubles; the SDKs compare nothing with them.
const NUMBER_MAX: u64 = 1 << 53;

/// A tree of conditions.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    /// All hold.
    And(Vec<Tree>),
    /// One holds.
    Or(Vec<Tree>),
    /// It does not hold.
    Not(Box<Tree>),
    /// The visitor is in the audience at this position.
    Audience(usize),
    /// The attribute passes.
    Attribute(AttributeName, Check),
    /// The same for all visitors: always, or never known.
    Always(Option<bool>),
}

/// A requirement on an attribute.
#[derive(Debug, Clone)]
pub(super) enum Check {
    /// There, and not null.
    Exists,
    /// This text.
    Text(String),
    /// This number, whole or not.
    Number(f64),
    /// This truth.
    Truth(bool),
    /// A text with this one in it.
    Substring(String),
    /// A number in this order to that one.
    Order(Accepts, f64),
    /// A semantic version in this order to that one.
    Version(Accepts, String),
}

impl Tree {
    /// Whether the tree holds; none if that is unknown.
    pub(super) fn holds(&self, audiences: &[Tree], attributes: &impl Attributes) -> Option<bool> {
        match self {
            Tree::And(trees) => all(trees, false, audiences, attributes),
            Tree::Or(trees) => all(trees, true, audiences, attributes),
            Tree::Not(tree) => tree.holds(audiences, attributes).map(|holds| !holds),
            Tree::Audience(position) => audiences.get(*position)?.holds(audiences, attributes),
            Tree::Attribute(name, check) => check.passes(&attributes.attribute(name)),
            Tree::Always(holds) => *holds,
        }
    }
}

/// `decisive` if one tree gives it; else unknown if one tree is unknown; else the opposite.
fn all(trees: &[Tree], decisive: bool, audiences: &[Tree], attributes: &impl Attributes) -> Option<bool> {
    let mut known = true;
    for tree in trees {
        match tree.holds(audiences, attributes) {
            Some(holds) if holds == decisive => return Some(decisive),
            Some(_) => {}
            None => known = false,
        }
    }
    known.then_some(!decisive)
}

impl Check {
    fn passes(&self, actual: &AttributeValue<'_>) -> Option<bool> {
        match self {
            Check::Exists => Some(!matches!(actual, AttributeValue::Missing | AttributeValue::Json(Value::Null))),
            Check::Text(expected) => text(actual).map(|actual| actual == expected),
            Check::Substring(part) => text(actual).map(|actual| actual.contains(part.as_str())),
            Check::Truth(expected) => truth(actual).map(|actual| actual == *expected),
            Check::Number(expected) => number(actual).map(|actual| actual == *expected),
            Check::Order(accepts, bound) => number(actual)?.partial_cmp(bound).map(accepts),
            Check::Version(accepts, target) => version::compare(text(actual)?, target).map(accepts),
        }
    }
}

fn text<'a>(actual: &'a AttributeValue<'_>) -> Option<&'a str> {
    match actual {
        AttributeValue::Text(text) => Some(text),
        AttributeValue::Json(value) => value.as_str(),
        AttributeValue::Missing => None,
    }
}

/// A typed value keeps its type. A text from a request has none and is read as the type that the condition needs.
/// Otherwise, conditions on numbers and booleans could never hold at the edge.
fn truth(actual: &AttributeValue<'_>) -> Option<bool> {
    match actual {
        AttributeValue::Text(text) => text.parse().ok(),
        AttributeValue::Json(value) => value.as_bool(),
        AttributeValue::Missing => None,
    }
}

/// See [`truth`].
fn number(actual: &AttributeValue<'_>) -> Option<f64> {
    let number = match actual {
        AttributeValue::Text(text) if text.ends_with(|last: char| last.is_ascii_digit()) => number::read(text),
        AttributeValue::Json(Value::Number(number)) => exact(number),
        AttributeValue::Text(_) | AttributeValue::Json(_) | AttributeValue::Missing => None,
    };
    number.filter(|number| number.abs() <= NUMBER_MAX as f64)
}

/// The number as a double, if the SDKs compare it at all.
pub(super) fn exact(number: &Number) -> Option<f64> {
    let is_exact = match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => number <= NUMBER_MAX,
        (None, Some(number)) => number.unsigned_abs() <= NUMBER_MAX,
        (None, None) => number.as_f64().is_some_and(|number| number.abs() <= NUMBER_MAX as f64),
    };
    number.as_f64().filter(|_| is_exact)
}
