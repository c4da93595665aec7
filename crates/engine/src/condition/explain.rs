//! Names the tests of a condition that a visitor fails, with the values that they saw.

use super::{Accepts, Check, Condition, Operator, StepBudget, Test, request_budget};
use crate::attribute::{AttributeValue, Attributes};
use std::cmp::Ordering;
use std::fmt;

/// How many tests are named.
const TESTS_MAX: usize = 4;

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
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
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
            Check::Operators(operators) => {
                for (at, operator) in operators.iter().enumerate() {
                    write!(f, "{}{operator}", if at > 0 { " and " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operator::Identical(value, true) => write!(f, "= {value}"),
            Operator::Identical(value, false) => write!(f, "!= {value}"),
            Operator::Order(accepts, value) => write!(f, "{} {value}", sign(*accepts)),
            Operator::Version(accepts, _) => write!(f, "a version {} the condition's", sign(*accepts)),
            Operator::Exists(true) => f.write_str("any value"),
            Operator::Exists(false) => f.write_str("no value"),
            Operator::In(_, true) => f.write_str("one of the listed values"),
            Operator::In(_, false) => f.write_str("none of the listed values"),
            Operator::Not(check) => write!(f, "not {check}"),
            Operator::Size(check) => write!(f, "a list with a length of {check}"),
            Operator::Element(check) => write!(f, "a list with an element {check}"),
            Operator::ElementMembers(_) => f.write_str("a list with an element that matches"),
            Operator::Every(_) => f.write_str("a list with all of the values"),
            Operator::Regex(_) => f.write_str("a match of the pattern"),
            Operator::Type(name) => write!(f, "the type {name}"),
            Operator::Never => f.write_str("an operator that is not understood"),
        }
    }
}

fn sign(accepts: Accepts) -> &'static str {
    match [Ordering::Less, Ordering::Equal, Ordering::Greater].map(accepts) {
        [true, false, false] => "<",
        [true, true, false] => "<=",
        [false, false, true] => ">",
        [false, true, true] => ">=",
        [true, false, true] => "!=",
        _ => "=",
    }
}
