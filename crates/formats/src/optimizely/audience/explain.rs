//! Names the conditions that keep a visitor out of an audience, with the values that they saw.

use super::{Check, Tree};
use crate::report::shown;
use edgesplit_engine::attribute::Attributes;
use edgesplit_engine::condition::sign;
use serde_json::Value;
use std::fmt;

/// How many conditions are named.
const CONDITIONS_MAX: usize = 4;

/// The conditions that keep `tree` from holding, for a person.
pub(in crate::optimizely) fn unmet(tree: &Tree, audiences: &[Tree], attributes: &impl Attributes) -> String {
    let mut found = Vec::new();
    collect(tree, true, audiences, attributes, &mut found);
    found.join("; ")
}

/// Adds the conditions that keep `tree` from being `wanted`.
fn collect(tree: &Tree, wanted: bool, audiences: &[Tree], attributes: &impl Attributes, found: &mut Vec<String>) {
    if found.len() >= CONDITIONS_MAX || tree.holds(audiences, attributes) == Some(wanted) {
        return;
    }
    match tree {
        Tree::And(trees) | Tree::Or(trees) => {
            for tree in trees {
                collect(tree, wanted, audiences, attributes, found);
            }
        }
        Tree::Not(tree) => collect(tree, !wanted, audiences, attributes, found),
        Tree::Audience(position) => match audiences.get(*position) {
            Some(tree) => collect(tree, wanted, audiences, attributes, found),
            None => found.push("unknown audience".to_owned()),
        },
        Tree::Attribute(name, check) => {
            let not = if wanted { "" } else { "not " };
            let value = shown(&attributes.attribute(name));
            found.push(format!("{} is {value}, expected {not}{check}", name.written()));
        }
        Tree::Always(_) => found.push("a condition that is not understood".to_owned()),
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Exists => f.write_str("any value"),
            Check::Text(text) => write!(f, "{text:?}"),
            Check::Number(number) => write!(f, "{}", Value::from(*number)),
            Check::Truth(truth) => write!(f, "{truth}"),
            Check::Substring(part) => write!(f, "a text with {part:?}"),
            Check::Order(accepts, bound) => write!(f, "a number {} {}", sign(*accepts), Value::from(*bound)),
            Check::Version(accepts, version) => write!(f, "a version {} {version:?}", sign(*accepts)),
        }
    }
}
