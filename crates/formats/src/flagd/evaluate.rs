//! The evaluation of an expression: its data, and the operators of JSONLogic and flagd's own.

use super::fractional::{self, Key};
use super::logic::{Logic, Operator};
use super::values::{
    Failed, Result, are_equal, calculate, compare_versions, elements, every_pair, extreme, in_order, is_true, number,
    of_texts, substr,
};
use crate::metered::Metered;
use crate::stepwise::size;
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes, member};
use edgesplit_engine::condition::value::JsValue;
use edgesplit_engine::observer::{Check, IS_OBSERVABLE};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::cmp::Ordering;

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
            Logic::Shared(evaluator) => self.eval(&evaluator.logic, data),
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
                    let mut element = Map::new();
                    element.insert("accumulator".to_owned(), accumulator);
                    element.insert("current".to_owned(), current);
                    let element = Value::Object(element);
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
            Operator::Equal => every_pair(&values, &are_equal)?,
            Operator::Unequal => every_pair(&values, &|a, b| !are_equal(a, b))?,
            Operator::Identical => every_pair(&values, &|a, b| JsValue::from(a).is_identical(b))?,
            Operator::Different => every_pair(&values, &|a, b| !JsValue::from(a).is_identical(b))?,
            Operator::Greater => in_order(&values, Ordering::is_gt)?,
            Operator::GreaterOrEqual => in_order(&values, Ordering::is_ge)?,
            Operator::Less => in_order(&values, Ordering::is_lt)?,
            Operator::LessOrEqual => in_order(&values, Ordering::is_le)?,
            Operator::Max => extreme(&values, f64::max)?,
            Operator::Min => extreme(&values, f64::min)?,
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
