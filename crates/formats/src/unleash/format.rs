//! Unleash in the table of formats.

use super::compile::{Compiler, NONE};
use super::feature::Features;
#[cfg(not(target_arch = "wasm32"))]
use crate::attribute_use::{self, AttributeUse};
use crate::diagnostics::{Node, Problems};
use crate::element::elements;
use crate::events::EventWire;
use crate::flags::{Flag, FlagEntries};
use crate::format::{Compiled, Format, Options};
use crate::stepwise::{self, Leftovers, Steps, size};
use edgesplit_engine::snapshot::Disabled;
use serde_json::Value;
use std::collections::HashMap;

/// The features of Unleash's client API.
#[derive(Debug)]
pub struct Unleash;

impl Format for Unleash {
    fn name(&self) -> &'static str {
        "unleash"
    }

    fn recognises(&self, document: &Value) -> bool {
        document.get("features").is_some_and(Value::is_array)
    }

    fn steps(&self, options: &Options) -> Box<dyn Steps> {
        Box::new(FeatureSteps::new(options))
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn attribute_uses(&self, config: Node<'_>, each: &mut dyn FnMut(&AttributeUse<'_>)) {
        let mut constraint = |node: Node<'_>| {
            let name = node.value.get("contextName").and_then(Value::as_str);
            if !matches!(name, Some("userId" | "currentTime")) {
                attribute_use::of_member(node, "contextName", each);
            }
        };
        attribute_use::elements(config, "segments", |node| {
            attribute_use::elements(node, "constraints", &mut constraint);
        });
        attribute_use::elements(config, "features", |node| {
            attribute_use::elements(node, "strategies", |node| {
                attribute_use::elements(node, "constraints", &mut constraint);
            });
        });
    }

    fn event_wire(&self) -> Option<&dyn EventWire> {
        Some(self)
    }
}

/// The part of a payload that is compiled next: an element of one of the lists.
enum Stage {
    Segment(usize),
    Feature(usize),
    /// A compiled feature is tied to its parents and added.
    Entry(usize),
}

/// How many bytes of config are compiled in the time of looking up a parent.
const PARENT_BYTES: usize = 4;

/// Compiles segments, then features, and then adds the features.
struct FeatureSteps {
    stage: Stage,
    compiler: Compiler,
    compiled: Features,
    /// The numbers of the features by their names.
    names: HashMap<String, usize>,
    entries: FlagEntries,
    revision: Option<String>,
    is_refused: bool,
}

impl FeatureSteps {
    fn new(options: &Options) -> FeatureSteps {
        FeatureSteps {
            stage: Stage::Segment(0),
            compiler: Compiler::default(),
            compiled: Features::default(),
            names: HashMap::new(),
            entries: FlagEntries::new(options),
            revision: None,
            is_refused: false,
        }
    }

    fn read_feature(&mut self, node: Node<'_>, position: usize) {
        let mut own = Problems::new();
        self.compiler.patterns.begin_element();
        let feature = self.compiler.feature(node, position, &mut own);
        let name = node.value.get("name").and_then(Value::as_str).map(str::to_owned);
        if feature.is_none() {
            self.entries.disable(name.clone(), position, &own);
        }
        let number = if feature.is_some() { self.compiled.features.len() } else { NONE };
        if let Some(name) = name {
            self.names.entry(name).or_insert(number);
        }
        self.compiled.features.extend(feature);
        self.entries.problems.append(own);
    }

    /// Looks up the parents of a feature. An error if one of them is disabled.
    fn tie(&mut self, number: usize, node: Node<'_>) -> Result<(), String> {
        let Some(feature) = self.compiled.features.get_mut(number) else { return Ok(()) };
        let (list, mut own) = (node.path.field("dependencies"), Problems::new());
        let mut disabled = Ok(());
        for (index, parent) in feature.parents.iter_mut().enumerate() {
            let found = self.names.get(&parent.name);
            parent.feature = found.copied().filter(|number| *number != NONE);
            let message = match found {
                Some(&NONE) => format!("the feature {:?} is disabled, and this one with it", parent.name),
                None => format!("there is no feature {:?}; this one is off", parent.name),
                Some(_) => continue,
            };
            own.error(&list.index(index).field("feature"), message);
            if found.is_some() {
                disabled = Err(own.first_error());
            }
        }
        self.entries.problems.append(own);
        disabled
    }

    fn add(&mut self, number: usize, node: Node<'_>) -> Option<usize> {
        let position = self.compiled.features.get(number)?.position;
        let list = node.path.field("features");
        let path = list.index(position);
        let tied = self.tie(number, Node { value: node.value, path: &path });
        let feature = self.compiled.features.get(number)?;
        let tied_bytes = PARENT_BYTES * feature.parents.len();
        if let Err(problem) = tied {
            self.entries.disabled.push(Disabled { key: Some(feature.name.clone()), position, problem });
            return Some(stepwise::OUTCOME_BYTES + tied_bytes);
        }
        let (key, outcomes) = (&feature.name, &feature.outcomes);
        Some(self.entries.add(&Flag { key, position, number, outcomes, path, shares_key: false }) + tied_bytes)
    }
}

impl Steps for FeatureSteps {
    fn step(&mut self, config: Node<'_>) -> Option<usize> {
        match self.stage {
            Stage::Segment(index) => {
                if index == 0 && elements(config, "features", true, &mut self.entries.problems).is_empty() {
                    self.is_refused = !config.value.get("features").is_some_and(Value::is_array);
                    return None;
                }
                let no_problems = &mut Problems::new();
                let problems = if index == 0 { &mut self.entries.problems } else { no_problems };
                let Some(value) = elements(config, "segments", false, problems).get(index) else {
                    self.stage = Stage::Feature(0);
                    return Some(0);
                };
                let list = config.path.field("segments");
                let node = Node { value, path: &list.index(index) };
                self.compiler.patterns.begin_element();
                let segment = self.compiler.segment(node, index, &mut self.entries.problems);
                self.compiled.segments.push(segment);
                self.stage = Stage::Segment(index + 1);
                Some(size(value) + self.compiler.patterns.element_bytes())
            }
            Stage::Feature(index) => {
                let Some(value) = config.value.get("features").and_then(|list| list.get(index)) else {
                    self.entries.reserve(self.compiled.features.len());
                    let revision = config.value.pointer("/meta/revisionId").and_then(Value::as_u64);
                    self.revision = revision.map(|revision| revision.to_string());
                    self.stage = Stage::Entry(0);
                    return Some(0);
                };
                let list = config.path.field("features");
                self.read_feature(Node { value, path: &list.index(index) }, index);
                self.stage = Stage::Feature(index + 1);
                Some(size(value) + self.compiler.patterns.element_bytes())
            }
            Stage::Entry(number) => {
                self.stage = Stage::Entry(number + 1);
                self.add(number, config)
            }
        }
    }

    fn report(&mut self, problems: Problems) {
        self.entries.problems.append(problems);
    }

    fn finish(self: Box<Self>) -> (Compiled, Leftovers) {
        let names = self.names.into_iter().map(drop);
        let leftovers = Leftovers::new(names.chain(self.compiler.segments.into_iter().map(drop)));
        if self.is_refused {
            return (Compiled { snapshot: None, problems: self.entries.problems }, leftovers);
        }
        (self.entries.finish(self.revision, Box::new(self.compiled)), leftovers)
    }
}
