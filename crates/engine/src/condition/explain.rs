//! Conditions in words, and the tests of a condition that a visitor fails, with the values that failed them.

use super::value_set::ValueSet;
use super::{Accepts, Check, Condition, Operator, StepBudget, Test, request_budget};
use crate::attribute::{AttributeValue, Attributes};
use std::cmp::Ordering;
use std::fmt;

/// How many tests are named.
const TESTS_MAX: usize = 4;

/// How many members of a set are shown.
const MEMBERS_MAX: usize = 8;

/// How many characters of a value are shown.
const VALUE_CHARS_MAX: usize = 80;

impl Condition {
    /// The tests that keep the condition from matching, for a person. Empty if it matches.
    pub fn unmet(&self, attributes: &impl Attributes) -> String {
        let mut found = Vec::new();
        self.collect(true, attributes, &request_budget(), &mut found);
        found.join("; ")
    }

    /// Adds the tests that keep the condition from being `wanted`.
    fn collect(&self, wanted: bool, attributes: &impl Attributes, steps: &StepBudget, found: &mut Vec<String>) {
        for test in &self.tests {
            // Once a limit is exceeded, no further test has a result, so none is named.
            let single = |condition: &Condition| condition.matches(attributes, steps) != Ok(!wanted);
            if found.len() >= TESTS_MAX || steps.left() == 0 {
                return;
            }
            match test {
                Test::Any(conditions) | Test::All(conditions) => {
                    for condition in conditions.iter().filter(|condition| !single(condition)) {
                        condition.collect(wanted, attributes, steps, found);
                    }
                }
                Test::Not(condition) => condition.collect(!wanted, attributes, steps, found),
                Test::Attribute(name, check) => {
                    let value = attributes.attribute(name);
                    if check.passes(super::JsValue::of(&value), steps) == Ok(!wanted) {
                        let not = if wanted { "" } else { "not " };
                        found.push(format!("{} is {}, expected {not}{check}", name.written(), shown(&value)));
                    }
                }
                Test::Never if wanted => found.push("a test that is not understood".to_owned()),
                Test::Never => {}
            }
        }
    }
}

/// The value of an attribute, for a person.
fn shown(value: &AttributeValue<'_>) -> String {
    let text = match value {
        AttributeValue::Missing => return "missing".to_owned(),
        AttributeValue::Text(text) => format!("{text:?}"),
        AttributeValue::Json(value) => value.to_string(),
    };
    shortened(&text)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The condition in words, such as `country is one of "AT", "DE" and plan is "pro"`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tests.is_empty() { f.write_str("anything") } else { joined(f, &self.tests, " and ") }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::Any(conditions) | Test::All(conditions) => {
                f.write_str("(")?;
                joined(f, conditions, if matches!(self, Test::Any(_)) { " or " } else { " and " })?;
                f.write_str(")")
            }
            Test::Not(condition) => write!(f, "not ({condition})"),
            Test::Attribute(name, check) => {
                let has_sign = |operator: &Operator| matches!(operator, Operator::Order(..) | Operator::Identical(..));
                let is_sign = matches!(check, Check::Operators(operators) if operators.first().is_some_and(has_sign));
                write!(f, "{} {}{check}", name.written(), if is_sign { "" } else { "is " })
            }
            Test::Never => f.write_str("a test that is not understood"),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, parts: &[impl fmt::Display], between: &str) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        write!(f, "{}{part}", if at > 0 { between } else { "" })?;
    }
    Ok(())
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Text(text) => write!(f, "{text:?}"),
            Check::FoldedText(text) => write!(f, "{text:?} in any case"),
            Check::Number(number) => write!(f, "{number}"),
            Check::Truth(truth) => write!(f, "{truth}"),
            Check::Null => f.write_str("null"),
            Check::Same(value) => write!(f, "{value}"),
            Check::Operators(operators) => joined(f, operators, " and "),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operator::Identical(value, true) => write!(f, "= {value}"),
            Operator::Identical(value, false) => write!(f, "!= {value}"),
            Operator::Order(accepts, value) => write!(f, "{} {value}", sign(*accepts)),
            Operator::Version(accepts, version) => write!(f, "a version {} {}", sign(*accepts), spelled(version)),
            Operator::Exists(true) => f.write_str("any value"),
            Operator::Exists(false) => f.write_str("no value"),
            Operator::In(values, true) => write!(f, "one of {values}"),
            Operator::In(values, false) => write!(f, "none of {values}"),
            Operator::Not(check) => write!(f, "not {check}"),
            Operator::Size(check) => write!(f, "a list with a length of {check}"),
            Operator::Element(check) => write!(f, "a list with an element {check}"),
            Operator::ElementMembers(_) => f.write_str("a list with an element that matches"),
            Operator::Every(checks) => {
                f.write_str("a list with ")?;
                joined(f, checks, " and ")
            }
            Operator::Regex(_, pattern) => {
                write!(f, "a match of {:?}", shortened(pattern.as_deref().unwrap_or_default()))
            }
            Operator::Type(name) => write!(f, "the type {name}"),
            Operator::Never => f.write_str("an operator that is not understood"),
        }
    }
}

/// The first members of the set.
impl fmt::Display for ValueSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut members, is_folded) = self.members();
        let first: Vec<String> = members.by_ref().take(MEMBERS_MAX).map(|member| shortened(&member)).collect();
        f.write_str(if first.is_empty() { "an empty list" } else { "" })?;
        f.write_str(&first.join(", "))?;
        match members.count() {
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        f.write_str(if is_folded { " in any case" } else { "" })
    }
}

/// A version in its usual spelling, made from the result of `padded_version`.
fn spelled(padded: &[u16]) -> String {
    let text = String::from_utf16_lossy(padded);
    let mut parts = text.split('-').map(str::trim_start).filter(|part| *part != "~");
    let release: Vec<&str> = parts.by_ref().take(3).collect();
    let rest: Vec<&str> = parts.collect();
    let separator = if rest.is_empty() { "" } else { "-" };
    [&release.join("."), separator, &rest.join(".")].concat()
}

/// The sign of a comparison, such as `<=`.
pub fn sign(accepts: Accepts) -> &'static str {
    match [Ordering::Less, Ordering::Equal, Ordering::Greater].map(accepts) {
        [true, false, false] => "<",
        [true, true, false] => "<=",
        [false, false, true] => ">",
        [false, true, true] => ">=",
        [true, false, true] => "!=",
        _ => "=",
    }
}
