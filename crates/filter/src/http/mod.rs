//! What the filter has to know of HTTP: header maps as the proxy hands them over, cookies, URLs, `cache-control`.

pub mod cache_control;
pub mod cookies;
pub mod headers;
pub mod owned_names;
pub mod url;
