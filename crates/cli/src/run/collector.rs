//! The collector of `run`: takes every event.

use crate::local::http::{Request, Response};
use crate::local::lock;
use crate::local::server::Server;
use serde_json::Value;
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

/// The most variants whose first exposure is noted.
const VARIANTS_MAX: usize = 1_000;

/// The first exposures.
#[derive(Default)]
struct Exposures {
    /// Experiments and variants.
    seen: HashSet<(String, String)>,
    /// The lines that were not printed yet.
    lines: Vec<String>,
}

/// Takes every event, and notes the first exposure of each variant.
pub(super) struct Collector {
    server: Server,
    exposures: Arc<Mutex<Exposures>>,
}

impl Collector {
    pub(super) fn start() -> io::Result<Collector> {
        let exposures = Arc::new(Mutex::new(Exposures::default()));
        let noted = Arc::clone(&exposures);
        let server = Server::start(move |request| {
            lock(&noted).note(request);
            Response::new(202)
        })?;
        Ok(Collector { server, exposures })
    }

    pub(super) fn port(&self) -> u16 {
        self.server.port()
    }

    /// A line for each variant that was exposed for the first time since the last call.
    pub(super) fn first_exposures(&self) -> Vec<String> {
        self.server.take_requests();
        std::mem::take(&mut lock(&self.exposures).lines)
    }
}

impl Exposures {
    /// Reads a native batch. Batches in vendors' formats are taken as they are.
    fn note(&mut self, request: &Request) {
        let body = request.json().unwrap_or_default();
        for event in body.get("events").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let variant = (text("experiment"), text("variant"));
            if text("type") == "exposure" && self.seen.len() < VARIANTS_MAX && self.seen.insert(variant.clone()) {
                let (experiment, variant) = variant;
                self.lines.push(format!(
                    "first exposure of {experiment}={variant}: visitor {} on {}",
                    text("unit"),
                    text("path")
                ));
            }
        }
    }
}
