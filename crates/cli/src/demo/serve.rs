//! `edgesplit demo serve ROLE ADDRESS`: one service of the demo alone, for a container.

use super::experiments::Experiments;
use super::services::{Store, collect, origin, received_summary};
use crate::local::config_service::ConfigService;
use crate::local::http::Request;
use crate::local::lock;
use crate::local::server::Server;
use crate::signals::Stop;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

/// Interval between checks of the file and the signals.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A service of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Role {
    Origin,
    Experiments,
    Collector,
}

/// Serves `role` at `address` until it is stopped.
pub(super) fn run(role: Role, address: SocketAddr, file: Experiments, stop: &Stop) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot listen on {address}: {error}");
    let (server, experiments) = match role {
        Role::Origin => (Some(Server::start_at(address, origin).map_err(cannot)?), None),
        Role::Collector => {
            let store = Mutex::new(Store::default());
            let collector = move |request: &Request| match request.method.as_str() {
                "GET" => received_summary(&lock(&store).received),
                _ => collect(request, &store),
            };
            (Some(Server::start_at(address, collector).map_err(cannot)?), None)
        }
        Role::Experiments => (None, Some(ConfigService::start_at(address, file.text()).map_err(cannot)?)),
    };
    let servers = || server.iter().chain(experiments.as_ref().map(|experiments| &experiments.server));
    let port = servers().next().map_or(address.port(), Server::port);
    let name = format!("{role:?}").to_lowercase();
    crate::output::print(&format!("{name} on {}\n", SocketAddr::new(address.ip(), port)))?;
    while !stop.is_requested() {
        if let (Some(experiments), Some(text)) = (&experiments, file.changed()) {
            experiments.set_body(text);
        }
        servers().for_each(|server| drop(server.take_requests()));
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
