//! `edgesplit dashboard`: a local web page over the stats of one or many Envoys.

mod state;

use super::{WELL, options};
use crate::format::{self, Format};
use crate::plugin_config::PluginConfig;
use state::{ConfigView, Sample, State};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tiny_http::{Header, Response, Server};

/// How often Envoys are asked.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often the experiment config is read anew.
const CONFIG_INTERVAL: Duration = Duration::from_secs(5);

/// How long an Envoy or a config service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What is asked of each Envoy: the filter's metrics and the runtime's VMs.
const STATS: &str = "/stats?format=json&filter=%5E(wasmcustom%5C.edgesplit%5C.%7Cwasm%5C.envoy%5C.wasm%5C.runtime)";

/// What is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An Envoy's admin interface, such as http://127.0.0.1:9901; may be given several times.
    #[arg(long = "envoy", value_name = "URL", required = true)]
    envoys: Vec<String>,
    /// The experiment config that the Envoys have: a file, or an address that starts with http:// or https://.
    #[arg(long, value_name = "FILE|URL")]
    config: String,
    /// The format of the config; that of the plugin configuration, else native, if not given.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// A plugin configuration (JSON).
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Where to listen. Port 0 takes one that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// What the page is made of; no network is needed.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("dashboard/assets/index.html")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/app.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("dashboard/assets/style.css")),
    ("/uplot.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/uplot.js")),
    ("/uplot.css", "text/css; charset=utf-8", include_str!("dashboard/assets/uplot.css")),
];

pub(super) fn run(asked: &Arguments) -> Result<u8, String> {
    let plugin = match &asked.plugin {
        None => None,
        Some(file) => Some(PluginConfig::parse(&super::read(file)?).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            format!("{}: {}", file.display(), problems.join("; "))
        })?),
    };
    let options = options(asked.format, plugin.as_ref());
    // The thread that answers and the one that asks share nothing but this.
    let state = Mutex::new(State::new(&asked.envoys));
    let server = Server::http(asked.listen).map_err(|error| format!("cannot listen on {}: {error}", asked.listen))?;
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(true).build(),
    );
    let read_config = || -> Result<ConfigView, String> {
        let bytes = if ["http://", "https://"].iter().any(|scheme| asked.config.starts_with(scheme)) {
            get(&agent, &asked.config)?
        } else {
            super::read(std::path::Path::new(&asked.config))?
        };
        let compiled = format::compile_bytes(&bytes, &options);
        let problem = || compiled.problems.iter().next().map_or_else(String::new, ToString::to_string);
        compiled.snapshot.as_ref().map(ConfigView::new).ok_or_else(problem)
    };
    lock(&state).set_config(read_config());
    println!("http://{}", server.server_addr().to_ip().map_or_else(String::new, |address| address.to_string()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut config_read = Instant::now();
            loop {
                let started = Instant::now();
                let samples: Vec<Result<Sample, String>> =
                    asked.envoys.iter().map(|envoy| Ok(Sample::new(&stats(&agent, envoy)?))).collect();
                let config = (config_read.elapsed() >= CONFIG_INTERVAL).then(&read_config);
                let mut state = lock(&state);
                if let Some(config) = config {
                    config_read = Instant::now();
                    state.set_config(config);
                }
                state.add(samples);
                drop(state);
                std::thread::sleep(POLL_INTERVAL.saturating_sub(started.elapsed()));
            }
        });
        for request in server.incoming_requests() {
            let path = request.url().split('?').next().unwrap_or_default().to_owned();
            let file = FILES.iter().find(|(name, ..)| *name == path);
            let (status, kind, body) = match (path.as_str(), file) {
                ("/state.json", _) => (200, "application/json", lock(&state).to_json().to_string()),
                (_, Some((_, kind, body))) => (200, *kind, (*body).to_owned()),
                _ => (404, "text/plain", "nothing here\n".to_owned()),
            };
            let mut response = Response::from_string(body).with_status_code(status);
            for (name, value) in [
                ("content-type", kind),
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                // The chart library sets styles of elements.
                ("content-security-policy", "default-src 'self'; style-src 'self' 'unsafe-inline'"),
            ] {
                if let Ok(header) = Header::from_bytes(name, value) {
                    response.add_header(header);
                }
            }
            // A browser that is gone has nobody to be told.
            let _ = request.respond(response);
        }
    });
    Ok(WELL)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn get(agent: &ureq::Agent, url: &str) -> Result<Vec<u8>, String> {
    let mut response = agent.get(url).call().map_err(|error| format!("{url}: {error}"))?;
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    body.map_err(|error| format!("{url}: {error}"))
}

/// The counters and gauges of an Envoy, by their names.
fn stats(agent: &ureq::Agent, envoy: &str) -> Result<BTreeMap<String, u64>, String> {
    let bytes = get(agent, &format!("{}{STATS}", envoy.trim_end_matches('/')))?;
    let answer: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| format!("{envoy}: {error}"))?;
    let stats = answer.get("stats").and_then(|stats| stats.as_array()).ok_or_else(|| format!("{envoy}: no stats"))?;
    let stat = |stat: &serde_json::Value| Some((stat.get("name")?.as_str()?.to_owned(), stat.get("value")?.as_u64()?));
    Ok(stats.iter().filter_map(stat).collect())
}
