//! The call that fetches a config, and its answer.

use super::state::Validator;
use crate::host::{Call, Host, HostError, Reply, status};
use crate::plugin_config::Source;

/// A usable answer.
pub(super) enum Answer {
    /// The config with the validator that was sent is still current.
    NotModified,
    /// A config, and its validator.
    Config(Vec<u8>, Option<Validator>),
}

/// Why a fetch failed.
pub(super) enum FetchFailure {
    /// There was no usable answer, for this reason.
    Unanswered(String),
    /// The answer was refused for this problem.
    Refused(String),
}

/// Starts the call for the config of `source`, if it changed since `validator`.
pub(super) fn dispatch(host: &impl Host, source: &Source, validator: Option<&Validator>) -> Result<u32, HostError> {
    let endpoint = &source.endpoint;
    let mut headers = vec![
        (":method", "GET"),
        (":path", endpoint.path.as_str()),
        (":authority", endpoint.authority.as_str()),
        (":scheme", "http"),
        ("accept", "application/json"),
    ];
    headers.extend(endpoint.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    headers.extend(validator.map(Validator::condition));
    host.dispatch(&Call { cluster: &endpoint.cluster, headers, body: &[], timeout_ms: source.timeout_ms })
}

/// Reads a reply with a body of at most `bytes_max` bytes.
pub(super) fn answer(reply: &impl Reply, bytes_max: usize) -> Result<Answer, FetchFailure> {
    let headers = reply.headers();
    match status(&headers) {
        Some(304) => return Ok(Answer::NotModified),
        Some(200) => {}
        Some(status) => return Err(FetchFailure::Unanswered(format!("status {status}"))),
        None => return Err(FetchFailure::Unanswered("no answer".to_owned())),
    }
    let bytes = reply.body_len();
    if bytes > bytes_max {
        let problem = format!("{bytes} bytes, more than experiments.max_bytes ({bytes_max})");
        return Err(FetchFailure::Refused(problem));
    }
    Ok(Answer::Config(reply.body(bytes_max), Validator::of(&headers)))
}
