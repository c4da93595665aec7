//! The services around Envoy, and the controls that break and mend them.

use super::experiments::Experiments;
use crate::local::config_service::ConfigService;
use crate::local::http::{Request, Response};
use crate::local::lock;
use crate::local::port::Port;
use crate::local::server::{Behaviour, Server};
use edgesplit_filter::plugin_config;
use edgesplit_formats::{NATIVE, Options, compile_bytes};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

/// The ports of `envoy/envoy.yaml`, which are used if they are free.
pub(super) const ORIGIN: u16 = 8001;
pub(super) const EXPERIMENTS: u16 = 8002;
pub(super) const COLLECTOR: u16 = 8003;
const CONTROLS: u16 = 8000;

/// The most ids that the collector remembers, to recognize repeats.
const IDS_MAX: usize = 1_000_000;

/// The help text of the controls.
const USAGE: &str = "\
POST   /demo/collector/STATE    break or mend the collector
POST   /demo/config/STATE       break or mend the service with the experiments
PUT    /demo/experiments        serve this document instead of the file
DELETE /demo/experiments        serve the file again

STATE: up, down (refuses connections), hang (never answers), reset, garbage, or a status such as 503
";

/// A summary of the received events.
#[derive(Debug, Clone, Default)]
pub(super) struct Received {
    /// Events, including repeated ones.
    pub(super) events: u64,
    exposures: u64,
    goals: u64,
    /// Events whose id the collector remembers.
    repeats: u64,
    /// The revision of the experiments in the last event.
    pub(super) revision: Option<String>,
}

/// The collector's memory.
#[derive(Default)]
pub(super) struct Store {
    pub(super) received: Received,
    ids: HashSet<String>,
}

/// Everything around Envoy.
pub(super) struct Services {
    pub(super) origin: Server,
    pub(super) experiments: Arc<ConfigService>,
    pub(super) collector: Arc<Server>,
    pub(super) controls: Server,
    store: Arc<Mutex<Store>>,
    file: Arc<Experiments>,
    /// The ports of the services, which stay reserved while they refuse connections.
    _ports: Vec<Port>,
}

impl Services {
    /// Starts the services, each on its usual port if that is free.
    pub(super) fn start(file: Experiments) -> Result<Services, String> {
        let file = Arc::new(file);
        let mut ports = Vec::new();
        let origin = on(&mut ports, ORIGIN, |port| Server::start_on(port, origin))?;
        let experiments = Arc::new(on(&mut ports, EXPERIMENTS, |port| ConfigService::start_on(port, file.text()))?);
        let store = Arc::new(Mutex::new(Store::default()));
        let collector = Arc::new(on(&mut ports, COLLECTOR, |port| {
            let store = Arc::clone(&store);
            Server::start_on(port, move |request| collect(request, &store))
        })?);
        let controls = on(&mut ports, CONTROLS, |port| {
            let (experiments, collector) = (Arc::clone(&experiments), Arc::clone(&collector));
            let file = Arc::clone(&file);
            Server::start_on(port, move |request| control(request, &experiments, &collector, &file))
        })?;
        Ok(Services { origin, experiments, collector, controls, store, file, _ports: ports })
    }

    /// A summary of the events received so far.
    pub(super) fn received(&self) -> Received {
        lock(&self.store).received.clone()
    }

    /// Serves the file's experiments if they have changed, and clears the requests that the servers recorded.
    pub(super) fn look_after(&self) {
        if let Some(text) = self.file.changed() {
            self.experiments.set_body(text);
        }
        for server in [&self.origin, &self.experiments.server, &self.collector, &self.controls] {
            server.take_requests();
        }
    }
}

/// Starts a service on the port `wanted`, or on a free one if that is taken.
fn on<T>(ports: &mut Vec<Port>, wanted: u16, start: impl Fn(u16) -> io::Result<T>) -> Result<T, String> {
    let port = Port::choose(wanted);
    let number = port.number;
    ports.push(port);
    start(number).or_else(|_| start(0)).map_err(|error| format!("cannot listen on 127.0.0.1: {error}"))
}

/// The collector's answer to GET.
pub(super) fn received_summary(received: &Received) -> Response {
    let Received { events, exposures, goals, repeats, revision, .. } = received;
    Response::json(
        200,
        &json!({"events": events, "exposures": exposures, "goals": goals, "repeats": repeats,
                                "revision": revision}),
    )
}

/// The origin: answers with the request as it arrived, in a response that every cache may keep.
pub(super) fn origin(request: &Request) -> Response {
    let mut text = format!("{} {}\n", request.method, request.path).into_bytes();
    for (name, value) in &request.headers {
        text.extend([name.as_slice(), b": ", value.as_slice(), b"\n"].concat());
    }
    let status = if request.method == "POST" { 201 } else { 200 };
    Response::new(status)
        .header("content-type", "text/plain; charset=utf-8")
        .header("cache-control", "public, max-age=60")
        .body(text)
}

/// The collector: counts the events of a native batch.
pub(super) fn collect(request: &Request, store: &Mutex<Store>) -> Response {
    let body = request.json().unwrap_or_default();
    let Some(events) = body.get("events").and_then(Value::as_array) else { return Response::new(400) };
    let mut store = lock(store);
    let Store { received, ids } = &mut *store;
    received.events += events.len() as u64;
    for event in events {
        received.exposures += u64::from(event["type"] == "exposure");
        received.goals += u64::from(event["type"] == "goal");
        let id = event["id"].as_str().unwrap_or_default();
        if ids.len() < IDS_MAX && !ids.insert(id.to_owned()) {
            received.repeats += 1;
        }
    }
    if let Some(revision) = events.last().and_then(|event| event.get("revision")?.as_str()) {
        received.revision = Some(revision.to_owned());
    }
    Response::new(202)
}

fn control(request: &Request, experiments: &ConfigService, collector: &Server, file: &Experiments) -> Response {
    let words: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let answer = match (request.method.as_str(), words.as_slice()) {
        ("POST", ["demo", "collector", state]) => set(collector, "the collector", state),
        ("POST", ["demo", "config", state]) => set(&experiments.server, "the service with the experiments", state),
        ("PUT", ["demo", "experiments"]) => {
            experiments.set_body(request.body.clone());
            Some(format!("served from now on; {}\n", verdict(&request.body)))
        }
        ("DELETE", ["demo", "experiments"]) => {
            experiments.set_body(file.text());
            Some("the file is served again\n".to_owned())
        }
        _ => None,
    };
    let status = if answer.is_some() { 200 } else { 404 };
    Response::new(status)
        .header("content-type", "text/plain; charset=utf-8")
        .body(answer.unwrap_or_else(|| USAGE.to_owned()))
}

/// The filter's result for the document.
fn verdict(document: &[u8]) -> String {
    let options = Options::new(NATIVE, plugin_config::Request::default().cache_key.budget);
    let compiled = compile_bytes(document, &options);
    let problems: String = compiled.problems.iter().map(|problem| format!("\n  {problem}")).collect();
    match compiled.snapshot {
        None => format!("the filter will refuse it and keep the last good one:{problems}"),
        Some(snapshot) => format!(
            "the filter will run {} experiments and disable {}{problems}",
            snapshot.experiments.len(),
            snapshot.disabled.len()
        ),
    }
}

fn set(server: &Server, name: &str, state: &str) -> Option<String> {
    let behaviour = match state {
        "up" => Behaviour::Respond,
        "down" => Behaviour::Refuse,
        "hang" => Behaviour::Hang,
        "reset" => Behaviour::Reset,
        "garbage" => Behaviour::Garbage,
        status => Behaviour::Status(status.parse().ok().filter(|status| (200..600).contains(status))?),
    };
    server.set(behaviour);
    Some(format!("{name}: {state}\n"))
}
