//! HTTP: the proxy's header maps, cookies, URLs, `cache-control`.

pub mod cache_control;
pub mod cookies;
pub mod headers;
pub mod owned_names;
pub mod url;
pub mod validators;
