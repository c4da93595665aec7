//! The syntax of names and texts that end up in HTTP messages. What passes here can be sent as it is.

use edgesplit_formats::diagnostics::{Node, Problems, found};

/// Names that clients, proxies and origins need for themselves: a filter that owned one would break requests.
pub(super) const NOT_OWNABLE: [&str; 27] = [
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

/// A `token` of RFC 9110, section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A header name in lower case, else what is wrong with it.
pub(super) fn check_header_name(name: &str) -> Result<String, &'static str> {
    if name.starts_with(':') {
        return Err("a pseudo-header cannot be named here; expected the name of an ordinary header");
    }
    if !is_token(name) {
        return Err("expected a header name: letters, digits and any of !#$%&'*+-.^_`|~");
    }
    Ok(name.to_ascii_lowercase())
}

/// A header name, in lower case.
pub(super) fn header_name(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    let name = node.string(problems)?;
    match check_header_name(name) {
        Ok(name) => Some(name),
        Err(message) => {
            problems.error(node.path, format!("{message}; found {}", found(node.value)));
            None
        }
    }
}

/// The name of a header that the filter may own, in lower case.
pub(super) fn owned_header_name(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    let name = header_name(node, problems)?;
    if NOT_OWNABLE.contains(&name.as_str()) || name.starts_with("x-forwarded-") {
        let message =
            format!("{name} cannot be taken: the filter removes this name from every request before it sets its own");
        problems.error(node.path, message);
        return None;
    }
    Some(name)
}

/// Headers of responses that say something to the client already.
pub(super) const RESPONSE_NAMES_TAKEN: [&str; 13] = [
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

/// The name of a header that the filter may add to responses, in lower case.
pub(super) fn own_response_header_name(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    let name = header_name(node, problems)?;
    if NOT_OWNABLE.contains(&name.as_str()) || RESPONSE_NAMES_TAKEN.contains(&name.as_str()) {
        problems.error(node.path, format!("{name} cannot be taken: it has a meaning of its own in responses"));
        return None;
    }
    Some(name)
}

/// A text of visible ASCII, spaces and tabs, else what is wrong with it. Does not repeat the text: it may be a secret.
pub(super) fn check_header_value(value: &str) -> Result<(), &'static str> {
    let bad = value.bytes().find(|byte| !matches!(byte, b'\t' | b' '..=b'~'));
    match bad {
        None => Ok(()),
        Some(b'\r' | b'\n') => Err("a header value must not hold a line break"),
        Some(_) => Err("a header value must be visible ASCII, spaces and tabs"),
    }
}

/// The string at `node` if `good`, else a problem that names what was `expected`.
pub(super) fn text(
    node: Node<'_>,
    expected: &str,
    problems: &mut Problems,
    good: impl FnOnce(&str) -> bool,
) -> Option<String> {
    let text = node.string(problems)?;
    if good(text) {
        return Some(text.to_owned());
    }
    node.expected(problems, expected);
    None
}

/// The name of a cookie.
pub(super) fn cookie_name(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    text(node, "a cookie name: letters, digits and any of !#$%&'*+-.^_`|~", problems, is_token)
}

/// The name of a query parameter that the filter adds: one that is the same however it is percent-encoded.
pub(super) fn owned_parameter_name(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"_.~-".contains(&byte);
    text(node, "a parameter name: letters, digits and any of _.~-", problems, |text| {
        !text.is_empty() && text.bytes().all(unreserved)
    })
}

/// A host, with or without a port, as `:authority` carries it.
pub(super) fn is_authority(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/\\?#".contains(&byte))
}

/// The path of a URL, with or without a query, as `:path` carries it.
pub(super) fn is_request_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// A host name as a cookie's `Domain` carries it; a leading dot, which browsers ignore, is let through.
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
    fn each_kind_of_text_has_its_alphabet() {
        type Check = fn(&str) -> bool;
        let is_header_value: Check = |text| check_header_value(text).is_ok();
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
