//! An Envoy process: where its binary is found, its start, its log and its end.

use crate::admin::Admin;
use crate::http_url::HttpUrl;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The version of Envoy that edgesplit is developed for.
const VERSION: &str = "1.40.0";

/// The most lines of the log that an error shows.
const LOG_TAIL_LINES: usize = 40;
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The longest time for a start: every VM compiles the module, which takes a busy machine a while.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// A running Envoy with its directory. It is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    directory: Directory,
}

/// The ports of an Envoy that serves, on the loopback interface.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// The port of its admin interface.
    pub admin: u16,
    /// The port of its first listener.
    pub listener: u16,
}

impl Process {
    /// Starts an Envoy with this bootstrap, in YAML or JSON. The bootstrap may name files in `directory`.
    pub fn spawn(bootstrap: &str, workers: usize, directory: Directory) -> Result<Process, String> {
        let binary = find_binary()?;
        let (config, log) = (directory.file("envoy.yaml"), directory.file("envoy.log"));
        let cannot = |file: &Path, error: io::Error| format!("{}: {error}", file.display());
        // Envoy recognizes the language by the name, and JSON is YAML.
        fs::write(&config, bootstrap).map_err(|error| cannot(&config, error))?;
        let output = File::create(&log).map_err(|error| cannot(&log, error))?;
        let child = Command::new(&binary)
            .arg("--config-path")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(directory.file("admin"))
            .args(["--concurrency", &workers.to_string(), "--disable-hot-restart"])
            .args(["--log-level", "warn", "--component-log-level", "wasm:info"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .map_err(|error| cannot(&binary, error))?;
        Ok(Process { child, directory })
    }

    /// Waits until it serves. The error shows the end of its log.
    pub fn wait_until_serving(&mut self) -> Result<Ports, String> {
        let end = Instant::now() + START_DEADLINE;
        loop {
            if let Some(ports) = self.ports() {
                return Ok(ports);
            }
            if let Some(status) = self.exited() {
                return Err(format!("Envoy ended with {status} at its start:\n{}", self.log_tail()));
            }
            if Instant::now() > end {
                return Err(format!("Envoy did not serve within {START_DEADLINE:?}:\n{}", self.log_tail()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn ports(&self) -> Option<Ports> {
        let address = fs::read_to_string(self.directory.file("admin")).ok()?;
        let admin: u16 = address.rsplit_once(':')?.1.trim().parse().ok()?;
        let interface = Admin::new(HttpUrl::local(admin));
        interface.get("/ready").ok()?;
        let listeners: serde_json::Value =
            serde_json::from_slice(&interface.get("/listeners?format=json").ok()?).ok()?;
        let listener = listeners.pointer("/listener_statuses/0/local_address/socket_address/port_value")?.as_u64()?;
        Some(Ports { admin, listener: u16::try_from(listener).ok()? })
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end, for `deadline` at most.
    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + deadline;
        while Instant::now() < end {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        None
    }

    /// Ends it as an orchestrator does, and waits for its end.
    pub fn terminate(&mut self, deadline: Duration) -> Option<ExitStatus> {
        if self.exited().is_none() {
            // The standard library sends SIGKILL only; the shell has `kill` built in. If that fails, the wait shows it.
            let _ = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.id().to_string()]).status();
        }
        self.wait(deadline)
    }

    /// The whole log.
    pub fn log(&self) -> String {
        let log = fs::read(self.directory.file("envoy.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let skipped = log.lines().count().saturating_sub(LOG_TAIL_LINES);
        log.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A temporary directory. Dropping it removes its files, except after a panic: the log of a failed test is kept.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Creates a new one.
    pub fn new() -> Result<Directory, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // The name has the time because process ids recur, and directories of failed tests stay.
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("edgesplit-{}-{started}-{number}", std::process::id()));
        fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(Directory(directory))
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the files of the process are kept in {}", self.0.display());
        } else {
            // Files that cannot be removed stay in the system's temporary directory.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Looks for Envoy in the order of `make setup`: `$ENVOY`, `envoy` on the path, `.setup/envoy` of the project around the
/// working directory or the command, and the Envoy that `func-e` on the path runs. With `ENVOY_RUNNER=func-e`: only the last.
pub fn find_binary() -> Result<PathBuf, String> {
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
    if let Some(binary) = on_path("envoy").or_else(installed_by_setup) {
        return Ok(binary);
    }
    by_func_e()?.ok_or_else(|| {
        format!(
            "no Envoy found: name one with ENVOY=/path/to/envoy, put envoy {VERSION} or func-e (https://func-e.io) on the PATH, \
             or run `make setup` in edgesplit's sources"
        )
    })
}

fn installed_by_setup() -> Option<PathBuf> {
    let around = [std::env::current_dir(), std::env::current_exe()].into_iter().flatten();
    around
        .flat_map(|path| path.ancestors().map(|folder| folder.join(".setup/envoy")).collect::<Vec<_>>())
        .find(|file| file.is_file())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The Envoy that func-e runs, which it fetches first if it has to: the version in `ENVOY_VERSION`, else [`VERSION`].
/// `func-e run` would be a process between this one and Envoy, and could outlive either.
fn by_func_e() -> Result<Option<PathBuf>, String> {
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
