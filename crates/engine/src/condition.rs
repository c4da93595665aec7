//! Conditions on attributes, in GrowthBook's Mongo-like language: the `audience` of native experiments, and the targeting
//! of GrowthBook's payloads.
//!
//! The formats compile conditions; the request path only reads them. A condition means what it means to GrowthBook's
//! JavaScript SDK (spec 0.8.0, SDK 1.8.0: `mongrule.ts`), JavaScript's coercions included: a missing attribute is `null`,
//! which counts as 0 in a numeric comparison and so passes `{"$lt": 10}`.
//!
//! Evaluation is bounded: every check takes steps from a [`StepBudget`], which all conditions of a request share. A
//! condition that exceeds it, or a limit of `js-regex`, has no result, whichever operators enclose the pattern.

mod explain;
pub mod value;
pub mod value_set;

use super::attribute::{AttributeName, AttributeValue, Attributes};
pub use explain::sign;
use js_regex::JsRegex;
pub use js_regex::{LimitExceeded, StepBudget};
use serde_json::Value;
use std::cmp::Ordering;
use std::sync::Arc;
use value::JsValue;
use value_set::ValueSet;

/// How many steps the routes and conditions of one request may take together: up to 4 ms in V8's wasm, at 2 to 10 ns a step.
pub const REQUEST_STEPS_MAX: u32 = 400_000;

/// The steps that a request's routes and conditions may take.
pub fn request_budget() -> StepBudget {
    StepBudget::new(REQUEST_STEPS_MAX)
}

/// How many steps the events of one request may take together: to look their attributes up and to copy them, and to encode
/// events in a vendor's format.
pub const EVENT_STEPS_MAX: u32 = 100_000;

/// The steps of a vendor's event, beside its attributes.
pub const VENDOR_EVENT_STEPS: u32 = 500;

/// The steps of an attribute in a vendor's event, beside its look-up and its bytes.
pub const VENDOR_ATTRIBUTE_STEPS: u32 = 100;

/// The steps of an exposure of a vendor's flag that was not reported yet, to keep it for the response.
pub const EXPOSURE_STEPS: u32 = 100;

/// The steps of deciding a vendor's flag, beside its rules, attributes and conditions.
pub const FLAG_STEPS: u32 = 80;

/// The steps of a rule of a flag, beside attributes and conditions.
pub const RULE_STEPS: u32 = 20;

/// The steps of deciding a vendor's flag with this many outcomes, of which each rule has one or several.
pub fn flag_steps(outcomes: usize) -> u32 {
    FLAG_STEPS.saturating_add(u32::try_from(outcomes).unwrap_or(u32::MAX).saturating_mul(RULE_STEPS))
}

/// The steps of a check: a look-up of an attribute and a comparison.
pub const CHECK_STEPS: u32 = 8;
/// How many bytes of a value are compared or converted in the time of a step, and of a request searched for a value.
pub const BYTES_PER_STEP: usize = 2;
/// How much longer it takes to read a number or a version.
const PARSE_FACTOR: usize = 4;

/// How many instructions the patterns of all conditions of a config may have together. They take up to 24 MB.
pub const CONFIG_INSTRUCTIONS_MAX: usize = 1_000_000;

/// How deep conditions may be nested. It bounds the stack that compiling and matching take.
pub const CONDITION_DEPTH_MAX: usize = 32;

/// How many tests one condition may have, including the conditions of the saved groups that it names.
pub const CONDITION_TESTS_MAX: usize = 10_000;

/// A compiled condition: all of its tests must hold. Without any it matches everything.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Its members.
    pub tests: Vec<Test>,
}

/// One member of a condition.
#[derive(Debug, Clone)]
pub enum Test {
    /// `$or`: one of these, where there are any.
    Any(Vec<Condition>),
    /// `$and`
    All(Vec<Condition>),
    /// `$not`, and `$nor` around an `Any`.
    Not(Condition),
    /// The attribute's value passes the check.
    Attribute(AttributeName, Check),
    /// Stands for a part that is not understood. It matches nothing.
    Never,
}

/// A requirement on a value.
#[derive(Debug, Clone)]
pub enum Check {
    /// Its text is this one.
    Text(Box<str>),
    /// Its text in lower case is this one.
    FoldedText(Box<str>),
    /// It is this number, as JavaScript converts it: `null`, `""` and `false` are 0.
    Number(f64),
    /// It is not null, and JavaScript converts it to this boolean.
    Truth(bool),
    /// It is null or missing.
    Null,
    /// It is this list or object, down to the last member.
    Same(Value),
    /// It passes all of these.
    Operators(Vec<Operator>),
}

/// Whether a comparison has the wanted result, such as [`Ordering::is_lt`].
pub type Accepts = fn(Ordering) -> bool;

/// One operator and its operand.
#[derive(Debug, Clone)]
pub enum Operator {
    /// `$eq` (true) and `$ne` (false): the same type and value, nothing converted.
    Identical(Value, bool),
    /// `$lt`, `$lte`, `$gt`, `$gte`
    Order(Accepts, Value),
    /// `$veq`, `$vne`, `$vlt`, `$vlte`, `$vgt`, `$vgte`: the operand as `value::padded_version` spells it.
    Version(Accepts, Box<[u16]>),
    /// `$exists`
    Exists(bool),
    /// `$in`, `$ini`, `$inGroup` (true) and `$nin`, `$nini`, `$notInGroup` (false).
    In(Arc<ValueSet>, bool),
    /// `$not`
    Not(Box<Check>),
    /// `$size`: the number of a list's elements passes.
    Size(Box<Check>),
    /// `$elemMatch` with operators: they pass for one element.
    Element(Box<Check>),
    /// `$elemMatch` with a condition: one element's own members match it.
    ElementMembers(Condition),
    /// `$all`, `$alli`: each of these passes for some element.
    Every(Vec<Check>),
    /// `$regex`, `$regexi`, with the pattern's text where decisions can be observed.
    Regex(JsRegex, Option<Box<str>>),
    /// `$type`
    Type(Box<str>),
    /// Stands for a part that is not understood. It matches nothing.
    Never,
}

impl Condition {
    /// Whether the condition holds for these attributes.
    pub fn matches(&self, attributes: &impl Attributes, steps: &StepBudget) -> Result<bool, LimitExceeded> {
        try_all(&self.tests, |test| match test {
            Test::Any(conditions) if conditions.is_empty() => Ok(true),
            Test::Any(conditions) => try_any(conditions, |condition| condition.matches(attributes, steps)),
            Test::All(conditions) => try_all(conditions, |condition| condition.matches(attributes, steps)),
            Test::Not(condition) => Ok(!condition.matches(attributes, steps)?),
            Test::Attribute(name, check) => check.passes(JsValue::of(&look_up(attributes, name, steps)?), steps),
            Test::Never => Ok(false),
        })
    }

    /// How many instructions the patterns in the condition have together.
    pub fn instructions(&self) -> usize {
        self.tests.iter().map(Test::instructions).sum()
    }

    /// The condition with this one member.
    pub fn of(test: Test) -> Condition {
        Condition { tests: vec![test] }
    }
}

impl Test {
    fn instructions(&self) -> usize {
        match self {
            Test::Any(conditions) | Test::All(conditions) => conditions.iter().map(Condition::instructions).sum(),
            Test::Not(condition) => condition.instructions(),
            Test::Attribute(_, check) => check.instructions(),
            Test::Never => 0,
        }
    }
}

impl Check {
    fn instructions(&self) -> usize {
        let Check::Operators(operators) = self else { return 0 };
        let instructions = |operator: &Operator| match operator {
            Operator::Regex(regex, _) => regex.instructions(),
            Operator::Not(check) | Operator::Size(check) | Operator::Element(check) => check.instructions(),
            Operator::Every(checks) => checks.iter().map(Check::instructions).sum(),
            Operator::ElementMembers(condition) => condition.instructions(),
            _ => 0,
        };
        operators.iter().map(instructions).sum()
    }

    fn passes(&self, actual: JsValue<'_>, steps: &StepBudget) -> Result<bool, LimitExceeded> {
        if let Check::Operators(operators) = self {
            return try_all(operators, |operator| operator.passes(actual, steps));
        }
        spend_check(actual, steps)?;
        Ok(match self {
            Check::Text(text) => actual.text() == **text,
            Check::FoldedText(text) => value::lower_case(&actual.text()) == **text,
            Check::Number(number) => {
                spend_parse(actual, steps)?;
                actual.number() == *number
            }
            Check::Truth(truth) => !actual.is_null() && actual.is_true() == *truth,
            Check::Null => actual.is_null(),
            Check::Same(value) => actual.is_same(value),
            Check::Operators(_) => true, // above
        })
    }
}

impl Operator {
    fn passes(&self, actual: JsValue<'_>, steps: &StepBudget) -> Result<bool, LimitExceeded> {
        spend_check(actual, steps)?;
        Ok(match self {
            Operator::Identical(value, expected) => actual.is_identical(value) == *expected,
            Operator::Order(accepts, value) => {
                spend_parse(actual, steps)?;
                actual.compare(JsValue::from(value)).is_some_and(accepts)
            }
            Operator::Version(accepts, version) => {
                spend_parse(actual, steps)?;
                accepts(value::padded_version(&actual.version()).cmp(version.iter().copied()))
            }
            Operator::Exists(expected) => actual.is_null() != *expected,
            Operator::In(values, expected) => values.intersects(actual) == *expected,
            Operator::Not(check) => !check.passes(actual, steps)?,
            Operator::Size(check) => match actual.list() {
                Some(elements) => check.passes(JsValue::Number(elements.len() as f64), steps)?,
                None => false,
            },
            Operator::Element(check) => {
                try_any(present(actual), |element| check.passes(JsValue::from(element), steps))?
            }
            Operator::ElementMembers(condition) => {
                try_any(present(actual), |element| condition.matches(element, steps))?
            }
            Operator::Every(checks) => match actual.list() {
                Some(elements) => {
                    try_all(checks, |check| try_any(elements, |element| check.passes(JsValue::from(element), steps)))?
                }
                None => false,
            },
            Operator::Regex(regex, _) => regex.is_match(&actual.text(), steps)?,
            Operator::Type(name) => actual.type_name() == &**name,
            Operator::Never => false,
        })
    }
}

/// The value of an attribute, whose look-up takes steps.
pub fn look_up<'a>(
    attributes: &'a impl Attributes,
    name: &'a AttributeName,
    steps: &StepBudget,
) -> Result<AttributeValue<'a>, LimitExceeded> {
    spend_bytes(attributes.look_up_bytes(name), steps)?;
    Ok(attributes.attribute(name))
}

/// Takes the steps of a check of `actual` from `steps`.
pub fn spend_check(actual: JsValue<'_>, steps: &StepBudget) -> Result<(), LimitExceeded> {
    steps.spend(CHECK_STEPS)?;
    spend_bytes(actual.size(), steps)
}

fn spend_parse(actual: JsValue<'_>, steps: &StepBudget) -> Result<(), LimitExceeded> {
    spend_bytes(PARSE_FACTOR * actual.size(), steps)
}

/// Takes the steps of reading or copying `bytes`.
pub fn spend_bytes(bytes: usize, steps: &StepBudget) -> Result<(), LimitExceeded> {
    steps.spend(u32::try_from(bytes / BYTES_PER_STEP).unwrap_or(u32::MAX))
}

/// The elements that `$elemMatch` looks at: those of a list that are not null.
fn present<'a>(actual: JsValue<'a>) -> impl Iterator<Item = &'a Value> {
    actual.list().unwrap_or_default().iter().filter(|element| !element.is_null())
}

/// Whether some element of `list` holds. The first one that does, or that fails, is the last to be checked.
pub(crate) fn try_any<T>(
    list: impl IntoIterator<Item = T>,
    mut holds: impl FnMut(T) -> Result<bool, LimitExceeded>,
) -> Result<bool, LimitExceeded> {
    for element in list {
        if holds(element)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn try_all<T>(
    list: impl IntoIterator<Item = T>,
    mut holds: impl FnMut(T) -> Result<bool, LimitExceeded>,
) -> Result<bool, LimitExceeded> {
    Ok(!try_any(list, |element| holds(element).map(|holds| !holds))?)
}
