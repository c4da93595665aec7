//! Cookies of a request. HTTP/2 clients may split them over several headers; the first of a name wins.

use super::headers::HeaderMap;

/// The value of the cookie `name`, as the client sent it.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &'a str) -> Option<&'a [u8]> {
    headers.all("cookie").flat_map(|header| header.split(|&byte| byte == b';')).find_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        let (found, value) = pair.split_at_checked(at)?;
        (found.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
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
