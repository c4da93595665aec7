//! The dashboard of the built command, beside Envoys.

use super::Failure;
use super::client::Client;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A dashboard that runs. It ends with its owner.
pub struct Dashboard {
    process: Child,
    /// Such as `http://127.0.0.1:8004`.
    pub address: String,
}

impl Dashboard {
    /// Starts it for the Envoy with this admin port, with this config (a file or an address), on `port`; 0 is a free one.
    pub fn start(admin: u16, config: &str, port: u16) -> Result<Dashboard, Failure> {
        Dashboard::of(&[admin], config, port)
    }

    /// The same for several Envoys.
    pub fn of(admins: &[u16], config: &str, port: u16) -> Result<Dashboard, Failure> {
        let command = super::root().join("dist/edgesplit");
        let mut process = Command::new(&command)
            .args(["dashboard", "--config", config, "--listen", &format!("127.0.0.1:{port}")])
            .args(admins.iter().flat_map(|admin| ["--envoy".to_owned(), format!("http://127.0.0.1:{admin}")]))
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}: run `make build`", command.display()))?;
        let mut line = String::new();
        let read = process.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let address = line.trim().to_owned();
        let dashboard = Dashboard { process, address };
        match read {
            Some(Ok(_)) if dashboard.address.starts_with("http://") => Ok(dashboard),
            _ => Err("the dashboard did not start; why is said above".to_owned()),
        }
    }

    /// What the page is drawn from.
    pub fn state(&self) -> Value {
        let port = self.address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        Client::new(port).get("/state.json").host(format!("127.0.0.1:{port}")).send().json()
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
