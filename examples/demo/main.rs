//! The demo: a real Envoy with the filter, everything around it on loopback, and a little traffic. `make run`.
//!
//! - `services`: the origin, the experiments, the collector, and the controls that break and mend them;
//! - `traffic`: visitors;
//! - `screen`: what is printed.
//!
//! `serve ROLE ADDRESS` is one of the services alone: what `envoy/docker-compose.yaml` runs.
//!
//! It ends with Ctrl-C, SIGTERM or SIGHUP, and takes Envoy with it. With `DEMO_SECONDS=10` it ends by itself after that
//! time, and fails unless every request was answered and every event was delivered.

mod screen;
mod services;
mod traffic;

use edgesplit_testkit::Failure;
use edgesplit_testkit::dashboard::Dashboard;
use edgesplit_testkit::envoy::Envoy;
use screen::{Counts, Screen};
use services::Services;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use traffic::Traffic;

const WORKERS: usize = 2;
/// How often the signals are looked at, and how often the counts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the last events may take to be delivered.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(15);

/// The ports that stand in `envoy/envoy.yaml`: taken where they are free, else others.
const PROXY: u16 = 10_000;
const ADMIN: u16 = 9901;
const ORIGIN: u16 = 8001;
const EXPERIMENTS: u16 = 8002;
const COLLECTOR: u16 = 8003;
const DASHBOARD: u16 = 8004;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let seconds = match std::env::var("DEMO_SECONDS") {
        Ok(text) => Some(text.parse().map_err(|_| format!("DEMO_SECONDS={text}: expected a whole number"))?),
        Err(_) => None,
    };
    let told_to_stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&told_to_stop)).map_err(|error| error.to_string())?;
    }

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["serve", role, address] => {
            let address =
                address.parse().map_err(|_| format!("{address}: expected an address such as 0.0.0.0:8001"))?;
            return services::serve(role, address, || told_to_stop.load(Ordering::Relaxed));
        }
        _ => return Err("expected nothing, or: serve origin|experiments|collector ADDRESS".to_owned()),
    }

    let services = Services::start()?;
    let ports = [PROXY, ADMIN, DASHBOARD].map(Port::choose);
    let [proxy, admin, dashboard] = ports.each_ref().map(|port| port.number);
    // Somebody else may have been quicker at a port that was free.
    let started = start_envoy(&services, proxy, admin)
        .or_else(|error| if error.contains("cannot bind") { start_envoy(&services, 0, 0) } else { Err(error) });
    let envoy = match started {
        // Ctrl-C reaches Envoy as well.
        Err(_) if told_to_stop.load(Ordering::Relaxed) => return Ok(()),
        started => started?,
    };
    let experiments = format!("http://127.0.0.1:{}/experiments.json", services.experiments.port());
    let dashboard = Dashboard::start(envoy.admin_port(), &experiments, dashboard)?;
    let mut demo = Demo { traffic: Traffic::start(envoy.port()), screen: Screen::new(), services, envoy };
    demo.screen.introduce(&demo.services, &demo.envoy, &dashboard)?;
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let ran = demo.watch(end, &told_to_stop);
    if ran.is_ok() && !told_to_stop.load(Ordering::Relaxed) {
        demo.traffic.stop();
        let checked = demo.check();
        return demo.stop().and(checked);
    }
    demo.stop().and(ran)
}

/// Everything that runs.
struct Demo {
    traffic: Traffic,
    screen: Screen,
    services: Services,
    envoy: Envoy,
}

impl Demo {
    /// Shows the counts until it is time to end.
    fn watch(&mut self, end: Option<Instant>, told_to_stop: &AtomicBool) -> Result<(), Failure> {
        let mut next_count = Instant::now();
        while !told_to_stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
            if Instant::now() >= next_count {
                next_count += COUNT_INTERVAL;
                self.services.look_after();
                match self.counts() {
                    Ok(counts) => self.screen.show(&counts)?,
                    // On its way out, it answers no more.
                    Err(_) if told_to_stop.load(Ordering::Relaxed) => break,
                    Err(error) => self.screen.print(&format!("Envoy's admin interface: {error}"))?,
                }
            }
            // Ctrl-C may have reached Envoy first.
            if let Some(status) = self.envoy.exited() {
                std::thread::sleep(POLL_INTERVAL);
                if told_to_stop.load(Ordering::Relaxed) {
                    break;
                }
                return Err(format!("Envoy ended with {status}:\n{}", self.envoy.log()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn counts(&self) -> Result<Counts, Failure> {
        let stats = self.envoy.try_stats(r"^(wasmcustom\.edgesplit\.demo\.|http\.ingress\.downstream_rq_total$)")?;
        Ok(Counts::new(&stats, &self.services, self.traffic.failed()))
    }

    /// Whether all went well, once the last events had their time.
    fn check(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + DELIVERY_DEADLINE;
        let mut counts = self.counts()?;
        while !counts.all_delivered() && Instant::now() < end {
            std::thread::sleep(POLL_INTERVAL);
            counts = self.counts()?;
        }
        self.screen.show(&counts)?;
        if counts.failed > 0 {
            return Err(format!("{} requests were not answered as they should be", counts.failed));
        }
        if !counts.all_delivered() {
            return Err(format!("not every event was delivered within {DELIVERY_DEADLINE:?} of the last request"));
        }
        self.screen.print("checked: every request was answered, and every event was delivered")
    }

    /// Ends it all: Envoy before the services, so that it can deliver what it has left.
    fn stop(mut self) -> Result<(), Failure> {
        self.traffic.stop();
        if self.envoy.exited().is_none() {
            self.envoy.sigterm_and_wait();
        }
        self.screen.print(&format!("stopped; the collector has {} events", self.services.received().events))
    }
}

/// Starts Envoy with `envoy/envoy.yaml`, but on these ports; 0 is a free one.
fn start_envoy(services: &Services, proxy: u16, admin: u16) -> Result<Envoy, Failure> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (file, module) = (project.join("envoy/envoy.yaml"), project.join("dist/edgesplit.wasm"));
    if !module.is_file() {
        return Err(format!("{} is not there: run `make build`", module.display()));
    }
    let mut bootstrap = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let quoted_module = serde_json::Value::from(module.to_string_lossy()).to_string();
    let ports = [
        (PROXY, proxy),
        (ADMIN, admin),
        (ORIGIN, services.origin.port()),
        (EXPERIMENTS, services.experiments.port()),
        (COLLECTOR, services.collector.port()),
    ];
    let ports = ports.map(|(written, port)| (format!("port_value: {written}}}"), format!("port_value: {port}}}")));
    let module = ("filename: dist/edgesplit.wasm".to_owned(), format!("filename: {quoted_module}"));
    for (written, meant) in ports.into_iter().chain([module]) {
        if bootstrap.matches(&written).count() != 1 {
            return Err(format!("{}: expected {written:?} to stand there once", file.display()));
        }
        bootstrap = bootstrap.replace(&written, &meant);
    }
    Envoy::try_start_with(&bootstrap, WORKERS)
}

/// A port that was free, and is this demo's for as long as it runs.
pub(crate) struct Port {
    /// 0 where somebody has the one that was wanted: the system chooses another.
    number: u16,
    /// Envoy listens so that others can listen beside it, and two demos that start at once would share a port. Of this
    /// there is one alone; nothing is sent to it.
    _mine: Option<UdpSocket>,
}

impl Port {
    fn choose(wanted: u16) -> Port {
        let mine = UdpSocket::bind((Ipv4Addr::LOCALHOST, wanted)).ok();
        let is_free = mine.is_some() && TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).is_ok();
        Port { number: if is_free { wanted } else { 0 }, _mine: mine }
    }
}
