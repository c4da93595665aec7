//! The functions that Envoy calls. No panic leaves one: it is counted, and the request continues.
#![allow(unsafe_code, reason = "foreign functions call these")]
#![allow(unreachable_pub, reason = "the linker exports them")]

use super::abi::{Bytes, CONTINUE, Header, LOG_ERROR, Opaque, callbacks};
use super::host::CallReply;
use super::plugin::Plugin;
use super::stream::Stream;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs a hook of the whole module. A panic gives `otherwise`.
fn caught<T>(otherwise: T, hook: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(hook)).unwrap_or(otherwise)
}

/// Runs a hook of a config. A panic gives `otherwise`, and is counted.
fn with_plugin<'a, T>(config: Opaque, otherwise: T, hook: impl FnOnce(&'a Plugin) -> T) -> T {
    // SAFETY: Envoy gives back what `config_new` returned, until `config_destroy`.
    let plugin = unsafe { &*config.0.cast::<Plugin>() };
    catch_unwind(AssertUnwindSafe(|| hook(plugin))).unwrap_or_else(|_| {
        plugin.count_panic();
        otherwise
    })
}

/// Runs a hook of a stream, likewise.
fn with_stream<T>(filter: Opaque, otherwise: T, hook: impl FnOnce(&Stream<'_>) -> T) -> T {
    // SAFETY: Envoy gives back what `filter_new` returned, until `filter_destroy`.
    let stream = unsafe { &*filter.0.cast::<Stream<'_>>() };
    catch_unwind(AssertUnwindSafe(|| hook(stream))).unwrap_or_else(|_| {
        stream.plugin.count_panic();
        otherwise
    })
}

/// Lets the first panic be logged, instead of printing all.
fn log_first_panic() {
    static ONCE: Once = Once::new();
    static HAS_LOGGED: AtomicBool = AtomicBool::new(false);
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            if let (false, Ok(callbacks)) = (HAS_LOGGED.swap(true, Ordering::Relaxed), callbacks()) {
                let line = format!("edgesplit: a bug, its request continues; further ones are only counted: {panic}");
                callbacks.log_line(LOG_ERROR, &line.replace('\n', " "));
            }
        }));
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    caught(std::ptr::null(), || match callbacks() {
        Ok(callbacks) => {
            log_first_panic();
            callbacks.abi_version().as_ptr()
        }
        Err(missing) => {
            // Envoy's log may be among the missing functions.
            eprintln!("edgesplit: {missing}");
            std::ptr::null()
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(config: Opaque, name: Bytes, text: Bytes) -> Opaque {
    caught(Opaque::NULL, || {
        let Ok(callbacks) = callbacks() else { return Opaque::NULL };
        // SAFETY: Envoy's bytes are valid during the hook.
        let (name, text) = unsafe { (name.as_slice(), text.as_slice()) };
        let plugin = Plugin::new(callbacks, config, name, text);
        plugin.map_or(Opaque::NULL, |plugin| Opaque(Box::into_raw(Box::new(plugin)).cast()))
    })
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(config: Opaque) {
    with_plugin(config, (), Plugin::shut_down);
    // SAFETY: the box is from `config_new`, and Envoy uses it no more.
    caught((), || drop(unsafe { Box::from_raw(config.0.cast::<Plugin>().cast_mut()) }));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(_: Opaque, config: Opaque, _event: u64) {
    with_plugin(config, (), Plugin::tick);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_callout_done(
    _: Opaque,
    config: Opaque,
    call: u64,
    result: i32,
    headers: *const Header,
    headers_len: usize,
    chunks: *const Bytes,
    chunks_len: usize,
) {
    // SAFETY: Envoy's lists are valid during the hook.
    let (headers, chunks) = unsafe { (list(headers, headers_len), list(chunks, chunks_len)) };
    with_plugin(config, (), |plugin| plugin.on_reply(call, &CallReply::new(result, headers, chunks)));
}

/// A list of Envoy's.
///
/// # Safety
/// `first` points to `len` valid elements, or is null.
unsafe fn list<'a, T>(first: *const T, len: usize) -> &'a [T] {
    if first.is_null() {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(first, len) }
}

/// A route can only disable the filter, with Envoy's own `FilterConfig`.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_new(_name: Bytes, _config: Bytes) -> Opaque {
    if let Ok(callbacks) = callbacks() {
        let line = "edgesplit: routes have no configuration of their own: disable the filter with \
                    envoy.config.route.v3.FilterConfig, or use `paths`";
        callbacks.log_line(LOG_ERROR, line);
    }
    Opaque::NULL
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_destroy(_config: Opaque) {}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(config: Opaque, stream: Opaque) -> Opaque {
    let new = |plugin| {
        let callbacks = callbacks().ok()?;
        // SAFETY: the stream is valid during the hook.
        let worker = unsafe { (callbacks.http_filter_get_worker_index)(stream) };
        Some(Opaque(Box::into_raw(Box::new(Stream::new(plugin, worker))).cast()))
    };
    with_plugin(config, None, new).unwrap_or(Opaque::NULL)
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(stream: Opaque, filter: Opaque, _end: bool) -> i32 {
    with_stream(filter, CONTINUE, |this| this.on_request_headers(stream))
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(stream: Opaque, filter: Opaque, _end: bool) -> i32 {
    with_stream(filter, CONTINUE, |this| this.on_response_headers(stream))
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_stream_complete(stream: Opaque, filter: Opaque) {
    with_stream(filter, (), |this| this.on_complete(stream));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_destroy(filter: Opaque) {
    // SAFETY: the box is from `filter_new`, and Envoy uses it no more.
    caught((), || drop(unsafe { Box::from_raw(filter.0.cast::<Stream<'_>>().cast_mut()) }));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_body(_: Opaque, _: Opaque, _end: bool) -> i32 {
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_body(_: Opaque, _: Opaque, _end: bool) -> i32 {
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(_: Opaque, _: Opaque) -> i32 {
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_trailers(_: Opaque, _: Opaque) -> i32 {
    CONTINUE
}

/// Hooks that Envoy looks for in every module, and that it never calls here.
macro_rules! unused {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name() {}
        )*
    };
}

unused! {
    envoy_dynamic_module_on_http_filter_http_callout_done
    envoy_dynamic_module_on_http_filter_http_stream_headers
    envoy_dynamic_module_on_http_filter_http_stream_data
    envoy_dynamic_module_on_http_filter_http_stream_trailers
    envoy_dynamic_module_on_http_filter_http_stream_complete
    envoy_dynamic_module_on_http_filter_http_stream_reset
    envoy_dynamic_module_on_http_filter_scheduled
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark
}
