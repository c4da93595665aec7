//! `envoy/docker-compose.yaml` in a real engine, from a fresh copy of the project and the build of its images on, with the checks
//! that the stack has to pass without containers too (`tests/e2e_site.rs`). `make compose-test` runs it: building takes minutes.
//! Where the engine can pull no images, `envoy/stand-in-images.sh` makes them from the programs of the machine. With
//! `MODULE=native` it is the stack of `envoy/docker-compose.native.yaml`.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::envoy::Directory;
use edgesplit_testkit::eventually;
use edgesplit_testkit::module_under_test::is_native;
use edgesplit_testkit::site::{self, Port, Service, Site};
use edgesplit_testkit::skip::skip;
use serde_json::Value;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const SERVICES: [&str; 6] = ["envoy", "origin", "experiments", "collector", "dashboard", "prometheus"];
const PORTS: [(Port, &str); 5] = [
    (Port::Proxy, "PORT_PROXY"),
    (Port::Admin, "PORT_ADMIN"),
    (Port::Collector, "PORT_COLLECTOR"),
    (Port::Dashboard, "PORT_DASHBOARD"),
    (Port::Prometheus, "PORT_PROMETHEUS"),
];

/// A start of everything, images built.
const START_DEADLINE: Duration = Duration::from_secs(120);

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(program: &str, arguments: &[&str], environment: &[(String, String)]) -> Result<Output, String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(project()).envs(environment.iter().cloned());
    command.output().map_err(|error| format!("{program}: {error}"))
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    run(program, arguments, &[]).is_ok_and(|output| output.status.success())
}

/// What a fresh clone of the project as it is now has: its own files, and nothing that was built.
fn fresh_copy() -> Directory {
    let listed = run("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"], &[]).unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let copy = Directory::new().unwrap();
    for name in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
        let (from, to) = (project().join(name), copy.file(name));
        // One that is gone is in the index still.
        if from.is_file() {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(from, to).unwrap();
        }
    }
    copy
}

/// The stack, which goes when this does.
struct Stack {
    compose: Vec<&'static str>,
    copy: Directory,
    project: String,
    environment: Vec<(String, String)>,
    ports: Vec<u16>,
}

impl Stack {
    /// None without an engine: the test is skipped.
    fn start() -> Option<Stack> {
        if !succeeds("docker", &["info"]) {
            skip("needs a container engine: `docker info` fails");
            return None;
        }
        let compose = if succeeds("docker", &["compose", "version"]) {
            vec!["docker", "compose"]
        } else if succeeds("docker-compose", &["version"]) {
            vec!["docker-compose"]
        } else {
            skip("needs `docker compose` or docker-compose");
            return None;
        };
        let mut environment = images();
        let free: Vec<TcpListener> =
            PORTS.iter().map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let ports: Vec<u16> = free.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        environment.extend(PORTS.iter().zip(&ports).map(|((_, name), port)| ((*name).to_owned(), port.to_string())));
        drop(free);
        let project = format!("edgesplit-{}", std::process::id());
        let stack = Stack { compose, copy: fresh_copy(), project, environment, ports };
        let begun = Instant::now();
        // It builds the images first.
        stack.run(&["up", "--detach"]);
        println!("up from a fresh copy in {} s", begun.elapsed().as_secs());
        Some(stack)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.copy.file(name)
    }

    fn run(&self, arguments: &[&str]) -> String {
        let files = ["envoy/docker-compose.yaml", "envoy/docker-compose.native.yaml"];
        let files = files.map(|name| self.file(name).display().to_string());
        let mut options = vec!["--project-name", &self.project, "--file", &files[0]];
        if is_native() {
            options.extend(["--file", &files[1]]);
        }
        let all: Vec<&str> = self.compose[1..].iter().chain(&options).chain(arguments).copied().collect();
        let output = run(self.compose[0], &all, &self.environment).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{all:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// What the engine knows of a service's container.
    fn inspect(&self, service: &str) -> Value {
        let id = self.run(&["ps", "--quiet", service]);
        let output = run("docker", &["inspect", id.trim()], &[]).unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].clone()
    }
}

fn name_of(service: Service) -> &'static str {
    match service {
        Service::Experiments => "experiments",
        Service::Collector => "collector",
    }
}

impl Site for Stack {
    fn port(&self, port: Port) -> Option<u16> {
        PORTS.iter().position(|(known, _)| *known == port).map(|at| self.ports[at])
    }

    fn stop(&mut self, service: Service) {
        self.run(&["stop", "--timeout", "5", name_of(service)]);
    }

    fn start(&mut self, service: Service) {
        self.run(&["start", name_of(service)]);
    }

    fn write_experiments(&mut self, text: &str) {
        // In place: a container sees the file that was there when it started.
        std::fs::write(self.file("examples/experiments.json"), text).unwrap();
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.run(&["logs", "--no-color", "--tail", "30"]));
        }
        self.run(&["down", "--volumes", "--remove-orphans", "--timeout", "5"]);
    }
}

/// Which images to take: those that are pulled, or stand-ins.
fn images() -> Vec<(String, String)> {
    if std::env::var_os("ENVOY_IMAGE").is_some() || succeeds("docker", &["pull", "--quiet", "debian:bookworm-slim"]) {
        return Vec::new();
    }
    let output = run("envoy/stand-in-images.sh", &[], &[]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("the engine pulls no images: these stand for them\n{}", String::from_utf8_lossy(&output.stdout));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

#[test]
#[ignore = "builds images, which takes minutes: `make compose-test`"]
fn stack_passes_all_checks() {
    assert!(project().join("dist/edgesplit").exists(), "`make build` first");
    let Some(mut stack) = Stack::start() else { return };
    for service in SERVICES {
        eventually(START_DEADLINE, &format!("{service} is healthy"), || {
            (stack.inspect(service)["State"]["Health"]["Status"] == "healthy").then_some(())
        });
        let container = stack.inspect(service);
        assert_eq!(container["HostConfig"]["ReadonlyRootfs"], true, "{service}");
        assert_eq!(container["HostConfig"]["CapDrop"], serde_json::json!(["ALL"]), "{service}");
        let user = container["Config"]["User"].as_str().unwrap_or_default();
        assert!(!["", "0", "root", "0:0"].contains(&user), "{service} runs as {user:?}");
    }
    let begun = Instant::now();
    site::check(&mut stack);
    println!("checked in {} s", begun.elapsed().as_secs());
}
