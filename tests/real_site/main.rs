//! A real site: the filter in a real Envoy, beside the components that sites have. Each module is one way in which an
//! exposure or a count could be false, and asserts the correct value.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

mod cache_in_front;
mod callouts;
mod changing_config;
mod cookies;
mod internal_redirects;
mod jar;
mod long_assignments;
mod metric_names;
mod no_page;
mod own_redirects;
mod redirect_targets;
mod streams;
mod validators;
mod visitors;

use edgesplit_testkit::caches::Cache;
use edgesplit_testkit::client::Client;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::eventually_eq;
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
    let counted = envoy.stats(r"edgesplit\..*\.responses\.").into_iter();
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

/// An Envoy whose origin is this cache or server.
fn envoy_before(services: &Services, behind: &Cache, plugin: &Value) -> Envoy {
    let socket = behind.socket();
    let options = services.options(plugin).adjust(move |bootstrap| {
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        let origin = clusters.iter_mut().find(|cluster| cluster["name"] == "origin").unwrap();
        origin["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"] =
            json!({"address": {"pipe": {"path": socket.to_string_lossy()}}});
    });
    Envoy::start(&options)
}

/// Waits for these exposures, and for one more of a last visitor of the same worker, who asks for `path`.
#[track_caller]
fn assert_exposures(services: &Services, client: &mut Client, path: &str, expected: &[&str]) {
    client.get(path).header("x-user-id", "~last").send();
    let of_others = || {
        let exposures = exposures(services);
        let has_last = exposures.iter().any(|line| line.starts_with("~last "));
        has_last.then(|| exposures.into_iter().filter(|line| !line.starts_with("~last ")).collect::<Vec<String>>())
    };
    eventually_eq("exposures", Some(expected.iter().map(|&line| line.to_owned()).collect()), of_others);
}
