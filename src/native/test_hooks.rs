//! Hooks of the module for tests: a panic on request.

use super::host::Proxy;
use edgesplit_filter::host::{Headers, StreamHost};
use edgesplit_filter::http::headers::HeaderBlock;

/// Panics if the request asks for it.
#[allow(clippy::panic, reason = "for tests only")]
pub(crate) fn crash_if_asked(proxy: &Proxy<'_>) {
    let mut block = HeaderBlock::default();
    if proxy.headers(Headers::Request, &mut block).get("x-edgesplit-crash").is_some() {
        panic!("as the request asked");
    }
}
