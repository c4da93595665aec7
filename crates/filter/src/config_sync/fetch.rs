//! The call that fetches a config, and its answer.

use super::decoder::Decoder;
use super::state::Validator;
use crate::call_failure::CallFailure;
use crate::host::{Call, DispatchError, Host, Reply, status};
use crate::metrics::Counter;
use crate::plugin_config::Source;
use edgesplit_formats::FormatRef;

/// A usable answer.
pub(super) enum Answer {
    /// The config with the validator that was sent is still current.
    NotModified,
    /// A config, to be decoded, and its validator.
    Config(Decoder, Option<Validator>),
}

/// Why a fetch failed.
#[derive(Debug)]
pub(super) enum FetchFailure {
    /// There was no usable answer.
    Call(CallFailure),
    /// The answer was refused for this problem.
    Refused(String),
}

impl FetchFailure {
    pub(super) fn counter(&self) -> Counter {
        match self {
            FetchFailure::Call(_) => Counter::FetchFailure,
            FetchFailure::Refused(_) => Counter::ConfigRejected,
        }
    }

    /// The line for the log about a fetch from `cluster`. `is_first` if no fetch before it succeeded.
    pub(super) fn message(&self, cluster: &str, is_first: bool) -> (log::Level, String) {
        let (level, message) = match self {
            FetchFailure::Call(failure) => {
                (log::Level::Warn, format!("experiments could not be fetched ({})", failure.describe(cluster)))
            }
            FetchFailure::Refused(problem) => {
                (log::Level::Error, format!("the fetched experiments are refused: {problem}"))
            }
        };
        let rest = if is_first { "no earlier fetch succeeded" } else { "the last good ones stay" };
        (level, format!("{message}; {rest}"))
    }
}

/// Starts the call for the config of `source`, if it changed since `validator`.
pub(super) fn dispatch(host: &impl Host, source: &Source, validator: Option<&Validator>) -> Result<u32, DispatchError> {
    let endpoint = &source.endpoint;
    let mut headers = vec![
        (":method", "GET"),
        (":path", endpoint.path.as_str()),
        (":authority", endpoint.authority.as_str()),
        (":scheme", endpoint.scheme.name()),
        ("accept", "application/json"),
    ];
    if endpoint.headers.iter().all(|(name, _)| name != "accept-encoding") {
        headers.push(("accept-encoding", "gzip"));
    }
    headers.extend(endpoint.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    headers.extend(validator.map(Validator::condition));
    host.dispatch(&Call { cluster: &endpoint.cluster, headers, body: &[], timeout_ms: source.timeout_ms })
}

/// Reads a reply with a config of at most `bytes_max` bytes in this format.
pub(super) fn answer(reply: &impl Reply, bytes_max: usize, format: FormatRef) -> Result<Answer, FetchFailure> {
    let headers = reply.headers();
    let headers = headers.map();
    let status = status(&headers);
    if let Some(config) = status.and_then(|status| format.config_of_status(status)) {
        return Ok(Answer::Config(Decoder::plain(config.into()), None));
    }
    match status {
        Some(304) => return Ok(Answer::NotModified),
        Some(200) => {}
        _ => return Err(FetchFailure::Call(CallFailure::of(reply))),
    }
    let bytes = reply.body_len();
    if bytes > bytes_max {
        let problem = format!("{bytes} bytes, more than experiments.max_bytes ({bytes_max})");
        return Err(FetchFailure::Refused(problem));
    }
    let encoding = String::from_utf8_lossy(headers.get("content-encoding").unwrap_or_default()).to_ascii_lowercase();
    let decoder = match encoding.trim() {
        "" | "identity" => Decoder::plain(reply.body(bytes_max)),
        "gzip" | "x-gzip" => Decoder::gzip(reply.body(bytes_max), bytes_max),
        encoding => {
            let problem = format!("the content-encoding {encoding:?} is not supported, only gzip is");
            return Err(FetchFailure::Refused(problem));
        }
    };
    Ok(Answer::Config(decoder, Validator::of(&headers)))
}
