//! The filter itself: what a worker keeps ([`worker`]), what it does with a request ([`request`]) and with its response
//! ([`response`]). Nothing here knows which proxy it runs in; see [`crate::host`].

pub mod combinations;
mod flags;
pub mod guardrails;
pub mod recent_visitors;
mod report;
pub mod request;
pub mod response;
pub mod streams;
pub mod worker;
