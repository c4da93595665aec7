//! `edgesplit validate`: reports every problem of configs and plugin configurations.

use crate::config::{Compilation, Setting, SettingArguments};
use crate::document::{Document, has_error};
use crate::drawing::Source;
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::{Input, input};
use crate::output::{self, BAD, GOOD, QUIET, print_problems};
use crate::plugin::Plugin;
use edgesplit_engine::printable::printable;
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::diagnostics::{Problems, Severity};
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
    problems: Problems,
    /// None for a plugin configuration.
    contents: Option<Contents>,
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
    let plugin = args.setting.plugin.read()?;
    let mut setting = Setting::new(args.setting.format, plugin);
    let plugin_report = setting.plugin.as_ref().map(|plugin| Report::of_plugin(plugin, &setting));
    if plugin_report.as_ref().is_some_and(|report| has_error(&report.problems)) {
        setting.plugin = None;
    }
    let reports: Vec<Report> = documents.into_iter().flat_map(|document| reports(document, &setting)).collect();

    let is_bad =
        |report: &Report| has_error(&report.problems) || args.strict && report.problems.iter().next().is_some();
    let code = if plugin_report.iter().chain(&reports).any(is_bad) { EXIT_PROBLEMS } else { EXIT_OK };
    match (plugin_report, args.json) {
        (plugin, true) => print_json(plugin.as_ref(), &reports)?,
        (Some(plugin), false) if reports.is_empty() => plugin.print(false)?,
        (plugin, false) => {
            if let Some(plugin) = plugin {
                print_problems(&plugin.document.name, &plugin.problems);
            }
            for report in &reports {
                report.print(reports.len() > 1)?;
            }
        }
    }
    Ok(code)
}

/// The reports on `document`: one for a config, or one for each plugin configuration in it.
fn reports(document: Document, setting: &Setting) -> Vec<Report> {
    let is_config = setting.format.is_some() || edgesplit_formats::recognise(&document.value).is_some();
    if !is_config && Plugin::is_in(&document) {
        return Plugin::all(document)
            .into_iter()
            .filter_map(|plugin| {
                let setting = Setting::new(None, Some(plugin));
                setting.plugin.as_ref().map(|plugin| Report::of_plugin(plugin, &setting))
            })
            .collect();
    }
    let compilation = setting.compile(&document);
    let contents = Some(Contents::of(&compilation));
    vec![Report { document: Arc::new(document), problems: compilation.problems, contents }]
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
    /// The report on a plugin configuration and the config inside it.
    fn of_plugin(plugin: &Plugin, setting: &Setting) -> Report {
        let mut problems = plugin.problems.clone();
        // An empty document stands in for one that the service supplies.
        let is_given =
            |config: &PluginConfig| config.experiments.inline.as_ref().is_some_and(|inline| *inline != json!({}));
        let inline = plugin.config.as_ref().is_some_and(is_given).then(|| setting.compile_inline()).flatten();
        let contents = inline.as_ref().map(Contents::of);
        if let Some(inline) = inline {
            problems.append(inline.problems);
        }
        Report { document: Arc::clone(&plugin.document), problems, contents }
    }

    /// Prints the problems, and how much of the document the filter would use.
    fn print(&self, with_name: bool) -> Result<(), String> {
        let name = printable(&self.document.name);
        if output::is_terminal() {
            let source = Source::new(&self.document);
            let drawn = self.problems.iter().map(|problem| format!("{}\n\n", source.draw(problem)));
            output::print(&drawn.collect::<String>())?;
        } else {
            let lines = self.problems.iter().map(|problem| {
                let file = if with_name { format!("{name}: ") } else { String::new() };
                let kind = if problem.severity == Severity::Warning { "warning: " } else { "" };
                format!("{file}{kind}{}\n", printable(&problem.to_string()))
            });
            output::print(&lines.collect::<String>())?;
        }
        let style = if has_error(&self.problems) { BAD } else { GOOD };
        match &self.contents {
            None if has_error(&self.problems) => {
                anstream::eprintln!("{name}: {style}plugin configuration refused{style:#}: the filter would not start");
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
        Ok(())
    }

    fn problems_json(&self) -> Vec<Value> {
        let source = Source::new(&self.document);
        self.problems.iter().map(|problem| source.to_json(problem)).collect()
    }

    fn to_json(&self, plugin_problems: &[Value]) -> Value {
        let contents = self.contents.as_ref();
        json!({
            "problems": self.problems_json(),
            "plugin_problems": plugin_problems,
            "refused": contents.map_or_else(|| has_error(&self.problems), |contents| contents.is_refused),
            "experiments": contents.map_or(0, |contents| contents.experiments),
            "disabled": contents.map_or(0, |contents| contents.disabled),
            "goals": contents.map_or(0, |contents| contents.goals),
        })
    }
}

/// Prints an object for one document, or a list of them for several.
fn print_json(plugin: Option<&Report>, reports: &[Report]) -> Result<(), String> {
    let plugin_problems = plugin.map(Report::problems_json).unwrap_or_default();
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
