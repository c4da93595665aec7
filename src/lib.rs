//! The module that a proxy loads: Edgesplit's filter, connected to the proxy's callbacks. The filter itself is
//! `edgesplit_filter`. This package has one adapter for each kind of module:
//!
//! - `wasm`: proxy-wasm, for the wasm target.
//! - `native`: Envoy's dynamic modules, for other targets.
//!
//! Both take random bits from `random`, and lines for the log from `log_line`.
#![allow(missing_docs, reason = "the SDK's macro declares the one public function")]

mod log_line;
#[cfg(not(target_arch = "wasm32"))]
mod native;
mod random;
#[cfg(target_arch = "wasm32")]
mod wasm;
