//! The filter as a dynamic module of Envoy.
//!
//! - `spool`: the outbox on a disk.
//! - `store`: the values that all workers of the process share.

mod spool;
mod store;
