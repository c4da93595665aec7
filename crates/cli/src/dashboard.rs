//! `edgesplit dashboard`: a local web page over the stats of one or many Envoys.

mod config;
mod proxy;
mod sample;
mod server;
mod state;
mod verdict;

use crate::config::{ConfigArguments, NO_CONFIG, Setting};
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::{Input, agent, get, url};
use crate::output;
use config::ConfigView;
use edgesplit_engine::printable::printable;
use sample::Sample;
use serde_json::Value;
use server::Reply;
use state::State;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
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
    #[arg(long = "envoy", value_name = "URL", required = true, value_parser = url)]
    envoys: Vec<String>,
    #[command(flatten)]
    config: ConfigArguments,
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
    let Some(setting) = Setting::read(&args.config.setting)? else { return Ok(EXIT_PROBLEMS) };
    if args.config.input() == Some(&Input::Stdin) {
        return Err("the dashboard reads the config again and again: give a file or a URL instead of `-`".to_owned());
    }
    if args.config.input().is_none() {
        setting.compile_inline().ok_or(NO_CONFIG)?;
    }
    let agent = agent(TIMEOUT);
    let read_config = || -> Result<ConfigView, String> {
        let compilation = setting.compilation(&args.config)?;
        let problem = || compilation.problems.iter().next().map_or_else(String::new, ToString::to_string);
        compilation.config.as_ref().map(|config| ConfigView::new(&config.snapshot)).ok_or_else(problem)
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

/// The counters and gauges of an Envoy, by their names.
fn stats(agent: &ureq::Agent, envoy: &str) -> Result<BTreeMap<String, u64>, String> {
    let bytes = get(agent, &format!("{}{STATS}", envoy.trim_end_matches('/')), ANSWER_BYTES_MAX)?;
    let answer: Value = serde_json::from_slice(&bytes)
        .map_err(|_| "not an Envoy's admin interface: the answer is not JSON".to_owned())?;
    let stats = answer.get("stats").and_then(|stats| stats.as_array());
    let stats = stats.ok_or("not an Envoy's admin interface: the answer has no stats")?;
    let stat = |stat: &Value| Some((stat.get("name")?.as_str()?.to_owned(), stat.get("value")?.as_u64()?));
    Ok(stats.iter().filter_map(stat).collect())
}
