//! Visitors of the site: a few requests a second, each as a shop has them.

use edgesplit_testkit::client::{Client, Outgoing, Reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections, so that each worker of Envoy has its share.
const CONNECTIONS: u64 = 4;
/// Requests a second, over all connections.
const RATE: u64 = 20;
/// How long to wait for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a visitor does, one after the other.
const VISIT: [(&str, &str); 4] = [("GET", "/"), ("GET", "/products/7"), ("GET", "/checkout"), ("POST", "/api/orders")];
/// Where visitors come from.
const COUNTRIES: [&str; 4] = ["DE", "AT", "FR", "US"];

/// Traffic that goes on until it is stopped.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Sends requests to this port of the loopback interface.
    pub(crate) fn start(port: u16) -> Traffic {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = |connection| {
            let (stop, failed) = (Arc::clone(&stop), Arc::clone(&failed));
            std::thread::spawn(move || visitors(connection, port, &stop, &failed))
        };
        Traffic { threads: (0..CONNECTIONS).map(thread).collect(), stop, failed }
    }

    /// How many requests were not answered with success.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ends it, and waits for the last answers.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What it panicked with has been printed.
            let _ = thread.join();
        }
    }
}

/// One visitor after the other, on one connection.
fn visitors(connection: u64, port: u16, stop: &AtomicBool, failed: &AtomicU64) {
    let mut client = Client::new(port).deadline(DEADLINE);
    let numbers = (connection..).step_by(CONNECTIONS as usize);
    for (number, country) in numbers.zip(COUNTRIES.iter().cycle()) {
        // Half of them are known to the shop, the others get a cookie with their first page.
        let known = number % 2 == 0;
        let mut cookie = None;
        for (method, path) in VISIT {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut outgoing = Outgoing::new(method, path).header("x-country", country);
            if known {
                outgoing = outgoing.header("x-user-id", format!("visitor-{number}"));
            } else if let Some(cookie) = &cookie {
                outgoing = outgoing.header("cookie", cookie);
            }
            match client.send(&outgoing) {
                Ok(reply) if reply.status < 400 => cookie = cookie.or_else(|| minted(&reply)),
                // While the demo ends, so does Envoy.
                _ if stop.load(Ordering::Relaxed) => return,
                _ => {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            std::thread::sleep(Duration::from_secs(CONNECTIONS) / RATE as u32);
        }
    }
}

/// The cookie that a reply sets, as a client sends it back.
fn minted(reply: &Reply) -> Option<String> {
    let cookie = reply.header("set-cookie")?;
    Some(cookie.split(';').next()?.to_owned())
}
