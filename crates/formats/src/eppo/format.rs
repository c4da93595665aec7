//! Eppo in the table of formats.

use super::compile::Reader;
use super::flag::Flag;
#[cfg(not(target_arch = "wasm32"))]
use crate::attribute_use::{AttributeUse, elements, of_member};
use crate::diagnostics::{Node, Problems};
use crate::events::EventWire;
use crate::flag_steps::{Element, FlagReader, FlagSteps, Unread};
use crate::format::{Format, Options};
use crate::report::{report, report_limit};
use crate::stepwise::{CONFIG_OUTCOME_BYTES_MAX, Leftovers, Steps};
use edgesplit_engine::condition::flag_steps;
use edgesplit_engine::flag::{FlagEvaluator, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::free::free_from;
use serde_json::Value;

/// Eppo's universal flag configuration, and Datadog's.
#[derive(Debug)]
pub struct Eppo;

impl Format for Eppo {
    fn name(&self) -> &'static str {
        "eppo"
    }

    fn recognises(&self, document: &Value) -> bool {
        let flags = document.get("flags").and_then(Value::as_object);
        flags.is_some_and(|flags| {
            document.get("createdAt").is_some() || flags.values().any(|flag| flag.get("allocations").is_some())
        })
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn attribute_uses(&self, config: Node<'_>, each: &mut dyn FnMut(&AttributeUse<'_>)) {
        let flags = config.path.field("flags");
        for (key, value) in config.value.get("flags").and_then(Value::as_object).into_iter().flatten() {
            elements(Node { value, path: &flags.field(key) }, "allocations", |allocation| {
                elements(allocation, "rules", |rule| {
                    elements(rule, "conditions", |condition| of_member(condition, "attribute", each));
                });
            });
        }
    }

    fn steps(&self, options: &Options) -> Box<dyn Steps> {
        PayloadReader::begin(options)
    }

    fn event_wire(&self) -> Option<&dyn EventWire> {
        Some(self)
    }
}

/// A payload that is being compiled.
struct PayloadReader {
    payload: Payload,
    revision: Option<String>,
    outcome_bytes_left: usize,
}

impl PayloadReader {
    fn begin(options: &Options) -> Box<dyn Steps> {
        let (payload, outcome_bytes_left) = (Payload::default(), CONFIG_OUTCOME_BYTES_MAX);
        FlagSteps::begin(Box::new(PayloadReader { payload, revision: None, outcome_bytes_left }), options)
    }
}

impl FlagReader for PayloadReader {
    fn head(&mut self, config: Node<'_>, count: usize, problems: &mut Problems) -> bool {
        let text = |name: &str| config.value.get(name).and_then(Value::as_str);
        if text("format") == Some("CLIENT") {
            let message = "a payload for clients, whose keys are hashed: fetch the server's, whose `format` is SERVER";
            problems.error(&config.path.field("format"), message);
            return false;
        }
        self.revision = text("createdAt").map(str::to_owned);
        let environment = config.value.get("environment").and_then(|environment| environment.get("name")?.as_str());
        self.payload.environment = environment.unwrap_or_default().to_owned();
        self.payload.flags.reserve_exact(count);
        true
    }

    fn see(&mut self, flag: &Value) {
        self.payload.is_datadog |= flag.is_object() && flag.get("totalShards").is_none();
    }

    fn read(&mut self, element: &mut Element<'_, '_>) -> Result<&[Outcome], Unread> {
        let Element { scope, node, key, .. } = element;
        let reader = Reader::new(self.payload.is_datadog, &mut self.outcome_bytes_left);
        self.payload.flags.push(reader.flag(scope, *node, key).ok_or(Unread::Disabled)?);
        Ok(self.payload.flags.last().map_or(&[], |flag| &flag.outcomes))
    }

    fn finish(self: Box<Self>) -> (Option<String>, Box<dyn FlagEvaluator>, Leftovers) {
        (self.revision, Box::new(self.payload), Leftovers::default())
    }
}

/// A compiled payload.
#[derive(Debug, Default)]
pub(super) struct Payload {
    pub(super) flags: Vec<Flag>,
    pub(super) is_datadog: bool,
    /// The name of the environment, for reports.
    pub(super) environment: String,
}

impl FlagEvaluator for Payload {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        for &number in flags {
            let Some(flag) = self.flags.get(number) else { continue };
            let steps = visitor.steps.spend(flag_steps(flag.outcomes.len()));
            let Ok(decided) = steps.and_then(|()| flag.decide(visitor, sink)) else {
                report_limit(sink, number);
                continue;
            };
            let unit = visitor.id.map(|id| ("id", id));
            report(sink, (number, &flag.key), &flag.outcomes, decided, unit);
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        self.flags.get(flag).map_or(&[], |flag| &flag.outcomes)
    }

    fn free(&mut self, left: &mut usize) {
        free_from(&mut self.flags, left, |flag| 1 + flag.outcomes.len() + flag.allocations.len());
    }
}
