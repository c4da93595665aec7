//! Decides flags by a datafile.

use super::datafile::{Datafile, Flag};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::{BYTES_PER_STEP, CHECK_STEPS};
use edgesplit_engine::flag::{FlagDecision, FlagEvaluator, FlagExposure, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::free::free_from;
use edgesplit_engine::reason::Reason;
use serde_json::Value;
use std::any::Any;
use std::cell::Cell;

/// The name of the bucketed attribute in exposures: the visitor's id.
const UNIT_NAME: &str = "id";

/// The evaluator of a datafile.
#[derive(Debug)]
pub(super) struct Evaluator(pub(super) Datafile);

impl FlagEvaluator for Evaluator {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        for &number in flags {
            let Some(flag) = self.0.flags.get(number) else { continue };
            let Some(id) = visitor.id else {
                sink.decided(number, None, Reason::NoUnit);
                continue;
            };
            let attributes = Metered { visitor, is_exceeded: Cell::new(visitor.steps.left() == 0) };
            if !attributes.is_exceeded.get() {
                let decision = self.0.decide(flag, id, &attributes, sink);
                if !attributes.is_exceeded.get() {
                    self.report(number, flag, &decision, id, sink);
                    continue;
                }
            }
            sink.check("limit", false, format_args!("checking the audiences exceeds the limit of work"));
            sink.decided(number, None, Reason::Limit);
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        self.0.flags.get(flag).map_or(&[], |flag| flag.outcomes())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn free(&mut self, left: &mut usize) {
        free_from(&mut self.0.flags, left, |flag| 1 + flag.outcomes().len());
        free_from(&mut self.0.rules, left, |rule| 1 + rule.variations.len());
        free_from(&mut self.0.audiences, left, |_| 1);
    }
}

impl Evaluator {
    /// Reports the decision about the flag with this number.
    fn report(&self, number: usize, flag: &Flag, decision: &FlagDecision<'_>, id: &str, sink: &mut dyn FlagSink) {
        sink.decided(number, Some(decision.outcome), decision.reason);
        let reported = [decision.exposure.then_some(decision.outcome), decision.holdout];
        for position in reported.into_iter().flatten() {
            let Some(outcome) = flag.outcomes().get(position) else { continue };
            sink.exposed(&FlagExposure {
                experiment: outcome.experiment.as_deref().unwrap_or(&flag.key),
                variant: outcome.variant.as_deref(),
                attribute: UNIT_NAME,
                unit: id,
                typed_unit: None,
                outcome: Some((number, position)),
            });
        }
    }
}

/// The attributes of a visitor, whose look-ups take steps from the request's budget. None is found once it is used up.
struct Metered<'a> {
    visitor: &'a FlagVisitor<'a>,
    is_exceeded: Cell<bool>,
}

impl Metered<'_> {
    fn spend(&self, bytes: usize) -> bool {
        let steps = u32::try_from(bytes / BYTES_PER_STEP).unwrap_or(u32::MAX).saturating_add(CHECK_STEPS);
        let is_spent = self.visitor.steps.spend(steps).is_ok();
        self.is_exceeded.set(self.is_exceeded.get() || !is_spent);
        is_spent
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
