//! An Envoy process: its start and end, its log and its stats.

use super::bootstrap::{ENVOY_VERSION, EnvoyOptions, adapted};
use super::client::{Client, Outgoing, Reply};
use super::{DEADLINE, Failure};
use edgesplit_cli::local::envoy::Process;
pub use edgesplit_cli::local::envoy::{Directory, find_binary};
use std::collections::BTreeMap;
use std::fs;
use std::process::ExitStatus;
use std::time::Duration;

/// How long Envoy may take to refuse its config.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(90);

/// A running Envoy. It is killed when it is dropped.
pub struct Envoy {
    process: Process,
    admin_port: u16,
    port: u16,
}

impl Envoy {
    /// Starts one and waits until it serves. The error shows the end of its log.
    pub fn try_start(options: &EnvoyOptions) -> Result<Envoy, Failure> {
        Envoy::try_start_with(&format!("{:#}", options.bootstrap()), options.workers)
    }

    /// Starts one with this bootstrap, in YAML or JSON, and waits until it serves. The error shows the end of its log.
    pub fn try_start_with(bootstrap: &str, workers: usize) -> Result<Envoy, Failure> {
        let mut process = spawn(bootstrap, workers)?;
        let ports = process.wait_until_serving()?;
        Ok(Envoy { process, admin_port: ports.admin, port: ports.listener })
    }

    /// Starts one and waits until it serves; panics when it does not.
    #[track_caller]
    pub fn start(options: &EnvoyOptions) -> Envoy {
        match Envoy::try_start(options) {
            Ok(envoy) => envoy,
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts one that must refuse its config, and gives its log.
    pub fn refuses_to_start(options: &EnvoyOptions) -> String {
        // `--mode validate` runs the module's `on_configure` too (measured), but a start is what users see.
        let bootstrap = format!("{:#}", options.bootstrap());
        let mut process = spawn(&bootstrap, options.workers).unwrap_or_else(|error| panic!("{error}"));
        let status = process.wait(REFUSAL_DEADLINE).unwrap_or_else(|| panic!("Envoy started:\n{}", process.log_tail()));
        assert!(!status.success(), "Envoy ended well:\n{}", process.log_tail());
        process.log()
    }

    /// The same Envoy with another listener as its own.
    pub fn with_port(self, port: u16) -> Envoy {
        Envoy { port, ..self }
    }

    /// The port of its listener, on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// A connection of its own.
    pub fn client(&self) -> Client {
        Client::new(self.port)
    }

    /// As many open connections as that, spread evenly over the workers.
    pub fn clients(&self, count: usize) -> Vec<Client> {
        super::client::connections(self.port, count)
    }

    /// Every counter and gauge that was ever used and whose name matches the regular expression. Envoy puts
    /// `wasmcustom.` before the names of a filter's own metrics: the expression meets it, the result is without it.
    pub fn stats(&self, filter: &str) -> BTreeMap<String, u64> {
        self.try_stats(filter).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same where Envoy may be on its way out.
    pub fn try_stats(&self, filter: &str) -> Result<BTreeMap<String, u64>, Failure> {
        if filter.contains("edgesplit") {
            flush_metrics(self.port);
        }
        let filter: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let reply = Client::new(self.admin_port).get(&format!("/stats?usedonly&filter={filter}")).try_send()?;
        if reply.status != 200 {
            return Err(format!("stats: status {}: {}", reply.status, reply.text()));
        }
        let text = reply.text();
        let lines = text.lines().filter_map(|line| line.rsplit_once(": "));
        Ok(lines.filter_map(|(name, value)| Some((unprefixed(name), value.parse().ok()?))).collect())
    }

    /// Numbers that a crash of the module would change: of its VMs, or of the native module's panics.
    pub fn crash_counts(&self) -> BTreeMap<String, u64> {
        self.stats(r"^wasm\.envoy\.wasm\.runtime\.v8\.(created|active)$|\.errors\.panic$")
    }

    /// A counter or a gauge by its full name, such as `edgesplit.demo.events.emitted`; 0 when it was never used.
    pub fn counter(&self, name: &str) -> u64 {
        let exact = format!(r"^(wasmcustom\.)?{}$", name.replace('.', r"\."));
        self.stats(&exact).get(name).copied().unwrap_or_default()
    }

    /// How many connections each worker has been given.
    pub fn connections_per_worker(&self) -> Vec<u64> {
        self.stats(r"^listener\.ingress\.worker_\d+\.downstream_cx_total$").into_values().collect()
    }

    /// What Prometheus scrapes.
    pub fn prometheus(&self) -> String {
        self.admin("/stats/prometheus?usedonly").text()
    }

    /// Bytes that Envoy's allocator has handed out. The memory of the VMs is not among them.
    pub fn memory_allocated(&self) -> u64 {
        let memory = self.admin("/memory").json();
        memory["allocated"].as_str().and_then(|bytes| bytes.parse().ok()).expect("/memory has `allocated`")
    }

    /// Bytes of the process in memory, those of the VMs included. Linux only.
    pub fn memory_resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("/proc has VmRSS") * 1024
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A page of the admin interface.
    pub fn admin(&self, path: &str) -> Reply {
        let reply = Client::new(self.admin_port).get(path).send();
        assert_eq!(reply.status, 200, "admin {path}: {}", reply.text());
        reply
    }

    /// The whole log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// Ends it as an orchestrator does, and waits for the end. Gives how it ended and its log.
    pub fn sigterm_and_wait(mut self) -> (ExitStatus, String) {
        let status = self.process.terminate(DEADLINE);
        let status = status.unwrap_or_else(|| panic!("no end within {DEADLINE:?} of SIGTERM:\n{}", self.log()));
        (status, self.process.log())
    }
}

/// Lets a native module change its metrics, if Envoy is 1.38: it then can during requests only. This one is refused before the
/// filter.
pub fn flush_metrics(port: u16) {
    if *ENVOY_VERSION < [1, 39] {
        let _ = Client::new(port).send(&Outgoing::new("GET", "no-path"));
    }
}

/// Starts an Envoy with the module and under the capabilities of the test run.
fn spawn(bootstrap: &str, workers: usize) -> Result<Process, Failure> {
    let adapted = adapted(bootstrap)?;
    Process::spawn(adapted.as_deref().unwrap_or(bootstrap), workers, Directory::new()?)
}

fn unprefixed(name: &str) -> String {
    name.strip_prefix("wasmcustom.").unwrap_or(name).to_owned()
}
