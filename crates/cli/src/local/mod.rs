//! The processes and services around the filter on one machine, for `demo`, `run` and the end-to-end tests.
//!
//! - [`envoy`]: an Envoy process, and where an Envoy is found;
//! - [`server`]: an HTTP/1.1 server whose behaviour can be switched while it runs, with its messages in [`http`];
//! - [`config_service`]: a server of one document;
//! - [`native`]: the native module in the place of the wasm module;
//! - `port`: ports that are free; `proxy`: an Envoy with the filter.

pub mod config_service;
pub mod envoy;
pub mod http;
pub mod native;
pub(crate) mod port;
pub(crate) mod proxy;
pub mod server;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, even if another thread has panicked with the lock: the first panic is the one to report.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
