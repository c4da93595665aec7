//! Envoy's ABI of dynamic modules, as far as the filter uses it: the types, and the functions that Envoy lends.
//!
//! The functions are looked up when the module is loaded, not linked: a missing one is then a line in the log instead of a
//! failed load, functions that are newer than the oldest Envoy can be optional, and unit tests need no Envoy.
#![allow(unsafe_code, reason = "the host is reached through foreign functions")]

use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

/// A pointer whose meaning only its owner knows.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opaque(pub(crate) *const c_void);

// SAFETY: it is only handed back to its owner, and only on the threads on which the owner allows it.
unsafe impl Send for Opaque {}
// SAFETY: as above.
unsafe impl Sync for Opaque {}

impl Opaque {
    pub(crate) const NULL: Opaque = Opaque(std::ptr::null());
}

/// Bytes of the other side, valid during a call. The pointer may be null if there are none.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes {
    pub(crate) data: *const u8,
    pub(crate) len: usize,
}

impl Bytes {
    pub(crate) const EMPTY: Bytes = Bytes { data: std::ptr::null(), len: 0 };

    pub(crate) fn of(bytes: &[u8]) -> Bytes {
        Bytes { data: bytes.as_ptr(), len: bytes.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    /// The other side gave them, and they are still valid.
    pub(crate) unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

/// A header, in both directions.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) name: Bytes,
    pub(crate) value: Bytes,
}

impl Header {
    /// Its name and value.
    ///
    /// # Safety
    /// The other side gave them, and they are still valid.
    pub(crate) unsafe fn texts<'a>(self) -> (&'a [u8], &'a [u8]) {
        // SAFETY: as the caller promises.
        unsafe { (self.name.as_slice(), self.value.as_slice()) }
    }
}

/// Header maps.
pub(crate) const REQUEST_HEADERS: u32 = 0;
pub(crate) const RESPONSE_HEADERS: u32 = 2;

/// The attribute with the source of a response, or the cause of its end.
pub(crate) const RESPONSE_CODE_DETAILS: u32 = 16;
/// The attribute with the status of a response.
pub(crate) const RESPONSE_CODE: u32 = 15;

/// The results of hooks for headers, bodies and trailers.
pub(crate) const CONTINUE: i32 = 0;
pub(crate) const STOP: i32 = 1;

/// The result of the functions for metrics that worked.
pub(crate) const METRIC_OK: i32 = 0;

/// The results of starting a call.
pub(crate) const CALL_OK: i32 = 0;
pub(crate) const CALL_NO_CLUSTER: i32 = 2;

/// The result of a finished call that has an answer.
pub(crate) const CALL_ANSWERED: i32 = 0;

/// Severities of the log.
pub(crate) const LOG_ERROR: u32 = 4;

/// Looks a function of Envoy up.
fn find(name: &CStr) -> Opaque {
    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    // SAFETY: the name ends with a NUL; the null handle stands for all that the process exports.
    Opaque(unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) })
}

/// Declares the functions of Envoy once: their types and names.
macro_rules! callbacks {
    (required { $($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)* }
     optional { $($later:ident: fn($($later_argument:ty),*) $(-> $later_result:ty)?;)* }) => {
        /// The functions of Envoy. They are named after their parts behind `envoy_dynamic_module_callback_`.
        #[derive(Debug)]
        pub(crate) struct Callbacks {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            $(pub(crate) $later: Option<unsafe extern "C" fn($($later_argument),*) $(-> $later_result)?>,)*
        }

        impl Callbacks {
            /// Looks all functions up. The error names those that are missing.
            fn load() -> Result<Callbacks, String> {
                let mut missing = String::new();
                $(let $name = {
                    let found = find(symbol!($name));
                    if found.0.is_null() {
                        missing.push_str(concat!(" ", stringify!($name)));
                    }
                    found
                };)*
                if !missing.is_empty() {
                    return Err(format!("this Envoy lacks functions that the module needs:{missing}"));
                }
                Ok(Callbacks {
                    // SAFETY: Envoy exports the function of this name with this type, which never changes (`abi.h`).
                    $($name: unsafe {
                        std::mem::transmute::<Opaque, unsafe extern "C" fn($($argument),*) $(-> $result)?>($name)
                    },)*
                    // SAFETY: as above; a null pointer is `None`.
                    $($later: unsafe {
                        std::mem::transmute::<
                            Opaque,
                            Option<unsafe extern "C" fn($($later_argument),*) $(-> $later_result)?>,
                        >(find(symbol!($later)))
                    },)*
                })
            }
        }
    };
}

macro_rules! symbol {
    ($name:ident) => {{
        const NAME: &str = concat!("envoy_dynamic_module_callback_", stringify!($name), "\0");
        const SYMBOL: &CStr = match CStr::from_bytes_with_nul(NAME.as_bytes()) {
            Ok(symbol) => symbol,
            Err(_) => c"",
        };
        SYMBOL
    }};
}

callbacks! {
    required {
        log: fn(u32, Bytes);
        is_validation_mode: fn() -> bool;
        get_concurrency: fn() -> u32;
        http_get_headers_size: fn(Opaque, u32) -> usize;
        http_get_headers: fn(Opaque, u32, *mut Header) -> bool;
        http_get_header: fn(Opaque, u32, Bytes, *mut Bytes, usize, *mut usize) -> bool;
        http_set_header: fn(Opaque, u32, Bytes, Bytes) -> bool;
        http_add_header: fn(Opaque, u32, Bytes, Bytes) -> bool;
        http_send_response: fn(Opaque, u32, *const Header, usize, Bytes, Bytes);
        http_clear_route_cache: fn(Opaque);
        http_filter_get_worker_index: fn(Opaque) -> u32;
        http_filter_get_attribute_string: fn(Opaque, u32, *mut Bytes) -> bool;
        http_filter_get_attribute_int: fn(Opaque, u32, *mut u64) -> bool;
        http_filter_config_define_counter: fn(Opaque, Bytes, *const Bytes, usize, *mut usize) -> i32;
        http_filter_config_define_gauge: fn(Opaque, Bytes, *const Bytes, usize, *mut usize) -> i32;
        http_filter_increment_counter: fn(Opaque, usize, *const Bytes, usize, u64) -> i32;
        http_filter_set_gauge: fn(Opaque, usize, *const Bytes, usize, u64) -> i32;
        http_filter_config_http_callout: fn(Opaque, *mut u64, Bytes, *const Header, usize, Bytes, u64) -> i32;
        http_filter_config_scheduler_new: fn(Opaque) -> Opaque;
        http_filter_config_scheduler_commit: fn(Opaque, u64);
        http_filter_config_scheduler_delete: fn(Opaque);
    }
    optional {
        log_v2: fn(u32, Bytes, Bytes, u32);
        http_filter_config_increment_counter: fn(Opaque, usize, *const Bytes, usize, u64) -> i32;
        http_filter_config_set_gauge: fn(Opaque, usize, *const Bytes, usize, u64) -> i32;
    }
}

/// The functions of the Envoy that loaded the module, or the reason why they cannot be used.
pub(crate) fn callbacks() -> Result<&'static Callbacks, &'static str> {
    static CALLBACKS: OnceLock<Result<Callbacks, String>> = OnceLock::new();
    CALLBACKS.get_or_init(Callbacks::load).as_ref().map_err(String::as_str)
}

impl Callbacks {
    /// The version of the ABI that Envoy expects the module to name: a mismatch is only a warning in its log.
    pub(crate) fn abi_version(&self) -> &'static CStr {
        if self.log_v2.is_some() { c"v0.2.0" } else { c"v0.1.0" }
    }

    /// Writes a line to Envoy's log.
    pub(crate) fn log_line(&self, severity: u32, line: &str) {
        // SAFETY: the text is valid for the call.
        unsafe { (self.log)(severity, Bytes::of(line.as_bytes())) }
    }

    /// Whether this Envoy is 1.38: metrics then change during requests only, and the details of responses are unknown.
    pub(crate) fn is_first(&self) -> bool {
        self.http_filter_config_increment_counter.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_functions_are_named() {
        let error = callbacks().unwrap_err();
        assert!(
            error.starts_with("this Envoy lacks") && error.ends_with(" http_filter_config_scheduler_delete"),
            "{error}"
        );
    }

    #[test]
    fn empty_bytes_may_be_null() {
        // SAFETY: a null pointer stands for no bytes.
        assert_eq!(unsafe { Bytes::EMPTY.as_slice() }, b"");
        let text = b"text";
        // SAFETY: the text outlives the bytes.
        assert_eq!(unsafe { Bytes::of(text).as_slice() }, text);
    }
}
