//! Filters on a property, as PostHog's SDK for Python compares values.

use super::date::{self, Bound};
use super::pattern::Pattern;
use super::verdict::{Cause, Verdict};
use crate::conditions::SavedGroups;
use crate::diagnostics::{Node, Problems};
use crate::metered::Metered;
use crate::shape::text;
use edgesplit_engine::attribute::{AttributeName, AttributeValue};
use edgesplit_engine::condition::Accepts;
use edgesplit_engine::condition::value::{JsValue, ValueSet, lower_case};
use edgesplit_engine::number;
use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

pub(super) struct Filter {
    pub(super) key: String,
    /// The attribute with the property of a person.
    pub(super) name: AttributeName,
    test: Test,
    /// For a person.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) shown: String,
}

enum Test {
    /// `is_set`, or `is_not_set`: of a property that is not there nothing is known.
    Set(bool),
    Exact {
        exact: Exact,
        negated: bool,
    },
    /// A part of the text, without the case of ASCII's letters.
    Part {
        is_part: IsPart,
        text: String,
        negated: bool,
    },
    Pattern {
        pattern: Pattern,
        negated: bool,
    },
    Number(Accepts, f64),
    Date(Accepts, Bound),
    Version(Accepts, Version),
    /// From a version to another one, which is exclusive.
    Versions(Version, Version),
    /// It cannot be used. Null still fails those on dates and versions.
    Unusable {
        fails_null: bool,
    },
}

enum Exact {
    /// The value is as true as this.
    Truth(bool),
    /// One of these, in lower case.
    Texts(ValueSet),
}

type Version = [u64; 3];

impl Filter {
    /// Compiles the filter at `node`. `version` is the payload's `property_matching_version`.
    pub(super) fn compile(
        node: Node<'_>,
        version: u64,
        patterns: &mut SavedGroups,
        problems: &mut Problems,
    ) -> Option<Filter> {
        let Some(key) = text(node.value, "key") else {
            problems.error(&node.path.field("key"), "missing");
            return None;
        };
        let operator = text(node.value, "operator").filter(|operator| !operator.is_empty()).unwrap_or("exact");
        let value = node.value.get("value").unwrap_or(&Value::Null);
        let test = test(operator, value, version, patterns).unwrap_or_else(|| {
            let path = node.path.field(if is_known(operator) { "value" } else { "operator" });
            problems.error(&path, format!("{operator} {value} cannot be decided here: the flag may be undecided"));
            Test::Unusable { fails_null: operator.starts_with("is_date_") || operator.starts_with("semver_") }
        });
        Some(Filter {
            key: key.to_owned(),
            name: AttributeName::parse_exact(key),
            test,
            #[cfg(not(target_arch = "wasm32"))]
            shown: format!("{operator} {value}"),
        })
    }

    /// Whether it cannot be used, whichever the visitor is.
    pub(super) fn is_unusable(&self) -> bool {
        match &self.test {
            Test::Unusable { .. } => true,
            Test::Pattern { pattern, .. } => pattern.is_unsupported(),
            _ => false,
        }
    }

    /// Whether `actual` passes.
    pub(super) fn passes(&self, actual: &AttributeValue<'_>, context: &Metered<'_>) -> Verdict {
        let missing = || if self.is_unusable() { Cause::Definition } else { Cause::Context };
        if matches!(actual, AttributeValue::Missing) {
            return Err(missing().into());
        }
        if let AttributeValue::Json(value) = actual {
            context.spend(JsValue::from(*value).size());
        }
        let is_null = matches!(actual, AttributeValue::Json(Value::Null));
        Ok(match &self.test {
            Test::Set(is_set) => *is_set,
            Test::Number(accepts, bound) => {
                number_of(actual).and_then(|number| number.partial_cmp(bound)).is_some_and(accepts)
            }
            Test::Exact { exact, negated } => {
                let passes = match exact {
                    Exact::Truth(truth) => is_true(actual) == *truth,
                    Exact::Texts(texts) => texts.intersects(JsValue::Text(&lower_case(&text_of(actual)))),
                };
                passes != *negated
            }
            Test::Part { is_part, text, negated } => is_part(&text_of(actual).to_ascii_lowercase(), text) != *negated,
            Test::Pattern { pattern, negated } => {
                let text = text_of(actual);
                match pattern.matches(&text, context) {
                    Ok(Some(matches)) => matches != *negated,
                    Ok(None) => false,
                    Err(cause) => return Err(cause.into()),
                }
            }
            Test::Date(..) | Test::Version(..) | Test::Versions(..) if is_null => false,
            Test::Unusable { fails_null: true } if is_null => false,
            Test::Unusable { .. } => return Err(Cause::Definition.into()),
            Test::Date(accepts, bound) => {
                let bound = bound.micros(context.visitor.now_ms).ok_or(Cause::Definition)?;
                let date = string_of(actual).and_then(date::parse).ok_or(Cause::Context)?;
                accepts(date.cmp(&bound))
            }
            Test::Version(accepts, bound) => accepts(version(&text_of(actual)).ok_or(Cause::Context)?.cmp(bound)),
            Test::Versions(from, to) => {
                let version = version(&text_of(actual)).ok_or(Cause::Context)?;
                *from <= version && version < *to
            }
        })
    }
}

type IsPart = fn(&str, &str) -> bool;

const PARTS: [(&str, IsPart); 3] = [
    ("icontains", |text, part| text.contains(part)),
    ("starts_with", |text, part| text.starts_with(part)),
    ("ends_with", |text, part| text.ends_with(part)),
];

const ORDERS: [(&str, Accepts); 6] = [
    ("gt", Ordering::is_gt),
    ("gte", Ordering::is_ge),
    ("lt", Ordering::is_lt),
    ("lte", Ordering::is_le),
    ("eq", Ordering::is_eq),
    ("neq", Ordering::is_ne),
];

fn order(name: &str) -> Option<Accepts> {
    ORDERS.iter().find(|(known, _)| *known == name).map(|(_, accepts)| *accepts)
}

fn is_known(operator: &str) -> bool {
    let name = operator.strip_prefix("not_").unwrap_or(operator);
    name == "regex" || order(name).is_some() || operator.starts_with("is_date_") || operator.starts_with("semver_")
}

/// The test of an operator. None if it is unknown, or its value is of no use to it.
fn test(operator: &str, value: &Value, version_of_matching: u64, patterns: &mut SavedGroups) -> Option<Test> {
    let (name, negated) = operator.strip_prefix("not_").map_or((operator, false), |name| (name, true));
    if let Some((_, is_part)) = PARTS.iter().find(|(known, _)| *known == name) {
        return Some(Test::Part { is_part: *is_part, text: plain_text(value).to_ascii_lowercase(), negated });
    }
    Some(match operator {
        "is_set" | "is_not_set" => Test::Set(operator == "is_set"),
        "exact" | "is_not" => {
            let is_empty = value.as_array().is_some_and(Vec::is_empty);
            let exact = if is_empty || version_of_matching != 2 && is_truth(value) {
                Exact::Truth(is_empty || is_true(&AttributeValue::Json(value)))
            } else {
                let one = std::slice::from_ref(value);
                let candidates = value.as_array().map_or(one, Vec::as_slice);
                let texts: Vec<Value> =
                    candidates.iter().map(|value| lower_case(&plain_text(value)).into_owned().into()).collect();
                Exact::Texts(ValueSet::new(&texts, false))
            };
            Test::Exact { exact, negated: operator == "is_not" }
        }
        "regex" | "not_regex" => Test::Pattern { pattern: Pattern::compile(&plain_text(value), patterns), negated },
        "gt" | "gte" | "lt" | "lte" => Test::Number(order(operator)?, number_of(&AttributeValue::Json(value))?),
        "is_date_before" => Test::Date(Ordering::is_lt, Bound::parse(&plain_text(value))?),
        "is_date_after" => Test::Date(Ordering::is_gt, Bound::parse(&plain_text(value))?),
        _ => {
            let text = plain_text(value);
            match operator.strip_prefix("semver_")? {
                "tilde" => {
                    let [major, minor, patch] = version(&text)?;
                    Test::Versions([major, minor, patch], [major, minor + 1, 0])
                }
                "caret" => {
                    let from = version(&text)?;
                    let to = match from {
                        [0, 0, patch] => [0, 0, patch + 1],
                        [0, minor, _] => [0, minor + 1, 0],
                        [major, ..] => [major + 1, 0, 0],
                    };
                    Test::Versions(from, to)
                }
                "wildcard" => wildcard(&text)?,
                name => Test::Version(order(name)?, version(&text)?),
            }
        }
    })
}

/// The text of a value: itself, or its JSON.
pub(super) fn plain_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => text.into(),
        value => value.to_string().into(),
    }
}

fn text_of<'a>(actual: &'a AttributeValue<'_>) -> Cow<'a, str> {
    match actual {
        AttributeValue::Text(text) => Cow::Borrowed(text),
        AttributeValue::Json(value) => plain_text(value),
        AttributeValue::Missing => Cow::Borrowed(""),
    }
}

fn string_of<'a>(actual: &'a AttributeValue<'_>) -> Option<&'a str> {
    match actual {
        AttributeValue::Text(text) => Some(text),
        AttributeValue::Json(value) => value.as_str(),
        AttributeValue::Missing => None,
    }
}

fn number_of(actual: &AttributeValue<'_>) -> Option<f64> {
    let number = match actual {
        AttributeValue::Json(Value::Number(number)) => number.as_f64(),
        actual => string_of(actual).and_then(number::read),
    };
    number.filter(|number| number.is_finite())
}

/// Whether it is true or false, or a list of nothing else.
fn is_truth(value: &Value) -> bool {
    match value {
        Value::Bool(_) => true,
        Value::String(text) => ["true", "false"].contains(&&*lower_case(text)),
        Value::Array(list) => list.iter().all(is_truth),
        _ => false,
    }
}

fn is_true(actual: &AttributeValue<'_>) -> bool {
    match actual {
        AttributeValue::Json(Value::Bool(truth)) => *truth,
        AttributeValue::Json(Value::Array(list)) => list.iter().all(|value| is_true(&AttributeValue::Json(value))),
        actual => string_of(actual).is_some_and(|text| lower_case(text) == "true"),
    }
}

fn component(part: &str) -> Option<u64> {
    let is_number = part.bytes().all(|byte| byte.is_ascii_digit()) && (part.len() == 1 || !part.starts_with('0'));
    // One more must fit.
    part.parse().ok().filter(|number| is_number && *number < u64::MAX)
}

fn without_v(text: &str) -> &str {
    text.trim().trim_start_matches(['v', 'V'])
}

/// A version: the numbers before a pre-release, those that are left out being 0.
fn version(text: &str) -> Option<Version> {
    let mut parts = without_v(text).split(['-', '+']).next()?.split('.');
    let major = component(parts.next()?)?;
    let mut next = || parts.next().filter(|part| !part.is_empty()).map_or(Some(0), component);
    Some([major, next()?, next()?])
}

fn wildcard(text: &str) -> Option<Test> {
    let text = without_v(text).replace('*', "");
    let mut parts = text.split('.').filter(|part| !part.is_empty());
    let major = component(parts.next()?)?;
    Some(match (parts.next(), parts.next()) {
        (None, _) => Test::Versions([major, 0, 0], [major + 1, 0, 0]),
        (Some(minor), None) => {
            let minor = component(minor)?;
            Test::Versions([major, minor, 0], [major, minor + 1, 0])
        }
        (Some(minor), Some(patch)) => {
            let (minor, patch) = (component(minor)?, component(patch)?);
            Test::Versions([major, minor, patch], [major, minor, patch + 1])
        }
    })
}
