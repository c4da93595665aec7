//! Reading JSON.

use serde_json::Value;

/// The value that `text` stands for. This is the only reader in the module: every type and every crate that reads with
/// `serde_json` itself adds another copy of it.
///
/// # Errors
/// The text is not JSON.
#[inline(never)]
pub fn read(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(text)
}
