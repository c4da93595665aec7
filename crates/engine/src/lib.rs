//! The decision engine. It is pure: without a host, a clock or I/O, the same inputs give the same answers in the filter, in
//! the command and in a simulation.
//!
//! A config is compiled into a [`snapshot`]; [`decide`] reads it. A decision is a variant or none, always with its
//! [`reason`]; [`assignments`] writes decisions out for the origin and its caches.

pub mod assignments;
pub mod attribute;
pub mod condition;
pub mod conversion;
pub mod decide;
mod decide_flags;
mod decision;
pub mod flag;
pub mod free;
pub mod guardrail;
pub mod hash;
pub mod header_name;
pub mod json;
pub mod number;
pub mod observer;
pub mod path_rewrite;
pub mod pattern;
pub mod percent;
pub mod printable;
pub mod reason;
pub mod route;
pub mod route_index;
pub mod sample_ratio;
pub mod snapshot;
pub mod snapshot_indexer;
pub mod sort;
#[cfg(test)]
mod test_random;

pub use decide_flags::decide_flags;
