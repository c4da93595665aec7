//! A real site: the filter in a real Envoy, beside the components that sites have. Each module is one way in which an
//! exposure or a count could be false, and asserts the correct value.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod internal_redirects;
mod own_redirects;
mod streams;

use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::stack::{Services, merge, merged};
use serde_json::{Value, json};

/// A plugin with these experiments that reports soon, with the members of `with` on top.
fn plugin(document: Value, with: Value) -> Value {
    let events = json!({"cluster": "collector", "authority": "collector.internal", "path": "/v1/events", "batch": {"max_age": "100ms"}});
    merged(
        json!({"experiments": {"inline": document}, "visitor": {"id": [{"header": "x-user-id"}]}, "events": events}),
        with,
    )
}

/// Envoy's configuration of HTTP in a bootstrap.
fn http_manager(bootstrap: &mut Value) -> &mut Value {
    &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

/// The list of routes in a bootstrap. There is one at first.
fn routes(bootstrap: &mut Value) -> &mut Value {
    &mut http_manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"]
}

/// An Envoy whose route to the origin also has the members of `route`.
fn envoy_with(services: &Services, plugin: &Value, route: Value) -> Envoy {
    let adjust = move |bootstrap: &mut Value| merge(&mut routes(bootstrap)[0]["route"], route.clone());
    Envoy::start(&services.options(plugin).adjust(adjust))
}

/// How many responses were counted for a variant, by their class.
fn responses(envoy: &Envoy, experiment: &str, variant: &str) -> Vec<(String, u64)> {
    let name = format!("edgesplit.demo.responses.experiment.{experiment}.variant.{variant}.class.");
    let counted = envoy.stats("responses").into_iter();
    counted.filter_map(|(counter, count)| Some((counter.strip_prefix(&name)?.to_owned(), count))).collect()
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
