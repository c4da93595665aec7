//! Attributes whose look-ups take steps from the budget of their request.

use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::value::JsValue;
use edgesplit_engine::condition::{BYTES_PER_STEP, CHECK_STEPS, LimitExceeded, flag_steps};
use edgesplit_engine::flag::{FlagVisitor, Outcome};
use serde_json::Value;
use std::borrow::Cow;
use std::cell::Cell;

/// The attributes of a visitor. None is found once the steps are used up.
pub(crate) struct Metered<'a> {
    pub(crate) visitor: &'a FlagVisitor<'a>,
    is_exceeded: Cell<bool>,
}

impl<'a> Metered<'a> {
    /// The attributes for deciding a flag with these outcomes.
    pub(crate) fn new(visitor: &'a FlagVisitor<'a>, outcomes: &[Outcome]) -> Metered<'a> {
        Metered { visitor, is_exceeded: Cell::new(visitor.steps.spend(flag_steps(outcomes.len())).is_err()) }
    }

    /// Whether the steps are used up: no result counts then.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.is_exceeded.get()
    }

    /// Takes the steps of a check that reads `bytes`. False once they are used up.
    pub(crate) fn spend(&self, bytes: usize) -> bool {
        let steps = u32::try_from(bytes / BYTES_PER_STEP).unwrap_or(u32::MAX).saturating_add(CHECK_STEPS);
        self.within(self.visitor.steps.spend(steps).map(|()| true))
    }

    /// The result of a check that takes steps itself; false once they are used up.
    pub(crate) fn within(&self, result: Result<bool, LimitExceeded>) -> bool {
        self.is_exceeded.set(self.is_exceeded.get() || result.is_err());
        result.unwrap_or(false)
    }

    /// The attribute as a text, if it is a text, a number or a boolean.
    pub(crate) fn text<'n>(&'n self, name: &'n AttributeName) -> Option<Cow<'n, str>> {
        match self.attribute(name) {
            AttributeValue::Text(text) => Some(text),
            AttributeValue::Json(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => {
                Some(JsValue::from(value).text())
            }
            AttributeValue::Json(_) | AttributeValue::Missing => None,
        }
    }
}

impl Attributes for Metered<'_> {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        if !self.spend(self.visitor.attributes.look_up_bytes(name)) {
            return AttributeValue::Missing;
        }
        match self.visitor.attributes.attribute(name) {
            AttributeValue::Text(text) if !self.spend(text.len()) => AttributeValue::Missing,
            AttributeValue::Json(Value::String(text)) if !self.spend(text.len()) => AttributeValue::Missing,
            value => value,
        }
    }
}
