//! `edgesplit dashboard`: a local web page over the stats of one or many Envoys.

mod charts;
mod config;
mod history;
mod json;
mod page;
mod proxy;
mod results;
mod sample;
mod server;
mod since;
mod state;
mod verdict;
mod words;

use crate::admin::Admin;
use crate::args::now_ms;
use crate::config::{ConfigArguments, NO_CONFIG, Setting};
use crate::document::Document;
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::Input;
use crate::http_url::HttpUrl;
use crate::local::lock;
use crate::local::port::Port;
use crate::output;
use config::{ConfigError, ConfigView};
use edgesplit_engine::printable::printable;
use hyper::StatusCode;
use hyper::body::Bytes;
use page::Page;
use sample::Sample;
use serde_json::Value;
use server::Reply;
use state::State;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Interval between polls of the Envoys.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between reads of the experiment config.
const CONFIG_INTERVAL: Duration = Duration::from_secs(5);

/// The stats of each poll: the filter's metrics and the runtime's VMs.
const STATS: &str = r"^(wasmcustom\.edgesplit\.|wasm\.envoy\.wasm\.runtime)";

/// The port of the dashboard of `demo` and `run`, if it is free.
const PORT: u16 = 8004;

/// The arguments of `edgesplit dashboard`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An Envoy's admin interface, such as http://127.0.0.1:9901. Repeat it for several Envoys.
    #[arg(long = "envoy", value_name = "URL", required = true, value_parser = HttpUrl::parse)]
    envoys: Vec<HttpUrl>,
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
    ("/dom.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/dom.js")),
    ("/chart.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/chart.js")),
    ("/health.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/health.js")),
    ("/results.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/results.js")),
    ("/card.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/card.js")),
    ("/rows.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/rows.js")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/app.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("dashboard/assets/style.css")),
    ("/uplot.js", "text/javascript; charset=utf-8", include_str!("dashboard/assets/uplot.js")),
    ("/uplot.css", "text/css; charset=utf-8", include_str!("dashboard/assets/uplot.css")),
];

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let Some(setting) = Setting::read(&args.config.setting)? else { return Ok(EXIT_PROBLEMS) };
    let config = args.config.input().cloned();
    if config == Some(Input::Stdin) {
        return Err("the dashboard reads the config again and again: give a file or a URL instead of `-`".to_owned());
    }
    if config.is_none() {
        setting.compile_inline().ok_or(NO_CONFIG)?;
    }
    let monitor = Monitor { envoys: args.envoys.clone(), config, setting: Arc::new(setting) };
    if args.json {
        let mut state = monitor.state();
        state.add(0, poll(&monitor.admins()));
        let json = Page::default().to_json(&state);
        output::print_json(&json)?;
        return Ok(if json.get("overall").is_some_and(|overall| overall == "broken") {
            EXIT_PROBLEMS
        } else {
            EXIT_OK
        });
    }
    let cannot = |error: std::io::Error| format!("cannot listen on {}: {error}", args.listen);
    let listener = TcpListener::bind(args.listen).map_err(cannot)?;
    output::print(&format!("http://{}\n", listener.local_addr().map_err(cannot)?))?;
    monitor.serve(listener)?;
    Ok(EXIT_OK)
}

/// Serves the dashboard of `monitor` on the loopback interface until the process ends. Returns its address.
pub(crate) fn start(monitor: Monitor) -> Result<String, String> {
    let port = Port::choose(PORT);
    let cannot = |error: std::io::Error| format!("cannot listen on 127.0.0.1:{}: {error}", port.number);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number)).map_err(cannot)?;
    let address = format!("http://{}", listener.local_addr().map_err(cannot)?);
    std::thread::spawn(move || {
        let _reserved = port;
        monitor.serve(listener)
    });
    Ok(address)
}

/// The Envoys and the config that a dashboard observes.
pub(crate) struct Monitor {
    /// The addresses of the Envoys' admin interfaces.
    pub(crate) envoys: Vec<HttpUrl>,
    /// The experiment config. Default: the one inside the plugin configuration.
    pub(crate) config: Option<Input>,
    pub(crate) setting: Arc<Setting>,
}

impl Monitor {
    fn admins(&self) -> Vec<Admin> {
        self.envoys.iter().cloned().map(Admin::new).collect()
    }

    fn state(&self) -> State {
        let mut state = State::new(&self.envoys);
        state.set_config(self.read_config());
        state
    }

    fn read_config(&self) -> Result<ConfigView, ConfigError> {
        let none = || ConfigError::Unreadable(NO_CONFIG.to_owned());
        let (document, compilation) = match (&self.config, &self.setting.plugin) {
            (Some(input), _) => {
                let document = Arc::new(Document::read(input).map_err(ConfigError::Unreadable)?);
                let compilation = self.setting.compile(&document);
                (document, compilation)
            }
            (None, Some(plugin)) => (Arc::clone(&plugin.document), self.setting.compile_inline().ok_or_else(none)?),
            (None, None) => return Err(none()),
        };
        ConfigView::new(&document, &compilation, &self.setting, now_ms())
    }

    /// Polls the Envoys and serves the page, without end.
    fn serve(self, listener: TcpListener) -> Result<(), String> {
        // The only data that the polling thread and the serving thread share.
        let state = Arc::new(Mutex::new(self.state()));
        let observed = Arc::clone(&state);
        std::thread::spawn(move || self.observe(&observed));
        let served = server::serve(listener, move |path, query| reply(path, query, &state));
        served.map_err(|error| format!("cannot serve the page: {error}"))
    }

    fn observe(&self, state: &Mutex<State>) {
        let admins = self.admins();
        let began = Instant::now();
        let mut config_read = Instant::now();
        loop {
            let started = Instant::now();
            let samples = poll(&admins);
            let config = (config_read.elapsed() >= CONFIG_INTERVAL).then(|| self.read_config());
            let mut state = lock(state);
            if let Some(config) = config {
                config_read = Instant::now();
                state.set_config(config);
            }
            state.add(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), samples);
            drop(state);
            std::thread::sleep(POLL_INTERVAL.saturating_sub(started.elapsed()));
        }
    }
}

/// The reply to a path and its query.
fn reply(path: &str, query: &str, state: &Mutex<State>) -> Reply {
    match FILES.iter().find(|(name, ..)| *name == path) {
        Some((_, kind, body)) => Reply { status: StatusCode::OK, kind, body: Bytes::from_static(body.as_bytes()) },
        None if path == "/state.json" => {
            let json = Page::of_query(query).to_json(&lock(state));
            let body = printable_texts(json).to_string().into();
            Reply { status: StatusCode::OK, kind: "application/json", body }
        }
        None => Reply::text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

/// `value` with every text in it printable.
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

/// Polls all Envoys in parallel, so one that does not answer does not delay the others.
fn poll(envoys: &[Admin]) -> Vec<Result<Sample, String>> {
    std::thread::scope(|scope| {
        let polls: Vec<_> = envoys.iter().map(|envoy| scope.spawn(|| Ok(Sample::new(&envoy.stats(STATS)?)))).collect();
        let none = || Err("the poll failed".to_owned());
        polls.into_iter().map(|answer| answer.join().unwrap_or_else(|_| none())).collect()
    })
}
