//! flagd in the table of formats.

use super::evaluate::Evaluation;
use super::logic::{Evaluator, Evaluators, Logic, Reader};
#[cfg(not(target_arch = "wasm32"))]
use crate::attribute_use::AttributeUse;
use crate::diagnostics::{Node, Problems};
use crate::flag_steps::{Element, FlagReader, FlagSteps, Unread};
use crate::format::{Format, Options};
use crate::metered::Metered;
use crate::report::{report, report_limit};
use crate::scope::{Scope, text};
use crate::stepwise::{Leftovers, Steps};
#[cfg(not(target_arch = "wasm32"))]
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::condition::value::JsValue;
use edgesplit_engine::flag::{FlagEvaluator, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::free::free_from;
use edgesplit_engine::observer::{Check, IS_OBSERVABLE};
use edgesplit_engine::reason::Reason;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::sync::Arc;

/// How many bytes of an expression are freed in the time of freeing an outcome.
const FREED_BYTES: usize = 16;

const DEFAULT: Reason = Reason::Vendor("default");
const ERROR: Reason = Reason::Vendor("error");
const STATIC: Reason = Reason::Vendor("static");
const TARGETING_MATCH: Reason = Reason::Vendor("targeting_match");

/// flagd's flag definitions.
#[derive(Debug)]
pub struct Flagd;

impl Format for Flagd {
    fn name(&self) -> &'static str {
        "flagd"
    }

    fn recognises(&self, document: &Value) -> bool {
        let mut flags = document.get("flags").and_then(Value::as_object).into_iter().flat_map(Map::values);
        document.get("$evaluators").is_some() || flags.any(|flag| flag.get("variants").is_some_and(Value::is_object))
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn attribute_uses(&self, config: Node<'_>, each: &mut dyn FnMut(&AttributeUse<'_>)) {
        let list = config.path.field("$evaluators");
        for (name, value) in config.value.get("$evaluators").and_then(Value::as_object).into_iter().flatten() {
            logic_uses(Node { value, path: &list.field(name) }, each);
        }
        let list = config.path.field("flags");
        for (key, flag) in config.value.get("flags").and_then(Value::as_object).into_iter().flatten() {
            let path = list.field(key);
            if let Some(value) = flag.get("targeting") {
                logic_uses(Node { value, path: &path.field("targeting") }, each);
            }
        }
    }

    fn steps(&self, options: &Options) -> Box<dyn Steps> {
        DefinitionReader::begin(options)
    }

    fn has_generations(&self) -> bool {
        true
    }
}

/// Passes the attributes that the expression at `node` reads to `each`.
#[cfg(not(target_arch = "wasm32"))]
fn logic_uses(node: Node<'_>, each: &mut dyn FnMut(&AttributeUse<'_>)) {
    match node.value {
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                logic_uses(Node { value, path: &node.path.index(index) }, each);
            }
        }
        Value::Object(members) => {
            for (operator, value) in members {
                let path = node.path.field(operator);
                let inner = Node { value, path: &path };
                match (operator.as_str(), value) {
                    ("var", Value::String(written)) => attribute_use(written, inner, each),
                    ("var", Value::Array(list)) if list.first().is_some_and(Value::is_string) => {
                        attribute_use(list.first().and_then(Value::as_str).unwrap_or_default(), inner, each);
                    }
                    // The expression for the elements of a list reads those.
                    ("map" | "filter" | "reduce" | "all" | "none" | "some", Value::Array(list)) => {
                        for value in list.iter().take(1) {
                            logic_uses(Node { value, path: &path.index(0) }, each);
                        }
                    }
                    _ => logic_uses(inner, each),
                }
            }
        }
        _ => {}
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn attribute_use(written: &str, node: Node<'_>, each: &mut dyn FnMut(&AttributeUse<'_>)) {
    if !written.is_empty() && written != "targetingKey" && !written.starts_with("$flagd.") {
        let name = AttributeName::parse_nested(written);
        each(&AttributeUse { path: node.path, written, name, check: Some(&Value::Null) });
    }
}

/// Definitions that are being compiled.
struct DefinitionReader {
    definitions: Definitions,
    evaluators: Evaluators,
    /// Whether a flag refuses all of them.
    is_refused: bool,
}

impl DefinitionReader {
    fn begin(options: &Options) -> Box<dyn Steps> {
        let definitions = Definitions { is_cbor: options.generation > 2, ..Definitions::default() };
        let reader = DefinitionReader { definitions, evaluators: Evaluators::default(), is_refused: false };
        FlagSteps::begin(Box::new(reader), options)
    }

    fn flag(&mut self, element: &mut Element<'_, '_>) -> Option<Flag> {
        let Element { scope, node, key, bytes, .. } = element;
        let node = *node;
        node.object(&mut scope.problems)?;
        let state = scope.required_text(node, "state")?;
        if state != "ENABLED" && state != "DISABLED" {
            scope
                .problems
                .error(&node.path.field("state"), format_args!("expected ENABLED or DISABLED, found {state:?}"));
            return None;
        }
        let variants = scope.required(node, "variants", |scope, node| node.object(&mut scope.problems).cloned())?;
        let none = Outcome { variant: None, experiment: None, value: Value::Null, in_experiment: false };
        let mut outcomes = vec![none];
        let (mut names, mut default) = (Vec::new(), None);
        let wanted = scope.member(node, "defaultVariant", text).filter(|name| !name.is_empty());
        for (number, (name, value)) in variants.into_iter().enumerate() {
            default = default.or((wanted.as_ref() == Some(&name)).then_some(number));
            names.push(name.clone());
            outcomes.push(Outcome { variant: Some(name), experiment: None, value, in_experiment: false });
        }
        if wanted.is_some() && default.is_none() {
            let path = node.path.field("defaultVariant");
            let value = node.value.get("defaultVariant").unwrap_or(&Value::Null);
            Node { value, path: &path }.expected(&mut scope.problems, "a key of `variants`");
            self.is_refused = true;
            return None;
        }
        let targeting = scope.member(node, "targeting", |scope, node| {
            let before = scope.problems.errors();
            let logic = match node.object(&mut scope.problems) {
                Some(members) if members.is_empty() => return None,
                Some(_) => {
                    let (evaluators, problems) = (&mut self.evaluators, &mut scope.problems);
                    Reader { evaluators, problems, waiting: 0 }.read_whole(node)
                }
                None => None,
            };
            // To the SDK, every decision of the flag is an error.
            scope.tolerated += scope.problems.errors() - before;
            Some(logic)
        });
        if targeting.iter().flatten().any(Logic::has_fractional) {
            let variants = outcomes.get(1..).unwrap_or_default().iter();
            let variants = variants.map(|outcome| Outcome { in_experiment: true, ..outcome.clone() });
            outcomes.extend(variants.collect::<Vec<_>>());
        }
        let is_enabled = state == "ENABLED";
        let flag = Flag { key: (*key).to_owned(), is_enabled, targeting, names, default, outcomes, bytes: *bytes };
        Some(flag).filter(|_| !scope.is_disabled())
    }
}

impl FlagReader for DefinitionReader {
    fn head(&mut self, _config: Node<'_>, count: usize, _problems: &mut Problems) -> bool {
        self.definitions.flags.reserve_exact(count);
        true
    }

    fn read_part(&mut self, scope: &mut Scope<'_>, config: Node<'_>) -> Option<usize> {
        self.evaluators.read_next(config, &mut scope.problems)
    }

    fn read(&mut self, element: &mut Element<'_, '_>) -> Result<&[Outcome], Unread> {
        let flag = self.flag(element);
        if self.evaluators.are_waiting() {
            return Err(Unread::Waiting);
        }
        match flag {
            Some(flag) => self.definitions.flags.push(flag),
            None if self.is_refused => return Err(Unread::Refused),
            None => return Err(Unread::Disabled),
        }
        Ok(self.definitions.flags.last().map_or(&[], |flag| &flag.outcomes))
    }

    fn finish(mut self: Box<Self>) -> (Option<String>, Box<dyn FlagEvaluator>, Leftovers) {
        self.definitions.evaluators = std::mem::take(&mut self.evaluators.usable);
        (None, Box::new(self.definitions), Leftovers::new(self.evaluators.into_names().map(drop)))
    }
}

/// Compiled definitions.
#[derive(Debug, Default)]
struct Definitions {
    flags: Vec<Flag>,
    /// The evaluators that they name. Each one follows those that it names.
    evaluators: Vec<Arc<Evaluator>>,
    /// Whether keys are hashed as CBOR.
    is_cbor: bool,
}

#[derive(Debug)]
struct Flag {
    key: String,
    is_enabled: bool,
    /// The expression that chooses a variant. The inner `None` stands for one that cannot be read.
    #[allow(clippy::option_option, reason = "no targeting, and targeting that cannot be read, are different")]
    targeting: Option<Option<Logic>>,
    /// The names of the variants.
    names: Vec<String>,
    /// The number of the default variant.
    default: Option<usize>,
    /// No variant, each variant outside an experiment, and, if the targeting can give one, in it.
    outcomes: Vec<Outcome>,
    /// Its size in the definitions.
    bytes: usize,
}

impl Flag {
    /// The outcome for a visitor, and the reason. None if the limit of work is exceeded.
    fn decide(&self, visitor: &FlagVisitor<'_>, is_cbor: bool, sink: &mut dyn FlagSink) -> Option<(usize, Reason)> {
        let default = |reason| self.default.map_or((0, DEFAULT), |variant| (1 + variant, reason));
        if !self.is_enabled {
            return Some((0, Reason::Disabled));
        }
        let Some(targeting) = &self.targeting else { return Some(default(STATIC)) };
        let Some(logic) = targeting else { return Some((0, ERROR)) };
        let attributes = Metered::new(visitor, &self.outcomes);
        let trace = (IS_OBSERVABLE && sink.is_active()).then(RefCell::default);
        let shared_out = RefCell::default();
        let evaluation = Evaluation { flag: &self.key, attributes: &attributes, is_cbor, shared_out, trace };
        let result = evaluation.run(logic);
        let Evaluation { shared_out, trace, .. } = evaluation;
        for Check { name, passed, detail } in trace.map(|trace| trace.into_inner().0).unwrap_or_default() {
            sink.check(&name, passed, format_args!("{detail}"));
        }
        if attributes.is_exceeded() {
            return None;
        }
        let Ok(result) = result else { return Some((0, ERROR)) };
        if result.is_null() {
            return Some(default(DEFAULT));
        }
        let name = JsValue::from(&result).text();
        let Some(variant) = self.names.iter().position(|other| **other == *name) else { return Some((0, ERROR)) };
        let in_experiment = shared_out.borrow().iter().any(|shared| JsValue::from(shared).text() == name);
        Some((1 + variant + if in_experiment { self.names.len() } else { 0 }, TARGETING_MATCH))
    }
}

impl FlagEvaluator for Definitions {
    fn decide(&self, flags: &[usize], visitor: &FlagVisitor<'_>, sink: &mut dyn FlagSink) {
        for &number in flags {
            let Some(flag) = self.flags.get(number) else { continue };
            let Some(decided) = flag.decide(visitor, self.is_cbor, sink) else {
                report_limit(sink, number);
                continue;
            };
            let unit = visitor.id.map(|id| ("targetingKey", id));
            report(sink, (number, &flag.key), &flag.outcomes, decided, unit);
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        self.flags.get(flag).map_or(&[], |flag| &flag.outcomes)
    }

    fn free(&mut self, left: &mut usize) {
        // An evaluator is freed before those that it names, else it would free them all in one step.
        free_from(&mut self.flags, left, |flag| 1 + flag.outcomes.len() + flag.bytes / FREED_BYTES);
        free_from(&mut self.evaluators, left, |evaluator| 1 + evaluator.bytes / FREED_BYTES);
    }
}
