//! PostHog in the table of formats.

use super::capture;
use super::compile::Compiler;
use super::rules::Rules;
#[cfg(not(target_arch = "wasm32"))]
use crate::attribute_use::{self, AttributeUse};
use crate::diagnostics::{Node, Problems};
use crate::element::elements;
use crate::events::{EventWire, VendorEvent, write_joined};
use crate::flags::{Flag, FlagEntries};
use crate::format::{Compiled, Format, Options};
use crate::stepwise::{self, KEYS_PER_STEP, Leftovers, Steps, size};
#[cfg(not(target_arch = "wasm32"))]
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::flag::FlagEvaluator;
use serde_json::{Map, Value};

/// PostHog's definitions for local evaluation.
#[derive(Debug)]
pub struct PostHog;

impl Format for PostHog {
    fn name(&self) -> &'static str {
        "posthog"
    }

    fn recognises(&self, document: &Value) -> bool {
        document.get("flags").is_some_and(Value::is_array)
    }

    fn steps(&self, options: &Options) -> Box<dyn Steps> {
        Box::new(FlagSteps::new(options))
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn attribute_uses(&self, config: Node<'_>, each: &mut dyn FnMut(&AttributeUse<'_>)) {
        attribute_use::elements(config, "flags", |flag| {
            let filters = flag.path.field("filters");
            let node = Node { value: flag.value.get("filters").unwrap_or(&Value::Null), path: &filters };
            if node.value.get("aggregation_group_type_index").is_some_and(|group| !group.is_null()) {
                return;
            }
            attribute_use::elements(node, "groups", |group| {
                attribute_use::elements(group, "properties", |node| {
                    let text = |name: &str| node.value.get(name).and_then(Value::as_str);
                    let Some(written) = text("key").filter(|key| *key != "distinct_id") else { return };
                    if text("type").is_none_or(|name| name == "person") {
                        let (name, check) = (AttributeName::parse_exact(written), Some(&Value::Null));
                        each(&AttributeUse { path: &node.path.field("key"), written, name, check });
                    }
                });
            });
        });
    }

    fn event_wire(&self) -> Option<&dyn EventWire> {
        Some(self)
    }
}

/// The part of a payload that is compiled next.
enum Stage {
    Head,
    /// The key of the flag at this position.
    Key(usize),
    /// The next ids of cohorts.
    CohortIds,
    Cohort(usize),
    Flag(usize),
    /// A compiled flag is added.
    Entry(usize),
}

/// Notes the keys of the flags, compiles cohorts, then flags, and then adds the flags.
struct FlagSteps {
    stage: Stage,
    compiler: Compiler,
    /// The ids of the cohorts.
    ids: Vec<String>,
    rules: Rules,
    entries: FlagEntries,
    is_refused: bool,
}

impl FlagSteps {
    fn new(options: &Options) -> FlagSteps {
        FlagSteps {
            stage: Stage::Head,
            compiler: Compiler::default(),
            ids: Vec::new(),
            rules: Rules { token: options.events_path.as_deref().and_then(token), ..Rules::default() },
            entries: FlagEntries::new(options),
            is_refused: false,
        }
    }

    fn read_head(&mut self, config: Node<'_>) {
        elements(config, "flags", true, &mut self.entries.problems);
        self.is_refused = !config.value.get("flags").is_some_and(Value::is_array);
        for name in ["group_type_mapping", "cohorts"] {
            if let Some(value) = config.value.get(name).filter(|value| !value.is_null()) {
                Node { value, path: &config.path.field(name) }.object(&mut self.entries.problems);
            }
        }
        let group_types = config.value.get("group_type_mapping").and_then(Value::as_object);
        self.compiler.group_types = group_types.cloned().unwrap_or_default();
        let version = config.value.get("property_matching_version").and_then(Value::as_u64);
        self.compiler.matching_version = version.unwrap_or(1);
    }

    fn read_flag(&mut self, node: Node<'_>, position: usize) {
        let mut own = Problems::new();
        self.compiler.patterns.begin_element();
        match self.compiler.flag(node, position, &mut own) {
            Some(flag) => {
                self.rules.by_key.insert(flag.key.clone(), self.rules.flags.len());
                self.rules.flags.push(flag);
            }
            None => {
                let key = node.value.get("key").and_then(Value::as_str).map(str::to_owned);
                self.entries.disable(key, position, &own);
            }
        }
        self.entries.problems.append(own);
    }
}

impl Steps for FlagSteps {
    fn step(&mut self, config: Node<'_>) -> Option<usize> {
        let flags = config.value.get("flags").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let cohorts = config.value.get("cohorts").and_then(Value::as_object);
        match self.stage {
            Stage::Head => {
                self.read_head(config);
                self.stage = Stage::Key(0);
                (!self.is_refused).then_some(size(config.value.get("group_type_mapping").unwrap_or(&Value::Null)))
            }
            Stage::Key(index) => {
                let Some(flag) = flags.get(index) else {
                    self.stage = Stage::CohortIds;
                    return Some(0);
                };
                self.compiler.keys.extend(flag.get("key").and_then(Value::as_str).map(str::to_owned));
                self.stage = Stage::Key(index + 1);
                Some(stepwise::OUTCOME_BYTES)
            }
            Stage::CohortIds => {
                let from = self.ids.len();
                self.ids.extend(cohorts.into_iter().flat_map(Map::keys).skip(from).take(KEYS_PER_STEP).cloned());
                let added = (from..).zip(self.ids.iter().skip(from));
                self.compiler.cohort_ids.extend(added.map(|(position, id)| (id.clone(), position)));
                if self.ids.len() == from {
                    self.stage = Stage::Cohort(0);
                }
                // The earlier ones are stepped over.
                Some(from / 8 + KEYS_PER_STEP)
            }
            Stage::Cohort(index) => {
                let id = self.ids.get(index).map(String::as_str);
                let Some((id, value)) = id.and_then(|id| Some((id, cohorts?.get(id)?))) else {
                    self.stage = Stage::Flag(0);
                    return Some(0);
                };
                let list = config.path.field("cohorts");
                self.compiler.patterns.begin_element();
                let tree = self.compiler.tree(Node { value, path: &list.field(id) }, 0, &mut self.entries.problems);
                self.rules.cohorts.push(tree);
                self.stage = Stage::Cohort(index + 1);
                Some(size(value) + self.compiler.patterns.element_bytes())
            }
            Stage::Flag(index) => {
                let Some(value) = flags.get(index) else {
                    self.entries.reserve(self.rules.flags.len());
                    self.stage = Stage::Entry(0);
                    return Some(0);
                };
                let list = config.path.field("flags");
                self.read_flag(Node { value, path: &list.index(index) }, index);
                self.stage = Stage::Flag(index + 1);
                Some(size(value) + self.compiler.patterns.element_bytes())
            }
            Stage::Entry(number) => {
                self.stage = Stage::Entry(number + 1);
                let flag = self.rules.flags.get(number)?;
                let (key, position, outcomes, list) =
                    (&flag.key, flag.position, &flag.outcomes, config.path.field("flags"));
                let path = list.index(position);
                Some(self.entries.add(&Flag { key, position, number, outcomes, path, shares_key: false }))
            }
        }
    }

    fn report(&mut self, problems: Problems) {
        self.entries.problems.append(problems);
    }

    fn finish(self: Box<Self>) -> (Compiled, Leftovers) {
        let Compiler { keys, cohort_ids, .. } = self.compiler;
        let ids = self.ids.into_iter().map(drop).chain(cohort_ids.into_iter().map(drop));
        let leftovers = Leftovers::new(keys.into_iter().map(drop).chain(ids));
        if self.is_refused {
            return (Compiled { snapshot: None, problems: self.entries.problems }, leftovers);
        }
        (self.entries.finish(None, Box::new(self.rules)), leftovers)
    }
}

/// The project's key in the query of the path that events are sent to.
fn token(path: &str) -> Option<String> {
    let (_, query) = path.split_once('?')?;
    let mut parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
    parameters.find(|(name, _)| ["token", "api_key"].contains(name)).map(|(_, token)| token.to_owned())
}

impl EventWire for PostHog {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn write(&self, event: &VendorEvent<'_>, _evaluator: Option<&dyn FlagEvaluator>, out: &mut Vec<u8>) -> bool {
        capture::write(event, out)
    }

    fn head(&self, evaluator: &dyn FlagEvaluator) -> Vec<u8> {
        let rules = evaluator.as_any().downcast_ref::<Rules>();
        capture::head(rules.and_then(|rules| rules.token.as_deref()).unwrap_or_default())
    }

    fn write_body(&self, head: &[u8], events: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
        write_joined(head, events, b"]}", out);
    }

    fn needs_own_config(&self) -> bool {
        true
    }
}
