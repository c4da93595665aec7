//! `envoy/docker-compose.yaml` in a real engine, from the build of its images on. `make compose-test` runs it: building
//! takes minutes. Where the engine can pull no images, `envoy/stand-in-images.sh` makes them of what the machine has.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod harness;

use harness::client::Client;
use harness::{command, eventually};
use serde_json::Value;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const SERVICES: [&str; 6] = ["envoy", "origin", "experiments", "collector", "dashboard", "prometheus"];
const PORTS: [&str; 5] = ["PORT_PROXY", "PORT_ADMIN", "PORT_COLLECTOR", "PORT_DASHBOARD", "PORT_PROMETHEUS"];

/// A start of everything, images built.
const START_DEADLINE: Duration = Duration::from_secs(120);

fn run(program: &str, arguments: &[&str], environment: &[(String, String)]) -> Result<Output, String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).envs(environment.iter().cloned());
    command.output().map_err(|error| format!("{program}: {error}"))
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    run(program, arguments, &[]).is_ok_and(|output| output.status.success())
}

/// The stack, which goes when this does.
struct Stack {
    compose: Vec<&'static str>,
    project: String,
    environment: Vec<(String, String)>,
    ports: Vec<u16>,
}

impl Stack {
    /// None where there is no engine: the test says so.
    fn start() -> Option<Stack> {
        if !succeeds("docker", &["info"]) {
            eprintln!("skipped: no container engine answers to `docker info`");
            return None;
        }
        let compose = if succeeds("docker", &["compose", "version"]) {
            vec!["docker", "compose"]
        } else if succeeds("docker-compose", &["version"]) {
            vec!["docker-compose"]
        } else {
            eprintln!("skipped: there is neither `docker compose` nor docker-compose");
            return None;
        };
        let mut environment = images();
        let free: Vec<TcpListener> =
            PORTS.iter().map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let ports: Vec<u16> = free.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        environment.extend(PORTS.iter().zip(&ports).map(|(name, port)| ((*name).to_owned(), port.to_string())));
        drop(free);
        let stack = Stack { compose, project: format!("edgesplit-{}", std::process::id()), environment, ports };
        stack.run(&["build"]);
        stack.run(&["up", "--detach"]);
        Some(stack)
    }

    fn run(&self, arguments: &[&str]) -> String {
        let file = ["--project-name", &self.project, "--file", "envoy/docker-compose.yaml"];
        let all: Vec<&str> = self.compose[1..].iter().chain(&file).chain(arguments).copied().collect();
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

    fn client(&self, port: &str) -> Client {
        Client::new(self.ports[PORTS.iter().position(|name| *name == port).unwrap()])
    }

    fn stat(&self, name: &str) -> u64 {
        let reply = self.client("PORT_ADMIN").get(&format!("/stats?format=json&filter={name}$")).send();
        reply.json()["stats"][0]["value"].as_u64().unwrap_or(0)
    }

    /// Every visitor of these is answered, and gets what the command says. Gives how many were in an experiment.
    fn visit(&self, visitors: std::ops::Range<u32>) -> usize {
        let lines: String =
            visitors.clone().map(|visitor| format!("{{\"id\": \"v{visitor}\", \"path\": \"/checkout\"}}\n")).collect();
        let output = command::edgesplit(&["evaluate", "--config", "examples/experiments.json"], &lines);
        let expected = command::results(&output);
        let mut client = self.client("PORT_PROXY");
        let mut assigned = 0;
        for (visitor, expected) in visitors.zip(expected) {
            let reply = client.get("/checkout").header("x-user-id", format!("v{visitor}")).send();
            assert_eq!(reply.status, 200);
            let text = reply.text();
            let header = text.lines().find_map(|line| line.strip_prefix("x-ab-assignments: ")).unwrap_or_default();
            assert_eq!(header, expected["assignments"], "v{visitor}");
            assigned += usize::from(!header.is_empty());
        }
        assigned
    }

    /// How many events the collector has since it was started.
    fn collected(&self) -> Option<u64> {
        let reply = self.client("PORT_COLLECTOR").get("/").try_send().ok()?;
        reply.json()["events"].as_u64()
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
fn the_stack_comes_up_decides_as_the_command_does_and_loses_nothing_in_an_outage() {
    assert!(Path::new("dist/edgesplit").exists(), "`make build` first");
    let Some(stack) = Stack::start() else { return };
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
    eventually(START_DEADLINE, "the filter has its experiments", || {
        (stack.stat("config.fetch_success") > 0).then_some(())
    });

    let assigned = stack.visit(0..300);
    assert!(assigned > 200, "{assigned}");
    eventually(START_DEADLINE, "every exposure is at the collector", || {
        let emitted = stack.stat("events.emitted");
        (emitted >= 300 && stack.collected() == Some(emitted)).then_some(())
    });

    // An outage: the collector is gone, and comes back with nothing in it.
    let before = stack.stat("events.emitted");
    stack.run(&["stop", "--timeout", "5", "collector"]);
    assert!(stack.visit(300..600) > 200, "no request minds");
    eventually(START_DEADLINE, "events wait", || (stack.stat("outbox.queued_events") > 0).then_some(()));
    let in_outage = stack.stat("events.emitted") - before;
    assert!(in_outage >= 300, "{in_outage}");
    stack.run(&["start", "collector"]);
    eventually(START_DEADLINE, "what waited has arrived", || {
        (stack.stat("outbox.queued_events") == 0 && stack.collected() == Some(in_outage)).then_some(())
    });
    assert_eq!(stack.stat("events.delivered"), before + in_outage);

    eventually(START_DEADLINE, "the dashboard is content", || {
        let state = stack.client("PORT_DASHBOARD").get("/state.json").send().json();
        let counted = state["delivery"]["delivered"] == before + in_outage;
        (counted && state["delivery"]["verdict"]["health"] == "healthy").then_some(())
    });
    for query in ["up==1", "edgesplit_exposures"] {
        eventually(START_DEADLINE, query, || {
            let reply = stack.client("PORT_PROMETHEUS").get(&format!("/api/v1/query?query={query}")).send().json();
            reply["data"]["result"].as_array().is_some_and(|result| !result.is_empty()).then_some(())
        });
    }
}
