//! The filter as a dynamic module of Envoy.
//!
//! - `hooks`: the functions that Envoy calls.
//! - `plugin`: a filter config with its workers; `ticker` is the clock for their regular work.
//! - `stream`: a request with its response; `response` is an answer of the filter itself.
//! - `host`: the filter's port; `links` are the connections behind it, `changes` the changes of headers, and `metrics` the
//!   metrics.
//! - `abi`: Envoy's types and functions.
//! - `spool`: the outbox on a disk.
//! - `store`: the values that all workers of the process share.

mod abi;
mod changes;
mod hooks;
mod host;
mod links;
mod metrics;
mod plugin;
mod response;
mod spool;
mod store;
mod stream;
#[cfg(feature = "test-hooks")]
mod test_hooks;
mod ticker;
