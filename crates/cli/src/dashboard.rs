//! `edgesplit dashboard`: a local web page over the stats of one or many Envoys.

mod config;
mod proxy;
mod sample;
mod server;
mod state;
mod verdict;

use crate::args::{format_parser, options};
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::read;
use crate::output;
use config::ConfigView;
use edgesplit_engine::printable::printable;
use edgesplit_filter::plugin_config::PluginConfig;
use edgesplit_formats::FormatRef;
use sample::Sample;
use serde_json::Value;
use server::Reply;
use state::State;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Interval between polls of the Envoys.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between reads of the experiment config.
const CONFIG_INTERVAL: Duration = Duration::from_secs(5);

/// The longest time for an answer of an Envoy or a config service.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The path of each poll: the filter's metrics and the runtime's VMs.
const STATS: &str = "/stats?format=json&filter=%5E(wasmcustom%5C.edgesplit%5C.%7Cwasm%5C.envoy%5C.wasm%5C.runtime)";

/// The arguments of `edgesplit dashboard`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An Envoy's admin interface, such as http://127.0.0.1:9901. Repeat it for several Envoys.
    #[arg(long = "envoy", value_name = "URL", required = true)]
    envoys: Vec<String>,
    /// The experiment config of the Envoys: a file, or a URL that starts with http:// or https://.
    #[arg(long, value_name = "FILE|URL")]
    config: String,
    /// The format of the config. Default: the format in the plugin configuration, else native.
    #[arg(long, value_parser = format_parser())]
    format: Option<FormatRef>,
    /// A plugin configuration (JSON).
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// The address to listen on. Port 0 chooses a free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Poll once and print the page's data as JSON instead of serving the page. Exits with 1 if something is broken.
    #[arg(long, conflicts_with = "listen")]
    json: bool,
}

/// The files of the page. They are part of the command, so the page works without a network.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("dashboard/assets/index.html")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/app.js")),
    ("/chart.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/chart.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("dashboard/assets/style.css")),
    ("/uplot.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/uplot.js")),
    ("/uplot.css", "text/css; charset=utf-8", include_str!("dashboard/assets/uplot.css")),
];

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let plugin = match &args.plugin {
        None => None,
        Some(file) => Some(PluginConfig::parse(&read(file)?).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            format!("{}: {}", file.display(), problems.join("; "))
        })?),
    };
    let options = options(args.format, plugin.as_ref());
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(true).build(),
    );
    let read_config = || -> Result<ConfigView, String> {
        let bytes = if ["http://", "https://"].iter().any(|scheme| args.config.starts_with(scheme)) {
            get(&agent, &args.config).map_err(|error| format!("{}: {error}", args.config))?
        } else {
            read(std::path::Path::new(&args.config))?
        };
        let compiled = edgesplit_formats::compile_bytes(&bytes, &options);
        let problem = || compiled.problems.iter().next().map_or_else(String::new, ToString::to_string);
        compiled.snapshot.as_ref().map(ConfigView::new).ok_or_else(problem)
    };
    let mut state = State::new(&args.envoys);
    state.set_config(read_config());
    if args.json {
        state.add(0, poll(&agent, &args.envoys));
        let json = state.to_json();
        output::print_json(&json)?;
        return Ok(if json.get("overall").is_some_and(|overall| overall == "broken") {
            EXIT_PROBLEMS
        } else {
            EXIT_OK
        });
    }
    // The only data that the polling thread and the serving threads share.
    let state = Mutex::new(state);
    let cannot = |error: std::io::Error| format!("cannot listen on {}: {error}", args.listen);
    let listener = TcpListener::bind(args.listen).map_err(cannot)?;
    output::print(&format!("http://{}\n", listener.local_addr().map_err(cannot)?))?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let began = Instant::now();
            let mut config_read = Instant::now();
            loop {
                let started = Instant::now();
                let samples = poll(&agent, &args.envoys);
                let config = (config_read.elapsed() >= CONFIG_INTERVAL).then(&read_config);
                let mut state = lock(&state);
                if let Some(config) = config {
                    config_read = Instant::now();
                    state.set_config(config);
                }
                state.add(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), samples);
                drop(state);
                std::thread::sleep(POLL_INTERVAL.saturating_sub(started.elapsed()));
            }
        });
        server::serve(&listener, |path| match FILES.iter().find(|(name, ..)| *name == path) {
            Some((_, kind, body)) => Reply { status: "200 OK", kind, body: body.as_bytes().to_vec() },
            None if path == "/state.json" => {
                let body = printable_texts(lock(&state).to_json()).to_string().into_bytes();
                Reply { status: "200 OK", kind: "application/json", body }
            }
            None => Reply { status: "404 Not Found", kind: "text/plain", body: b"not found\n".to_vec() },
        });
    });
    Ok(EXIT_OK)
}

/// `value` with its texts as a person may read them.
fn printable_texts(value: Value) -> Value {
    match value {
        Value::String(text) => printable(&text).into(),
        Value::Array(elements) => elements.into_iter().map(printable_texts).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (printable(&name).into_owned(), printable_texts(value))).collect()
        }
        other => other,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls all Envoys in parallel, so one that does not answer does not delay the others.
fn poll(agent: &ureq::Agent, envoys: &[String]) -> Vec<Result<Sample, String>> {
    std::thread::scope(|scope| {
        let polls: Vec<_> = envoys.iter().map(|envoy| scope.spawn(|| Ok(Sample::new(&stats(agent, envoy)?)))).collect();
        let none = || Err("the poll failed".to_owned());
        polls.into_iter().map(|answer| answer.join().unwrap_or_else(|_| none())).collect()
    })
}

fn get(agent: &ureq::Agent, url: &str) -> Result<Vec<u8>, String> {
    let mut response = agent.get(url).call().map_err(|error| error.to_string())?;
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    body.map_err(|error| error.to_string())
}

/// The counters and gauges of an Envoy, by their names.
fn stats(agent: &ureq::Agent, envoy: &str) -> Result<BTreeMap<String, u64>, String> {
    let bytes = get(agent, &format!("{}{STATS}", envoy.trim_end_matches('/')))?;
    let answer: Value = serde_json::from_slice(&bytes)
        .map_err(|_| "not an Envoy's admin interface: the answer is not JSON".to_owned())?;
    let stats = answer.get("stats").and_then(|stats| stats.as_array());
    let stats = stats.ok_or("not an Envoy's admin interface: the answer has no stats")?;
    let stat = |stat: &Value| Some((stat.get("name")?.as_str()?.to_owned(), stat.get("value")?.as_u64()?));
    Ok(stats.iter().filter_map(stat).collect())
}
