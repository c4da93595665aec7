//! Locations of redirects. The filter changes the target of a request, and a redirect that is made from the changed target
//! must not show the change to the client.

use crate::http::url;

/// A rewrite of a request's target. Both targets are without the parameters that the filter owns.
#[derive(Debug)]
pub(crate) struct Rewrite {
    /// The target from the client.
    pub(crate) received: Vec<u8>,
    /// The target for the rest of the proxy.
    pub(crate) sent: Vec<u8>,
}

/// `location` without the cache's `parameter` and with the `rewrite` undone. `None` if it contains neither.
pub(crate) fn restored(location: &[u8], parameter: Option<&str>, rewrite: Option<&Rewrite>) -> Option<Vec<u8>> {
    let fragment = location.iter().position(|byte| *byte == b'#').unwrap_or(location.len());
    let (address, fragment) = location.split_at_checked(fragment)?;
    let stripped = parameter.and_then(|name| url::without_parameter(address, name));
    let address = stripped.as_deref().unwrap_or(address);
    let origin = rewrite.and_then(|rewrite| Some((address.strip_suffix(&*rewrite.sent)?, &rewrite.received)));
    match origin.filter(|(origin, _)| is_origin(origin)) {
        Some((origin, received)) => Some([origin, received, fragment].concat()),
        None => stripped.map(|address| [&address, fragment].concat()),
    }
}

/// Whether `text` is a scheme and an authority, or empty.
fn is_origin(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'/').count() == 3 || text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_shows_neither_rewrite_nor_parameter() {
        let rewrite = Rewrite { received: b"/checkout?a=1".to_vec(), sent: b"/checkout-v2?a=1".to_vec() };
        for (location, expected) in [
            ("https://shop.example/checkout-v2?a=1&__ab=x", Some("https://shop.example/checkout?a=1")),
            ("https://shop.example:8443/checkout-v2?a=1", Some("https://shop.example:8443/checkout?a=1")),
            ("/checkout-v2?a=1#top", Some("/checkout?a=1#top")),
            ("https://shop.example/moved?__ab=x&a=1#top", Some("https://shop.example/moved?a=1#top")),
            ("https://shop.example/moved?%5F_ab=x", Some("https://shop.example/moved")),
            ("https://shop.example/moved/checkout-v2?a=1", None),
            ("https://shop.example/checkout-v2?a=2&&b#__ab=x", None),
            ("https://shop.example/checkout-v2", None),
            ("", None),
        ] {
            let restored = restored(location.as_bytes(), Some("__ab"), Some(&rewrite));
            assert_eq!(restored.as_deref().map(String::from_utf8_lossy).as_deref(), expected, "{location}");
        }
    }
}
