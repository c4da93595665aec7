//! Operators on values alone. Values are converted as by JavaScript.

use super::logic::Operator;
use crate::semver::Version;
use edgesplit_engine::condition::value::JsValue;
use serde_json::Value;
use std::cmp::Ordering;

/// Evaluation failed, or exceeded the limit of work.
#[derive(Debug)]
pub(super) struct Failed;

pub(super) type Result<T> = std::result::Result<T, Failed>;

/// JSONLogic's truth: empty lists and objects are false.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => !members.is_empty(),
        value => JsValue::from(value).is_true(),
    }
}

pub(super) fn number(value: &Value) -> f64 {
    JsValue::from(value).number()
}

/// The elements of a list; null is an empty one.
pub(super) fn elements(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(list) => Ok(list),
        Value::Null => Ok(Vec::new()),
        _ => Err(Failed),
    }
}

/// Whether each value has an order to the next one that `accepts` takes.
pub(super) fn in_order(values: &[Value], accepts: fn(Ordering) -> bool) -> Result<Value> {
    every_pair(values, &|a, b| compare(a, b).is_some_and(accepts))
}

/// Whether each value and the next one `hold`.
pub(super) fn every_pair(values: &[Value], hold: &dyn Fn(&Value, &Value) -> bool) -> Result<Value> {
    let [_, _, ..] = values else { return Err(Failed) };
    Ok(values.windows(2).all(|pair| matches!(pair, [a, b] if hold(a, b))).into())
}

/// Two texts, or null and a text, are compared as they are, and all else as numbers.
pub(super) fn are_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(_) | Value::Null, Value::String(_) | Value::Null) => a == b,
        _ => compare(a, b).is_some_and(Ordering::is_eq),
    }
}

/// The order of two texts, or of two numbers. Lists and objects have none.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    let is_plain = |value: &Value| !value.is_array() && !value.is_object();
    if is_plain(a) && is_plain(b) { JsValue::from(a).compare(JsValue::from(b)) } else { None }
}

/// The largest number, or the smallest by `choose`.
pub(super) fn extreme(values: &[Value], choose: fn(f64, f64) -> f64) -> Result<Value> {
    let numbers: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
    numbers.and_then(|numbers| numbers.into_iter().reduce(choose)).map(Value::from).ok_or(Failed)
}

pub(super) fn calculate(operator: Operator, values: &[Value]) -> Result<Value> {
    if values.iter().any(|value| value.is_array() || value.is_object()) {
        return Err(Failed);
    }
    let mut numbers = values.iter().map(number);
    let result = match (operator, numbers.next()) {
        (Operator::Add, first) => numbers.fold(first.unwrap_or(0.0), |sum, number| sum + number),
        (Operator::Multiply, first) => numbers.fold(first.unwrap_or(1.0), |product, number| product * number),
        (_, None) => return Err(Failed),
        (Operator::Subtract, Some(only)) if values.len() == 1 => -only,
        (Operator::Divide, Some(only)) if values.len() == 1 => 1.0 / only,
        (Operator::Remainder, Some(_)) if values.len() == 1 => return Err(Failed),
        (Operator::Subtract, Some(first)) => numbers.fold(first, |rest, number| rest - number),
        (Operator::Divide, Some(first)) => numbers.fold(first, |rest, number| rest / number),
        (_, Some(first)) => numbers.fold(first, |rest, number| rest % number),
    };
    if result.is_finite() { Ok(result.into()) } else { Err(Failed) }
}

/// A part of a text, counted in characters; negative numbers count from its end.
pub(super) fn substr(values: &[Value]) -> Result<Value> {
    let Some(Value::String(text)) = values.first() else { return Err(Failed) };
    let whole = |position: usize| values.get(position).map(number).filter(|number| number.is_finite());
    let count = text.chars().count();
    let from_end = |number: f64| (count as f64 + number).max(0.0) as usize;
    let from = whole(1).map_or(0, |from| if from < 0.0 { from_end(from) } else { from as usize });
    let end = match whole(2) {
        Some(length) if length < 0.0 => from_end(length),
        Some(length) => from.saturating_add(length as usize),
        None => count,
    };
    Ok(text.chars().take(end).skip(from).collect::<String>().into())
}

/// The result of `of` for two texts; null for others.
pub(super) fn of_texts(values: &[Value], of: fn(&str, &str) -> bool) -> Value {
    match values {
        [Value::String(text), Value::String(part)] => of(text, part).into(),
        _ => Value::Null,
    }
}

pub(super) fn compare_versions(values: &[Value]) -> Value {
    let [one, operator, other] = values else { return Value::Null };
    let (Some(one), Some(other)) = (version(one), version(other)) else { return Value::Null };
    let order = one.compare(&other);
    let have_same = |parts: usize| one.core.iter().take(parts).eq(other.core.iter().take(parts));
    match &*JsValue::from(operator).text() {
        "=" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        "^" => have_same(1),
        "~" => have_same(2),
        _ => return Value::Null,
    }
    .into()
}

/// A version, which may begin with a `v`, or the first one or two numbers of one.
fn version(value: &Value) -> Option<Version> {
    let text = JsValue::from(value).text();
    let text = text.strip_prefix(['v', 'V']).unwrap_or(&text);
    let mut version = Version::parse(text, 1..=3)?;
    let is_short = version.core.len() < 3;
    version.core.resize(3, 0);
    (!is_short || !text.contains(['-', '+'])).then_some(version)
}
