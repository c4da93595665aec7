//! `edgesplit explain`: the decisions for one visitor step by step, or the cache keys of a page.

mod args;
mod identity;
mod keys;
mod visitor;

pub(super) use args::Arguments;
pub(super) use keys::count as key_count;

use crate::args::now_ms;
use crate::config::Setting;
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::output::{self, STRONG};
use visitor::Explanation;

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let Some(setting) = Setting::read(&args.config.setting)? else { return Ok(EXIT_PROBLEMS) };
    let Some(config) = setting.config(&args.config)? else { return Ok(EXIT_PROBLEMS) };
    if let Some(path) = args.route.iter().chain(&args.path).find(|path| path.is_completed) {
        anstream::eprintln!("{STRONG}note{STRONG:#}: the path has no leading slash; this is for {}", path.text);
    }
    match &args.route {
        Some(route) => {
            let page = keys::Page { path: &route.text, host: args.host.as_deref(), method: &args.method };
            let keys = keys::Keys::of(&config.snapshot, &page, config.options.budget);
            if args.json { output::print_json(&keys.to_json())? } else { output::print(&keys.to_text())? }
        }
        None => {
            let now_ms = args.now.unwrap_or_else(now_ms);
            let explanation = Explanation::new(&config.snapshot, setting.plugin(), args, now_ms)?;
            if args.json {
                output::print_json(&explanation.to_json())?;
            } else {
                output::print(&explanation.to_text())?;
            }
        }
    }
    Ok(EXIT_OK)
}

#[cfg(test)]
mod tests {
    use edgesplit_engine::snapshot::Snapshot;
    use edgesplit_formats::native;
    use serde_json::{Value, json};

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
