//! `edgesplit schema`: the JSON Schemas that editors complete and check with.

use crate::{native, plugin_config};

/// A document that has a schema.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Document {
    /// The plugin configuration.
    Plugin,
    /// The experiments in the native format.
    Experiments,
}

impl Document {
    /// Its schema, as JSON.
    pub(super) fn schema(self) -> serde_json::Value {
        match self {
            Document::Plugin => plugin_config::schema::schema(),
            Document::Experiments => native::schema::schema(),
        }
    }
}
