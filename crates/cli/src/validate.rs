//! `edgesplit validate`: reports every problem of configs and plugin configurations.

use crate::args::now_ms;
use crate::config::{Compilation, Setting, SettingArguments};
use crate::document::Document;
use crate::drawing::Source;
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::{Input, input};
use crate::finding::{Finding, Subject, print_findings};
use crate::lint::lint;
use crate::output::{self, BAD, GOOD, QUIET};
use crate::plugin::Plugin;
use edgesplit_engine::printable::printable;
use edgesplit_filter::plugin_config::NO_IDENTITY;
use edgesplit_formats::diagnostics::Path;
use serde_json::{Value, json};
use std::sync::Arc;

/// The arguments of `edgesplit validate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    setting: SettingArguments,
    /// Exit with 1 for warnings too.
    #[arg(long)]
    strict: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Experiment configs, as with FILE.
    #[arg(long = "config", value_name = "FILE", value_parser = input)]
    configs: Vec<Input>,
    /// Experiment configs, plugin configurations, or files with plugin configurations in them: JSON or YAML; `-` for standard
    /// input; files or URLs.
    #[arg(value_name = "FILE", required_unless_present_any = ["configs", "plugin"], value_parser = input)]
    files: Vec<Input>,
}

/// The result for one document.
struct Report {
    document: Arc<Document>,
    /// The path of the plugin configuration, if its document has several.
    place: Option<String>,
    findings: Vec<Finding>,
    /// None for a plugin configuration without experiments.
    contents: Option<Contents>,
    /// Whether it is a plugin configuration with which the filter does not start.
    is_plugin_refused: bool,
    /// Whether only the native module accepts it.
    needs_native: bool,
}

/// The contents of a config.
struct Contents {
    is_refused: bool,
    experiments: usize,
    disabled: usize,
    goals: usize,
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let documents = args.configs.iter().chain(&args.files).map(Document::read).collect::<Result<Vec<_>, _>>()?;
    let mut setting = Setting::new(args.setting.format, args.setting.plugin.read()?).with_fixed_format();
    let mut plugin = setting.plugin.as_ref().map(|plugin| Report::of_plugin(plugin, &setting, documents.is_empty()));
    if plugin.as_ref().is_some_and(Report::has_error) {
        setting.plugin = None;
    }
    let mut reports = Vec::new();
    for document in documents {
        if args.setting.format.is_none() && !is_config(&document) && Plugin::is_in(&document) {
            let plugins = Plugin::all(document);
            let several = plugins.len() > 1;
            reports.extend(plugins.into_iter().filter_map(|plugin| {
                let setting = Setting::new(None, Some(plugin)).with_fixed_format();
                let plugin = setting.plugin.as_ref()?;
                Some(Report {
                    place: several.then(|| plugin.path.clone()),
                    ..Report::of_plugin(plugin, &setting, true)
                })
            }));
            continue;
        }
        let compilation = setting.compile(&document);
        if let Some(plugin) = &mut plugin {
            plugin.findings.extend(identity(&setting, &compilation));
        }
        let findings = findings(&compilation, &document.value, &setting, false);
        let contents = Some(Contents::of(&compilation));
        let document = Arc::new(document);
        let place = None;
        reports.push(Report { document, place, findings, contents, is_plugin_refused: false, needs_native: false });
    }
    let is_bad = |report: &Report| report.has_error() || args.strict && !report.findings.is_empty();
    let code = if plugin.iter().chain(&reports).any(is_bad) { EXIT_PROBLEMS } else { EXIT_OK };
    if args.json {
        print_json(plugin.as_ref(), &reports)?;
        return Ok(code);
    }
    if let Some(plugin) = &plugin {
        match reports.is_empty() {
            true => plugin.print(false)?,
            false => print_findings(&plugin.document.name, &plugin.findings),
        }
    }
    // A single document needs no name.
    reports.iter().try_for_each(|report| report.print(reports.len() > 1))?;
    Ok(code)
}

/// Whether `document` has the shape of an experiment config.
fn is_config(document: &Document) -> bool {
    edgesplit_formats::recognise(&document.value).is_some()
}

/// The problems of the config `value`, and the warnings about it.
pub(crate) fn findings(compilation: &Compilation, value: &Value, setting: &Setting, is_inline: bool) -> Vec<Finding> {
    let subject = match (&compilation.config, is_inline) {
        (Some(config), _) => Subject::Config(&config.snapshot.disabled),
        (None, true) => Subject::Plugin,
        (None, false) => Subject::RefusedConfig,
    };
    let mut findings: Vec<Finding> =
        compilation.problems.iter().map(|problem| Finding::new(problem, subject)).collect();
    if let Some(config) = &compilation.config {
        findings.extend(lint(value, config, setting.plugin(), now_ms()));
    }
    findings.into_iter().map(|finding| finding.below(&compilation.prefix)).collect()
}

/// The warning if the plugin configuration identifies no visitor of the config.
fn identity(setting: &Setting, compilation: &Compilation) -> Option<Finding> {
    let snapshot = &compilation.config.as_ref()?.snapshot;
    setting.plugin()?.identity_problem(snapshot)?;
    setting.plugin.as_ref().map(no_identity)
}

fn no_identity(plugin: &Plugin) -> Finding {
    let effect = "no visitor is in an experiment";
    let warning = Finding::warning(&Path::Root, NO_IDENTITY.to_owned(), effect);
    warning.below(&plugin.path_of("visitor"))
}

impl Contents {
    fn of(compilation: &Compilation) -> Contents {
        let snapshot = compilation.config.as_ref().map(|config| &config.snapshot);
        Contents {
            is_refused: snapshot.is_none(),
            experiments: snapshot.map_or(0, |snapshot| snapshot.experiments.len()),
            disabled: snapshot.map_or(0, |snapshot| snapshot.disabled.len()),
            goals: snapshot.map_or(0, |snapshot| snapshot.goals.len()),
        }
    }
}

impl Report {
    /// The report on a plugin configuration and the config inside it. `is_alone` if there is no other config.
    fn of_plugin(plugin: &Plugin, setting: &Setting, is_alone: bool) -> Report {
        let mut findings: Vec<Finding> =
            plugin.problems.iter().map(|problem| Finding::new(problem, Subject::Plugin)).collect();
        let mut contents = None;
        if let Some(config) = &plugin.config {
            let inline = config.experiments.inline.as_ref();
            // An empty document stands in for one that the service supplies.
            let inline = inline.filter(|inline| is_alone || **inline != json!({}));
            if let (Some(inline), Some(compilation)) = (inline, setting.compile_inline()) {
                contents = Some(Contents::of(&compilation));
                findings.extend(identity(setting, &compilation));
                findings.extend(self::findings(&compilation, inline, setting, true));
            } else if is_alone && config.visitor.id.is_empty() && config.visitor.mint.is_none() {
                findings.push(no_identity(plugin));
            }
        }
        let events = plugin.config.as_ref().and_then(|config| config.events.as_ref());
        let needs_native = events.is_some_and(|events| events.outbox.spool.is_some());
        let is_plugin_refused = plugin.config.is_none() || contents.as_ref().is_some_and(|inline| inline.is_refused);
        let document = Arc::clone(&plugin.document);
        Report { document, place: None, findings, contents, is_plugin_refused, needs_native }
    }

    fn has_error(&self) -> bool {
        self.findings.iter().any(Finding::is_error)
    }

    /// Prints the findings, and how much of the document the filter would use.
    fn print(&self, with_name: bool) -> Result<(), String> {
        let name = printable(&self.document.name);
        if output::is_terminal() {
            let source = Source::new(&self.document);
            let drawn = self.findings.iter().map(|finding| format!("{}\n\n", source.draw(finding)));
            output::print(&drawn.collect::<String>())?;
        } else {
            let file = if with_name { format!("{name}: ") } else { String::new() };
            let lines = self.findings.iter().map(|finding| format!("{file}{}\n", printable(&finding.to_string())));
            output::print(&lines.collect::<String>())?;
        }
        let place = self.place.as_deref().map(|path| format!(": {}", printable(path))).unwrap_or_default();
        let name = format!("{name}{place}");
        let style = if self.has_error() { BAD } else { GOOD };
        match &self.contents {
            _ if self.is_plugin_refused => {
                anstream::eprintln!("{name}: {style}plugin configuration refused{style:#}: the filter would not start");
            }
            None if self.has_error() => {
                anstream::eprintln!("{name}: {style}plugin configuration with errors{style:#}: the filter would start");
            }
            None => anstream::eprintln!("{name}: {style}plugin configuration accepted{style:#}"),
            Some(Contents { is_refused: true, .. }) => {
                anstream::eprintln!(
                    "{name}: {style}refused as a whole{style:#}: the last good config would stay in force"
                );
            }
            Some(Contents { experiments, disabled, goals, .. }) => anstream::eprintln!(
                "{name}: {style}{} in force, {disabled} disabled{style:#}{QUIET}, {}{QUIET:#}",
                output::counted(*experiments as u64, "experiment", "experiments"),
                output::counted(*goals as u64, "goal", "goals")
            ),
        }
        if self.needs_native {
            anstream::eprintln!(
                "{name}: note: events.outbox.spool needs the native module; the wasm module refuses it"
            );
        }
        Ok(())
    }

    fn findings_json(&self) -> Vec<Value> {
        let source = Source::new(&self.document);
        self.findings.iter().map(|finding| source.to_json(finding)).collect()
    }

    fn to_json(&self, plugin_problems: &[Value]) -> Value {
        let contents = self.contents.as_ref();
        json!({
            "problems": self.findings_json(),
            "plugin_problems": plugin_problems,
            "refused": self.is_plugin_refused || contents.is_some_and(|contents| contents.is_refused),
            "experiments": contents.map_or(0, |contents| contents.experiments),
            "disabled": contents.map_or(0, |contents| contents.disabled),
            "goals": contents.map_or(0, |contents| contents.goals),
        })
    }
}

/// Prints an object for one document, or a list of them for several.
fn print_json(plugin: Option<&Report>, reports: &[Report]) -> Result<(), String> {
    let plugin_problems = plugin.map(Report::findings_json).unwrap_or_default();
    match (plugin, reports) {
        (Some(plugin), []) => output::print_json(&plugin.to_json(&[])),
        (_, [report]) => output::print_json(&report.to_json(&plugin_problems)),
        _ => {
            let with_name = |report: &Report| {
                let mut json = report.to_json(&plugin_problems);
                if let Some(members) = json.as_object_mut() {
                    members.insert("file".to_owned(), json!(report.document.name));
                }
                json
            };
            output::print_json(&reports.iter().map(with_name).collect())
        }
    }
}
