//! `edgesplit schema`: the JSON Schemas that editors complete and check with.

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
    pub(super) fn schema(self) -> &'static str {
        match self {
            Document::Plugin => include_str!("../../docs/schema/plugin.schema.json"),
            Document::Experiments => include_str!("../../docs/schema/experiments.schema.json"),
        }
    }
}
