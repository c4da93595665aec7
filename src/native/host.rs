//! The filter's port, implemented over Envoy's functions.
#![allow(unsafe_code, reason = "the host is reached through foreign functions")]

use super::abi::{
    Bytes, CALL_ANSWERED, CALL_NO_CLUSTER, CALL_OK, Header, Opaque, REQUEST_HEADERS, RESPONSE_CODE,
    RESPONSE_CODE_DETAILS, RESPONSE_HEADERS,
};
use super::links::Links;
use super::response::{LocalResponse, has_controls};
use edgesplit_engine::printable::printable;
use edgesplit_filter::host::{
    CODE_DETAILS, Call, DispatchError, Headers, Host, HostError, MetricKind, Reply, SetError, Shared, StreamHost,
    status_of,
};
use edgesplit_filter::http::headers::HeaderMap;
use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// The request header that names the leg before, after an internal redirect. No property of the old stream survives one, but
/// its headers do. The filter removes the header at once, and its value cannot be guessed.
const LEG: &str = "x-edgesplit-leg";

/// The number of headers that need no memory of their own to be read. Requests of browsers have about 15.
const FEW_HEADERS: usize = 64;

/// Copies headers into the filter's encoding.
///
/// # Safety
/// Envoy gave the headers, and they are still valid.
unsafe fn header_map(headers: &[Header]) -> HeaderMap {
    // Each has two lengths of 4 bytes, and a NUL behind each text.
    let bytes = headers.iter().map(|header| header.name.len + header.value.len + 10);
    let mut block = vec![0; 4 + bytes.sum::<usize>()];
    let mut rest = block.as_mut_slice();
    put(&mut rest, &(headers.len() as u32).to_le_bytes());
    for Header { name, value } in headers {
        put(&mut rest, &(name.len as u64 | (value.len as u64) << 32).to_le_bytes());
    }
    for Header { name, value } in headers {
        for text in [name, value] {
            // SAFETY: as the caller promises.
            put(&mut rest, unsafe { text.as_slice() });
            rest = rest.get_mut(1..).unwrap_or_default();
        }
    }
    HeaderMap::from_block(block)
}

/// Copies bytes to the beginning of the free part of a block. Checks of a growing vector's room would take longer than the copies.
fn put(rest: &mut &mut [u8], bytes: &[u8]) {
    if let Some((place, after)) = std::mem::take(rest).split_at_mut_checked(bytes.len()) {
        place.copy_from_slice(bytes);
        *rest = after;
    }
}

/// Envoy, as one hook reaches it.
pub(crate) struct Proxy<'a> {
    links: &'a Links,
    /// The stream, in the hooks that have one.
    stream: Option<Opaque>,
    /// Whether calls can be made.
    may_call: bool,
    /// Whether the stream has ended, without a response that the filter was shown.
    has_ended: bool,
    /// The answer to the request, if the filter answers it. Envoy sends it when no lock is held any more.
    pub(crate) answer: RefCell<Option<LocalResponse>>,
    /// Whether headers of the request have changed: its route may be another one then.
    has_changed_request: Cell<bool>,
}

impl<'a> Proxy<'a> {
    /// Envoy on its main thread.
    pub(crate) fn main(links: &'a Links) -> Proxy<'a> {
        Proxy {
            links,
            stream: None,
            may_call: true,
            has_ended: false,
            answer: RefCell::default(),
            has_changed_request: Cell::new(false),
        }
    }

    /// Envoy at the end of a config: a call would crash it.
    pub(crate) fn ending(links: &'a Links) -> Proxy<'a> {
        Proxy { may_call: false, ..Proxy::main(links) }
    }

    /// Envoy during a hook of a stream.
    pub(crate) fn of_stream(links: &'a Links, stream: Opaque) -> Proxy<'a> {
        Proxy { stream: Some(stream), may_call: false, ..Proxy::main(links) }
    }

    /// Envoy at the end of a stream without a response.
    pub(crate) fn of_ended_stream(links: &'a Links, stream: Opaque) -> Proxy<'a> {
        Proxy { has_ended: true, ..Proxy::of_stream(links, stream) }
    }

    /// Lets Envoy choose the route anew, if headers of the request have changed.
    pub(crate) fn refresh_route(&self) {
        if let (true, Some(stream)) = (self.has_changed_request.take(), self.stream) {
            // SAFETY: the stream is valid during its hook.
            unsafe { (self.links.callbacks.http_clear_route_cache)(stream) }
        }
    }

    /// The first header of this name.
    fn header(&self, map: u32, name: &str) -> Option<&[u8]> {
        let (stream, mut value) = (self.stream?, Bytes::EMPTY);
        let get = self.links.callbacks.http_get_header;
        // SAFETY: all pointers are valid for the call, and Envoy's bytes are valid until a header changes.
        unsafe {
            get(stream, map, Bytes::of(name.as_bytes()), &raw mut value, 0, std::ptr::null_mut())
                .then(|| value.as_slice())
        }
    }

    fn change(&self, which: Headers, name: &str, value: Option<&[u8]>, is_added: bool) {
        if let (Headers::Response, Some(answer)) = (which, &mut *self.answer.borrow_mut()) {
            return answer.change(name, value, is_added);
        }
        let Some(stream) = self.stream else { return };
        if value.is_some_and(has_controls) {
            return self.log(log::Level::Warn, &format!("the value of {name} has control characters, and is left out"));
        }
        let (set, add) = (self.links.callbacks.http_set_header, self.links.callbacks.http_add_header);
        let change = if is_added { add } else { set };
        let map = match which {
            Headers::Request => REQUEST_HEADERS,
            Headers::Response => RESPONSE_HEADERS,
        };
        // SAFETY: both texts are valid for the call; Envoy copies them. Null stands for no header.
        let _ = unsafe { change(stream, map, Bytes::of(name.as_bytes()), value.map_or(Bytes::EMPTY, Bytes::of)) };
        if which == Headers::Request {
            self.has_changed_request.set(true);
        }
    }

    fn details(&self) -> Option<String> {
        let callbacks = self.links.callbacks;
        let (stream, mut details, mut status) = (self.stream?, Bytes::EMPTY, 0);
        if callbacks.is_first() {
            // It has no details. A stream that has ended with the status of a redirect, which the filter was not shown, was
            // redirected.
            // SAFETY: the pointer is valid for the call.
            let has_status =
                unsafe { (callbacks.http_filter_get_attribute_int)(stream, RESPONSE_CODE, &raw mut status) };
            return (has_status && status / 100 == 3 && self.has_ended).then(|| "internal_redirect".to_owned());
        }
        // SAFETY: the pointer is valid for the call, and Envoy's bytes are valid until the hook ends.
        let details = unsafe {
            let get = callbacks.http_filter_get_attribute_string;
            get(stream, RESPONSE_CODE_DETAILS, &raw mut details).then(|| details.as_slice())?
        };
        String::from_utf8(details.to_vec()).ok().filter(|details| !details.is_empty())
    }
}

impl Host for Proxy<'_> {
    fn now_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    }

    fn random(&self) -> u128 {
        crate::random::random(|| self.now_ms())
    }

    fn log(&self, level: log::Level, message: &str) {
        let severity = match level {
            log::Level::Trace => 0,
            log::Level::Debug => 1,
            log::Level::Info => 2,
            log::Level::Warn => 3,
            log::Level::Error => 4,
        };
        self.links.callbacks.log_line(severity, &format!("edgesplit: {}", printable(message)));
    }

    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        Ok(self.links.store.get(key))
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        self.links.store.set(key, value, cas)
    }

    fn dispatch(&self, call: &Call<'_>) -> Result<u32, DispatchError> {
        if !self.may_call {
            return Err(DispatchError::Failed);
        }
        let header = |(name, value): &(&str, &str)| Header {
            name: Bytes::of(name.as_bytes()),
            value: Bytes::of(value.as_bytes()),
        };
        let headers: Vec<Header> = call.headers.iter().map(header).collect();
        let mut token = 0;
        // SAFETY: all texts and the pointer to the token are valid for the call; Envoy copies them.
        let status = unsafe {
            (self.links.callbacks.http_filter_config_http_callout)(
                self.links.config,
                &raw mut token,
                Bytes::of(call.cluster.as_bytes()),
                headers.as_ptr(),
                headers.len(),
                Bytes::of(call.body),
                call.timeout_ms,
            )
        };
        match status {
            CALL_OK => Ok(token_of(token)),
            CALL_NO_CLUSTER => Err(DispatchError::NoCluster),
            _ => Err(DispatchError::Failed),
        }
    }

    fn can_dispatch(&self) -> bool {
        self.may_call
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<u32> {
        self.links.metrics.define(self.links.callbacks, kind, name, &self.links.metrics_prefix)
    }

    fn increment(&self, metric: u32, by: i64) {
        self.links.metrics.change(self.links.callbacks, self.stream, metric, by.unsigned_abs());
    }

    fn record(&self, metric: u32, value: u64) {
        self.links.metrics.change(self.links.callbacks, self.stream, metric, value);
    }
}

/// The filter's number of a call. Envoy counts calls, and few are open at once.
pub(crate) fn token_of(id: u64) -> u32 {
    id as u32
}

impl StreamHost for Proxy<'_> {
    fn headers(&self, which: Headers) -> HeaderMap {
        if let (Headers::Response, Some(answer)) = (which, &*self.answer.borrow()) {
            return answer.headers();
        }
        let Some(stream) = self.stream else { return HeaderMap::default() };
        let map = match which {
            Headers::Request => REQUEST_HEADERS,
            Headers::Response => RESPONSE_HEADERS,
        };
        let callbacks = self.links.callbacks;
        // SAFETY: the stream is valid during its hook.
        let count = unsafe { (callbacks.http_get_headers_size)(stream, map) };
        // Neither is filled with anything first: that would take longer than reading the headers.
        let (mut few, mut many) = ([const { MaybeUninit::<Header>::uninit() }; FEW_HEADERS], Vec::new());
        let room: *mut Header = if count <= FEW_HEADERS {
            few.as_mut_ptr().cast()
        } else {
            many.reserve_exact(count);
            many.as_mut_ptr()
        };
        // SAFETY: there is room for as many headers as Envoy has.
        if !unsafe { (callbacks.http_get_headers)(stream, map, room) } {
            return HeaderMap::default();
        }
        // SAFETY: Envoy has written all of them, and its bytes are valid until a header changes.
        unsafe { header_map(std::slice::from_raw_parts(room, count)) }
    }

    fn response_status(&self) -> Option<u16> {
        match &*self.answer.borrow() {
            Some(answer) => Some(answer.status),
            None => status_of(self.header(RESPONSE_HEADERS, ":status")?),
        }
    }

    fn set_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.change(which, name, Some(value), false);
    }

    fn add_header(&self, which: Headers, name: &str, value: &[u8]) {
        self.change(which, name, Some(value), true);
    }

    fn remove_header(&self, which: Headers, name: &str) {
        self.change(which, name, None, false);
    }

    fn respond(&self, status: u32, headers: &[(&str, &str)]) -> bool {
        self.answer.replace(Some(LocalResponse::new(status, headers)));
        true
    }

    fn property(&self, name: &str) -> Option<String> {
        if name == CODE_DETAILS {
            // An answer of the filter itself has none yet.
            return if self.answer.borrow().is_some() { None } else { self.details() };
        }
        let leg = String::from_utf8(self.header(REQUEST_HEADERS, LEG)?.to_vec()).ok();
        self.remove_header(Headers::Request, LEG);
        leg
    }

    fn set_property(&self, _name: &str, value: &str) {
        self.set_header(Headers::Request, LEG, value.as_bytes());
    }
}

/// The reply to an HTTP call, readable while its hook runs.
pub(crate) struct CallReply<'a> {
    is_answered: bool,
    headers: &'a [Header],
    chunks: &'a [Bytes],
}

impl<'a> CallReply<'a> {
    /// The reply of a hook with this `result`.
    pub(crate) fn new(result: i32, headers: &'a [Header], chunks: &'a [Bytes]) -> CallReply<'a> {
        CallReply { is_answered: result == CALL_ANSWERED, headers, chunks }
    }

    fn bytes(&self) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: Envoy's bytes are valid until the hook ends.
        self.chunks.iter().map(|chunk| unsafe { chunk.as_slice() })
    }
}

impl Reply for CallReply<'_> {
    fn headers(&self) -> HeaderMap {
        if !self.is_answered {
            // A reply that was cut off is none.
            return HeaderMap::default();
        }
        // SAFETY: Envoy's bytes are valid until the hook ends.
        unsafe { header_map(self.headers) }
    }

    fn body_len(&self) -> usize {
        self.bytes().map(<[u8]>::len).sum()
    }

    fn body(&self, max: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body_len().min(max));
        for chunk in self.bytes() {
            body.extend(chunk.iter().take(max - body.len()));
        }
        body
    }
}
