//! The same as a dynamic module of Envoy.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null;

/// A text that the host or the module owns.
#[repr(C)]
#[derive(Clone, Copy)]
struct Buffer {
    data: *const u8,
    len: usize,
}

impl Buffer {
    fn of(text: &str) -> Buffer {
        Buffer { data: text.as_ptr(), len: text.len() }
    }
}

/// A name and a value of the host's.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    name: Buffer,
    value: Buffer,
}

const NO_HEADER: Header = Header { name: Buffer { data: null(), len: 0 }, value: Buffer { data: null(), len: 0 } };

const REQUEST: u32 = 0;
const RESPONSE: u32 = 2;
const CONTINUE: u32 = 0;

unsafe extern "C" {
    fn envoy_dynamic_module_callback_http_get_headers_size(envoy: *mut c_void, map: u32) -> usize;
    fn envoy_dynamic_module_callback_http_get_headers(envoy: *mut c_void, map: u32, headers: *mut Header) -> bool;
    fn envoy_dynamic_module_callback_http_add_header(envoy: *mut c_void, map: u32, name: Buffer, value: Buffer)
    -> bool;
    fn envoy_dynamic_module_callback_http_set_header(envoy: *mut c_void, map: u32, name: Buffer, value: Buffer)
    -> bool;
    fn envoy_dynamic_module_callback_http_clear_route_cache(envoy: *mut c_void);
    fn envoy_dynamic_module_callback_http_filter_get_worker_index(envoy: *mut c_void) -> u32;
}

fn read(envoy: *mut c_void, map: u32) {
    // SAFETY: the host writes as many headers as it announces.
    unsafe {
        let mut headers = vec![NO_HEADER; envoy_dynamic_module_callback_http_get_headers_size(envoy, map)];
        envoy_dynamic_module_callback_http_get_headers(envoy, map, headers.as_mut_ptr());
    }
}

fn add(envoy: *mut c_void, name: &str, value: &str) {
    // SAFETY: the host copies both texts.
    unsafe { envoy_dynamic_module_callback_http_add_header(envoy, REQUEST, Buffer::of(name), Buffer::of(value)) };
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    const VERSION: &CStr = c"v0.2.0";
    VERSION.as_ptr()
}

/// The config and the stream need no memory of their own, but null would be a refusal.
static NOTHING: u8 = 0;

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(_: *mut c_void, _: Buffer, _: Buffer) -> *const u8 {
    &raw const NOTHING
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(_: *const c_void, envoy: *mut c_void) -> *const u8 {
    // SAFETY: the stream is valid during its hook.
    unsafe { envoy_dynamic_module_callback_http_filter_get_worker_index(envoy) };
    &raw const NOTHING
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    envoy: *mut c_void,
    _: *const c_void,
    _: bool,
) -> u32 {
    read(envoy, REQUEST);
    add(envoy, "x-ab-assignments", crate::ASSIGNMENTS);
    add(envoy, "x-ab-cache-key", crate::CACHE_KEY);
    // In wasm, Envoy does so by itself: routes may match the new headers.
    // SAFETY: the stream is valid during its hook.
    unsafe { envoy_dynamic_module_callback_http_clear_route_cache(envoy) };
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
    envoy: *mut c_void,
    _: *const c_void,
    _: bool,
) -> u32 {
    read(envoy, RESPONSE);
    let (name, value) = (Buffer::of("cache-control"), Buffer::of("private"));
    // SAFETY: the host copies both texts.
    unsafe { envoy_dynamic_module_callback_http_set_header(envoy, RESPONSE, name, value) };
    CONTINUE
}

/// The other hooks that the host demands. Their arguments are not read, so the caller's do no harm.
macro_rules! idle {
    ($($name:ident),+) => {
        $(#[unsafe(no_mangle)]
        extern "C" fn $name() -> u32 {
            CONTINUE
        })+
    };
}

idle!(
    envoy_dynamic_module_on_http_filter_config_destroy,
    envoy_dynamic_module_on_http_filter_request_body,
    envoy_dynamic_module_on_http_filter_request_trailers,
    envoy_dynamic_module_on_http_filter_response_body,
    envoy_dynamic_module_on_http_filter_response_trailers,
    envoy_dynamic_module_on_http_filter_stream_complete,
    envoy_dynamic_module_on_http_filter_destroy,
    envoy_dynamic_module_on_http_filter_http_callout_done,
    envoy_dynamic_module_on_http_filter_http_stream_headers,
    envoy_dynamic_module_on_http_filter_http_stream_data,
    envoy_dynamic_module_on_http_filter_http_stream_trailers,
    envoy_dynamic_module_on_http_filter_http_stream_complete,
    envoy_dynamic_module_on_http_filter_http_stream_reset,
    envoy_dynamic_module_on_http_filter_scheduled,
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark,
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark
);
