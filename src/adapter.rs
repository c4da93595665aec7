//! The adapter to proxy-wasm: the one file that names the SDK or speaks to the host.
//!
//! The SDK dispatches callbacks and keeps track of calls. Most of its host functions panic on a status they do not expect,
//! and a panic takes the worker's VM down; so those are declared here once more and answer with the status as a number.
#![allow(unsafe_code, reason = "the host is reached through foreign functions")]

use crate::filter::request::{Flow, on_request};
use crate::filter::response::{Pending, on_response};
use crate::filter::worker::Worker;
use crate::host::{Call, Headers, Host, HostError, MetricKind, Reply, SetError, Shared, StreamHost, status_of};
use crate::http::headers::HeaderMap;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use std::cell::RefCell;
use std::ptr::{null, null_mut};
use std::rc::Rc;
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

/// Statuses of the proxy-wasm ABI that mean something here.
const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const CAS_MISMATCH: u32 = 8;

/// Header maps and buffers of the proxy-wasm ABI.
const MAP_REQUEST_HEADERS: u32 = 0;
const MAP_RESPONSE_HEADERS: u32 = 2;
const MAP_CALL_RESPONSE_HEADERS: u32 = 6;
const BUFFER_CALL_RESPONSE_BODY: u32 = 4;
const BUFFER_PLUGIN_CONFIGURATION: u32 = 7;

proxy_wasm::main! {{
    // Also makes the SDK write a panic to the log before the VM is gone.
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|_| Box::new(Root { worker: None, tick_period_ms: 0 }));
}}

/// Takes over what the host allocated in this VM's memory.
///
/// # Safety
/// `data` and `len` come from a host function that filled both: the host allocated exactly `len` bytes through this
/// module's own allocator and gave them away.
unsafe fn taken(data: *mut u8, len: usize) -> Vec<u8> {
    if data.is_null() {
        return Vec::new();
    }
    // SAFETY: as the caller promises.
    unsafe { Vec::from_raw_parts(data, len, len) }
}

fn header_map(map: u32) -> HeaderMap {
    let (mut data, mut len) = (null_mut(), 0);
    // SAFETY: both pointers are valid for the call, and what they hold afterwards is ours.
    let block = unsafe {
        match proxy_get_header_map_pairs(map, &raw mut data, &raw mut len) {
            OK => taken(data, len),
            _ => Vec::new(),
        }
    };
    HeaderMap::from_block(block)
}

fn buffer(kind: u32, max: usize) -> Vec<u8> {
    let (mut data, mut len) = (null_mut(), 0);
    // SAFETY: both pointers are valid for the call, and what they hold afterwards is ours.
    unsafe {
        match proxy_get_buffer_bytes(kind, 0, max, &raw mut data, &raw mut len) {
            OK => taken(data, len),
            _ => Vec::new(),
        }
    }
}

fn property(name: &str) -> Option<String> {
    let (mut data, mut len) = (null_mut(), 0);
    // SAFETY: all pointers are valid for the call, and what they hold afterwards is ours.
    let value = unsafe {
        match proxy_get_property(name.as_ptr(), name.len(), &raw mut data, &raw mut len) {
            OK => taken(data, len),
            _ => return None,
        }
    };
    String::from_utf8(value).ok().filter(|value| !value.is_empty())
}

/// The proxy.
#[derive(Debug, Clone, Copy)]
struct Proxy;

impl Host for Proxy {
    fn now_ms(&self) -> i64 {
        let mut nanoseconds = 0;
        // SAFETY: the pointer is valid for the call. A host without a clock leaves the beginning of time.
        let _ = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) };
        (nanoseconds / 1_000_000) as i64
    }

    fn random(&self) -> u128 {
        let mut bytes = [0; 16];
        if getrandom::fill(&mut bytes).is_err() {
            // Ids can then be guessed, but still tell visitors and events apart.
            let now = self.now_ms().to_le_bytes();
            return crate::engine::hash::fingerprint(&[&now, &(&raw const bytes as usize).to_le_bytes()]);
        }
        u128::from_le_bytes(bytes)
    }

    fn log(&self, level: log::Level, message: &str) {
        let level = match level {
            log::Level::Trace => 0,
            log::Level::Debug => 1,
            log::Level::Info => 2,
            log::Level::Warn => 3,
            log::Level::Error => 4,
        };
        let message = format!("edgesplit: {message}");
        // SAFETY: the text is valid for the call. A log that cannot be written has nobody to be told.
        let _ = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
    }

    fn shared_get(&self, key: &str) -> Result<Shared, HostError> {
        let (mut data, mut len, mut cas) = (null_mut(), 0, 0);
        // SAFETY: all pointers are valid for the call, and what they hold afterwards is ours.
        unsafe {
            match proxy_get_shared_data(key.as_ptr(), key.len(), &raw mut data, &raw mut len, &raw mut cas) {
                OK => Ok(Shared { value: taken(data, len), cas }),
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

    fn dispatch(&self, call: &Call<'_>) -> Result<u32, HostError> {
        // Through the SDK: it has to know whose reply it will be.
        let body = (!call.body.is_empty()).then_some(call.body);
        let timeout = Duration::from_millis(call.timeout_ms);
        hostcalls::dispatch_http_call(call.cluster, call.headers.clone(), body, Vec::new(), timeout)
            .map_err(|_| HostError)
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
        // SAFETY: no pointers. A metric that its host forgot cannot be counted anywhere else.
        let _ = unsafe { proxy_increment_metric(metric, by) };
    }

    fn record(&self, metric: u32, value: u64) {
        // SAFETY: no pointers. As above.
        let _ = unsafe { proxy_record_metric(metric, value) };
    }
}

fn map_of(which: Headers) -> u32 {
    match which {
        Headers::Request => MAP_REQUEST_HEADERS,
        Headers::Response => MAP_RESPONSE_HEADERS,
    }
}

/// Header changes fail only where the host has no such headers at all: then there is nobody left who could see them.
impl StreamHost for Proxy {
    fn headers(&self, which: Headers) -> HeaderMap {
        header_map(map_of(which))
    }

    fn response_status(&self) -> Option<u16> {
        const STATUS: &str = ":status";
        let (mut data, mut len) = (null_mut(), 0);
        // SAFETY: all pointers are valid for the call, and what they hold afterwards is ours.
        let value = unsafe {
            match proxy_get_header_map_value(
                MAP_RESPONSE_HEADERS,
                STATUS.as_ptr(),
                STATUS.len(),
                &raw mut data,
                &raw mut len,
            ) {
                OK => taken(data, len),
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
        let headers = HeaderMap::from_pairs(headers);
        let block = headers.block();
        // SAFETY: the block is valid for the call; absent texts are null with length 0.
        let status =
            unsafe { proxy_send_local_response(status, null(), 0, null(), 0, block.as_ptr(), block.len(), -1) };
        status == OK
    }
}

struct CallReply {
    headers: usize,
    body: usize,
}

impl Reply for CallReply {
    fn headers(&self) -> HeaderMap {
        // A reset comes without headers: asking for them then is an error on some hosts.
        if self.headers == 0 { HeaderMap::default() } else { header_map(MAP_CALL_RESPONSE_HEADERS) }
    }

    fn body_len(&self) -> usize {
        self.body
    }

    fn body(&self, max: usize) -> Vec<u8> {
        buffer(BUFFER_CALL_RESPONSE_BODY, self.body.min(max))
    }
}

struct Root {
    worker: Option<Rc<RefCell<Worker>>>,
    tick_period_ms: u64,
}

impl Root {
    /// Runs `work` on the worker, if it is configured. The host calls one callback at a time, so it is never borrowed twice.
    fn with_worker(&mut self, work: impl FnOnce(&mut Worker)) {
        let Some(worker) = &self.worker else { return };
        let Ok(mut worker) = worker.try_borrow_mut() else { return };
        work(&mut worker);
        let period_ms = worker.tick_period_ms();
        drop(worker);
        self.tick_every(period_ms);
    }

    fn tick_every(&mut self, period_ms: u64) {
        if self.tick_period_ms != period_ms {
            self.tick_period_ms = period_ms;
            // SAFETY: no pointers. A host without ticks serves with the inline config.
            let _ = unsafe { proxy_set_tick_period_milliseconds(period_ms as u32) };
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _trailers: usize) {
        self.with_worker(|worker| worker.on_reply(&Proxy, token, &CallReply { headers, body }));
    }

    fn on_done(&mut self) -> bool {
        self.with_worker(|worker| worker.shut_down(&Proxy));
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let configuration = buffer(BUFFER_PLUGIN_CONFIGURATION, size);
        let plugin = property("plugin_name").unwrap_or_else(|| "default".to_owned());
        match Worker::configure(&Proxy, &plugin, &configuration) {
            Ok(worker) => {
                self.tick_every(worker.tick_period_ms());
                self.worker = Some(Rc::new(RefCell::new(worker)));
                true
            }
            Err(problems) => {
                for problem in problems.iter() {
                    Proxy.log(log::Level::Error, &format!("plugin configuration: {problem}"));
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        self.with_worker(|worker| worker.tick(&Proxy));
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { worker: self.worker.clone(), pending: Pending::default() }))
    }
}

struct Stream {
    worker: Option<Rc<RefCell<Worker>>>,
    pending: Pending,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        #[cfg(feature = "test-hooks")]
        if Proxy.headers(Headers::Request).get("x-edgesplit-crash").is_some() {
            core::arch::wasm32::unreachable();
        }
        let Some(mut worker) = self.worker.as_ref().and_then(|worker| worker.try_borrow_mut().ok()) else {
            return Action::Continue;
        };
        match on_request(&mut worker, &Proxy) {
            Flow::Continue(pending) => {
                self.pending = pending;
                Action::Continue
            }
            Flow::Answered(pending) => {
                self.pending = pending;
                Action::Pause
            }
        }
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        if !self.pending.is_idle()
            && let Some(mut worker) = self.worker.as_ref().and_then(|worker| worker.try_borrow_mut().ok())
        {
            on_response(&mut worker, &Proxy, std::mem::take(&mut self.pending));
        }
        Action::Continue
    }
}

/// What only the module for tests has.
#[cfg(feature = "test-hooks")]
mod test_hooks {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicU64, Ordering};

    static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

    struct Counting;

    // SAFETY: everything is the system's allocator's.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: as the caller promises.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(at, layout) }
        }

        unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: as the caller promises.
            unsafe { System.realloc(at, layout, size) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    /// How often memory was allocated so far.
    #[unsafe(no_mangle)]
    extern "C" fn edgesplit_allocations() -> u64 {
        ALLOCATIONS.load(Ordering::Relaxed)
    }
}
