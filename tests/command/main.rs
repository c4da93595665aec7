//! The command line: output, its destination, exit codes, and incorrect usage.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

mod evaluate;
mod explain;
mod output;
mod preview;
mod usage;

use edgesplit_testkit::command::program;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

const NOW: &str = "2026-12-01T00:00:00Z";

struct Printed {
    code: i32,
    out: String,
    err: String,
}

fn edgesplit(arguments: &[&str]) -> Printed {
    edgesplit_with(arguments, &[])
}

/// Runs the command with these environment variables.
fn edgesplit_with(arguments: &[&str], variables: &[(&str, &str)]) -> Printed {
    let mut command = Command::new(program());
    let command = command.args(arguments).env_remove("EDGESPLIT_PREVIEW_SECRET").envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Printed { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn file(name: &str, content: &str) -> String {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, content).unwrap();
    file.to_str().unwrap().to_owned()
}

fn experiments() -> String {
    json!({"schema": 1, "experiments": [
        {"key": "checkout-button", "state": "running", "route": {"paths": ["/checkout*"]}, "forced": {"qa": "green"},
         "variants": [{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]},
        {"key": "nav", "state": "running", "traffic": 0,
         "variants": [{"key": "plain", "weight": 5000, "baseline": true}, {"key": "mega", "weight": 5000}]},
    ]})
    .to_string()
}

/// A flag with an experiment, one with a rollout, an invalid one, and an experiment that no flag uses.
fn datafile() -> Value {
    let rule = |id: &str, key: &str, enabled: bool, variables: Value| {
        json!({"id": id, "key": key, "status": "Running", "layerId": format!("layer-{id}"), "audienceIds": [],
               "forcedVariations": {}, "trafficAllocation": [{"entityId": format!("{id}1"), "endOfRange": 10000}],
               "variations": [{"id": format!("{id}1"), "key": "on", "featureEnabled": enabled, "variables": variables}]})
    };
    json!({"version": "4", "accountId": "10", "projectId": "11", "revision": "12", "audiences": [], "attributes": [],
           "events": [], "groups": [],
           "experiments": [rule("1", "checkout_test", true, json!([{"id": "7", "value": "green"}])),
                           rule("2", "alone", true, json!([]))],
           "rollouts": [{"id": "5", "experiments": [rule("3", "everyone", true, json!([]))]}],
           "featureFlags": [
               {"id": "40", "key": "checkout", "experimentIds": ["1"], "rolloutId": "", "variables": [
                   {"id": "7", "key": "color", "type": "string", "defaultValue": "grey"}]},
               {"id": "41", "key": "nav", "experimentIds": [], "rolloutId": "5", "variables": []},
               {"id": "42", "key": "broken", "experimentIds": 5, "rolloutId": "5", "variables": []}]})
}
