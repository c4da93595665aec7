//! Patterns of texts, as JSON Schemas write them.

/// The pattern of a `token` of RFC 9110: the names of headers and cookies.
pub const TOKEN: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
