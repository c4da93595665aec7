//! The filter over a host port: what a worker keeps ([`worker`]), what it does with a request ([`request`]) and with its
//! response ([`response`]). Nothing here knows which proxy it runs in; see [`host`].

pub mod assignment_set;
pub mod call_failure;
pub mod config_sync;
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
#[cfg(test)]
mod test_host;
pub mod worker;
