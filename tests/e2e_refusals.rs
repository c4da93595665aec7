//! Wrong plugin configurations: Envoy does not start with them, a running one refuses them, and its log names the field.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::bootstrap::{ConfigForm, EnvoyOptions, Plugin};
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::eventually_eq;
use edgesplit_testkit::module_under_test::is_native;
use serde_json::{Value, json};
use std::path::Path;

fn rows() -> Vec<Value> {
    serde_json::from_str(include_str!("data/plugin_config_refused.json")).unwrap()
}

fn options(configuration: &Value, form: ConfigForm, name: &str) -> EnvoyOptions {
    let plugin = Plugin { form, name: name.to_owned(), ..Plugin::unchecked(configuration.clone()) };
    // Nothing is sent anywhere: no service has to be there.
    EnvoyOptions::new(9).workers(1).plugin(plugin)
}

/// Whether a line of `log` names the row's field and the values expected there.
#[track_caller]
fn assert_tells(log: &str, row: &Value) {
    let (field, expected) = (row["field"].as_str().unwrap(), row["message"].as_str().unwrap());
    let place = if field.is_empty() { String::new() } else { format!("{field}: ") };
    let start = format!("edgesplit: plugin configuration: {place}");
    let is_logged = log.lines().any(|line| line.contains(&start) && line.contains(expected));
    assert!(is_logged, "{}: {start:?} … {expected:?} is not in the log:\n{log}", row["name"]);
}

fn listener(configuration: &Value, name: &str) -> Value {
    let mut bootstrap = options(configuration, ConfigForm::Text, name).bootstrap();
    let mut listener = bootstrap["static_resources"]["listeners"][0].take();
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    listener["name"] = json!(name);
    listener
}

/// A start of Envoy for every row would take more than a minute: here one Envoy is offered a listener for each.
#[test]
fn every_wrong_configuration_is_refused_by_its_field_and_its_listener_is_not_there() {
    let rows = rows();
    assert!(rows.len() >= 25, "{}", rows.len());
    let name = |number: usize| format!("<row {number}>");
    // A right one goes first. Services that are not there are no reason to refuse it.
    let right = json!({"experiments": {"cluster": "nowhere"}, "events": {"cluster": "nowhere"}});
    let wrong = rows.iter().enumerate().map(|(number, row)| listener(&row["config"], &name(number)));
    let listeners: Vec<Value> = [listener(&right, "<right>")].into_iter().chain(wrong).collect();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refused_listeners.json");
    std::fs::write(&file, json!({"resources": listeners}).to_string()).unwrap();
    let envoy = Envoy::start(&EnvoyOptions::new(9).workers(1).adjust(move |bootstrap| {
        bootstrap["node"] = json!({"id": "test", "cluster": "test"});
        bootstrap["dynamic_resources"] = json!({"lds_config": {"path_config_source": {"path": file}}});
    }));

    eventually_eq("the listeners are refused", 1, || envoy.counter("listener_manager.lds.update_rejected"));
    let log = envoy.log();
    let (attempts, summary) = log.split_once("Error adding/updating listener(s)").expect("a summary in the log");
    let reason = if is_native() { "Failed to create filter config" } else { "Unable to create Wasm plugin" };
    let mut rest = attempts;
    for (number, row) in rows.iter().enumerate() {
        let end = format!("Plugin {} failed to load", name(number));
        // Envoy does not name a native plugin in its log: its line is anywhere among those of the others.
        let (attempt, after) = match rest.split_once(&end) {
            Some(split) => split,
            None if is_native() => (attempts, attempts),
            None => panic!("{}: accepted\n{log}", row["name"]),
        };
        assert_tells(attempt, row);
        assert!(summary.contains(&format!("{}: {reason}", name(number))), "{}: {summary}", row["name"]);
        rest = after;
    }
    // The right one, and the one that every Envoy of the harness has.
    assert_eq!(envoy.counter("listener_manager.listener_create_success"), 2, "{log}");
    assert!(!log.contains("<right>"), "{log}");
}

#[test]
fn invalid_configuration_stops_envoy_at_start() {
    let rows = rows();
    let objects: Vec<&Value> = rows.iter().filter(|row| row["config"].is_object()).collect();
    // From the beginning, the middle and the end of the table.
    for (row, form) in [
        (objects[0], ConfigForm::Text),
        (objects[objects.len() / 2], ConfigForm::Struct),
        (objects[objects.len() - 1], ConfigForm::Text),
    ] {
        assert_tells(&Envoy::refuses_to_start(&options(&row["config"], form, "demo")), row);
    }
}
