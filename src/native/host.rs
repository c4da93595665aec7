//! The filter's port, implemented over Envoy's functions.
#![allow(unsafe_code, reason = "the host is reached through foreign functions")]

use super::abi::{
    Bytes, CALL_ANSWERED, CALL_NO_CLUSTER, CALL_OK, Header, Opaque, REQUEST_HEADERS, RESPONSE_CODE,
    RESPONSE_CODE_DETAILS, RESPONSE_HEADERS,
};
use super::changes::HeaderChanges;
use super::links::Links;
use super::response::{LocalResponse, has_controls};
use crate::log_line::log_line;
use edgesplit_engine::hash::hash64_seeded;
use edgesplit_filter::host::{
    CODE_DETAILS, Call, DispatchError, Headers, Host, HostError, MetricKind, Reply, SetError, Shared, StreamHost,
    status_of,
};
use edgesplit_filter::http::headers::{HeaderBlock, HeaderMap};
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

/// The request header that stands for the property `name`, which names the leg before after an internal redirect. No property
/// of the old stream survives one, but its headers do. Every plugin of a chain has a header of its own. The filter removes the
/// header at once, and its value cannot be guessed.
fn header_of_property(name: &str) -> String {
    format!("x-edgesplit-leg-{:016x}", hash64_seeded(0, name.as_bytes()))
}

fn map_of(which: Headers) -> u32 {
    match which {
        Headers::Request => REQUEST_HEADERS,
        Headers::Response => RESPONSE_HEADERS,
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
    /// The answer to the request, if the filter answers it. It is sent at the end of the hook, when no lock is held any more.
    answer: RefCell<Option<LocalResponse>>,
    /// The changes of headers, made at the end of the hook.
    changes: RefCell<HeaderChanges>,
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
            changes: RefCell::default(),
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

    /// Ends the hook of a stream: makes the changes, and sends the answer. True if there is one.
    pub(crate) fn finish(self) -> bool {
        let (callbacks, changes) = (self.links.callbacks, self.changes.into_inner());
        let Some(stream) = self.stream else { return false };
        changes.make(callbacks, stream);
        if let Some(answer) = self.answer.into_inner() {
            answer.send(callbacks, stream);
            return true;
        }
        if changes.has_request && !self.has_ended {
            // Its route may be another one now.
            // SAFETY: the stream is valid during its hook.
            unsafe { (callbacks.http_clear_route_cache)(stream) }
        }
        false
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
        if value.is_some_and(has_controls) {
            return self.log(log::Level::Warn, &format!("the value of {name} has control characters, and is left out"));
        }
        self.changes.borrow_mut().push(map_of(which), name, value, is_added);
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
        let (severity, line) = log_line(level, message);
        self.links.callbacks.log_line(severity, &line);
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
    fn headers<'a>(&'a self, which: Headers, block: &'a mut HeaderBlock) -> HeaderMap<'a> {
        if let (Headers::Response, Some(answer)) = (which, &*self.answer.borrow()) {
            *block = answer.headers();
            return block.map();
        }
        let Some(stream) = self.stream else { return block.map() };
        let map = map_of(which);
        let callbacks = self.links.callbacks;
        // SAFETY: the stream is valid during its hook.
        let count = unsafe { (callbacks.http_get_headers_size)(stream, map) };
        let mut headers: Vec<Header> = Vec::with_capacity(count);
        // SAFETY: there is room for as many headers as Envoy has, and it writes all of them.
        unsafe {
            if !(callbacks.http_get_headers)(stream, map, headers.as_mut_ptr()) {
                return block.map();
            }
            headers.set_len(count);
        }
        // SAFETY: Envoy's bytes are valid until a header changes, which none does before `finish` takes the proxy that they are
        // borrowed from.
        headers.into_iter().map(|header| unsafe { header.texts() }).collect()
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
        let header = header_of_property(name);
        let leg = String::from_utf8(self.header(REQUEST_HEADERS, &header)?.to_vec()).ok();
        self.remove_header(Headers::Request, &header);
        leg
    }

    fn set_property(&self, name: &str, value: &str) {
        self.set_header(Headers::Request, &header_of_property(name), value.as_bytes());
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
    fn headers(&self) -> HeaderBlock {
        if !self.is_answered {
            // A reply that was cut off is none.
            return HeaderBlock::default();
        }
        // SAFETY: Envoy's bytes are valid until the hook ends.
        let pairs = self.headers.iter().map(|header| unsafe { header.texts() });
        HeaderBlock::from_pairs(&pairs.collect::<Vec<_>>())
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
