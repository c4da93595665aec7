//! The adapter to proxy-wasm: the one file that names the SDK or speaks to the host.
//!
//! The SDK dispatches the callbacks of root contexts and keeps track of calls; those of streams are dispatched here. Most of
//! its host functions panic on a status they do not expect, and a panic takes the worker's VM down; so those are declared here
//! once more and answer with the status as a number.
#![allow(unsafe_code, reason = "the host is reached through foreign functions")]

use edgesplit_filter::host::{
    Call, Headers, Host, HostError, MetricKind, Reply, SetError, Shared, StreamHost, status_of,
};
use edgesplit_filter::http::headers::HeaderMap;
use edgesplit_filter::streams::Streams;
use edgesplit_filter::worker::Worker;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, RootContext};
use proxy_wasm::types::LogLevel;
use std::cell::RefCell;
use std::hash::RandomState;
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
    proxy_wasm::set_root_context(|id| Box::new(Root::new(id)));
}}

/// Takes over what the host allocated in this VM's memory.
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

fn headers(map: u32) -> HeaderMap {
    let (mut data, mut len) = (null_mut(), 0);
    // SAFETY: both pointers are valid for the call, and the host gives away the bytes that they then name.
    HeaderMap::from_block(unsafe {
        match proxy_get_header_map_pairs(map, &raw mut data, &raw mut len) {
            OK => into_vec(data, len),
            _ => Vec::new(),
        }
    })
}

fn buffer(kind: u32, max: usize) -> Vec<u8> {
    let (mut data, mut len) = (null_mut(), 0);
    // SAFETY: both pointers are valid for the call, and what they hold afterwards is ours.
    unsafe {
        match proxy_get_buffer_bytes(kind, 0, max, &raw mut data, &raw mut len) {
            OK => into_vec(data, len),
            _ => Vec::new(),
        }
    }
}

fn property(name: &str) -> Option<String> {
    let (mut data, mut len) = (null_mut(), 0);
    // SAFETY: all pointers are valid for the call, and what they hold afterwards is ours.
    let value = unsafe {
        match proxy_get_property(name.as_ptr(), name.len(), &raw mut data, &raw mut len) {
            OK => into_vec(data, len),
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
            return edgesplit_engine::hash::fingerprint(&[&now, &(&raw const bytes as usize).to_le_bytes()]);
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
        headers(map_of(which))
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
        if self.headers == 0 { HeaderMap::default() } else { headers(MAP_CALL_RESPONSE_HEADERS) }
    }

    fn body_len(&self) -> usize {
        self.body
    }

    fn body(&self, max: usize) -> Vec<u8> {
        buffer(BUFFER_CALL_RESPONSE_BODY, self.body.min(max))
    }
}

/// What this VM has: its plugins, and what their streams wait for.
struct Vm {
    /// The root contexts in the order in which they came, each with its worker once it is configured.
    roots: Vec<(u32, Option<Worker>)>,
    streams: Streams,
}

thread_local! {
    static VM: RefCell<Vm> = const { RefCell::new(Vm { roots: Vec::new(), streams: Streams::new() }) };
}

/// Runs `work` on what this VM has. The host calls one callback at a time, so it is never borrowed twice.
#[inline(always)]
fn with_vm<T>(work: impl FnOnce(&mut Vm) -> T) -> Option<T> {
    VM.with(|vm| Some(work(&mut *vm.try_borrow_mut().ok()?)))
}

impl Vm {
    fn is_root(&self, id: u32) -> bool {
        self.roots.iter().any(|(root, _)| *root == id)
    }

    /// The place of the root context `root` for its worker. Of a stream with 0 there was only one root context when it
    /// began: that is the oldest still, since root contexts stay for as long as they have streams.
    #[inline(always)]
    fn place_of(roots: &mut [(u32, Option<Worker>)], root: u32) -> Option<&mut Option<Worker>> {
        let found = if root == 0 { roots.first_mut() } else { roots.iter_mut().find(|(id, _)| *id == root) };
        found.map(|(_, place)| place)
    }

    /// That worker, if the root context is configured.
    #[inline(always)]
    fn worker_of(roots: &mut [(u32, Option<Worker>)], root: u32) -> Option<&mut Worker> {
        Vm::place_of(roots, root)?.as_mut()
    }
}

/// A root context: a plugin. The SDK calls it.
struct Root {
    id: u32,
    tick_period_ms: u64,
}

impl Root {
    fn new(id: u32) -> Root {
        // The seed of all hash maps of the VM: drawn here, the host is asked for it once, and at a time that is known.
        let _seeded = RandomState::new();
        with_vm(|vm| vm.roots.push((id, None)));
        Root { id, tick_period_ms: 0 }
    }

    /// Runs `work` on the worker, if it is configured.
    fn with_worker(&mut self, work: impl FnOnce(&mut Worker)) {
        let period_ms = with_vm(|vm| {
            let worker = Vm::worker_of(&mut vm.roots, self.id)?;
            work(worker);
            Some(worker.tick_period_ms())
        });
        if let Some(Some(period_ms)) = period_ms {
            self.tick_every(period_ms);
        }
    }

    fn tick_every(&mut self, period_ms: u64) {
        if self.tick_period_ms != period_ms {
            self.tick_period_ms = period_ms;
            // SAFETY: no pointers. A host without ticks serves with the inline config.
            let _ = unsafe { proxy_set_tick_period_milliseconds(period_ms as u32) };
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        with_vm(|vm| vm.roots.retain(|(id, _)| *id != self.id));
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
                with_vm(|vm| {
                    if let Some(place) = Vm::place_of(&mut vm.roots, self.id) {
                        *place = Some(worker);
                    }
                });
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
}

/// Streams: the callbacks that every request pays for. The SDK would look each stream up by three maps at every callback and
/// keep it in a box, in code that is cold by the time the next request comes; that costs more than all decisions of a
/// request. So the SDK has the root contexts, and streams are found here.
///
/// Two symbols cannot have one name: these are linked as `split_on_…`, and the linker's script exports them as
/// `proxy_on_…` in place of the SDK's.
mod streams {
    use super::{Proxy, Vm, with_vm};
    use edgesplit_filter::request::{Flow, on_request};
    use edgesplit_filter::response::on_response;

    unsafe extern "C" {
        // The SDK's, for root contexts.
        safe fn proxy_on_context_create(id: u32, parent: u32);
        safe fn proxy_on_done(id: u32) -> bool;
        safe fn proxy_on_delete(id: u32);
    }

    /// What the proxy is told to do with a stream.
    const CONTINUE: u32 = 0;
    const PAUSE: u32 = 1;

    #[unsafe(no_mangle)]
    extern "C" fn split_on_memory_allocate(size: usize) -> *mut u8 {
        Box::into_raw(Box::<[u8]>::new_uninit_slice(size)).cast()
    }

    #[unsafe(no_mangle)]
    extern "C" fn split_on_context_create(id: u32, parent: u32) {
        if parent == 0 {
            return proxy_on_context_create(id, parent);
        }
        with_vm(|vm| {
            if vm.roots.len() > 1 {
                vm.streams.set(id, parent, Default::default());
            }
        });
    }

    #[unsafe(no_mangle)]
    extern "C" fn split_on_request_headers(id: u32, _headers: u32, _end_of_stream: u32) -> u32 {
        #[cfg(feature = "test-hooks")]
        super::test_hooks::crash_if_asked();
        with_vm(|Vm { roots, streams }| {
            let root = if roots.len() > 1 { streams.get(id).map_or(0, |stream| stream.root) } else { 0 };
            let Some(worker) = Vm::worker_of(roots, root) else { return CONTINUE };
            let (pending, action) = match on_request(worker, &Proxy) {
                Flow::Continue(pending) => (pending, CONTINUE),
                Flow::Answered(pending) => (pending, PAUSE),
            };
            if !pending.is_idle() {
                streams.set(id, root, pending);
            }
            action
        })
        .unwrap_or(CONTINUE)
    }

    #[unsafe(no_mangle)]
    extern "C" fn split_on_response_headers(id: u32, _headers: u32, _end_of_stream: u32) -> u32 {
        with_vm(|Vm { roots, streams }| {
            if let Some(stream) = streams.take(id)
                && !stream.pending.is_idle()
                && let Some(worker) = Vm::worker_of(roots, stream.root)
            {
                on_response(worker, &Proxy, stream.pending);
            }
        });
        CONTINUE
    }

    #[unsafe(no_mangle)]
    extern "C" fn split_on_done(id: u32) -> u32 {
        let is_root = with_vm(|vm| vm.is_root(id));
        if is_root == Some(true) { u32::from(proxy_on_done(id)) } else { 1 }
    }

    #[unsafe(no_mangle)]
    extern "C" fn split_on_delete(id: u32) {
        let is_root = with_vm(|vm| {
            vm.streams.forget(id);
            vm.is_root(id)
        });
        if is_root == Some(true) {
            proxy_on_delete(id);
        }
    }
}

/// What only the module for tests has.
#[cfg(feature = "test-hooks")]
mod test_hooks {
    use super::Proxy;
    use edgesplit_filter::host::{Headers, StreamHost};
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Crashes the VM where the request asks for it.
    pub(super) fn crash_if_asked() {
        let headers = Proxy.headers(Headers::Request);
        if headers.get("x-edgesplit-crash").is_some() {
            core::arch::wasm32::unreachable();
        }
    }

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
