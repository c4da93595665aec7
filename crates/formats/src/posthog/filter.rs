//! Filters on a property, as PostHog's SDK for Python compares values.

use super::date::{self, Bound};
use super::pattern::Pattern;
use super::verdict::{Cause, Verdict};
use crate::conditions::SavedGroups;
use crate::diagnostics::{Node, found};
use crate::metered::Metered;
use crate::scope::Scope;
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
    negated: bool,
    /// For a person.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) shown: String,
}

enum Test {
    /// The property is there. Nothing is known of one that is not there, not even by `is_not_set`.
    Set,
    /// The value is as true as this.
    Truth(bool),
    /// One of these, in lower case.
    Texts(ValueSet),
    /// A part of the text, without the case of ASCII's letters.
    Part(fn(&str, &str) -> bool, String),
    /// None if the pattern is invalid: nothing passes then, not even if it is negated.
    Pattern(Option<Pattern>),
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

type Version = [u64; 3];

impl Filter {
    /// Compiles the filter at `node`. `version` is the payload's `property_matching_version`.
    pub(super) fn compile(node: Node<'_>, version: u64, scope: &mut Scope<'_>) -> Option<Filter> {
        let key = scope.required_text(node, "key")?;
        let operator = text(node.value, "operator").filter(|operator| !operator.is_empty()).unwrap_or("exact");
        let value = node.value.get("value").unwrap_or(&Value::Null);
        let negation = NEGATIONS.iter().find(|(negation, _)| *negation == operator);
        let name = negation.map_or(operator, |(_, name)| name);
        let test = test(name, value, version, scope.groups).unwrap_or_else(|member| {
            let message = format!("{operator} {} cannot be decided here: the flag may be undecided", found(value));
            scope.problems.error(&node.path.field(member), message);
            Test::Unusable { fails_null: operator.starts_with("is_date_") || operator.starts_with("semver_") }
        });
        Some(Filter {
            name: AttributeName::parse_exact(&key),
            key,
            test,
            negated: negation.is_some(),
            #[cfg(not(target_arch = "wasm32"))]
            shown: format!("{operator} {value}"),
        })
    }

    /// Whether it cannot be used, whichever the visitor is.
    pub(super) fn is_unusable(&self) -> bool {
        matches!(self.test, Test::Unusable { .. })
    }

    /// Whether `actual` passes.
    pub(super) fn passes(&self, actual: &AttributeValue<'_>, context: &Metered<'_>) -> Verdict {
        if matches!(actual, AttributeValue::Missing) {
            return Err(if self.is_unusable() { Cause::Definition } else { Cause::Context }.into());
        }
        if let AttributeValue::Json(value) = actual {
            context.spend(JsValue::from(*value).size());
        }
        let is_null = matches!(actual, AttributeValue::Json(Value::Null));
        let passes = match &self.test {
            Test::Set => true,
            Test::Truth(truth) => is_true(actual) == *truth,
            Test::Texts(texts) => texts.intersects(JsValue::Text(&lower_case(&text_of(actual)))),
            Test::Part(is_part, part) => is_part(&text_of(actual).to_ascii_lowercase(), part),
            Test::Pattern(None) => return Ok(false),
            Test::Pattern(Some(pattern)) => pattern.matches(&text_of(actual), context)?,
            Test::Number(accepts, bound) => {
                number_of(actual).and_then(|number| number.partial_cmp(bound)).is_some_and(accepts)
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
        };
        Ok(passes != self.negated)
    }
}

/// The operators that negate others.
const NEGATIONS: [(&str, &str); 6] = [
    ("is_not", "exact"),
    ("is_not_set", "is_set"),
    ("not_icontains", "icontains"),
    ("not_starts_with", "starts_with"),
    ("not_ends_with", "ends_with"),
    ("not_regex", "regex"),
];

const ORDERS: [(&str, Accepts); 6] = [
    ("gt", Ordering::is_gt),
    ("gte", Ordering::is_ge),
    ("lt", Ordering::is_lt),
    ("lte", Ordering::is_le),
    ("eq", Ordering::is_eq),
    ("neq", Ordering::is_ne),
];

fn order(name: &str) -> Result<Accepts, &'static str> {
    ORDERS.iter().find(|(known, _)| *known == name).map(|(_, accepts)| *accepts).ok_or("operator")
}

/// The test of an operator. An error with the wrong member: the operator is unknown, or its value is of no use to it.
fn test(
    operator: &str,
    value: &Value,
    version_of_matching: u64,
    patterns: &mut SavedGroups,
) -> Result<Test, &'static str> {
    // A long list is not written for the tests that read it as it is.
    let (text, invalid) = (|| plain_text(value), "value");
    let part = |is_part| Test::Part(is_part, text().to_ascii_lowercase());
    Ok(match operator {
        "is_set" => Test::Set,
        "exact" => {
            let one = std::slice::from_ref(value);
            let candidates = value.as_array().map_or(one, Vec::as_slice);
            if candidates.is_empty() || version_of_matching != 2 && is_truth(value) {
                Test::Truth(is_true(&AttributeValue::Json(value)))
            } else {
                let texts = candidates.iter().map(|value| lower_case(&plain_text(value)).into_owned().into());
                Test::Texts(ValueSet::new(&texts.collect::<Vec<Value>>(), false))
            }
        }
        "icontains" => part(|text, part| text.contains(part)),
        "starts_with" => part(|text, part| text.starts_with(part)),
        "ends_with" => part(|text, part| text.ends_with(part)),
        "regex" => Test::Pattern(Pattern::compile(&text(), patterns).map_err(|_| invalid)?),
        "gt" | "gte" | "lt" | "lte" => {
            Test::Number(order(operator)?, number_of(&AttributeValue::Json(value)).ok_or(invalid)?)
        }
        "is_date_before" => Test::Date(Ordering::is_lt, Bound::parse(&text()).ok_or(invalid)?),
        "is_date_after" => Test::Date(Ordering::is_gt, Bound::parse(&text()).ok_or(invalid)?),
        _ => match operator.strip_prefix("semver_").ok_or("operator")? {
            "wildcard" => wildcard(&text()).ok_or(invalid)?,
            name => {
                let version = version(&text()).ok_or(invalid);
                match name {
                    "tilde" => up_to_next(version?, 1),
                    "caret" => {
                        let version = version?;
                        up_to_next(version, version.iter().position(|number| *number > 0).unwrap_or(2))
                    }
                    name => Test::Version(order(name)?, version?),
                }
            }
        },
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

/// The versions from `from` to the next one at the place.
fn up_to_next(from: Version, place: usize) -> Test {
    let [major, minor, patch] = from;
    let to = match place {
        0 => [major + 1, 0, 0],
        1 => [major, minor + 1, 0],
        _ => [major, minor, patch + 1],
    };
    Test::Versions(from, to)
}

fn wildcard(text: &str) -> Option<Test> {
    let text = without_v(text).replace('*', "");
    let parts = text.split('.').filter(|part| !part.is_empty()).take(3);
    let numbers = parts.map(component).collect::<Option<Vec<u64>>>()?;
    let number = |place: usize| numbers.get(place).copied().unwrap_or(0);
    Some(up_to_next([number(0), number(1), number(2)], numbers.len().checked_sub(1)?))
}
