//! The native format in the table of formats.

use super::compilation::Compilation;
use super::document::{SCHEMA, WholeDocument};
#[cfg(not(target_arch = "wasm32"))]
use crate::attribute_use::{self, AttributeUse};
use crate::diagnostics::Node;
use crate::format::{self, Compiled, Format, Options};
use crate::stepwise::Steps;
#[cfg(not(target_arch = "wasm32"))]
use edgesplit_engine::attribute::AttributeName;
use serde_json::Value;

/// Edgesplit's own format, schema 1.
#[derive(Debug)]
pub struct Native;

impl Format for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn recognises(&self, document: &Value) -> bool {
        let has = |name: &str| document.get(name).is_some();
        document.get("schema").and_then(Value::as_u64) == Some(SCHEMA)
            || document.get("experiments").is_some_and(Value::is_array)
                && !["features", "encryptedFeatures", "version"].into_iter().any(has)
    }

    fn begin(&self, text: Vec<u8>, options: &Options) -> Box<dyn format::Compilation> {
        Box::new(Compilation::new(text, options))
    }

    fn steps(&self, options: &Options) -> Box<dyn Steps> {
        WholeDocument::begin(options)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn attribute_uses(&self, config: Node<'_>, each: &mut dyn FnMut(&AttributeUse<'_>)) {
        attribute_use::elements(config, "experiments", |experiment| {
            attribute_use::of_unit(experiment, "unit", AttributeName::parse, each);
            attribute_use::of_condition(experiment, "audience", AttributeName::parse, each);
        });
    }

    fn has_routes(&self) -> bool {
        true
    }
}

/// Compiles the document `value` without a plugin configuration. `budget` bounds the cache-key combinations of a route.
pub fn compile(value: &Value, budget: u64) -> Compiled {
    crate::compile_at(Node::root(value), &Options::new(&Native, budget))
}
