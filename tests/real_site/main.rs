//! A real site: the filter in a real Envoy, beside the components that sites have. Each module is one way in which an
//! exposure or a count could be false, and asserts the correct value.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod internal_redirects;

use edgesplit_testkit::stack::{Services, merged};
use serde_json::{Value, json};

/// A plugin with these experiments that reports soon, with the members of `with` on top.
fn plugin(document: Value, with: Value) -> Value {
    let events = json!({"cluster": "collector", "authority": "collector.internal", "path": "/v1/events", "batch": {"max_age": "100ms"}});
    merged(
        json!({"experiments": {"inline": document}, "visitor": {"id": [{"header": "x-user-id"}]}, "events": events}),
        with,
    )
}

/// The exposures that the collector has accepted, sorted: unit, experiment, variant, path and status.
fn exposures(services: &Services) -> Vec<String> {
    let events = services.collector.events().into_values().map(|received| received.event);
    let line = |event: Value| {
        let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
        let [unit, experiment, variant, path] = ["unit", "experiment", "variant", "path"].map(text);
        format!("{unit} {experiment}={variant} {path} {}", event["status"])
    };
    let mut lines: Vec<String> = events.filter(|event| event["type"] == "exposure").map(line).collect();
    lines.sort();
    lines
}
