//! `edgesplit explain`: the decisions for one visitor step by step, or the cache keys of a page.

mod keys;
mod visitor;

pub(super) use keys::count as key_count;

use super::{EXIT_OK, EXIT_PROBLEMS, now_ms, options, output, print_problems, read};
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::FormatRef;
use serde_json::Value;
use std::path::PathBuf;

/// The arguments of `edgesplit explain`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("page or visitor").args(["route", "id", "path"]).required(true).multiple(true))]
pub(super) struct Arguments {
    /// The format of the config. Default: the format in the plugin configuration, else native.
    #[arg(long, value_parser = crate::format_parser())]
    format: Option<FormatRef>,
    /// The experiment config.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A plugin configuration (JSON) with the sources of ids and attributes, consent, bots, paths and the cache-key budget.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// List the cache keys of this path.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["id", "path"])]
    route: Option<String>,
    /// The visitor's id.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The path of the visitor's request, with its query.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The host. Default for --route: any.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The method.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// A header of the visitor's request.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = member)]
    headers: Vec<(String, String)>,
    /// A cookie of the visitor's request.
    #[arg(long = "cookie", value_name = "NAME=VALUE", value_parser = member)]
    cookies: Vec<(String, String)>,
    /// Attributes of the visitor, with their types: a JSON object.
    #[arg(long, value_name = "JSON", value_parser = object)]
    attributes: Option<Value>,
    /// The time of the decisions (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME", value_parser = super::moment_ms)]
    now: Option<i64>,
    /// Print JSON: a visitor's decisions as `evaluate` does, with their steps.
    #[arg(long)]
    json: bool,
}

fn member(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

fn object(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.is_object() { Ok(value) } else { Err("expected a JSON object".to_owned()) }
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let plugin = match &args.plugin {
        None => None,
        Some(file) => match PluginConfig::parse(&read(file)?) {
            Ok(plugin) => Some(plugin),
            Err(problems) => {
                print_problems(file, &problems);
                return Ok(EXIT_PROBLEMS);
            }
        },
    };
    let options = options(args.format, plugin.as_ref());
    let compiled = edgesplit_formats::compile_bytes(&read(&args.config)?, &options);
    print_problems(&args.config, &compiled.problems);
    let Some(snapshot) = compiled.snapshot else { return Ok(EXIT_PROBLEMS) };
    match &args.route {
        Some(route) => {
            let page = keys::Page { path: route, host: args.host.as_deref(), method: &args.method };
            let keys = keys::Keys::of(&snapshot, &page, options.budget);
            if args.json { output::print_json(&keys.to_json())? } else { output::print(&keys.to_text())? }
        }
        None => {
            let now_ms = args.now.unwrap_or_else(now_ms);
            let answer = visitor::explain(&snapshot, plugin.as_ref(), args, now_ms)?;
            if args.json {
                output::print_json(&visitor::to_json(&answer))?;
            } else {
                output::print(&visitor::to_text(&answer))?;
            }
        }
    }
    Ok(EXIT_OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgesplit_engine::snapshot::Snapshot;
    use edgesplit_formats::native;
    use serde_json::json;

    pub(super) fn snapshot(experiments: Value) -> Snapshot {
        let value = json!({"schema": 1, "holdout": {"key": "h", "share": 1000}, "experiments": experiments});
        let compiled = native::compile(&value, 1 << 20);
        let problems: Vec<String> = compiled.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [""; 0]);
        compiled.snapshot.unwrap()
    }

    pub(super) fn with(key: &str, more: Value) -> Value {
        let mut experiment = json!({"key": key, "state": "running", "variants": [
            {"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]});
        experiment.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        experiment
    }
}
