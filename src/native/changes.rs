//! The changes of headers in one hook. They are made at its end: until then, the filter borrows Envoy's headers, which are valid
//! until one changes.

use super::abi::{Bytes, Callbacks, Opaque, REQUEST_HEADERS};

/// Room for the changes of most requests.
const BYTES: usize = 512;

/// The length that stands for no value.
const NO_VALUE: u32 = u32::MAX;

/// Changes in their order.
#[derive(Debug, Default)]
pub(crate) struct HeaderChanges {
    /// Each has four numbers, which are the map, whether headers of the name stay, and the lengths of the name and the value.
    /// Both texts follow.
    bytes: Vec<u8>,
    /// Whether headers of the request change.
    pub(crate) has_request: bool,
}

impl HeaderChanges {
    /// Adds a header to `map`. Replaces those of its name, or removes them if there is no value, unless `is_added`.
    pub(crate) fn push(&mut self, map: u32, name: &str, value: Option<&[u8]>, is_added: bool) {
        if self.bytes.is_empty() {
            self.bytes = Vec::with_capacity(BYTES);
        }
        let value_len = value.map_or(NO_VALUE, |value| value.len() as u32);
        let numbers = [map, u32::from(is_added), name.len() as u32, value_len].map(u32::to_le_bytes);
        self.bytes.extend_from_slice(numbers.as_flattened());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.has_request |= map == REQUEST_HEADERS;
    }

    /// Makes the changes.
    #[allow(unsafe_code, reason = "the host is reached through foreign functions")]
    pub(crate) fn make(&self, callbacks: &Callbacks, stream: Opaque) {
        let mut rest = self.bytes.as_slice();
        while let Some((numbers, texts)) = rest.split_first_chunk::<16>() {
            let (numbers, _) = numbers.as_chunks();
            let &[map, is_added, name_len, value_len] = numbers else { return };
            let [map, is_added, name_len, value_len] = [map, is_added, name_len, value_len].map(u32::from_le_bytes);
            let (name, texts) = texts.split_at_checked(name_len as usize).unwrap_or_default();
            let has_value = value_len != NO_VALUE;
            let (value, after) =
                texts.split_at_checked(if has_value { value_len as usize } else { 0 }).unwrap_or_default();
            rest = after;
            let change = if is_added == 1 { callbacks.http_add_header } else { callbacks.http_set_header };
            // Null stands for no header.
            let value = if has_value { Bytes::of(value) } else { Bytes::EMPTY };
            // SAFETY: both texts are valid for the call; Envoy copies them.
            let _ = unsafe { change(stream, map, Bytes::of(name), value) };
        }
    }
}
