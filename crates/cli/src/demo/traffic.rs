//! The visitors of the demo's shop: a few requests a second.

use crate::files::agent;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use ureq::http::Request;
use ureq::http::request::Builder;

/// Enough connections to reach every worker of Envoy.
const CONNECTIONS: u64 = 4;
/// Requests a second, over all connections.
const RATE: u64 = 20;
/// The longest time for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// The requests of a visit, in order.
const VISIT: [(&str, &str); 4] = [("GET", "/"), ("GET", "/products/7"), ("GET", "/checkout"), ("POST", "/api/orders")];
/// The countries of visitors.
const COUNTRIES: [&str; 4] = ["DE", "AT", "FR", "US"];

/// Traffic that continues until it is stopped.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Sends requests to this port of the loopback interface.
    pub(super) fn start(port: u16) -> Traffic {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = |connection| {
            let (stop, failed) = (Arc::clone(&stop), Arc::clone(&failed));
            std::thread::spawn(move || visitors(connection, port, &stop, &failed))
        };
        Traffic { threads: (0..CONNECTIONS).map(thread).collect(), stop, failed }
    }

    /// The number of requests that were not answered with success.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ends it, and waits for the last answers.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // If it panicked, its message has been printed.
            let _ = thread.join();
        }
    }
}

/// One visitor after the other, on one connection.
fn visitors(connection: u64, port: u16, stop: &AtomicBool, failed: &AtomicU64) {
    let agent = agent(DEADLINE);
    let numbers = (connection..).step_by(CONNECTIONS as usize);
    for (number, country) in numbers.zip(COUNTRIES.iter().cycle()) {
        // The shop knows half of them. The others get a cookie with their first page.
        let is_known = number % 2 == 0;
        let mut cookie = None;
        for (method, path) in VISIT {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut request = Request::builder().method(method).uri(format!("http://127.0.0.1:{port}{path}"));
            request = request.header("host", "shop.example").header("x-country", *country);
            if is_known {
                request = request.header("x-user-id", format!("visitor-{number}"));
            } else if let Some(cookie) = &cookie {
                request = request.header("cookie", cookie);
            }
            match send(&agent, request) {
                Ok(set_cookie) => cookie = cookie.or(set_cookie),
                // Envoy may end before the traffic does.
                Err(_) if stop.load(Ordering::Relaxed) => return,
                Err(_) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            std::thread::sleep(Duration::from_secs(CONNECTIONS) / RATE as u32);
        }
    }
}

/// Sends a request. Returns the cookie that the response sets, in the form for a request.
fn send(agent: &ureq::Agent, request: Builder) -> Result<Option<String>, ureq::Error> {
    let mut response = agent.run(request.body(())?)?;
    // The connection is free for the next request after its body is read.
    response.body_mut().read_to_vec()?;
    let cookie = response.headers().get("set-cookie").and_then(|cookie| cookie.to_str().ok());
    Ok(cookie.and_then(|cookie| cookie.split(';').next()).map(str::to_owned))
}
