//! The conditions of a rule.

use crate::conditions::{PatternError, order};
use crate::diagnostics::{Node, found};
use crate::re2::{self, Engine};
#[cfg(not(target_arch = "wasm32"))]
use crate::report::shown;
use crate::scope::Scope;
use crate::semver::{self, Version};
use edgesplit_engine::attribute::{AttributeName, AttributeValue};
use edgesplit_engine::condition::value::JsValue;
use edgesplit_engine::condition::value_set::ValueSet;
use edgesplit_engine::condition::{Accepts, BYTES_PER_STEP, LimitExceeded, spend_check};
use edgesplit_engine::flag::FlagVisitor;
use edgesplit_engine::number;
use js_regex::{CompileError, JsRegex};
use serde_json::Value;
use std::borrow::Cow;

/// A requirement on an attribute. All but `IS_NULL` fail for an attribute that is null or missing.
#[derive(Debug)]
pub(super) struct Condition {
    attribute: AttributeName,
    check: Check,
    /// The operator and its operand, for a person.
    #[cfg(not(target_arch = "wasm32"))]
    written: String,
}

#[derive(Debug)]
enum Check {
    /// `GTE`, `GT`, `LTE`, `LT`
    Number(Accepts, f64),
    /// The same with a version in Eppo's payloads, `SEMVER_…` in Datadog's.
    Version(Accepts, Version, bool),
    /// `MATCHES` (true) and `NOT_MATCHES` (false)
    Regex(JsRegex, bool),
    /// `ONE_OF` (true) and `NOT_ONE_OF` (false)
    In(ValueSet, bool),
    /// `IS_NULL`
    Null(bool),
    /// Stands for a condition that cannot be read.
    Never,
}

/// The reason why a condition cannot be read.
enum Unreadable {
    /// The SDK cannot read it either.
    Invalid,
    /// It exceeds a limit that the SDK does not have.
    Limit,
}

impl Condition {
    /// Reads a condition. In Eppo's payloads, one that the SDK cannot read is never met.
    pub(super) fn compile(scope: &mut Scope<'_>, node: Node<'_>, is_datadog: bool) -> Option<Condition> {
        let before = scope.problems.errors();
        let attribute = scope.required_text(node, "attribute");
        let operator = scope.required_text(node, "operator");
        let check = match attribute.as_ref().zip(operator.as_deref()) {
            Some((_, operator)) => check(scope, node, operator, is_datadog),
            None => Err(Unreadable::Invalid),
        };
        let check = match check {
            Ok(check) => check,
            Err(Unreadable::Invalid) if !is_datadog => {
                scope.tolerated += scope.problems.errors() - before;
                Check::Never
            }
            Err(_) => return None,
        };
        Some(Condition {
            attribute: AttributeName::parse_exact(&attribute.unwrap_or_default()),
            check,
            #[cfg(not(target_arch = "wasm32"))]
            written: format!("{} {}", operator.unwrap_or_default(), node.value.get("value").unwrap_or(&Value::Null)),
        })
    }

    /// Whether the condition holds.
    pub(super) fn holds(&self, visitor: &FlagVisitor<'_>) -> Result<bool, LimitExceeded> {
        let (steps, looked_up) = (visitor.steps, visitor.attributes.look_up_bytes(&self.attribute));
        steps.spend(u32::try_from(looked_up / BYTES_PER_STEP).unwrap_or(u32::MAX))?;
        let actual = self.actual(visitor);
        spend_check(JsValue::of(&actual), steps)?;
        Ok(match &self.check {
            Check::Null(expected) => is_null(&actual) == *expected,
            Check::Number(accepts, bound) => {
                JsValue::of(&actual).decimal().and_then(|number| number.partial_cmp(bound)).is_some_and(accepts)
            }
            Check::Version(accepts, version, is_extended) => {
                let parts = if *is_extended { EXTENDED } else { semver::STRICT };
                let actual = as_text(&actual).filter(|_| !is_typed(&actual));
                let actual = actual.and_then(|text| Version::parse(&text, parts));
                actual.is_some_and(|actual| accepts(actual.compare(version)))
            }
            Check::Regex(regex, expected) => match as_text(&actual) {
                Some(text) => regex.is_match(&text, steps)? == *expected,
                None => false,
            },
            Check::In(values, expected) => {
                as_text(&actual).is_some_and(|text| values.intersects(JsValue::Text(&text)) == *expected)
            }
            Check::Never => false,
        })
    }

    /// The value of the attribute. The attribute `id` is the visitor's id, if there is no other.
    fn actual<'a>(&'a self, visitor: &FlagVisitor<'a>) -> AttributeValue<'a> {
        match (visitor.attributes.attribute(&self.attribute), &self.attribute) {
            (AttributeValue::Missing, AttributeName::Id) => {
                visitor.id.map_or(AttributeValue::Missing, |id| AttributeValue::Text(id.into()))
            }
            (actual, _) => actual,
        }
    }

    /// The condition with the value that it sees, for a person.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn unmet(&self, visitor: &FlagVisitor<'_>) -> String {
        let actual = shown(&self.actual(visitor));
        format!("{} is {actual}, expected {}", self.attribute.written(), self.written)
    }
}

/// The count of numbers in Datadog's versions.
const EXTENDED: std::ops::RangeInclusive<usize> = 1..=usize::MAX;

fn check(scope: &mut Scope<'_>, node: Node<'_>, operator: &str, is_datadog: bool) -> Result<Check, Unreadable> {
    let path = node.path.field("value");
    let value = node.value.get("value").unwrap_or(&Value::Null);
    // Datadog reads a list of one text as that text, where no list is expected.
    let single = value.as_array().filter(|_| is_datadog).and_then(|list| match list.as_slice() {
        [only] if only.is_string() => Some(only),
        _ => None,
    });
    let single = single.unwrap_or(value);
    let (plain, expected) = operator.strip_prefix("NOT_").map_or((operator, true), |operator| (operator, false));
    let version = operator.strip_prefix("SEMVER_").filter(|_| is_datadog);
    let (check, wanted) = match plain {
        "ONE_OF" => {
            let list = value.as_array().filter(|list| list.iter().all(Value::is_string));
            (list.map(|list| Check::In(ValueSet::new(list, false), expected)), "a list of strings")
        }
        "MATCHES" => match single.as_str() {
            Some(pattern) => return pattern_check(scope, Node { value, path: &path }, pattern, expected),
            None => (None, "a string"),
        },
        "IS_NULL" if expected => (single.as_bool().map(Check::Null), "true or false"),
        _ => match (order(&ORDERS[..4], operator), version.and_then(|name| order(&ORDERS, name))) {
            (Some(accepts), _) if is_datadog => {
                (single.as_f64().map(|bound| Check::Number(accepts, bound)), "a number")
            }
            (Some(accepts), _) => (eppo_order(accepts, value), "a number or a version"),
            (None, Some(accepts)) => {
                let version = single.as_str().and_then(|text| Version::parse(text, EXTENDED));
                (version.map(|version| Check::Version(accepts, version, true)), "a version, such as \"1.2.3\"")
            }
            (None, None) => {
                scope.problems.error(&node.path.field("operator"), format_args!("unknown operator {operator:?}"));
                return Err(Unreadable::Invalid);
            }
        },
    };
    check.ok_or_else(|| {
        Node { value, path: &path }.expected(&mut scope.problems, wanted);
        Unreadable::Invalid
    })
}

/// The names of the orders that versions may have; numbers have the first four.
const ORDERS: [&str; 6] = ["GT", "GTE", "LT", "LTE", "EQ", "NEQ"];

/// Eppo compares versions if the operand is one, else numbers.
fn eppo_order(accepts: Accepts, value: &Value) -> Option<Check> {
    let text = value.as_str();
    match text.and_then(|text| Version::parse(text, semver::STRICT)) {
        Some(version) => Some(Check::Version(accepts, version, false)),
        None => value.as_f64().or_else(|| number::read(text?)).map(|bound| Check::Number(accepts, bound)),
    }
}

/// Patterns are those of Rust's `regex`, which reads what RE2 does.
fn pattern_check(scope: &mut Scope<'_>, node: Node<'_>, pattern: &str, expected: bool) -> Result<Check, Unreadable> {
    let (error, message) = match re2::translate(pattern, false, Engine::Rust) {
        Ok(Some((translated, ignore_case))) => match scope.groups.pattern(&translated, ignore_case) {
            Ok(regex) => return Ok(Check::Regex(regex, expected)),
            Err(PatternError::Compile(CompileError::Invalid(message))) => (Unreadable::Invalid, message),
            Err(PatternError::Compile(error)) => (Unreadable::Limit, error.to_string()),
            Err(PatternError::TooMany(message)) => (Unreadable::Limit, message),
        },
        Ok(None) => (Unreadable::Invalid, "is none".to_owned()),
        Err(message) => (Unreadable::Limit, message),
    };
    scope.problems.error(node.path, format_args!("as a pattern, {} {message}", found(node.value)));
    Err(error)
}

fn is_null(actual: &AttributeValue<'_>) -> bool {
    matches!(actual, AttributeValue::Missing | AttributeValue::Json(Value::Null))
}

/// Whether a value is no text.
fn is_typed(actual: &AttributeValue<'_>) -> bool {
    matches!(actual, AttributeValue::Json(value) if !value.is_string())
}

/// A text, a number or a boolean as a text.
fn as_text<'a>(actual: &'a AttributeValue<'_>) -> Option<Cow<'a, str>> {
    match JsValue::of(actual) {
        JsValue::Null | JsValue::List(_) | JsValue::Object(_) => None,
        value => Some(value.text()),
    }
}
