//! The syntax of names and texts that end up in HTTP messages. Valid names and texts can be sent unchanged.

use crate::http::headers::folded;
use crate::http::owned_names::pattern_matches;
use edgesplit_formats::diagnostics::{Node, Problems, found};
use edgesplit_formats::document::schema;
use edgesplit_formats::document::{Kind, TOKEN, Text, Then, is_token};
use serde_json::Value;

/// Names that clients, proxies and origins need for themselves: a filter that owned one would break requests.
const NOT_OWNABLE: [&str; 27] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "dnt",
    "expect",
    "host",
    "if-modified-since",
    "if-none-match",
    "keep-alive",
    "origin",
    "proxy-authorization",
    "range",
    "referer",
    "sec-gpc",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// A header name in lower case, or the reason why it is none.
pub(super) fn check_header_name(name: &str) -> Result<String, &'static str> {
    if name.starts_with(':') {
        return Err("a pseudo-header cannot be named here; expected the name of an ordinary header");
    }
    if !is_token(name) {
        return Err("expected a header name: letters, digits and any of !#$%&'*+-.^_`|~");
    }
    Ok(name.to_ascii_lowercase())
}

/// The name of a header, in lower case, that is not taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderName {
    taken: &'static [&'static [&'static str]],
    /// Whether names that start with `x-forwarded-` are taken too.
    is_forwarded_taken: bool,
    reason: &'static str,
}

/// The name of any header.
pub(super) const HEADER: HeaderName = HeaderName { taken: &[], is_forwarded_taken: false, reason: "" };

/// The name of a header that the filter may own.
pub(super) const OWNED_HEADER: HeaderName = HeaderName {
    taken: &[&NOT_OWNABLE],
    is_forwarded_taken: true,
    reason: "the filter removes this name from every request before it sets its own",
};

/// A name that the filter may own, or the start of such names with a `*` behind it, in lower case.
pub(super) const OWNED_PATTERN: Then<Text, String> = Then {
    kind: Text::new(
        "the name of a header, or the start of one with a * at its end",
        "^[A-Za-z0-9!#$%&'+.^_`|~-]+\\*?$",
        |text| {
            let name = text.strip_suffix('*').unwrap_or(text);
            is_token(name) && !name.contains('*')
        },
    ),
    then: |text, node, problems| {
        let text = text.to_ascii_lowercase();
        let is_owned = |name: &str| pattern_matches(&folded(text.as_bytes()), name.as_bytes());
        if let Some(name) = NOT_OWNABLE.iter().chain(&FORWARDED).find(|name| is_owned(name)) {
            problems
                .error(node.path, format!("{text} cannot be taken: {name} is needed by clients, proxies or origins"));
            return None;
        }
        Some(text)
    },
};

/// Headers that proxies write, beside those of [`NOT_OWNABLE`].
const FORWARDED: [&str; 9] = [
    "forwarded",
    "traceparent",
    "via",
    "x-envoy-external-address",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// The name of a header that the filter may add to responses.
pub(super) const OWN_RESPONSE_HEADER: HeaderName = HeaderName {
    taken: &[&NOT_OWNABLE, &RESPONSE_NAMES_TAKEN],
    is_forwarded_taken: false,
    reason: "it has a meaning of its own in responses",
};

impl Kind for HeaderName {
    type Value = String;

    fn expected(&self) -> String {
        "the name of a header".to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<String> {
        let name = match check_header_name(node.string(problems)?) {
            Ok(name) => name,
            Err(message) => {
                problems.error(node.path, format!("{message}; found {}", found(node.value)));
                return None;
            }
        };
        let is_taken = self.taken.iter().any(|taken| taken.contains(&name.as_str()));
        if is_taken || (self.is_forwarded_taken && name.starts_with("x-forwarded-")) {
            problems.error(node.path, format!("{name} cannot be taken: {}", self.reason));
            return None;
        }
        Some(name)
    }

    fn schema(&self) -> Value {
        schema::header_name(&self.taken.concat())
    }

    fn show(&self, name: &String) -> Option<Value> {
        Some(Value::from(name.as_str()))
    }
}

/// Headers of responses that already have a meaning for the client.
const RESPONSE_NAMES_TAKEN: [&str; 13] = [
    "age",
    "alt-svc",
    "content-security-policy",
    "etag",
    "expires",
    "last-modified",
    "location",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "vary",
    "www-authenticate",
];

/// A text of visible ASCII, spaces and tabs.
pub(super) fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// The name of a cookie.
pub(super) const COOKIE: Text = Text::new("a cookie name: letters, digits and any of !#$%&'*+-.^_`|~", TOKEN, is_token);

/// The name of a query parameter that the filter adds: the same however it is percent-encoded.
pub(super) const OWNED_PARAMETER: Text =
    Text::new("a parameter name: letters, digits and any of _.~-", "^[A-Za-z0-9_.~-]+$", |text| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.~-".contains(&byte))
    });

/// A host, with or without a port, as `:authority` carries it.
pub(super) fn is_authority(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/\\?#".contains(&byte))
}

/// The path of a URL, with or without a query, as `:path` carries it.
pub(super) fn is_request_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// A host name as a cookie's `Domain` carries it. A leading dot, which browsers ignore, is allowed.
pub(super) fn is_domain(text: &str) -> bool {
    const DOMAIN_BYTES_MAX: usize = 253;
    let host = text.strip_prefix('.').unwrap_or(text);
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= DOMAIN_BYTES_MAX && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabets() {
        type Check = fn(&str) -> bool;
        let cases: [(&str, Check, &[&str], &[&str]); 5] = [
            ("token", is_token, &["a", "X-A_b.1", "__Host-id"], &["", "a b", "a:b", "a;b", "a=b", "é", "a\n"]),
            ("header value", is_header_value, &["", "Bearer a=\tb~"], &["a\r\n", "a\0", "é", "\x7f"]),
            ("authority", is_authority, &["a", "a.b:80", "[::1]:80", "outbound|80||a.b"], &["", "a b", "a/b", "é"]),
            ("path", is_request_path, &["/", "/a?b=c&d=%20"], &["", "a", "/a b", "/a#b", "/é", "/\n"]),
            (
                "domain",
                is_domain,
                &["localhost", ".a.example", "a-b.example"],
                &["", ".", "a..b", "a:80", "-a", "a_b", "a;b"],
            ),
        ];
        for (kind, check, good, bad) in cases {
            for text in good {
                assert!(check(text), "{text:?} is a good {kind}");
            }
            for text in bad {
                assert!(!check(text), "{text:?} is a bad {kind}");
            }
        }
    }
}
