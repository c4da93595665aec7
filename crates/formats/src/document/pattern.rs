//! Patterns of texts, as JSON Schemas write them.

/// The pattern of a `token` of RFC 9110, section 5.6.2: the names of headers and cookies.
pub const TOKEN: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";

/// Whether `text` matches [`TOKEN`].
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
