//! An Envoy process: its start and end, its log and its stats.

use super::bootstrap::{EnvoyOptions, restricted};
use super::client::{Client, Outgoing, Reply};
use super::{DEADLINE, Failure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How many lines of the log an error shows.
const LOG_TAIL_LINES: usize = 40;
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long a start may take: every VM compiles the module, which takes a busy machine a while.
const START_DEADLINE: Duration = Duration::from_secs(90);

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
        let mut process = Process::spawn(bootstrap, workers)?;
        let end = Instant::now() + START_DEADLINE;
        loop {
            if let Some((admin_port, port)) = process.ports() {
                return Ok(Envoy { process, admin_port, port });
            }
            if let Some(status) = process.exited() {
                return Err(format!("Envoy ended with {status} at its start:\n{}", process.log_tail()));
            }
            if Instant::now() > end {
                return Err(format!("Envoy did not serve within {START_DEADLINE:?}:\n{}", process.log_tail()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
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
        let mut process = Process::spawn(&bootstrap, options.workers).unwrap_or_else(|error| panic!("{error}"));
        let status = process.wait(START_DEADLINE).unwrap_or_else(|| panic!("Envoy started:\n{}", process.log_tail()));
        assert!(!status.success(), "Envoy ended well:\n{}", process.log_tail());
        process.log()
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
        let filter: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let reply = Client::new(self.admin_port).get(&format!("/stats?usedonly&filter={filter}")).try_send()?;
        if reply.status != 200 {
            return Err(format!("stats: status {}: {}", reply.status, reply.text()));
        }
        let text = reply.text();
        let lines = text.lines().filter_map(|line| line.rsplit_once(": "));
        Ok(lines.filter_map(|(name, value)| Some((unprefixed(name), value.parse().ok()?))).collect())
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
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("/proc has VmRSS") * 1024
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
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
        let pid = self.process.child.id().to_string();
        // The standard library sends SIGKILL only; the shell has `kill` built in.
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send SIGTERM to {pid}");
        let status = self.process.wait(DEADLINE);
        let status = status.unwrap_or_else(|| panic!("no end within {DEADLINE:?} of SIGTERM:\n{}", self.log()));
        (status, self.process.log())
    }
}

fn unprefixed(name: &str) -> String {
    name.strip_prefix("wasmcustom.").unwrap_or(name).to_owned()
}

/// The process with its directory.
struct Process {
    child: Child,
    directory: Directory,
}

impl Process {
    fn spawn(bootstrap: &str, workers: usize) -> Result<Process, Failure> {
        let binary = find_binary()?;
        let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
        let directory = Directory::new().map_err(|error| failed("temporary directory", error))?;
        let restricted = restricted(bootstrap)?;
        // Envoy recognizes the language by the name, and JSON is YAML.
        fs::write(directory.file("envoy.yaml"), restricted.as_deref().unwrap_or(bootstrap))
            .map_err(|error| failed("bootstrap", error))?;
        let log = File::create(directory.file("envoy.log")).map_err(|error| failed("log", error))?;
        let child = Command::new(&binary)
            .arg("--config-path")
            .arg(directory.file("envoy.yaml"))
            .arg("--admin-address-path")
            .arg(directory.file("admin"))
            .args(["--concurrency", &workers.to_string(), "--disable-hot-restart"])
            .args(["--log-level", "warn", "--component-log-level", "wasm:info"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| failed(&binary.display().to_string(), error))?;
        Ok(Process { child, directory })
    }

    /// The ports of admin and listener, once Envoy serves.
    fn ports(&self) -> Option<(u16, u16)> {
        let address = fs::read_to_string(self.directory.file("admin")).ok()?;
        let admin: u16 = address.rsplit_once(':')?.1.trim().parse().ok()?;
        let mut client = Client::new(admin);
        if client.send(&Outgoing::get("/ready")).ok()?.status != 200 {
            return None;
        }
        let listeners = client.send(&Outgoing::get("/listeners?format=json")).ok()?.json();
        let port = listeners.pointer("/listener_statuses/0/local_address/socket_address/port_value")?.as_u64()?;
        Some((admin, u16::try_from(port).ok()?))
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + deadline;
        while Instant::now() < end {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        None
    }

    fn log(&self) -> String {
        let log = fs::read(self.directory.file("envoy.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory for one process. It is removed with the process, unless the test fails: its log is kept then.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> std::io::Result<Directory> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // The time, too: the number of a process comes again, and what failed tests kept is still there.
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("edgesplit-{}-{started}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory)?;
        Ok(Directory(directory))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the process had is kept in {}", self.0.display());
        } else {
            // What cannot be removed stays among the temporary files.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// The version of Envoy that everything is made for.
const VERSION: &str = "1.40.0";

/// Looks for Envoy: `$ENVOY`, `envoy` on the path, what `make setup` installed, what `func-e` on the path runs. With
/// `ENVOY_RUNNER=func-e`: the last of these and no other.
pub fn find_binary() -> Result<PathBuf, Failure> {
    match std::env::var("ENVOY_RUNNER").unwrap_or_default().as_str() {
        "" => {}
        "func-e" => {
            return by_func_e()?.ok_or_else(|| "ENVOY_RUNNER=func-e: there is no func-e on the PATH".to_owned());
        }
        other => return Err(format!("ENVOY_RUNNER={other}: expected func-e, or nothing")),
    }
    if let Some(binary) = std::env::var_os("ENVOY").filter(|binary| !binary.is_empty()) {
        return Ok(binary.into());
    }
    if let Some(binary) = on_path("envoy") {
        return Ok(binary);
    }
    let installed = super::root().join(".setup/envoy");
    if installed.is_file() {
        return Ok(installed);
    }
    by_func_e()?.ok_or_else(|| "no Envoy: run `make setup`, or name one with ENVOY=/path/to/envoy".to_owned())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The Envoy that func-e runs, which it fetches first if it has to: that of `ENVOY_VERSION`, else the one that this is made
/// for. `func-e run` would stand between us and the process, and outlive it or be outlived by it.
fn by_func_e() -> Result<Option<PathBuf>, Failure> {
    let Some(launcher) = on_path("func-e") else { return Ok(None) };
    let version = std::env::var("ENVOY_VERSION").ok().filter(|version| !version.is_empty());
    let mut command = Command::new(launcher);
    let command = command.arg("which").env("ENVOY_VERSION", version.as_deref().unwrap_or(VERSION));
    let output = command.output().map_err(|error| format!("func-e which: {error}"))?;
    let binary = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && Path::new(&binary).is_file() {
        return Ok(Some(binary.into()));
    }
    Err(format!("func-e which: {}{}", binary, String::from_utf8_lossy(&output.stderr)))
}
