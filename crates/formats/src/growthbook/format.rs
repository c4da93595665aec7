//! GrowthBook in the table of formats.

use super::compile::Draft;
use super::ingest;
use super::payload::Payload;
use super::sticky::COOKIE_PREFIX;
#[cfg(not(target_arch = "wasm32"))]
use crate::attribute_use::{self, AttributeUse};
use crate::diagnostics::{Node, Problems};
use crate::events::{EventWire, VendorEvent, write_joined};
use crate::flags::{Flag, FlagEntries};
use crate::format::{Compiled, Format, Options};
use crate::stepwise::{Leftovers, Steps};
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::flag::FlagEvaluator;
use serde_json::{Map, Value};

/// GrowthBook's SDK payloads.
#[derive(Debug)]
pub struct GrowthBook;

impl Format for GrowthBook {
    fn name(&self) -> &'static str {
        "growthbook"
    }

    fn recognises(&self, document: &Value) -> bool {
        document.get("features").is_some_and(Value::is_object)
            || document.get("encryptedFeatures").is_some_and(Value::is_string)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn attribute_uses(&self, config: Node<'_>, each: &mut dyn FnMut(&AttributeUse<'_>)) {
        let mut targeting = |rule: Node<'_>| {
            for unit in ["hashAttribute", "fallbackAttribute"] {
                attribute_use::of_unit(rule, unit, AttributeName::parse_exact, each);
            }
            attribute_use::of_condition(rule, "condition", AttributeName::parse_nested, each);
        };
        let features = config.path.field("features");
        for (key, value) in config.value.get("features").and_then(Value::as_object).into_iter().flatten() {
            attribute_use::elements(Node { value, path: &features.field(key) }, "rules", &mut targeting);
        }
        attribute_use::elements(config, "experiments", &mut targeting);
    }

    fn steps(&self, options: &Options) -> Box<dyn Steps> {
        Box::new(PayloadSteps::new(options))
    }

    fn has_encryption(&self) -> bool {
        true
    }

    fn sticky_cookie_prefix(&self) -> Option<&'static str> {
        Some(COOKIE_PREFIX)
    }

    fn event_wire(&self) -> Option<&dyn EventWire> {
        Some(self)
    }
}

/// Compiles a payload, then adds its features and redirect tests one by one.
struct PayloadSteps {
    /// Becomes the payload.
    draft: Option<Draft>,
    payload: Option<Payload>,
    /// The next feature or redirect test to add.
    next: usize,
    entries: FlagEntries,
    leftovers: Leftovers,
}

impl PayloadSteps {
    fn new(options: &Options) -> PayloadSteps {
        let key = options.decryption_key.as_ref().map(|key| key.text());
        let entries = FlagEntries::new(options);
        let leftovers = Leftovers::default();
        PayloadSteps { draft: Some(Draft::new(key)), payload: None, next: 0, entries, leftovers }
    }
}

impl Steps for PayloadSteps {
    fn step(&mut self, config: Node<'_>) -> Option<usize> {
        if let Some(draft) = &mut self.draft {
            if let Some(bytes) = draft.step(config, &mut self.entries.problems) {
                return Some(bytes);
            }
            (self.payload, self.leftovers) = self.draft.take().map(Draft::finish).unwrap_or_default();
            let flags = self.payload.as_ref().map_or(0, |payload| payload.features.len() + payload.redirects.len());
            self.entries.reserve(flags);
        }
        let payload = self.payload.as_ref()?;
        let number = self.next;
        let features = payload.features.len();
        let (in_features, in_experiments) = (config.path.field("features"), config.path.field("experiments"));
        let flag = match payload.features.get(number) {
            Some(feature) => {
                let (key, position, outcomes) = (&feature.key, feature.position, &feature.outcomes);
                Flag { key, position, number, outcomes, path: in_features.field(key), shares_key: false }
            }
            None => {
                let test = payload.redirects.get(number - features)?;
                let position = payload.feature_count + test.position;
                let (key, path) = (&test.experiment.key, in_experiments.index(test.position));
                // An experiment may have several redirect tests, and a feature of its key.
                Flag { key, position, number, outcomes: &test.outcomes, path, shares_key: true }
            }
        };
        self.next += 1;
        Some(self.entries.add(&flag))
    }

    fn report(&mut self, problems: Problems) {
        self.entries.problems.append(problems);
    }

    fn finish(mut self: Box<Self>) -> (Compiled, Leftovers) {
        let Some(mut payload) = self.payload else {
            return (Compiled { snapshot: None, problems: self.entries.problems }, self.leftovers);
        };
        let revision = payload.revision.take();
        self.entries.disabled.append(&mut payload.disabled);
        (self.entries.finish(revision, Box::new(payload)), self.leftovers)
    }
}

impl EventWire for GrowthBook {
    /// Browsers send it without a preflight request.
    fn content_type(&self) -> &'static str {
        "text/plain"
    }

    fn write(&self, event: &VendorEvent<'_>, _evaluator: Option<&dyn FlagEvaluator>, out: &mut Vec<u8>) -> bool {
        let mut attributes = Map::new();
        let mut add = |name: &str, source: &AttributeName| {
            if let Some(value) = event.text(source) {
                attributes.insert(name.to_owned(), value.into());
            }
        };
        add("id", &AttributeName::Id);
        for (alias, source) in event.aliases {
            add(alias, source);
        }
        let url = event.text(&AttributeName::Url).unwrap_or_default();
        ingest::write(event.kind, &attributes, &url, out);
        true
    }

    fn write_body(&self, _head: &[u8], events: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
        write_joined(b"[", events, b"]", out);
    }
}
