//! The answer of the filter itself to a request. Envoy does not show it to the filter as a response, so the filter changes its
//! headers before it is sent.

use super::abi::{Bytes, Callbacks, Header, Opaque};
use edgesplit_filter::http::headers::HeaderBlock;

/// The details of such responses in Envoy's access log.
const DETAILS: &str = "edgesplit";

/// Whether the value of a header has control characters. Envoy checks no value, and a line break would split the response.
pub(crate) fn has_controls(value: &[u8]) -> bool {
    let has =
        |bytes: &[u8]| bytes.iter().fold(false, |found, byte| found | (byte.is_ascii_control() & (*byte != b'\t')));
    // The compiler compares all bytes of a block at once. The last block may overlap with the one before.
    match value.last_chunk::<16>() {
        Some(last) => value.as_chunks::<16>().0.iter().any(|block| has(block)) || has(last),
        None => has(value),
    }
}

/// A response that is not sent yet.
#[derive(Debug)]
pub(crate) struct LocalResponse {
    pub(crate) status: u16,
    headers: Vec<(String, Vec<u8>)>,
}

impl LocalResponse {
    pub(crate) fn new(status: u32, headers: &[(&str, &str)]) -> LocalResponse {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        LocalResponse { status: status as u16, headers: headers.collect() }
    }

    /// The headers, as those of any response.
    pub(crate) fn headers(&self) -> HeaderBlock {
        let status = self.status.to_string();
        let pairs = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        HeaderBlock::from_pairs(&[(":status", status.as_bytes())].into_iter().chain(pairs).collect::<Vec<_>>())
    }

    /// Adds a header, replaces those of its name, or removes them.
    pub(crate) fn change(&mut self, name: &str, value: Option<&[u8]>, is_added: bool) {
        if !is_added {
            self.headers.retain(|(known, _)| known != name);
        }
        self.headers.extend(value.map(|value| (name.to_owned(), value.to_vec())));
    }

    /// Sends it. Envoy calls further hooks of the stream meanwhile.
    #[allow(unsafe_code, reason = "the host is reached through foreign functions")]
    pub(crate) fn send(self, callbacks: &Callbacks, stream: Opaque) {
        let valid = self.headers.iter().filter(|(_, value)| !has_controls(value));
        let headers: Vec<Header> =
            valid.map(|(name, value)| Header { name: Bytes::of(name.as_bytes()), value: Bytes::of(value) }).collect();
        let (status, details) = (u32::from(self.status), Bytes::of(DETAILS.as_bytes()));
        // SAFETY: all texts are valid for the call; Envoy copies them.
        unsafe {
            (callbacks.http_send_response)(stream, status, headers.as_ptr(), headers.len(), Bytes::EMPTY, details);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_control_characters_are_not_sent() {
        for (value, expected) in [
            (&b"a\tb \xff"[..], false),
            (b"", false),
            (b"a\r\nset-cookie: b", true),
            (b"a\nb", true),
            (b"\0", true),
            (b"\x7f", true),
            (b"seventeen bytes: \n", true),
            (b"sixteen bytes and one: \x01 and others", true),
            (b"sixteen bytes and one: \t and others", false),
        ] {
            assert_eq!(has_controls(value), expected, "{value:?}");
        }
    }

    #[test]
    fn headers_change_before_the_response_is_sent() {
        let mut response = LocalResponse::new(302, &[("location", "/a")]);
        response.change("set-cookie", Some(b"a=1"), true);
        response.change("set-cookie", Some(b"b=2"), true);
        response.change("location", Some(b"/b"), false);
        response.change("cache-control", None, false);
        let headers = response.headers();
        let headers = headers.map();
        assert_eq!(headers.get(":status"), Some(&b"302"[..]));
        assert_eq!(headers.all("location").collect::<Vec<_>>(), [b"/b"]);
        assert_eq!(headers.all("set-cookie").collect::<Vec<_>>(), [b"a=1", b"b=2"]);
    }
}
