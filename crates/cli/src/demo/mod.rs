//! `edgesplit demo`: a real Envoy with the filter, everything around it on loopback, and a little traffic.
//!
//! - `services`: the origin, the config service, the collector, and the controls that break and mend them;
//! - `experiments`: the file that the config service serves; `serve`: one service alone;
//! - `traffic`: visitors; `introduction`: the text at the start.
//!
//! It ends with Ctrl-C, SIGTERM or SIGHUP, and ends Envoy too. With `DEMO_SECONDS=10` it ends by itself after that time, and
//! fails unless every request was answered and every event was delivered.

mod experiments;
mod introduction;
mod serve;
mod services;
mod traffic;

use crate::config::Setting;
use crate::counts::Counts;
use crate::dashboard::{self, Monitor};
use crate::envoy_config::quoted;
use crate::exit::EXIT_OK;
use crate::files::Input;
use crate::http_url::HttpUrl;
use crate::local::proxy::{ADMIN, PROXY, Proxy, Slots};
use crate::screen::Screen;
use crate::signals::Stop;
use experiments::Experiments;
use services::{COLLECTOR, EXPERIMENTS, ORIGIN, Services};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use traffic::Traffic;

/// Intervals between checks of the signals, and between counts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time for the delivery of the last events.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(15);

/// The plugin's name in the Envoy configuration.
const PLUGIN: &str = "demo";

/// The Envoy configuration of the demo.
const BOOTSTRAP: &str = include_str!(concat!(env!("OUT_DIR"), "/envoy.yaml"));

/// The arguments of `edgesplit demo`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    /// The experiments, whose changes are served at once. Default: the file that the variable EXPERIMENTS names, else a copy
    /// of an example.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Another module than the one in this command, such as the native libedgesplit.so.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    #[command(subcommand)]
    serve: Option<Serve>,
}

#[derive(Debug, clap::Subcommand)]
enum Serve {
    /// Serve one service of the demo alone: origin, experiments or collector.
    Serve {
        /// The service.
        role: serve::Role,
        /// The address, such as 0.0.0.0:8001.
        address: SocketAddr,
    },
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let seconds = match std::env::var("DEMO_SECONDS") {
        Ok(text) => Some(text.parse().map_err(|_| format!("DEMO_SECONDS={text}: expected a whole number"))?),
        Err(_) => None,
    };
    let stop = Stop::listen()?;
    let file = Experiments::open(args.config.as_deref())?;
    if let Some(Serve::Serve { role, address }) = args.serve {
        return serve::run(role, address, file, &stop).map(|()| EXIT_OK);
    }
    let path = file.path.clone();
    let services = Services::start(file)?;
    let proxy = match Proxy::start(args.module.as_deref(), |slots| bootstrap(&services, slots)) {
        // Ctrl-C reaches Envoy as well.
        Err(_) if stop.is_requested() => return Ok(EXIT_OK),
        started => started?,
    };
    let monitor = Monitor {
        envoys: vec![HttpUrl::local(proxy.ports.admin)],
        config: Some(Input::Url(HttpUrl::local(services.experiments.port()).page("/experiments.json"))),
        setting: Arc::new(Setting::new(None, None)),
    };
    let dashboard = dashboard::start(monitor)?;
    let traffic = Traffic::start(proxy.ports.listener);
    let mut demo = Demo { traffic, screen: Screen::new(), services, proxy };
    demo.screen.print(&introduction::introduction(&demo.services, &demo.proxy, &dashboard, &path))?;
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let watched = demo.watch(end, &stop);
    if watched.is_ok() && !stop.is_requested() {
        demo.traffic.stop();
        let checked = demo.check();
        return demo.stop().and(checked).map(|()| EXIT_OK);
    }
    demo.stop().and(watched).map(|()| EXIT_OK)
}

/// The Envoy configuration with the ports of this demo.
fn bootstrap(services: &Services, slots: &Slots<'_>) -> Result<String, String> {
    let ports = [
        (PROXY, slots.proxy),
        (ADMIN, slots.admin),
        (ORIGIN, services.origin.port()),
        (EXPERIMENTS, services.experiments.port()),
        (COLLECTOR, services.collector.port()),
    ];
    let ports = ports.map(|(written, port)| (format!("port_value: {written}}}"), format!("port_value: {port}}}")));
    let module =
        ("filename: dist/edgesplit.wasm".to_owned(), format!("filename: {}", quoted(&slots.module.to_string_lossy())));
    let mut bootstrap = BOOTSTRAP.to_owned();
    for (written, meant) in ports.into_iter().chain([module]) {
        if bootstrap.matches(&written).count() != 1 {
            return Err(format!("envoy/envoy.yaml: expected {written:?} exactly once"));
        }
        bootstrap = bootstrap.replace(&written, &meant);
    }
    Ok(bootstrap)
}

/// The running parts.
struct Demo {
    traffic: Traffic,
    screen: Screen,
    services: Services,
    proxy: Proxy,
}

impl Demo {
    /// Shows the counts until it is time to end.
    fn watch(&mut self, end: Option<Instant>, stop: &Stop) -> Result<(), String> {
        let mut next_count = Instant::now();
        while !stop.is_requested() && end.is_none_or(|end| Instant::now() < end) {
            if Instant::now() >= next_count {
                next_count += COUNT_INTERVAL;
                self.services.look_after();
                match self.counts() {
                    Ok(counts) => self.screen.status(&counts.line())?,
                    // An Envoy that is stopping does not answer.
                    Err(_) if stop.is_requested() => break,
                    Err(error) => self.screen.print(&format!("Envoy's admin interface: {error}"))?,
                }
            }
            if let Some(error) = self.proxy.exited() {
                // Ctrl-C may have reached Envoy first.
                std::thread::sleep(POLL_INTERVAL);
                return if stop.is_requested() { Ok(()) } else { Err(error) };
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn counts(&self) -> Result<Counts, String> {
        let mut counts = Counts::read(&self.proxy.admin, PLUGIN)?;
        counts.failed = self.traffic.failed();
        counts.revision = self.services.received().revision;
        Ok(counts)
    }

    /// Whether there were events, and all of them have arrived.
    fn all_delivered(&self, counts: &Counts) -> bool {
        let received = self.services.received().events;
        counts.emitted > 0 && counts.queued == 0 && counts.emitted == counts.delivered && received >= counts.delivered
    }

    /// Checks that every request was answered, and waits until every event is delivered.
    fn check(&mut self) -> Result<(), String> {
        let end = Instant::now() + DELIVERY_DEADLINE;
        let mut counts = self.counts()?;
        while !self.all_delivered(&counts) && Instant::now() < end {
            std::thread::sleep(POLL_INTERVAL);
            counts = self.counts()?;
        }
        self.screen.status(&counts.line())?;
        if counts.failed > 0 {
            return Err(format!("{} requests were not answered as they should be", counts.failed));
        }
        if !self.all_delivered(&counts) {
            return Err(format!("not every event was delivered within {DELIVERY_DEADLINE:?} of the last request"));
        }
        self.screen.print("checked: every request was answered, and every event was delivered")
    }

    /// Ends everything: Envoy before the services, to let it deliver its last events.
    fn stop(mut self) -> Result<(), String> {
        self.traffic.stop();
        self.proxy.stop();
        self.screen.print(&format!("stopped; the collector has {} events", self.services.received().events))
    }
}
