//! The call that fetches a config, and its answer.

use super::state::Validator;
use crate::call_failure::CallFailure;
use crate::host::{Call, DispatchError, Host, Reply, status};
use crate::metrics::Counter;
use crate::plugin_config::Source;
use flate2::read::MultiGzDecoder;
use std::io::{Cursor, Read};

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

    /// The line for the log about a fetch from `cluster`.
    pub(super) fn message(&self, cluster: &str) -> (log::Level, String) {
        let (level, message) = match self {
            FetchFailure::Call(failure) => {
                (log::Level::Warn, format!("experiments could not be fetched ({})", failure.describe(cluster)))
            }
            FetchFailure::Refused(problem) => {
                (log::Level::Error, format!("the fetched experiments are refused: {problem}"))
            }
        };
        (level, format!("{message}; the last good ones stay"))
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

/// Reads a reply with a config of at most `bytes_max` bytes.
pub(super) fn answer(reply: &impl Reply, bytes_max: usize) -> Result<Answer, FetchFailure> {
    let headers = reply.headers();
    match status(&headers) {
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
        "" | "identity" => Decoder { gzip: None, text: reply.body(bytes_max), bytes_max },
        "gzip" | "x-gzip" => {
            let gzip = MultiGzDecoder::new(Cursor::new(reply.body(bytes_max)));
            Decoder { gzip: Some(Box::new(gzip)), text: Vec::new(), bytes_max }
        }
        encoding => {
            let problem = format!("the content-encoding {encoding:?} is not supported, only gzip is");
            return Err(FetchFailure::Refused(problem));
        }
    };
    Ok(Answer::Config(decoder, Validator::of(&headers)))
}

/// Decompresses a config step by step.
#[derive(Debug)]
pub(super) struct Decoder {
    gzip: Option<Box<MultiGzDecoder<Cursor<Vec<u8>>>>>,
    /// The config so far.
    pub(super) text: Vec<u8>,
    bytes_max: usize,
}

impl Decoder {
    /// Decompresses the next `step` bytes. True once the config is complete.
    pub(super) fn advance(&mut self, step: usize) -> Result<bool, FetchFailure> {
        let Some(gzip) = &mut self.gzip else { return Ok(true) };
        // One byte more than allowed is enough to see that there are too many.
        let step = step.min(self.bytes_max.saturating_sub(self.text.len()).saturating_add(1));
        let read = gzip.take(step as u64).read_to_end(&mut self.text);
        let read = read.map_err(|error| FetchFailure::Refused(format!("the gzip data is damaged: {error}")))?;
        if self.text.len() > self.bytes_max {
            let problem = format!("decompressed, more bytes than experiments.max_bytes ({})", self.bytes_max);
            return Err(FetchFailure::Refused(problem));
        }
        Ok(read < step)
    }
}
