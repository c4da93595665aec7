//! Filters to compare with: the callbacks of Edgesplit and the host calls that it makes for a known visitor, with constant
//! values and no work in between.
#![allow(unsafe_code, clippy::missing_safety_doc)]

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod wasm;

#[cfg(any(feature = "bare", not(target_arch = "wasm32")))]
const ASSIGNMENTS: &str = "experiment-0=treatment, experiment-1=control, experiment-2=treatment, experiment-3=control, \
                           experiment-4=treatment";

#[cfg(any(feature = "bare", not(target_arch = "wasm32")))]
const CACHE_KEY: &str = "experiment-0.treatment~experiment-2.treatment~experiment-4.treatment";
