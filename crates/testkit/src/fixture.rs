//! Checks of the documents that tests use: a misspelt field must fail the test, not weaken it.

use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::diagnostics::{Node, Problem};
use edgesplit_formats::{NATIVE, Options, recognise};
use serde_json::Value;

/// Panics unless `configuration` is a valid plugin configuration and its inline experiments have no unknown field.
#[track_caller]
pub fn check_plugin(configuration: &Value) {
    match PluginConfig::from_value(configuration) {
        Ok(plugin) => {
            if let Some(inline) = configuration["experiments"].get("inline") {
                check(inline, &plugin.compile_options());
            }
        }
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
            panic!("the test's plugin configuration is invalid:\n{}\n{configuration:#}", problems.join("\n"));
        }
    }
}

/// Panics if the experiment config `document` has a field that its format does not know. Other problems are allowed: tests
/// disable experiments on purpose.
#[track_caller]
pub fn check_document(document: &Value) {
    check(document, &Options::new(recognise(document).unwrap_or(NATIVE), CACHE_KEYS_MAX));
}

/// The plugin configuration's default.
const CACHE_KEYS_MAX: u64 = 64;

#[track_caller]
fn check(document: &Value, options: &Options) {
    let compiled = edgesplit_formats::compile_at(Node::root(document), options);
    let unknown: Vec<String> = compiled
        .problems
        .iter()
        .filter(|problem| problem.message.contains("unknown field"))
        .map(Problem::to_string)
        .collect();
    assert!(unknown.is_empty(), "the test's experiment config has unknown fields:\n{}", unknown.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(route_field: &str) -> Value {
        json!({"schema": 1, "experiments": [{"key": "a", "state": "running", "variants": [{"key": "b", "weight": 10000}]}],
            "goals": [{"key": "g", "route": {"paths": ["/"]}, route_field: ["2xx"]}]})
    }

    #[test]
    fn correct_fixtures_are_accepted() {
        check_document(&document("statuses"));
        check_plugin(&json!({"experiments": {"inline": document("statuses")}}));
    }

    #[test]
    #[should_panic(expected = "status: unknown field")]
    fn misspelt_field_of_experiments_is_rejected() {
        check_document(&document("status"));
    }

    #[test]
    #[should_panic(expected = "status: unknown field")]
    fn misspelt_field_of_inline_experiments_is_rejected() {
        check_plugin(&json!({"experiments": {"inline": document("status")}}));
    }

    #[test]
    #[should_panic(expected = "refesh: unknown field")]
    fn misspelt_field_of_a_plugin_is_rejected() {
        check_plugin(&json!({"experiments": {"cluster": "c", "refesh": "1s"}}));
    }
}
