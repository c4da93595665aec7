//! The experiment config of a command, compiled.

use crate::document::{Document, below};
use crate::files::{Input, input};
use crate::output::print_problems;
use crate::plugin::{Plugin, PluginArguments};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use edgesplit_engine::snapshot::Snapshot;
use edgesplit_filter::plugin_config::{self, PluginConfig};
use edgesplit_formats::diagnostics::{Path, Problems};
use edgesplit_formats::{FormatRef, NATIVE, Options};
use serde_json::Value;

/// The arguments of commands that read one config.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct ConfigArguments {
    /// The experiment config: JSON or YAML; `-` for standard input; a file or a URL. Not needed if the plugin configuration
    /// has `experiments.inline`.
    #[arg(long, value_name = "FILE", value_parser = input)]
    pub(crate) config: Option<Input>,
    /// The experiment config, as with `--config`.
    #[arg(value_name = "FILE", conflicts_with = "config", value_parser = input)]
    pub(crate) file: Option<Input>,
    #[command(flatten)]
    pub(crate) setting: SettingArguments,
}

/// The arguments that determine how a config is read.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct SettingArguments {
    /// The format of the config. Default: the format in the plugin configuration, else the one that fits the config's shape.
    #[arg(long, value_parser = format_parser())]
    pub(crate) format: Option<FormatRef>,
    #[command(flatten)]
    pub(crate) plugin: PluginArguments,
}

/// The message of a command without a config.
pub(crate) const NO_CONFIG: &str = "no config: give a FILE, --config FILE, or a --plugin with experiments.inline";

impl ConfigArguments {
    /// The file of the config.
    pub(crate) fn input(&self) -> Option<&Input> {
        self.config.as_ref().or(self.file.as_ref())
    }
}

/// Reads the name of a format.
pub(crate) fn format_parser() -> impl TypedValueParser<Value = FormatRef> {
    PossibleValuesParser::new(edgesplit_formats::formats().map(|format| format.name()))
        .try_map(|name| edgesplit_formats::find(&name).ok_or("no such format"))
}

/// The plugin configuration and the format for a command's configs.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) format: Option<FormatRef>,
    pub(crate) plugin: Option<Plugin>,
    has_limits: bool,
    /// Whether a config is read only in the format in which the filter would read it.
    is_format_fixed: bool,
}

impl Setting {
    pub(crate) fn new(format: Option<FormatRef>, plugin: Option<Plugin>) -> Setting {
        Setting { format, plugin, has_limits: true, is_format_fixed: false }
    }

    /// The setting for configs that are checked as the filter reads them.
    pub(crate) fn with_fixed_format(self) -> Setting {
        Setting { is_format_fixed: true, ..self }
    }

    /// Reads the plugin configuration of the arguments. If it is refused, prints its problems and returns none.
    pub(crate) fn read(args: &SettingArguments) -> Result<Option<Setting>, String> {
        let plugin = args.plugin.read()?;
        let is_refused = plugin.as_ref().is_some_and(Plugin::print_problems);
        Ok((!is_refused).then(|| Setting::new(args.format, plugin)))
    }

    /// The setting for configs whose experiments all have to be in force, however many cache keys they have.
    pub(crate) fn without_limits(self) -> Setting {
        Setting { has_limits: false, ..self }
    }

    pub(crate) fn plugin(&self) -> Option<&PluginConfig> {
        self.plugin.as_ref()?.config.as_ref()
    }

    /// The options for compiling the config `value`. Reports if the filter would read it in another format.
    fn options(&self, value: &Value, problems: &mut Problems) -> Options {
        let recognised = edgesplit_formats::recognise(value);
        let (Some(plugin), Some(config)) = (&self.plugin, self.plugin()) else {
            return plugin_config::default_options(self.format.or(recognised).unwrap_or(NATIVE));
        };
        let mut options = config.compile_options();
        let configured = options.format;
        options.format = self.format.unwrap_or(configured);
        if let Some(recognised) = recognised.filter(|recognised| self.format.is_none() && *recognised != configured) {
            let (name, configured) = (recognised.name(), configured.name());
            let message = format!(
                "this is a config of the format {name}, but experiments.format of the plugin configuration is {configured}"
            );
            if plugin.names_format() {
                problems.error(&Path::Root, message);
            } else if self.is_format_fixed {
                problems.error(&Path::Root, message + " by default: set it to " + name);
            } else {
                problems.warning(&Path::Root, message + " by default: the filter would refuse it");
                options.format = recognised;
            }
        }
        options
    }

    /// Reads and compiles the config of the arguments, and prints its problems. None if it is refused.
    pub(crate) fn config(&self, args: &ConfigArguments) -> Result<Option<Config>, String> {
        Ok(self.compile_input(args.input())?.printed())
    }

    /// Reads and compiles the config in `input`, else the one inside the plugin configuration.
    pub(crate) fn compile_input(&self, input: Option<&Input>) -> Result<Compilation, String> {
        match input {
            Some(input) => Ok(self.compile(&Document::read(input)?)),
            None => self.compile_inline().ok_or_else(|| NO_CONFIG.to_owned()),
        }
    }

    /// Compiles `document`.
    pub(crate) fn compile(&self, document: &Document) -> Compilation {
        if document.root.is_none() {
            let (name, problems) = (document.name.clone(), document.problems.clone());
            return Compilation { name, prefix: String::new(), problems, config: None };
        }
        self.compile_value(&document.name, &document.value, document.json(), document.problems.clone())
    }

    /// Compiles the config inside the plugin configuration, if it has one.
    pub(crate) fn compile_inline(&self) -> Option<Compilation> {
        let plugin = self.plugin.as_ref()?;
        let inline = plugin.config.as_ref()?.experiments.inline.as_ref()?;
        let name = &plugin.document.name;
        let compilation = self.compile_value(name, inline, inline.to_string().into_bytes(), Problems::new());
        Some(Compilation { prefix: plugin.path_of("experiments.inline"), ..compilation })
    }

    fn compile_value(&self, name: &str, value: &Value, json: Vec<u8>, mut problems: Problems) -> Compilation {
        let mut options = self.options(value, &mut problems);
        if !self.has_limits {
            (options.budget, options.assignments_bytes_max) = (u64::MAX, usize::MAX);
        }
        let compiled = edgesplit_formats::compile_bytes(&json, &options);
        problems.append(compiled.problems);
        let config = compiled.snapshot.map(|snapshot| Config { json, options, snapshot });
        Compilation { name: name.to_owned(), prefix: String::new(), problems, config }
    }
}

/// The result of compiling a config.
#[derive(Debug)]
pub(crate) struct Compilation {
    /// The name of its file.
    name: String,
    /// The path of the config in the file; empty if it is the whole file.
    pub(crate) prefix: String,
    pub(crate) problems: Problems,
    /// None if it is refused as a whole.
    pub(crate) config: Option<Config>,
}

impl Compilation {
    /// Prints the problems. A disabled experiment is reported, but the others are in force.
    pub(crate) fn printed(self) -> Option<Config> {
        print_problems(&self.name, &below(&self.prefix, &self.problems));
        self.config
    }
}

/// A compiled config.
#[derive(Debug)]
pub(crate) struct Config {
    /// The config as JSON text.
    pub(crate) json: Vec<u8>,
    pub(crate) options: Options,
    pub(crate) snapshot: Snapshot,
}

impl Config {
    /// A function that compiles the config again. A snapshot belongs to one thread, so each thread compiles its own.
    pub(crate) fn compiler(&self) -> impl Fn() -> Snapshot + Sync + '_ {
        let Config { json, options, snapshot: _ } = self;
        || edgesplit_formats::compile_bytes(json, options).snapshot.unwrap_or_default()
    }
}
