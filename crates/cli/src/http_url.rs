//! The URLs of services.

use std::fmt;

/// An http or https URL. Its port is checked: a client would use the scheme's own instead of one that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpUrl(String);

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HttpUrl {
    /// Whether `text` begins like such a URL.
    pub(crate) fn has_scheme(text: &str) -> bool {
        text.starts_with("http://") || text.starts_with("https://")
    }

    /// Parses a URL. Without a scheme, it gets `http://`.
    pub(crate) fn parse(text: &str) -> Result<HttpUrl, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !["http", "https"].contains(&scheme) {
            return Err(format!("expected a URL with http:// or https://, found {scheme}://"));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (_, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        match address.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((_, port)) if !port.parse::<u16>().is_ok_and(|port| port != 0) => {
                Err(format!("expected a port from 1 to 65535, found {port:?}"))
            }
            _ => Ok(HttpUrl(format!("{scheme}://{rest}"))),
        }
    }

    /// The URL of a service on this machine.
    pub(crate) fn local(port: u16) -> HttpUrl {
        HttpUrl(format!("http://127.0.0.1:{port}"))
    }

    /// The URL of a page of this service.
    pub(crate) fn page(&self, path: &str) -> HttpUrl {
        HttpUrl(format!("{}{path}", self.0.trim_end_matches('/')))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_scheme_and_a_port_that_is_one() {
        for (text, expected) in [
            ("localhost:3000", "http://localhost:3000"),
            ("https://shop.example/a:b?c=d:e#f", "https://shop.example/a:b?c=d:e#f"),
            ("user:word@[::1]:80/", "http://user:word@[::1]:80/"),
            ("[::1]", "http://[::1]"),
        ] {
            assert_eq!(HttpUrl::parse(text).map(|url| url.to_string()), Ok(expected.to_owned()));
        }
        for text in ["ftp://a", "a:0", "a:65536", "http://a:/b", "user:word@a:x", "[::1]:99999"] {
            assert!(HttpUrl::parse(text).is_err(), "{text}");
        }
        assert_eq!(HttpUrl(String::from("http://a/")).page("/stats").as_str(), "http://a/stats");
    }
}
