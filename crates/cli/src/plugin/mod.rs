//! The plugin configuration of a command: alone in a file, or inside an Envoy configuration or a Kubernetes manifest.

mod finder;

use crate::document::{Document, below, join, refused};
use crate::files::{Input, input};
use crate::output::print_problems;
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::diagnostics::{Path, Problems};
use finder::Found;
use serde_json::Value;
use std::sync::Arc;

/// The arguments that select a plugin configuration.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct PluginArguments {
    /// A plugin configuration (JSON or YAML): alone, or in an Envoy configuration, `WasmPlugin`, `TrafficExtension` or
    /// `EnvoyExtensionPolicy`.
    #[arg(long, value_name = "FILE", value_parser = input)]
    pub(crate) plugin: Option<Input>,
    /// The name of the plugin, or the path of its configuration, if the file of --plugin configures several.
    #[arg(long, value_name = "NAME", requires = "plugin")]
    plugin_name: Option<String>,
}

impl PluginArguments {
    /// Reads the plugin configuration, if one is given.
    pub(crate) fn read(&self) -> Result<Option<Plugin>, String> {
        self.plugin.as_ref().map(|file| Plugin::read(file, self.plugin_name.as_deref())).transpose()
    }
}

/// The problem of a document that configures no plugin.
pub(crate) const NOT_FOUND: &str = "expected a plugin configuration, which has the member `experiments`, or an Envoy \
                                    configuration with one; found neither";

/// A plugin configuration that was read.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) document: Arc<Document>,
    /// The path of the plugin configuration in its document; empty if it is the document.
    pub(crate) path: String,
    pub(crate) value: Value,
    /// Every problem, with its path in the document.
    pub(crate) problems: Problems,
    /// None if it is refused.
    pub(crate) config: Option<PluginConfig>,
}

impl Plugin {
    /// Reads the plugin configuration in `input`: the one called `name`, if there are several.
    pub(crate) fn read(input: &Input, name: Option<&str>) -> Result<Plugin, String> {
        let document = Arc::new(Document::read(input)?);
        let mut found = find(&document);
        // One plugin on several listeners is configured several times.
        found.dedup_by(|a, b| a.name == b.name && a.value == b.value);
        if let Some(name) = name {
            let names = listed(&found);
            found.retain(|one| one.name == name || one.path == name);
            if found.is_empty() {
                return Err(format!("{} has no plugin configuration called {name:?}; it has {names}", document.name));
            }
        }
        match found.pop() {
            Some(one) if found.is_empty() => Ok(Plugin::new(document, one)),
            Some(one) => {
                found.push(one);
                let names = listed(&found);
                Err(format!(
                    "{} has {} plugin configurations: {names}; choose one with --plugin-name",
                    document.name,
                    found.len()
                ))
            }
            None => Ok(Plugin::missing(document)),
        }
    }

    /// Whether `document` is a plugin configuration, or a file with one in it.
    pub(crate) fn is_in(document: &Document) -> bool {
        document.value.get("experiments").is_some_and(Value::is_object) || finder::is_manifest(&document.value)
    }

    /// Every plugin configuration in `document`.
    pub(crate) fn all(document: Document) -> Vec<Plugin> {
        let document = Arc::new(document);
        let found = find(&document);
        if found.is_empty() {
            return vec![Plugin::missing(document)];
        }
        found.into_iter().map(|one| Plugin::new(Arc::clone(&document), one)).collect()
    }

    fn new(document: Arc<Document>, found: Found) -> Plugin {
        let Found { path, value, .. } = found;
        let mut problems = document.problems.clone();
        let value = value.unwrap_or_else(|message| {
            problems.append(below(&path, &refused(message)));
            Value::Null
        });
        if problems.errors() > 0 && value.is_null() {
            return Plugin { document, path, value, problems, config: None };
        }
        let config = PluginConfig::from_value(&value).map_err(|found| problems.append(below(&path, &found))).ok();
        Plugin { document, path, value, problems, config }
    }

    /// The result for a document that configures no plugin.
    fn missing(document: Arc<Document>) -> Plugin {
        let mut problems = document.problems.clone();
        if document.root.is_some() {
            problems.error(&Path::Root, NOT_FOUND);
        }
        Plugin { document, path: String::new(), value: Value::Null, problems, config: None }
    }

    /// The path of a field of the plugin configuration in its document.
    pub(crate) fn path_of(&self, field: &str) -> String {
        join(&self.path, field)
    }

    /// Whether `experiments.format` is given.
    pub(crate) fn names_format(&self) -> bool {
        self.value.pointer("/experiments/format").is_some()
    }

    /// Prints the problems. True if the plugin configuration is refused.
    pub(crate) fn print_problems(&self) -> bool {
        print_problems(&self.document.name, &self.problems);
        self.config.is_none()
    }
}

/// The plugin configurations in `document`. Those of other filters are left out, unless there are no others.
fn find(document: &Document) -> Vec<Found> {
    if document.root.is_none() {
        return Vec::new();
    }
    let is_alone = |value: &Value| value.as_object().is_some_and(|members| members.contains_key("experiments"));
    let whole = || Found { name: String::new(), path: String::new(), value: Ok(document.value.clone()) };
    if is_alone(&document.value) {
        return vec![whole()];
    }
    let found = finder::search(&document.value);
    if found.is_empty() && !finder::is_manifest(&document.value) {
        return vec![whole()];
    }
    let (ours, others): (Vec<Found>, Vec<Found>) =
        found.into_iter().partition(|one| one.value.as_ref().is_ok_and(is_alone));
    if ours.is_empty() { others } else { ours }
}

fn listed(found: &[Found]) -> String {
    let label = |one: &Found| match one.name.as_str() {
        "" => one.path.clone(),
        name => format!("{name} ({})", one.path),
    };
    let names: Vec<String> = found.iter().map(label).collect();
    names.join(", ")
}
