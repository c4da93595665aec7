//! The callbacks that Edgesplit's wasm module exports, and with the feature `bare` the host calls of a known visitor.

#[cfg(feature = "bare")]
mod bare {
    use std::ptr::null_mut;

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, len: *mut usize) -> u32;
        fn proxy_add_header_map_value(map: u32, name: *const u8, name_len: usize, value: *const u8, len: usize) -> u32;
        fn proxy_replace_header_map_value(map: u32, name: *const u8, name_len: usize, value: *const u8, len: usize)
        -> u32;
    }

    pub fn read(map: u32) {
        let (mut data, mut len) = (null_mut(), 0);
        // SAFETY: the host allocated `len` bytes through `proxy_on_memory_allocate` and gave them away.
        unsafe {
            proxy_get_header_map_pairs(map, &raw mut data, &raw mut len);
            if !data.is_null() {
                drop(Vec::from_raw_parts(data, len, len));
            }
        }
    }

    pub fn add(map: u32, name: &str, value: &str) {
        // SAFETY: both texts are valid for the call.
        unsafe { proxy_add_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    }

    pub fn replace(map: u32, name: &str, value: &str) {
        // SAFETY: both texts are valid for the call.
        unsafe { proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let mut memory = Vec::with_capacity(size);
    let at = memory.as_mut_ptr();
    std::mem::forget(memory);
    at
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_context: u32, _size: u32) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(_context: u32, _size: u32) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(_context: u32, _parent: u32) {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(_context: u32) {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(_context: u32, _token: u32, _headers: u32, _body: u32, _trailers: u32) {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(_context: u32, _headers: u32, _end: u32) -> u32 {
    #[cfg(feature = "bare")]
    {
        bare::read(0);
        bare::add(0, "x-ab-assignments", crate::ASSIGNMENTS);
        bare::add(0, "x-ab-cache-key", crate::CACHE_KEY);
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(_context: u32, _headers: u32, _end: u32) -> u32 {
    #[cfg(feature = "bare")]
    {
        bare::read(2);
        bare::replace(2, "cache-control", "private");
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(_context: u32) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(_context: u32) {}
