//! The host calls of the proxy-wasm ABI. This file and the test hooks are the only unsafe code.
//!
//! Most host functions of the SDK panic on a status that they do not expect, and a panic takes the worker's VM down. They are
//! declared here once more, and return the status as a number.
#![allow(unsafe_code, reason = "the host is reached through foreign functions")]

use crate::log_line::log_line;
use edgesplit_filter::host::{
    Call, DispatchError, Headers, Host, HostError, MetricKind, Reply, SetError, Shared, StreamHost, status_of,
};
use edgesplit_filter::http::headers::{HeaderBlock, HeaderMap};
use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;
use std::ptr::{null, null_mut};
use std::time::Duration;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, text: *const u8, len: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(kind: u32, start: usize, max: usize, data: *mut *mut u8, len: *mut usize) -> u32;
    fn proxy_get_property(path: *const u8, path_len: usize, data: *mut *mut u8, len: *mut usize) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, len: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(map: u32, name: *const u8, name_len: usize, value: *const u8, len: usize) -> u32;
    fn proxy_add_header_map_value(map: u32, name: *const u8, name_len: usize, value: *const u8, len: usize) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_len: usize) -> u32;
    fn proxy_get_shared_data(key: *const u8, key_len: usize, data: *mut *mut u8, len: *mut usize, cas: *mut u32)
    -> u32;
    fn proxy_set_shared_data(key: *const u8, key_len: usize, value: *const u8, len: usize, cas: u32) -> u32;
    fn proxy_set_property(path: *const u8, path_len: usize, value: *const u8, len: usize) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_len: usize,
        arguments: *const u8,
        arguments_len: usize,
        results: *mut *mut u8,
        results_len: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_len: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_len: usize,
        body: *const u8,
        body_len: usize,
        headers: *const u8,
        headers_len: usize,
        grpc_status: i32,
    ) -> u32;
}

/// The statuses of the proxy-wasm ABI that the filter distinguishes.
const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const CAS_MISMATCH: u32 = 8;

/// Header maps and buffers of the proxy-wasm ABI.
const MAP_REQUEST_HEADERS: u32 = 0;
const MAP_RESPONSE_HEADERS: u32 = 2;
const MAP_CALL_RESPONSE_HEADERS: u32 = 6;
const BUFFER_CALL_RESPONSE_BODY: u32 = 4;
const BUFFER_PLUGIN_CONFIGURATION: u32 = 7;

/// Takes ownership of bytes that the host allocated in this VM's memory.
///
/// # Safety
/// `data` and `len` come from a host function that filled both: the host allocated exactly `len` bytes through this
/// module's own allocator and gave them away.
unsafe fn into_vec(data: *mut u8, len: usize) -> Vec<u8> {
    if data.is_null() {
        return Vec::new();
    }
    // SAFETY: as the caller promises.
    unsafe { Vec::from_raw_parts(data, len, len) }
}

fn headers(map: u32) -> HeaderBlock {
    let (mut data, mut len) = (null_mut(), 0);
    // SAFETY: both pointers are valid for the call, and the host gives away the bytes that they then name.
    HeaderBlock::new(unsafe {
        match proxy_get_header_map_pairs(map, &raw mut data, &raw mut len) {
            OK => into_vec(data, len),
            _ => Vec::new(),
        }
    })
}

fn buffer(kind: u32, max: usize) -> Vec<u8> {
    let (mut data, mut len) = (null_mut(), 0);
    // SAFETY: both pointers are valid for the call, and the host gives away the bytes that they then name.
    unsafe {
        match proxy_get_buffer_bytes(kind, 0, max, &raw mut data, &raw mut len) {
            OK => into_vec(data, len),
            _ => Vec::new(),
        }
    }
}

/// The plugin's configuration, of `size` bytes.
pub(crate) fn plugin_configuration(size: usize) -> Vec<u8> {
    buffer(BUFFER_PLUGIN_CONFIGURATION, size)
}

/// Sets the period between two ticks.
pub(crate) fn set_tick_period(period_ms: u64) {
    // SAFETY: no pointers. A host without ticks serves with the inline config.
    let _ = unsafe { proxy_set_tick_period_milliseconds(period_ms as u32) };
}

/// A property of the host, if it is a text that is not empty.
pub(crate) fn property(name: &str) -> Option<String> {
    let (mut data, mut len) = (null_mut(), 0);
    // SAFETY: all pointers are valid for the call, and the host gives away the bytes that they then name.
    let value = unsafe {
        match proxy_get_property(name.as_ptr(), name.len(), &raw mut data, &raw mut len) {
            OK => into_vec(data, len),
            _ => return None,
        }
    };
    String::from_utf8(value).ok().filter(|value| !value.is_empty())
}

/// The proxy that runs this VM.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proxy;

impl Host for Proxy {
    fn now_ms(&self) -> i64 {
        let mut nanoseconds = 0;
        // SAFETY: the pointer is valid for the call. Without a clock, the time stays 0.
        let _ = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) };
        (nanoseconds / 1_000_000) as i64
    }

    fn random(&self) -> u128 {
        crate::random::random(|| self.now_ms())
    }

    fn log(&self, level: log::Level, message: &str) {
        let (severity, line) = log_line(level, message);
        // SAFETY: the text is valid for the call. A failure to log cannot be reported anywhere.
        let _ = unsafe { proxy_log(severity, line.as_ptr(), line.len()) };
    }

    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        let (mut data, mut len, mut cas) = (null_mut(), 0, 0);
        // SAFETY: all pointers are valid for the call, and the host gives away the bytes that they then name.
        unsafe {
            match proxy_get_shared_data(key.as_ptr(), key.len(), &raw mut data, &raw mut len, &raw mut cas) {
                OK => Ok(Shared { value: into_vec(data, len), cas }),
                NOT_FOUND => Ok(Shared { value: Vec::new(), cas: Shared::ABSENT }),
                _ => Err(HostError),
            }
        }
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError> {
        // SAFETY: both texts are valid for the call; the host copies them.
        match unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) } {
            OK => Ok(()),
            CAS_MISMATCH => Err(SetError::Stale),
            _ => Err(SetError::Failed),
        }
    }

    fn dispatch(&self, call: &Call<'_>) -> Result<u32, DispatchError> {
        // Through the SDK, which routes the reply to the root context.
        let body = (!call.body.is_empty()).then_some(call.body);
        let timeout = Duration::from_millis(call.timeout_ms);
        hostcalls::dispatch_http_call(call.cluster, call.headers.clone(), body, Vec::new(), timeout).map_err(|status| {
            if status == Status::BadArgument { DispatchError::NoCluster } else { DispatchError::Failed }
        })
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<u32> {
        let kind = match kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
        };
        let mut id = 0;
        // SAFETY: the name and the pointer are valid for the call.
        let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) };
        (status == OK).then_some(id)
    }

    fn increment(&self, metric: u32, by: i64) {
        // SAFETY: no pointers. If the host does not know the metric, the count is lost.
        let _ = unsafe { proxy_increment_metric(metric, by) };
    }

    fn record(&self, metric: u32, value: u64) {
        // SAFETY: no pointers. As above.
        let _ = unsafe { proxy_record_metric(metric, value) };
    }

    fn declare_request_property(&self, name: &str) {
        const FUNCTION: &str = "declare_property";
        let Ok(name_len) = u8::try_from(name.len()) else { return };
        // Envoy's message `DeclarePropertyArguments`: the name in field 1, and the life span in field 5, 1 for the request.
        let arguments = [&[0x0a, name_len][..], name.as_bytes(), &[0x28, 1]].concat();
        let (mut data, mut len) = (null_mut(), 0);
        // SAFETY: all pointers are valid for the call, and the host gives away the bytes that they then name.
        drop(unsafe {
            let _ = proxy_call_foreign_function(
                FUNCTION.as_ptr(),
                FUNCTION.len(),
                arguments.as_ptr(),
                arguments.len(),
                &raw mut data,
                &raw mut len,
            );
            into_vec(data, len)
        });
    }
}

fn map_of(which: Headers) -> u32 {
    match which {
        Headers::Request => MAP_REQUEST_HEADERS,
        Headers::Response => MAP_RESPONSE_HEADERS,
    }
}

/// A header change fails only if the host no longer has the headers. It is ignored then.
impl StreamHost for Proxy {
    fn headers<'a>(&'a self, which: Headers, block: &'a mut HeaderBlock) -> HeaderMap<'a> {
        *block = headers(map_of(which));
        block.map()
    }

    fn response_status(&self) -> Option<u16> {
        const STATUS: &str = ":status";
        let (mut data, mut len) = (null_mut(), 0);
        // SAFETY: all pointers are valid for the call, and the host gives away the bytes that they then name.
        let value = unsafe {
            match proxy_get_header_map_value(
                MAP_RESPONSE_HEADERS,
                STATUS.as_ptr(),
                STATUS.len(),
                &raw mut data,
                &raw mut len,
            ) {
                OK => into_vec(data, len),
                _ => return None,
            }
        };
        status_of(&value)
    }

    fn set_header(&self, which: Headers, name: &str, value: &[u8]) {
        let map = map_of(which);
        // SAFETY: both texts are valid for the call; the host copies them.
        let _ = unsafe { proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    }

    fn add_header(&self, which: Headers, name: &str, value: &[u8]) {
        let map = map_of(which);
        // SAFETY: both texts are valid for the call; the host copies them.
        let _ = unsafe { proxy_add_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    }

    fn remove_header(&self, which: Headers, name: &str) {
        // SAFETY: the name is valid for the call.
        let _ = unsafe { proxy_remove_header_map_value(map_of(which), name.as_ptr(), name.len()) };
    }

    fn respond(&self, status: u32, headers: &[(&str, &str)]) -> bool {
        let headers = HeaderBlock::from_pairs(headers);
        let block = headers.bytes();
        // SAFETY: the block is valid for the call; absent texts are null with length 0.
        let status =
            unsafe { proxy_send_local_response(status, null(), 0, null(), 0, block.as_ptr(), block.len(), -1) };
        status == OK
    }

    fn property(&self, name: &str) -> Option<String> {
        property(name)
    }

    fn set_property(&self, name: &str, value: &str) {
        // SAFETY: both texts are valid for the call; the host copies them.
        let _ = unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    }
}

/// The reply to an HTTP call, readable while its callback runs.
pub(crate) struct CallReply {
    /// The number of headers.
    pub(crate) headers: usize,
    /// The size of the body in bytes.
    pub(crate) body: usize,
}

impl Reply for CallReply {
    fn headers(&self) -> HeaderBlock {
        // A reset comes without headers: asking for them then is an error on some hosts.
        if self.headers == 0 { HeaderBlock::default() } else { headers(MAP_CALL_RESPONSE_HEADERS) }
    }

    fn body_len(&self) -> usize {
        self.body
    }

    fn body(&self, max: usize) -> Vec<u8> {
        buffer(BUFFER_CALL_RESPONSE_BODY, self.body.min(max))
    }
}
