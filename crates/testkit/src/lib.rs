//! What the end-to-end tests stand on: a real Envoy, the services around it with every fault they can
//! have, and a client that sends exact bytes.
//!
//! - [`http`]: messages as bytes, and [`server`]: an HTTP/1.1 server whose behaviour can be switched while it runs, both
//!   shared with the command's demo;
//! - [`roles`]: the three services the filter meets: origin, config service, collector;
//! - [`bootstrap`]: what an Envoy is started with;
//! - [`module_under_test`]: the filter as wasm, or with `MODULE=native` as a native module;
//! - [`native_process`]: the native module in a host that stands in for Envoy;
//! - [`envoy`]: an Envoy process, its log and its stats;
//! - [`dashboard`]: the dashboard of the built command, and [`browser`]: a Chromium that is driven over a pipe;
//! - [`caches`]: Varnish and nginx between an Envoy and the origin, where the machine has them;
//! - [`client`]: an HTTP/1.1 client, byte-exact;
//! - [`load`]: many requests at a steady rate;
//! - [`project`]: the project's own files, for tests that check them; [`page`]: the blocks of the docs;
//! - [`random`]: random numbers that a seed determines;
//! - [`fixture`]: checks of the documents that tests use;
//! - [`skip`]: the list of skipped tests; [`conformance`]: tests over the vendors' own cases;
//! - [`site`]: the stack that users are given, and what has to hold of it;
//! - [`stack`]: all services around one filter, and its events at each of them; [`vendors`]: the samples of vendors.
//!
//! Plain threads, no async runtime. Every port is chosen by the system. Nothing waits for a fixed time: what has to
//! become true is polled for, with a deadline ([`eventually`]).

// A harness fails by panicking with a clear message; nothing of it ships.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod bootstrap;
pub mod browser;
pub mod caches;
pub mod client;
pub mod command;
pub mod conformance;
pub mod dashboard;
pub mod envoy;
pub mod fixture;
pub mod http2;
pub mod load;
pub mod module;
pub mod module_under_test;
pub mod native_process;
pub mod page;
pub mod project;
pub mod random;
pub mod roles;
pub mod site;
pub mod skip;
pub mod stack;
pub mod vendors;

pub use edgesplit_cli::local::{http, lock, server};
pub use skip::installed;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How often [`eventually`] looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long a test waits for something that takes milliseconds on an idle machine. Generous, for busy ones.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The project's folder.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).expect("crates/testkit is two levels below the root")
}

/// Sends a signal such as `TERM` to a process: the standard library knows only `KILL`, and the shell has `kill` built in.
/// If that fails, the wait for its end shows it.
pub fn send_signal(name: &str, process: u32) {
    let _ = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &process.to_string()]).status();
}

/// What a harness call can fail with: a text for a person.
pub type Failure = String;

/// Polls `probe` until it gives something, and gives that. Panics after `deadline`, saying `what` did not happen.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "did not happen within {deadline:?}: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Polls until `probe` gives `expected`, within [`DEADLINE`]. The panic shows what was there last.
#[track_caller]
pub fn eventually_eq<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, mut probe: impl FnMut() -> T) {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = probe();
        if found == expected {
            return;
        }
        assert!(Instant::now() < end, "{what}: still {found:?} after {DEADLINE:?}, expected {expected:?}");
        std::thread::sleep(POLL_INTERVAL);
    }
}
