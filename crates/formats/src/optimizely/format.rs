//! Optimizely in the table of formats.

#[cfg(not(target_arch = "wasm32"))]
use super::audience::attribute_name;
use super::compile::draft::Draft;
use super::datafile::{Datafile, VERSION};
use super::impression::{self, BATCH_TAIL, EU_HOST, Event, HOST};
#[cfg(not(target_arch = "wasm32"))]
use crate::attribute_use::{self, AttributeUse};
use crate::diagnostics::{Node, Problems};
use crate::events::{EventKind, EventWire, VendorEvent, write_joined};
use crate::flags::{Flag, FlagEntries};
use crate::format::{Compiled, Format, Options};
use crate::stepwise::{Leftovers, Steps};
use edgesplit_engine::flag::FlagEvaluator;
use serde_json::Value;

/// Optimizely datafiles, version 4.
#[derive(Debug)]
pub struct Optimizely;

impl Format for Optimizely {
    fn name(&self) -> &'static str {
        "optimizely"
    }

    fn recognises(&self, document: &Value) -> bool {
        document.get("version").and_then(Value::as_str) == Some(VERSION) && document.get("featureFlags").is_some()
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn attribute_uses(&self, config: Node<'_>, each: &mut dyn FnMut(&AttributeUse<'_>)) {
        for list in ["typedAudiences", "audiences"] {
            attribute_use::elements(config, list, |audience| audience_attributes(audience, each));
        }
    }

    fn steps(&self, options: &Options) -> Box<dyn Steps> {
        Box::new(DatafileSteps::new(options))
    }

    fn event_wire(&self) -> Option<&dyn EventWire> {
        Some(self)
    }
}

/// Passes the attributes of the conditions of an audience, which may be JSON in a string, to `each`.
#[cfg(not(target_arch = "wasm32"))]
fn audience_attributes(audience: Node<'_>, each: &mut dyn FnMut(&AttributeUse<'_>)) {
    let path = audience.path.field("conditions");
    let conditions = audience.value.get("conditions").cloned().unwrap_or_default();
    let parsed = conditions.as_str().map(|text| serde_json::from_str(text).unwrap_or_default());
    let mut left = vec![parsed.unwrap_or(conditions)];
    while let Some(condition) = left.pop() {
        match condition {
            Value::Array(conditions) => left.extend(conditions),
            condition => {
                let name = condition.get("name").and_then(Value::as_str).filter(|name| !name.starts_with('$'));
                let Some(written) = name else { continue };
                let name = attribute_name(written);
                each(&AttributeUse { path: &path, written, name, check: Some(&Value::Null) });
            }
        }
    }
}

/// Compiles a datafile, then adds its flags one by one.
struct DatafileSteps {
    /// Becomes the datafile.
    draft: Option<Draft>,
    datafile: Option<Datafile>,
    /// The next flag to add.
    next: usize,
    entries: FlagEntries,
    leftovers: Leftovers,
    /// The host that the plugin configuration sends events to.
    events_host: Option<String>,
}

impl DatafileSteps {
    fn new(options: &Options) -> DatafileSteps {
        DatafileSteps {
            draft: Some(Draft::default()),
            datafile: None,
            next: 0,
            entries: FlagEntries::new(options),
            leftovers: Leftovers::default(),
            events_host: options.events_host.clone(),
        }
    }
}

impl Steps for DatafileSteps {
    fn step(&mut self, config: Node<'_>) -> Option<usize> {
        if let Some(draft) = &mut self.draft {
            if let Some(bytes) = draft.step(config, &mut self.entries.problems) {
                return Some(bytes);
            }
            (self.datafile, self.leftovers) = self.draft.take().map(Draft::finish).unwrap_or_default();
            let datafile = self.datafile.as_ref()?;
            self.entries.reserve(datafile.flags.len());
            if datafile.project.is_eu && self.events_host.as_deref() != Some(EU_HOST) {
                let message =
                    format!("events of this project belong to {EU_HOST}: set `events.cluster` and `authority`");
                self.entries.problems.warning(&config.path.field("region"), message);
            }
        }
        let flag = self.datafile.as_ref()?.flags.get(self.next)?;
        let flag_count = config.value.get("featureFlags").and_then(Value::as_array).map_or(0, Vec::len);
        let (flags, experiments) = (config.path.field("featureFlags"), config.path.field("experiments"));
        let position = flag.position;
        let path = if position < flag_count { flags.index(position) } else { experiments.field(&flag.key) };
        let (key, outcomes) = (&flag.key, flag.outcomes());
        let flag = Flag { key, position, number: self.next, outcomes, path, shares_key: false };
        self.next += 1;
        Some(self.entries.add(&flag))
    }

    fn report(&mut self, problems: Problems) {
        self.entries.problems.append(problems);
    }

    fn finish(mut self: Box<Self>) -> (Compiled, Leftovers) {
        let Some(mut datafile) = self.datafile else {
            return (Compiled { snapshot: None, problems: self.entries.problems }, self.leftovers);
        };
        let revision = Some(datafile.project.revision.clone()).filter(|revision| !revision.is_empty());
        self.entries.disabled.append(&mut datafile.disabled);
        (self.entries.finish(revision, Box::new(datafile)), self.leftovers)
    }
}

impl EventWire for Optimizely {
    fn write(&self, event: &VendorEvent<'_>, evaluator: Option<&dyn FlagEvaluator>, out: &mut Vec<u8>) -> bool {
        let Some(datafile) = evaluator.and_then(|evaluator| evaluator.downcast_ref::<Datafile>()) else {
            return false;
        };
        let project = &datafile.project;
        let kind = match event.kind {
            EventKind::Exposure(exposure) => exposure.outcome.and_then(|(flag, outcome)| {
                datafile.flags.get(flag)?.impression(outcome).map(impression::EventKind::Impression)
            }),
            EventKind::Goal(key) => project.conversion_id(key).map(|id| impression::EventKind::Conversion { id, key }),
        };
        let Some(kind) = kind else { return false };
        let names = event.aliases.iter().map(|(alias, _)| alias.as_str());
        let attributes = project.visitor_attributes(event, names);
        let (user_id, uuid, time_ms) = (event.unit, event.id, event.time_ms);
        Event { user_id, attributes: &attributes, kind, uuid, time_ms }.write(out);
        true
    }

    fn head(&self, evaluator: &dyn FlagEvaluator) -> Vec<u8> {
        let mut head = Vec::new();
        if let Some(datafile) = evaluator.downcast_ref::<Datafile>() {
            datafile.project.write_batch_head(&mut head);
        }
        head
    }

    fn host(&self, head: &[u8], configured: &str) -> Option<&'static str> {
        (configured == HOST && impression::is_eu(head)).then_some(EU_HOST)
    }

    fn write_body(&self, head: &[u8], events: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
        write_joined(head, events, BATCH_TAIL, out);
    }

    fn needs_own_config(&self) -> bool {
        true
    }

    fn is_per_flag(&self) -> bool {
        true
    }
}
