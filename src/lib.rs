//! The module that a proxy loads: Edgesplit's filter over proxy-wasm. The filter itself is [`edgesplit_filter`]; this
//! package adds the callbacks and the calls to the host, and is empty in native builds.

#[cfg(target_arch = "wasm32")]
mod adapter;
