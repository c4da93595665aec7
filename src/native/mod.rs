//! The filter as a dynamic module of Envoy.
//!
//! - `store`: the values that all workers of the process share.

mod store;
