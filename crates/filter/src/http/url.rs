//! Parts of URLs as the filter meets them: the host without its port, the path, the parameters of the query.

pub use edgesplit_engine::percent::decoded as percent_decoded;
use std::borrow::Cow;

/// `authority` without its port, in lower case.
pub fn host(authority: &[u8]) -> Cow<'_, [u8]> {
    let end = match authority.first() {
        // An IPv6 address has colons of its own, in brackets.
        Some(b'[') => authority.iter().position(|&byte| byte == b']').map(|at| at + 1),
        _ => authority.iter().position(|&byte| byte == b':'),
    };
    let host = end.and_then(|end| authority.get(..end)).unwrap_or(authority);
    if host.iter().any(u8::is_ascii_uppercase) { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) }
}

/// The port in `authority`, if there is one.
pub fn port(authority: &[u8]) -> Option<&[u8]> {
    let colon = authority.iter().rposition(|byte| *byte == b':')?;
    let port = authority.get(colon + 1..)?;
    (!port.is_empty() && port.iter().all(u8::is_ascii_digit)).then_some(port)
}

/// Whether `query` has every parameter of `wanted`, with the same values.
pub fn has_parameters(query: &[u8], wanted: &[u8]) -> bool {
    let mut wanted = wanted.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty());
    wanted.all(|wanted| query.split(|&byte| byte == b'&').any(|pair| decoded(pair) == decoded(wanted)))
}

/// The path and the query of a request target; the query is without its question mark.
#[inline(always)]
pub fn path_and_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|&byte| byte == b'?').and_then(|at| target.split_at_checked(at)) {
        Some((path, query)) => (path, query.get(1..)),
        None => (target, None),
    }
}

/// The first value of the parameter `name`, decoded.
pub fn parameter<'a>(query: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    query.split(|&byte| byte == b'&').find_map(|pair| {
        let (found, value) = split_pair(pair);
        (*decoded(found) == *name.as_bytes()).then(|| decoded(value))
    })
}

/// Whether `query` has the parameter `name`, however it is percent-encoded.
pub fn has_parameter(query: &[u8], name: &str) -> bool {
    parameter(query, name).is_some()
}

/// `target` without the parameter `name`, however it is percent-encoded; `None` if it is not there.
pub fn without_parameter(target: &[u8], name: &str) -> Option<Vec<u8>> {
    let (_, query) = path_and_query(target);
    has_parameter(query?, name).then(|| with_parameter(target, name, None))
}

/// `target` without any parameter called `name`, however that is percent-encoded, and with `value` under that name at
/// the end, if there is one.
pub fn with_parameter(target: &[u8], name: &str, value: Option<&str>) -> Vec<u8> {
    let (path, query) = path_and_query(target);
    let mut out = Vec::with_capacity(target.len() + name.len() + value.map_or(0, str::len) + 2);
    out.extend_from_slice(path);
    let mut separator = b'?';
    // An empty query keeps its question mark only where something follows it.
    let kept = query.unwrap_or_default().split(|&byte| byte == b'&');
    for pair in kept.filter(|pair| !pair.is_empty() && *decoded(split_pair(pair).0) != *name.as_bytes()) {
        out.push(separator);
        out.extend_from_slice(pair);
        separator = b'&';
    }
    if let Some(value) = value {
        out.push(separator);
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_bytes());
    }
    out
}

fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|&byte| byte == b'=').and_then(|at| pair.split_at_checked(at)) {
        Some((name, value)) => (name, value.get(1..).unwrap_or_default()),
        None => (pair, &[]),
    }
}

/// Undoes percent-encoding and `+` for a space. Malformed encodings stay as they are.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'+') {
        return percent_decoded(text);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decoded(&spaced).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_port_and_case() {
        for (authority, expected) in [
            ("shop.example", "shop.example"),
            ("Shop.Example:8080", "shop.example"),
            ("[::1]:80", "[::1]"),
            ("[::1", "[::1"),
            ("", ""),
        ] {
            assert_eq!(host(authority.as_bytes()), expected.as_bytes(), "{authority}");
        }
    }

    #[test]
    fn ports_are_digits_behind_the_host() {
        for (authority, expected) in [
            ("h", None),
            ("h:8080", Some("8080")),
            ("[::1]", None),
            ("[::1]:80", Some("80")),
            ("h:", None),
            ("h:x", None),
        ] {
            assert_eq!(port(authority.as_bytes()), expected.map(str::as_bytes), "{authority}");
        }
    }

    #[test]
    fn parameters_are_found_however_they_are_encoded() {
        let query = b"a=1&%5F_ab=x%20y+z&b&c=%zz%4";
        assert_eq!(parameter(query, "__ab").as_deref(), Some(&b"x y z"[..]));
        assert_eq!(parameter(query, "b").as_deref(), Some(&b""[..]));
        assert_eq!(parameter(query, "c").as_deref(), Some(&b"%zz%4"[..]));
        assert_eq!(parameter(query, "d"), None);
    }

    #[test]
    fn owned_parameter_is_replaced_at_any_position() {
        for (target, value, expected) in [
            ("/", Some("k.v"), "/?__ab=k.v"),
            ("/?a=1", Some("k.v"), "/?a=1&__ab=k.v"),
            ("/?__ab=spoof&a=1", None, "/?a=1"),
            ("/?a=1&%5f%5Fa%62=spoof&__ab", Some("k.v"), "/?a=1&__ab=k.v"),
            ("/?__ab=spoof", None, "/"),
            ("/?a=1&a=2&__abc=3", None, "/?a=1&a=2&__abc=3"),
            ("/p?x=/?__ab=1", None, "/p?x=/?__ab=1"),
        ] {
            let out = with_parameter(target.as_bytes(), "__ab", value);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{target}");
        }
    }
}
