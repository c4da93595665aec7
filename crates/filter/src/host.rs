//! The port: all calls of the filter to its proxy. The adapter implements it over proxy-wasm; tests implement
//! it over a simulated proxy.

use crate::http::headers::{HeaderBlock, HeaderMap};

/// The calls of a VM that need no request.
pub trait Host {
    /// Milliseconds since the epoch.
    fn now_ms(&self) -> i64;
    /// Unpredictable bits.
    fn random(&self) -> u128;
    /// Writes a line to the proxy's log.
    fn log(&self, level: log::Level, message: &str);

    /// Reads a value that all VMs of the process share.
    ///
    /// # Errors
    /// The host has no shared data, or it failed.
    fn shared_get(&self, key: &str) -> Result<Shared, HostError>;
    /// Writes a shared value, unless it was written since it was read with `cas`.
    ///
    /// # Errors
    /// [`SetError::Stale`] if it was.
    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError>;

    /// Starts an HTTP call; the reply comes later, with this token.
    ///
    /// # Errors
    /// The call did not start and there will be no reply.
    fn dispatch(&self, call: &Call<'_>) -> Result<u32, DispatchError>;
    /// Whether calls can be made now. Some hosts allow none at the end.
    fn can_dispatch(&self) -> bool {
        true
    }

    /// Names a metric; every call of it may give another id for the same metric.
    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<u32>;
    /// Adds to a counter. Adding 0 is an error on some hosts: do not.
    fn increment(&self, metric: u32, by: i64);
    /// Sets a gauge.
    fn record(&self, metric: u32, value: u64);

    /// Declares a property of streams that lasts for the client's whole request, over internal redirects. Hosts without
    /// internal redirects have nothing to declare.
    fn declare_request_property(&self, _name: &str) {}
}

/// The property of a stream that names the source of its response or the cause of its end, such as `via_upstream`, or
/// `direct_response` for the route's own redirect or response.
pub const CODE_DETAILS: &str = "response\0code_details";

/// The calls that belong to a request or response in progress.
pub trait StreamHost {
    /// All headers of the request or of the response, in one call. A host that gives a copy of them puts it into `block`.
    fn headers<'a>(&'a self, which: Headers, block: &'a mut HeaderBlock) -> HeaderMap<'a>;
    /// The status of the response, without its other headers.
    fn response_status(&self) -> Option<u16>;
    /// Replaces the first header of this name, or adds one.
    fn set_header(&self, which: Headers, name: &str, value: &[u8]);
    /// Adds a header beside those of its name.
    fn add_header(&self, which: Headers, name: &str, value: &[u8]);
    /// Removes all headers of this name.
    fn remove_header(&self, which: Headers, name: &str);
    /// Replaces all headers of this name by one.
    fn replace_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.remove_header(which, name);
        self.add_header(which, name, value);
    }
    /// Answers the request. False if the host refused.
    fn respond(&self, status: u32, headers: &[(&str, &str)]) -> bool;
    /// A property of the stream, if the host has a text under this name that is not empty.
    fn property(&self, _name: &str) -> Option<String> {
        None
    }
    /// Sets a property of the stream.
    fn set_property(&self, _name: &str, _value: &str) {}
}

/// The host failed; the cause is in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostError;

/// The reason why a call did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DispatchError {
    /// There is no such cluster.
    NoCluster,
    /// The cluster has no healthy host.
    Failed,
}

/// The reason why a shared value was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetError {
    /// It was written in between.
    Stale,
    /// The host failed.
    Failed,
}

/// A shared value as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The bytes; empty if there are none (hosts differ in whether a cleared value exists).
    pub value: Vec<u8>,
    /// The number that writes it back.
    pub cas: u32,
}

impl Shared {
    /// The `cas` of a key that is not there. A number that no value ever has: hosts insert an absent key with any
    /// number, and refuse this one once the key is there. It therefore creates and never overwrites (0 would overwrite).
    pub const ABSENT: u32 = u32::MAX;

    /// The `cas` that overwrites any value.
    pub const OVERWRITE: u32 = 0;
}

/// The message that headers belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// The request's.
    Request,
    /// The response's.
    Response,
}

/// The kinds of metrics in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Takes any value.
    Gauge,
}

/// An HTTP call to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<'a> {
    /// The proxy's name of the upstream.
    pub cluster: &'a str,
    /// All headers, those that start with a colon first.
    pub headers: Vec<(&'a str, &'a str)>,
    /// The body.
    pub body: &'a [u8],
    /// How long the proxy waits for the reply.
    pub timeout_ms: u64,
}

/// The reply to a call. The proxy makes up a status if the upstream gave none: 503 for a refused
/// connection, 504 for a timeout.
pub trait Reply {
    /// The headers; empty if the call was reset.
    fn headers(&self) -> HeaderBlock;
    /// The body's size in bytes.
    fn body_len(&self) -> usize;
    /// The body, cut at `max` bytes.
    fn body(&self, max: usize) -> Vec<u8>;
}

/// The status of a reply, if it has one.
pub fn status(headers: &HeaderMap<'_>) -> Option<u16> {
    status_of(headers.get(":status")?)
}

/// The status in a `:status`.
#[inline(always)]
pub fn status_of(value: &[u8]) -> Option<u16> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let [hundreds, tens, ones] = value else { return None };
    Some(digit(hundreds)? * 100 + digit(tens)? * 10 + digit(ones)?)
}
