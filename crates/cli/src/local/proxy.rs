//! An Envoy with the filter, on its usual ports if they are free.

use super::envoy::{Directory, Ports, Process};
use super::native::{is_native, native_bootstrap};
use super::port::Port;
use crate::admin::Admin;
use crate::http_url::HttpUrl;
use crate::module;
use std::path::Path;
use std::time::Duration;

/// Two workers show that they share the experiments and the outbox.
pub(crate) const WORKERS: usize = 2;

/// The ports of `envoy/envoy.yaml`.
pub(crate) const PROXY: u16 = 10_000;
pub(crate) const ADMIN: u16 = 9901;

/// The longest time for an orderly end.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A running Envoy.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Process,
    pub(crate) ports: Ports,
    pub(crate) admin: Admin,
    _ports: [Port; 2],
}

/// The ports and the module of a bootstrap.
#[derive(Debug)]
pub(crate) struct Slots<'a> {
    /// The ports; 0 is a free one.
    pub(crate) proxy: u16,
    pub(crate) admin: u16,
    /// The file of the filter's module.
    pub(crate) module: &'a Path,
}

impl Proxy {
    /// Starts an Envoy with the bootstrap that `bootstrap` makes, and waits until it serves.
    pub(crate) fn start(
        module: Option<&Path>,
        bootstrap: impl Fn(&Slots<'_>) -> Result<String, String>,
    ) -> Result<Proxy, String> {
        let ports = [PROXY, ADMIN].map(Port::choose);
        let start = |proxy: u16, admin: u16| -> Result<(Process, Ports), String> {
            let directory = Directory::new()?;
            let is_native = module.is_some_and(is_native);
            let file = directory.file(if is_native { "libedgesplit.so" } else { "edgesplit.wasm" });
            module::write(module, &file)?;
            let mut text = bootstrap(&Slots { proxy, admin, module: &file })?;
            if is_native {
                text = native_bootstrap(text, &file)?;
            }
            let mut process = Process::spawn(&text, WORKERS, directory)?;
            let ports = process.wait_until_serving()?;
            Ok((process, ports))
        };
        let [proxy, admin] = ports.each_ref().map(|port| port.number);
        let (process, serving) = start(proxy, admin).or_else(|error| {
            // Another process may have taken a port that was free.
            if error.contains("cannot bind") { start(0, 0) } else { Err(error) }
        })?;
        let admin = Admin::new(HttpUrl::local(serving.admin));
        Ok(Proxy { process, ports: serving, admin, _ports: ports })
    }

    /// If it has ended: its status, and the end of its log.
    pub(crate) fn exited(&mut self) -> Option<String> {
        self.process.exited().map(|status| format!("Envoy ended with {status}:\n{}", self.process.log_tail()))
    }

    /// Ends it in order, which delivers its last events. If it does not end in time, dropping it kills it.
    pub(crate) fn stop(&mut self) {
        let _ = self.process.terminate(STOP_DEADLINE);
    }
}
