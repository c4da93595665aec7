//! Cookies of a request. HTTP/2 clients may split them over several headers; the first of a name wins.

use super::headers::{HeaderMap, is_name};

/// The value of the cookie `name`, as the client sent it.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut headers = headers.iter().filter(|(header, _)| is_name(header, b"cookie"));
    headers.find_map(|(_, header)| cookie_in(header, name))
}

/// The value of the cookie `name` in the value of one header.
pub fn cookie_in<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = header;
    loop {
        // A site's cookies may be kilobytes: they are what there is most of in a request.
        let end = memchr::memchr(b';', rest);
        let (pair, behind) = end.and_then(|end| rest.split_at_checked(end)).unwrap_or((rest, b""));
        if let Some(value) = pair.trim_ascii_start().strip_prefix(name.as_bytes())
            // Nothing but spaces may stand between the name and the sign.
            && let Some(value) = value.trim_ascii_start().strip_prefix(b"=")
        {
            return Some(value.trim_ascii());
        }
        rest = behind.split_first()?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_wins_over_all_headers() {
        let headers = HeaderMap::from_pairs(&[
            ("cookie", &b"a=1; b = 2 ;c"[..]),
            ("host", b"c=9"),
            ("cookie", b"b=3; uid=\xff; d=x=y;; =z; e="),
        ]);
        for (name, expected) in [
            ("a", Some(&b"1"[..])),
            ("b", Some(b"2")),
            ("c", None),
            ("uid", Some(b"\xff")),
            ("d", Some(b"x=y")),
            ("e", Some(b"")),
            ("A", None),
        ] {
            assert_eq!(cookie(&headers, name), expected, "{name}");
        }
    }
}
