//! The filter over a port to its proxy, [`host`].
//!
//! ```text
//! plugin_config                     the configuration, validated
//! worker                            the state of a VM, and its regular work
//!   config_sync, owned_names        fetches the experiments, and shares them between VMs
//!   request                         read, plan, decide, write
//!     request_context               the facts about a request and its visitor
//!     assignment_set                the header texts of a set of variants
//!     decision_counts               the decisions until the tick
//!   response_plan, response         the work that a request leaves for its response
//!     internal_redirect, location   redirects that the proxy follows, and locations
//!   events                          exposures and goals, up to their acknowledgement
//!   spool                           the outbox on a disk, for hosts that have one
//!   guardrails, identification      switch bad variants off, warn about missing ids
//! http                              header maps, cookies, URLs, cache-control
//! shared_data, metrics              values that all VMs share, counters and gauges
//! ```

pub mod assignment_set;
pub mod call_failure;
pub mod config_sync;
pub mod decision_counts;
mod env;
pub mod events;
pub mod guardrails;
pub mod host;
pub mod http;
pub mod identification;
pub mod internal_redirect;
mod location;
pub mod metrics;
pub mod owned_names;
pub mod plugin_config;
pub mod request;
pub mod request_context;
pub mod response;
pub mod response_plan;
pub mod shared_data;
pub mod spool;
#[cfg(test)]
mod test_host;
pub mod worker;
