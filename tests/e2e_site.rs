//! The stack of `envoy/docker-compose.yaml` without containers: the same Envoy configuration, the same services, the same checks.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::caches::recipe;
use edgesplit_testkit::command::program;
use edgesplit_testkit::dashboard::Dashboard;
use edgesplit_testkit::envoy::{Directory, Envoy};
use edgesplit_testkit::module_under_test::built_module;
use edgesplit_testkit::site::{self, Port, Service, Site};
use edgesplit_testkit::{DEADLINE, eventually};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A service of the demo, as its container runs it.
struct Process {
    child: Child,
    port: u16,
}

impl Process {
    /// On this port; 0 is a free one.
    fn start(role: &str, port: u16, file: &Path) -> Process {
        // Another process may hold the port for a moment.
        eventually(DEADLINE, role, || {
            let mut child = Command::new(program())
                .args(["demo", "serve", role, &format!("127.0.0.1:{port}")])
                .env("EXPERIMENTS", file)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
            Some(Process { child, port: port? })
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Local {
    envoy: Envoy,
    dashboard: Dashboard,
    _origin: Process,
    experiments: Option<Process>,
    collector: Option<Process>,
    /// Of the latter two, which come back where they were.
    ports: [u16; 2],
    directory: Directory,
}

impl Local {
    fn start() -> Local {
        let directory = Directory::new().unwrap();
        let file = directory.file("experiments.json");
        std::fs::write(&file, site::experiments()).unwrap();
        let [origin, experiments, collector] =
            ["origin", "experiments", "collector"].map(|role| Process::start(role, 0, &file));
        let module = Value::from(built_module().to_string_lossy()).to_string();
        let at = |process: &Process| format!("address: 127.0.0.1, port_value: {}", process.port);
        let yaml = recipe(
            "compose/envoy.yaml",
            &[
                ("/modules/edgesplit.wasm", module.as_str()),
                ("address: 0.0.0.0, port_value: 10000", "address: 127.0.0.1, port_value: 0"),
                ("address: 0.0.0.0, port_value: 9901", "address: 127.0.0.1, port_value: 0"),
                ("address: origin, port_value: 8001", &at(&origin)),
                ("address: experiments, port_value: 8002", &at(&experiments)),
                ("address: collector, port_value: 8003", &at(&collector)),
            ],
        );
        let envoy = Envoy::try_start_with(&yaml, 2).unwrap_or_else(|error| panic!("{error}"));
        let served = format!("http://127.0.0.1:{}/experiments.json", experiments.port);
        let dashboard = Dashboard::start(envoy.admin_port(), &served, 0).unwrap();
        let ports = [experiments.port, collector.port];
        let (experiments, collector) = (Some(experiments), Some(collector));
        Local { envoy, dashboard, _origin: origin, experiments, collector, ports, directory }
    }
}

impl Site for Local {
    fn port(&self, port: Port) -> Option<u16> {
        match port {
            Port::Proxy => Some(self.envoy.port()),
            Port::Admin => Some(self.envoy.admin_port()),
            Port::Collector => Some(self.ports[1]),
            Port::Dashboard => self.dashboard.address.rsplit(':').next().and_then(|port| port.parse().ok()),
            // tests/grafana.rs asks one.
            Port::Prometheus => None,
        }
    }

    fn stop(&mut self, service: Service) {
        match service {
            Service::Experiments => self.experiments = None,
            Service::Collector => self.collector = None,
        }
    }

    fn start(&mut self, service: Service) {
        let file = self.directory.file("experiments.json");
        match service {
            Service::Experiments => self.experiments = Some(Process::start("experiments", self.ports[0], &file)),
            Service::Collector => self.collector = Some(Process::start("collector", self.ports[1], &file)),
        }
    }

    fn write_experiments(&mut self, text: &str) {
        std::fs::write(self.directory.file("experiments.json"), text).unwrap();
    }
}

#[test]
fn stack_passes_all_checks() {
    site::check(&mut Local::start());
}
