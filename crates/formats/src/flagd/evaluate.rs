//! The operators of JSONLogic and flagd's own. Values are converted as by JavaScript.

use super::fractional::{self, Key};
use super::logic::{Logic, Operator};
use crate::metered::Metered;
use crate::semver::Version;
use crate::stepwise::size;
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes, member};
use edgesplit_engine::condition::value::JsValue;
use edgesplit_engine::observer::{Check, IS_OBSERVABLE};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::cmp::Ordering;

/// Evaluation failed, or exceeded the limit of work.
#[derive(Debug)]
pub(super) struct Failed;

type Result<T> = std::result::Result<T, Failed>;

/// The data that an expression reads.
#[derive(Clone, Copy)]
enum Data<'a> {
    /// The attributes of the visitor.
    Visitor,
    /// An element of a list.
    Element(&'a Value),
}

/// One evaluation of a flag's targeting.
pub(super) struct Evaluation<'a> {
    pub(super) flag: &'a str,
    pub(super) attributes: &'a Metered<'a>,
    pub(super) is_cbor: bool,
    /// The results of `fractional`.
    pub(super) shared_out: RefCell<Vec<Value>>,
    /// The checks, for a person, with the attributes that were read since the last one.
    pub(super) trace: Option<RefCell<(Vec<Check>, Vec<String>)>>,
}

impl Evaluation<'_> {
    /// The result of `logic`.
    pub(super) fn run(&self, logic: &Logic) -> Result<Value> {
        self.eval(logic, Data::Visitor)
    }

    fn eval(&self, logic: &Logic, data: Data<'_>) -> Result<Value> {
        match logic {
            Logic::Value(value) => self.counted(value.clone()),
            Logic::List(list) => self.all(list, data).map(Value::Array),
            Logic::Shared(logic) => self.eval(logic, data),
            Logic::Apply(operator, arguments) => {
                self.spend(0)?;
                self.apply(*operator, arguments, data)
            }
        }
    }

    fn all(&self, list: &[Logic], data: Data<'_>) -> Result<Vec<Value>> {
        list.iter().map(|logic| self.eval(logic, data)).collect()
    }

    /// Takes the steps of an operator that handles `bytes`.
    fn spend(&self, bytes: usize) -> Result<()> {
        if self.attributes.spend(bytes) { Ok(()) } else { Err(Failed) }
    }

    /// `value`, whose size is taken from the steps.
    fn counted(&self, value: Value) -> Result<Value> {
        self.spend(size(&value))?;
        Ok(value)
    }

    fn apply(&self, operator: Operator, arguments: &[Logic], data: Data<'_>) -> Result<Value> {
        let at = |position: usize| match arguments.get(position) {
            Some(logic) => self.eval(logic, data),
            None => Ok(Value::Null),
        };
        match operator {
            Operator::If => return self.choose(arguments, data),
            Operator::And | Operator::Or => {
                let mut last = Value::Null;
                for logic in arguments {
                    last = self.eval(logic, data)?;
                    if is_true(&last) == (operator == Operator::Or) {
                        break;
                    }
                }
                return Ok(last);
            }
            Operator::Map | Operator::Filter | Operator::All | Operator::None | Operator::Some => {
                return self.iterate(operator, at(0)?, arguments.get(1));
            }
            Operator::Reduce => {
                let (list, mut accumulator) = (elements(at(0)?)?, at(2)?);
                for current in list {
                    let members = [("accumulator".to_owned(), accumulator), ("current".to_owned(), current)];
                    let element = Value::Object(Map::from_iter(members));
                    accumulator = match arguments.get(1) {
                        Some(logic) => self.eval(logic, Data::Element(&element))?,
                        None => Value::Null,
                    };
                }
                return Ok(accumulator);
            }
            _ => {}
        }
        let values = self.all(arguments, data)?;
        let first = values.first().unwrap_or(&Value::Null);
        Ok(match operator {
            Operator::Var => {
                let found = self.look_up(first, data)?.filter(|value| !value.is_null());
                found.unwrap_or_else(|| values.get(1).cloned().unwrap_or_default())
            }
            Operator::Missing => {
                let keys = first.as_array().unwrap_or(&values);
                Value::Array(self.missing(keys, data)?)
            }
            Operator::MissingSome => {
                let keys = values.get(1).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let missing = self.missing(keys, data)?;
                let is_enough = (keys.len() - missing.len()) as f64 >= number(first);
                Value::Array(if is_enough { Vec::new() } else { missing })
            }
            Operator::Not => (!is_true(first)).into(),
            Operator::Truth => is_true(first).into(),
            Operator::Equal => every_pair(&values, are_equal)?,
            Operator::Unequal => every_pair(&values, |a, b| !are_equal(a, b))?,
            Operator::Identical => every_pair(&values, |a, b| JsValue::from(a).is_identical(b))?,
            Operator::Different => every_pair(&values, |a, b| !JsValue::from(a).is_identical(b))?,
            Operator::Greater => every_pair(&values, |a, b| compare(a, b).is_some_and(Ordering::is_gt))?,
            Operator::GreaterOrEqual => every_pair(&values, |a, b| compare(a, b).is_some_and(Ordering::is_ge))?,
            Operator::Less => every_pair(&values, |a, b| compare(a, b).is_some_and(Ordering::is_lt))?,
            Operator::LessOrEqual => every_pair(&values, |a, b| compare(a, b).is_some_and(Ordering::is_le))?,
            Operator::Max => extreme(&values, |a, b| a > b)?,
            Operator::Min => extreme(&values, |a, b| a < b)?,
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
                calculate(operator, &values)?
            }
            Operator::Merge => {
                let parts = values.into_iter().flat_map(|value| match value {
                    Value::Array(list) => list,
                    value => vec![value],
                });
                Value::Array(parts.collect())
            }
            Operator::In => match values.get(1) {
                Some(Value::String(text)) => text.contains(&*JsValue::from(first).text()).into(),
                Some(Value::Array(list)) => {
                    list.iter().any(|element| JsValue::from(first).is_identical(element)).into()
                }
                Some(Value::Null) | None => false.into(),
                Some(_) => return Err(Failed),
            },
            Operator::Cat => {
                let text = values.iter().map(|value| JsValue::from(value).text()).collect::<String>();
                self.counted(text.into())?
            }
            Operator::Substr => substr(&values)?,
            Operator::Log => first.clone(),
            Operator::Fractional => self.fractional(&values),
            Operator::SemVer => compare_versions(&values),
            Operator::StartsWith => of_texts(&values, |text, part| text.starts_with(part)),
            Operator::EndsWith => of_texts(&values, |text, part| text.ends_with(part)),
            // above
            _ => Value::Null,
        })
    }

    /// The value under the key `key`. An empty key stands for all data, which only an element of a list has.
    fn look_up(&self, key: &Value, data: Data<'_>) -> Result<Option<Value>> {
        let key = if key.is_null() { "".into() } else { JsValue::from(key).text() };
        let found = match data {
            Data::Element(element) if key.is_empty() => Some(element.clone()),
            Data::Element(element) => member(element, &key).cloned(),
            Data::Visitor => self.attribute(&key)?,
        };
        if let Some(trace) = self.trace.as_ref().filter(|_| IS_OBSERVABLE) {
            let shown = found.as_ref().map_or("missing".to_owned(), Value::to_string);
            trace.borrow_mut().1.push(format!("{key} is {shown}"));
        }
        found.map(|value| self.counted(value)).transpose()
    }

    fn attribute(&self, key: &str) -> Result<Option<Value>> {
        let visitor = self.attributes.visitor;
        let name = match key {
            "" => return Err(Failed),
            "targetingKey" => return Ok(visitor.id.map(Value::from)),
            "$flagd.flagKey" => return Ok(Some(self.flag.into())),
            "$flagd.timestamp" => return Ok(Some(visitor.now_ms.div_euclid(1_000).into())),
            // The visitor's id is the targeting key; an attribute of this name is another one.
            "id" => AttributeName::Named(key.to_owned()),
            key => AttributeName::parse_nested(key),
        };
        Ok(match self.attributes.attribute(&name) {
            AttributeValue::Missing => None,
            AttributeValue::Text(text) => Some(Value::String(text.into_owned())),
            AttributeValue::Json(value) => Some(value.clone()),
        })
    }

    fn missing(&self, keys: &[Value], data: Data<'_>) -> Result<Vec<Value>> {
        let mut missing = Vec::new();
        for key in keys {
            if self.look_up(key, data)?.is_none() {
                missing.push(key.clone());
            }
        }
        Ok(missing)
    }

    fn choose(&self, arguments: &[Logic], data: Data<'_>) -> Result<Value> {
        let mut rest = arguments;
        loop {
            match rest {
                [] => return Ok(Value::Null),
                [otherwise] => return self.eval(otherwise, data),
                [condition, then, others @ ..] => {
                    let holds = is_true(&self.eval(condition, data)?);
                    self.check("condition", holds, String::new);
                    if holds {
                        return self.eval(then, data);
                    }
                    rest = others;
                }
            }
        }
    }

    fn iterate(&self, operator: Operator, list: Value, logic: Option<&Logic>) -> Result<Value> {
        let list = elements(list)?;
        if operator == Operator::All && list.is_empty() {
            return Ok(false.into());
        }
        let mut results = Vec::new();
        for element in list {
            let result = match logic {
                Some(logic) => self.eval(logic, Data::Element(&element))?,
                None => Value::Null,
            };
            let is_true = is_true(&result);
            match operator {
                Operator::Map => results.push(result),
                Operator::Filter => results.extend(is_true.then_some(element)),
                Operator::All if !is_true => return Ok(false.into()),
                Operator::Some | Operator::None if is_true => return Ok((operator == Operator::Some).into()),
                _ => {}
            }
        }
        Ok(match operator {
            Operator::Map | Operator::Filter => Value::Array(results),
            operator => (operator != Operator::Some).into(),
        })
    }

    fn fractional(&self, values: &[Value]) -> Value {
        let id = self.attributes.visitor.id.filter(|id| !id.is_empty());
        let chosen = match (values, id) {
            ([key @ Value::String(_), shares @ ..], _) => fractional::choose(&Key::Value(key), shares, self.is_cbor),
            ([Value::Null, ..], _) | ([], _) => Value::Null,
            ([key, shares @ ..], _) if self.is_cbor && !key.is_array() => {
                fractional::choose(&Key::Value(key), shares, true)
            }
            (shares, Some(id)) => fractional::choose(&Key::Visitor(self.flag, id), shares, self.is_cbor),
            (_, None) => Value::Null,
        };
        self.check("fractional", !chosen.is_null(), || format!("gives {chosen}"));
        self.shared_out.borrow_mut().push(chosen.clone());
        chosen
    }

    /// Records a check, with the attributes that it read.
    fn check(&self, name: &str, passed: bool, detail: impl FnOnce() -> String) {
        if let Some(trace) = self.trace.as_ref().filter(|_| IS_OBSERVABLE) {
            let mut trace = trace.borrow_mut();
            let mut shown = std::mem::take(&mut trace.1);
            shown.extend(Some(detail()).filter(|detail| !detail.is_empty()));
            trace.0.push(Check { name: name.to_owned(), passed, detail: shown.join(", ") });
        }
    }
}

/// JSONLogic's truth: empty lists and objects are false.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => !members.is_empty(),
        value => JsValue::from(value).is_true(),
    }
}

fn number(value: &Value) -> f64 {
    JsValue::from(value).number()
}

/// The elements of a list; null is an empty one.
fn elements(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(list) => Ok(list),
        Value::Null => Ok(Vec::new()),
        _ => Err(Failed),
    }
}

/// Whether each value and the next one `hold`.
fn every_pair(values: &[Value], hold: impl Fn(&Value, &Value) -> bool) -> Result<Value> {
    let [_, _, ..] = values else { return Err(Failed) };
    Ok(values.windows(2).all(|pair| matches!(pair, [a, b] if hold(a, b))).into())
}

/// Two texts, or null and a text, are compared as they are, and all else as numbers.
fn are_equal(a: &Value, b: &Value) -> bool {
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

fn extreme(values: &[Value], is_better: impl Fn(f64, f64) -> bool) -> Result<Value> {
    let mut best: Option<f64> = None;
    for value in values {
        let number = value.as_f64().ok_or(Failed)?;
        best = Some(best.filter(|best| !is_better(number, *best)).unwrap_or(number));
    }
    best.map(Value::from).ok_or(Failed)
}

fn calculate(operator: Operator, values: &[Value]) -> Result<Value> {
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
fn substr(values: &[Value]) -> Result<Value> {
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
fn of_texts(values: &[Value], of: impl Fn(&str, &str) -> bool) -> Value {
    match values {
        [Value::String(text), Value::String(part)] => of(text, part).into(),
        _ => Value::Null,
    }
}

fn compare_versions(values: &[Value]) -> Value {
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
