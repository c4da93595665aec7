//! Eppo in the table of formats.

use super::compile::Reader;
use super::flag::Flag;
#[cfg(not(target_arch = "wasm32"))]
use crate::attribute_use::{AttributeUse, elements};
use crate::conditions::SavedGroups;
use crate::diagnostics::{Node, Problems};
use crate::document::KEY_BYTES_MAX;
use crate::events::EventWire;
use crate::flags::{self, FlagEntries};
use crate::format::{Compilation, Compiled, Format, Options};
use crate::scope::Scope;
use crate::stepwise::{self, CONFIG_OUTCOME_BYTES_MAX, KEYS_PER_STEP, Leftovers, Steps, Stepwise, size};
#[cfg(not(target_arch = "wasm32"))]
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::flag::{FlagEvaluator, FlagExposure, FlagSink, FlagVisitor, Outcome};
use edgesplit_engine::free::free_from;
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::Disabled;
use serde_json::{Map, Value};
use std::any::Any;

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
                    elements(rule, "conditions", |condition: Node<'_>| {
                        let Some(written) = condition.value.get("attribute").and_then(Value::as_str) else { return };
                        let name = AttributeName::parse_exact(written);
                        let path = condition.path.field("attribute");
                        each(&AttributeUse { path: &path, written, name, check: Some(&Value::Null) });
                    });
                });
            });
        }
    }

    fn begin(&self, text: Vec<u8>, options: &Options) -> Box<dyn Compilation> {
        Stepwise::begin(text, Box::new(PayloadSteps::new(options)))
    }

    fn compile(&self, config: Node<'_>, options: &Options) -> Compiled {
        stepwise::compile(config, Box::new(PayloadSteps::new(options)))
    }

    fn event_wire(&self) -> Option<&dyn EventWire> {
        Some(self)
    }
}

/// Compiles a payload flag by flag.
struct PayloadSteps {
    stage: Stage,
    /// The keys of the flags, as far as they are listed and not compiled.
    keys: Vec<String>,
    patterns: SavedGroups,
    outcome_bytes_left: usize,
    payload: Payload,
    revision: Option<String>,
    disabled: Vec<Disabled>,
    entries: FlagEntries,
    problems: Problems,
}

enum Stage {
    Head,
    /// Lists the flags from this number on.
    Keys(usize),
    /// Compiles the flag with this number.
    Flag(usize),
    Refused,
    Done,
}

impl PayloadSteps {
    fn new(options: &Options) -> PayloadSteps {
        PayloadSteps {
            stage: Stage::Head,
            keys: Vec::new(),
            patterns: SavedGroups::default(),
            outcome_bytes_left: CONFIG_OUTCOME_BYTES_MAX,
            payload: Payload::default(),
            revision: None,
            disabled: Vec::new(),
            entries: FlagEntries::new(options),
            problems: Problems::new(),
        }
    }

    /// Reads the members beside the flags.
    fn head(&mut self, config: Node<'_>) -> Stage {
        let text = |name: &str| config.value.get(name).and_then(Value::as_str);
        if text("format") == Some("CLIENT") {
            let message =
                "a payload for clients, whose keys are hashed: fetch the server's payload, whose `format` is SERVER";
            self.problems.error(&config.path.field("format"), message);
            return Stage::Refused;
        }
        let Some(flags) = flags(config) else {
            let path = config.path.field("flags");
            Node { value: config.value.get("flags").unwrap_or(&Value::Null), path: &path }
                .expected(&mut self.problems, "an object of flags");
            return Stage::Refused;
        };
        self.revision = text("createdAt").map(str::to_owned);
        let environment = config.value.get("environment").and_then(|environment| environment.get("name")?.as_str());
        self.payload.environment = environment.unwrap_or_default().to_owned();
        self.payload.flags.reserve_exact(flags.len());
        self.keys.reserve_exact(flags.len());
        self.entries.reserve(flags.len());
        Stage::Keys(0)
    }

    /// Lists the keys of the next flags, and looks for the mark of Datadog's.
    fn list(&mut self, config: Node<'_>, from: usize) -> Stage {
        let part = flags(config).into_iter().flatten().skip(from).take(KEYS_PER_STEP);
        let before = self.keys.len();
        for (key, flag) in part {
            self.payload.is_datadog |= flag.is_object() && flag.get("totalShards").is_none();
            self.keys.push(key.clone());
        }
        if self.keys.len() > before { Stage::Keys(self.keys.len()) } else { Stage::Flag(0) }
    }

    /// Compiles the flag with this number. None behind the last one.
    fn flag(&mut self, config: Node<'_>, position: usize) -> Option<usize> {
        let key = std::mem::take(self.keys.get_mut(position)?);
        let value = flags(config)?.get(&key)?;
        let list = config.path.field("flags");
        let path = list.field(&key);
        let mut scope = Scope::new(&mut self.patterns);
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            scope.problems.error(&path, format!("expected a key of 1 to {KEY_BYTES_MAX} bytes"));
        }
        let reader = Reader::new(self.payload.is_datadog, &mut self.outcome_bytes_left);
        let flag = reader.flag(&mut scope, Node { value, path: &path }, &key);
        let mut bytes = size(value);
        match flag {
            Some(flag) => {
                let (number, outcomes) = (self.payload.flags.len(), &flag.outcomes);
                bytes +=
                    self.entries.add(&flags::Flag { key: &key, position, number, outcomes, path, shares_key: false });
                self.payload.flags.push(flag);
            }
            None => {
                let problem = scope.problems.first_error();
                self.disabled.push(Disabled { key: Some(key.clone()), position, problem });
            }
        }
        self.problems.append(scope.problems);
        Some(bytes + self.patterns.element_bytes())
    }
}

fn flags(config: Node<'_>) -> Option<&Map<String, Value>> {
    config.value.get("flags")?.as_object()
}

impl Steps for PayloadSteps {
    fn step(&mut self, config: Node<'_>) -> Option<usize> {
        let (next, bytes) = match self.stage {
            Stage::Head => (self.head(config), 1),
            Stage::Keys(from) => (self.list(config, from), KEYS_PER_STEP),
            Stage::Flag(number) => match self.flag(config, number) {
                Some(bytes) => (Stage::Flag(number + 1), bytes),
                None => (Stage::Done, 0),
            },
            Stage::Refused | Stage::Done => return None,
        };
        self.stage = next;
        Some(bytes)
    }

    fn report(&mut self, problems: Problems) {
        self.problems.append(problems);
    }

    fn finish(mut self: Box<Self>) -> (Compiled, Leftovers) {
        let leftovers = Leftovers::new(self.patterns.into_entries());
        if !matches!(self.stage, Stage::Done) {
            return (Compiled { snapshot: None, problems: self.problems }, leftovers);
        }
        let compiled = self.entries.finish(self.revision, self.disabled, Box::new(self.payload));
        self.problems.append(compiled.problems);
        (Compiled { problems: self.problems, ..compiled }, leftovers)
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
            let Ok((at, reason)) = flag.decide(visitor, sink) else {
                sink.decided(number, None, Reason::Limit);
                continue;
            };
            sink.decided(number, Some(at), reason);
            let outcome = flag.outcomes.get(at).filter(|outcome| outcome.in_experiment);
            if let Some((outcome, unit)) = outcome.zip(visitor.id) {
                sink.exposed(&FlagExposure {
                    experiment: outcome.experiment.as_deref().unwrap_or_default(),
                    variant: outcome.variant.as_deref(),
                    attribute: "id",
                    unit,
                    typed_unit: None,
                    outcome: Some((number, at)),
                });
            }
        }
    }

    fn outcomes(&self, flag: usize) -> &[Outcome] {
        self.flags.get(flag).map_or(&[], |flag| &flag.outcomes)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn free(&mut self, left: &mut usize) {
        free_from(&mut self.flags, left, |flag| 1 + flag.outcomes.len() + flag.allocations.len());
    }
}
