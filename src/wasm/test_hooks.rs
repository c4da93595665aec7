//! Hooks of the module for tests: a crash on request, and a count of allocations.
#![allow(unsafe_code, reason = "an allocator is unsafe")]

use super::abi::Proxy;
use edgesplit_filter::host::{Headers, StreamHost};
use edgesplit_filter::http::headers::HeaderBlock;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// Crashes the VM if the request asks for it.
pub(crate) fn crash_if_asked() {
    let mut block = HeaderBlock::default();
    if Proxy.headers(Headers::Request, &mut block).get("x-edgesplit-crash").is_some() {
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
