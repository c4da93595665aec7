//! Filters on a property, as PostHog's SDK for Python compares values.

use super::date::{self, Bound};
use super::verdict::{Cause, Verdict};
use crate::conditions::{PatternError, SavedGroups, order};
use crate::diagnostics::{Node, found};
use crate::metered::Metered;
use crate::portable_re::Translation;
use crate::scope::Scope;
use crate::semver;
use crate::shape::text;
use edgesplit_engine::attribute::{AttributeName, AttributeValue};
use edgesplit_engine::condition::Accepts;
use edgesplit_engine::condition::value::{JsValue, lower_case};
use edgesplit_engine::condition::value_set::ValueSet;
use js_regex::{CompileError, JsRegex};
use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

pub(super) struct Filter {
    pub(super) key: String,
    /// The attribute with the property of a person.
    pub(super) name: AttributeName,
    test: Test,
    negated: bool,
    /// Whether null fails, even if the test cannot be used.
    fails_null: bool,
    /// For a person.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) shown: String,
}

enum Test {
    /// The property is there. Nothing is known of one that is not there, not even by `is_not_set`.
    Set,
    /// The value is as true as this.
    Truth(bool),
    /// One of these, without case.
    Texts(ValueSet),
    /// A part of the text, without the case of ASCII's letters.
    Part(fn(&str, &str) -> bool, String),
    /// None if the pattern is invalid: nothing passes then, not even if it is negated.
    Pattern(Option<(JsRegex, Translation)>),
    Number(Accepts, f64),
    Date(Accepts, Bound),
    /// A version whose first numbers, as many as this, are the same.
    Version(Accepts, Version, usize),
    Unusable,
}

type Version = [u64; 3];

impl Filter {
    /// Compiles the filter at `node`. `version` is the payload's `property_matching_version`.
    pub(super) fn compile(node: Node<'_>, version: u64, scope: &mut Scope<'_>) -> Option<Filter> {
        let key = scope.required_text(node, "key")?;
        let operator = text(node.value, "operator").filter(|operator| !operator.is_empty()).unwrap_or("exact");
        let value = node.value.get("value").unwrap_or(&Value::Null);
        let test = test(operator, value, version, scope.groups).unwrap_or_else(|member| {
            let message = format!("{operator} {} cannot be decided here: the flag may be undecided", found(value));
            scope.problems.error(&node.path.field(member), message);
            Test::Unusable
        });
        Some(Filter {
            name: AttributeName::parse_exact(&key),
            key,
            test,
            negated: operator.starts_with("not_") || operator.starts_with("is_not"),
            fails_null: operator.starts_with("is_date_") || operator.starts_with("semver_"),
            #[cfg(not(target_arch = "wasm32"))]
            shown: format!("{operator} {value}"),
        })
    }

    /// Whether it cannot be used, whichever the visitor is.
    pub(super) fn is_unusable(&self) -> bool {
        matches!(self.test, Test::Unusable)
    }

    /// Whether `actual` passes.
    pub(super) fn passes(&self, actual: &AttributeValue<'_>, context: &Metered<'_>) -> Verdict {
        let (value, text) = (JsValue::of(actual), || match actual {
            AttributeValue::Text(text) => Cow::Borrowed(&**text),
            AttributeValue::Json(value) => plain_text(value),
            AttributeValue::Missing => Cow::Borrowed(""),
        });
        match actual {
            AttributeValue::Missing if self.is_unusable() => return Err(Cause::Definition.into()),
            AttributeValue::Missing => return Err(Cause::Context.into()),
            AttributeValue::Json(_) => drop(context.spend(value.size())),
            AttributeValue::Text(_) => {}
        }
        if self.fails_null && value.is_null() {
            return Ok(false);
        }
        let passes = match &self.test {
            Test::Set => true,
            Test::Truth(expected) => truth(value).unwrap_or(false) == *expected,
            Test::Texts(texts) => texts.intersects(JsValue::Text(&text())),
            Test::Part(is_part, part) => is_part(&text().to_ascii_lowercase(), part),
            Test::Pattern(None) => return Ok(false),
            Test::Pattern(Some((regex, translation))) => {
                let text = text();
                let text = translation.text(&text).ok_or(Cause::Definition)?;
                context.within(regex.is_match(&text, context.visitor.steps))
            }
            Test::Number(accepts, bound) => {
                finite(value).and_then(|number| number.partial_cmp(bound)).is_some_and(accepts)
            }
            Test::Date(accepts, bound) => {
                let bound = bound.micros(context.visitor.now_ms).ok_or(Cause::Definition)?;
                let JsValue::Text(text) = value else { return Err(Cause::Context.into()) };
                accepts(date::parse(text).ok_or(Cause::Context)?.cmp(&bound))
            }
            Test::Version(accepts, bound, same) => {
                let version = version(&text()).ok_or(Cause::Context)?;
                accepts(version.cmp(bound)) && version.iter().take(*same).eq(bound.iter().take(*same))
            }
            Test::Unusable => return Err(Cause::Definition.into()),
        };
        Ok(passes != self.negated)
    }
}

/// The names of the orders that versions may have; numbers have the first four.
const ORDERS: [&str; 6] = ["gt", "gte", "lt", "lte", "eq", "neq"];

/// The test of an operator, without its negation. An error with the wrong member: the operator is unknown, or its value is of
/// no use to it.
fn test(
    operator: &str,
    value: &Value,
    version_of_matching: u64,
    patterns: &mut SavedGroups,
) -> Result<Test, &'static str> {
    // A long list is not written for the tests that read it as it is.
    let (text, invalid) = (|| plain_text(value), "value");
    let part = |is_part| Test::Part(is_part, text().to_ascii_lowercase());
    let date = |accepts: Accepts| Ok(Test::Date(accepts, Bound::parse(&text()).ok_or(invalid)?));
    Ok(match operator {
        "is_set" | "is_not_set" => Test::Set,
        "exact" | "is_not" => {
            let one = std::slice::from_ref(value);
            let candidates = value.as_array().map_or(one, Vec::as_slice);
            match truth(value.into()) {
                Some(truth) if candidates.is_empty() || version_of_matching != 2 => Test::Truth(truth),
                _ => {
                    let texts = candidates.iter().map(|value| plain_text(value).into());
                    Test::Texts(ValueSet::new(&texts.collect::<Vec<Value>>(), true))
                }
            }
        }
        "icontains" | "not_icontains" => part(|text, part| text.contains(part)),
        "starts_with" | "not_starts_with" => part(|text, part| text.starts_with(part)),
        "ends_with" | "not_ends_with" => part(|text, part| text.ends_with(part)),
        "regex" | "not_regex" => {
            let mut translation = Translation::new(&text()).ok_or(invalid)?;
            match patterns.pattern(&std::mem::take(&mut translation.pattern), false) {
                Ok(regex) => Test::Pattern(Some((regex, translation))),
                Err(PatternError::Compile(CompileError::Invalid(_))) => Test::Pattern(None),
                Err(_) => return Err(invalid),
            }
        }
        "is_date_before" => date(Ordering::is_lt)?,
        "is_date_after" => date(Ordering::is_gt)?,
        _ => match (operator.strip_prefix("semver_"), order(&ORDERS[..4], operator)) {
            (Some("wildcard"), _) => wildcard(&text()).ok_or(invalid)?,
            (Some(name), _) => {
                let version = version(&text()).ok_or(invalid);
                match (name, order(&ORDERS, name)) {
                    ("tilde", _) => Test::Version(Ordering::is_ge, version?, 2),
                    ("caret", _) => {
                        let version = version?;
                        let first = version.iter().take(2).take_while(|number| **number == 0).count();
                        Test::Version(Ordering::is_ge, version, 1 + first)
                    }
                    (_, accepts) => Test::Version(accepts.ok_or("operator")?, version?, 0),
                }
            }
            (None, accepts) => Test::Number(accepts.ok_or("operator")?, finite(value.into()).ok_or(invalid)?),
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

fn finite(value: JsValue<'_>) -> Option<f64> {
    value.decimal().filter(|number| number.is_finite())
}

/// Whether a value is true, if it is true or false, or a list of nothing else.
fn truth(value: JsValue<'_>) -> Option<bool> {
    match value {
        JsValue::Bool(truth) => Some(truth),
        JsValue::Text(text) => ["false", "true"].iter().position(|known| *known == lower_case(text)).map(|at| at == 1),
        JsValue::List(list) => list.iter().try_fold(true, |all, value| Some(truth(value.into())? && all)),
        _ => None,
    }
}

fn without_v(text: &str) -> &str {
    text.trim().trim_start_matches(['v', 'V'])
}

/// A version: the numbers before a pre-release, those that are left out being 0.
fn version(text: &str) -> Option<Version> {
    let core = without_v(text).split(['-', '+']).next()?;
    numbers(core.split('.')).filter(|_| !core.is_empty() && !core.starts_with('.'))
}

/// The versions that begin with the same numbers.
fn wildcard(text: &str) -> Option<Test> {
    let text = without_v(text).replace('*', "");
    let parts = text.split('.').filter(|part| !part.is_empty()).take(3);
    let same = parts.clone().count();
    numbers(parts).filter(|_| same > 0).map(|from| Test::Version(Ordering::is_ge, from, same))
}

fn numbers<'a>(parts: impl Iterator<Item = &'a str>) -> Option<Version> {
    let mut version = Version::default();
    for (number, part) in version.iter_mut().zip(parts) {
        *number = if part.is_empty() { 0 } else { semver::number(part)? };
    }
    Some(version)
}
