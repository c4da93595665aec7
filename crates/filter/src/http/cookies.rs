//! Cookies of a request. HTTP/2 clients may split them over several headers; the first of a name wins.

use super::headers::HeaderMap;
use super::url;
use edgesplit_engine::percent;
use std::borrow::Cow;
use std::cell::OnceCell;

/// How many cookies of a request are read. Chrome and Firefox keep 180 for a site. The others are ignored: every look-up then
/// takes bounded time.
pub const COOKIES_MAX: usize = 1_024;

/// The value of the cookie `name`, as the client sent it.
pub fn cookie<'a>(headers: &HeaderMap<'a>, name: &str) -> Option<&'a [u8]> {
    find(headers, name, |_| true)
}

/// The first value of the cookie `name` that is `wanted`.
pub fn find<'a>(headers: &HeaderMap<'a>, name: &str, mut wanted: impl FnMut(&[u8]) -> bool) -> Option<&'a [u8]> {
    let mut left = COOKIES_MAX;
    headers.all("cookie").find_map(|header| find_in(header, name, &mut left, &mut wanted))
}

/// The value of the cookie `name` in the value of one header.
#[inline(always)]
pub fn cookie_in<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    find_in(header, name, &mut { COOKIES_MAX }, |_| true)
}

/// The first value of the cookie `name` that is `wanted` among the next `left` cookies of one header.
#[inline(always)]
fn find_in<'a>(
    header: &'a [u8],
    name: &str,
    left: &mut usize,
    mut wanted: impl FnMut(&[u8]) -> bool,
) -> Option<&'a [u8]> {
    let (mut rest, name) = (header, name.as_bytes());
    loop {
        *left = left.checked_sub(1)?;
        // A site's cookies may be kilobytes, most of a request.
        let end = position(rest, b';').unwrap_or(rest.len());
        let mut pair = rest.get(..end)?;
        while let [b' ', others @ ..] = pair {
            pair = others;
        }
        // Most cookies begin with another letter.
        if matches!(pair.first(), first if first == name.first() || first.is_some_and(u8::is_ascii_whitespace))
            && let Some(value) = value_of(pair, name)
            && wanted(value)
        {
            return Some(value);
        }
        rest = rest.get(end + 1..)?;
    }
}

/// The value of a cookie, if `name` is its name. Both may have spaces around them.
#[inline(never)]
fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = pair.trim_ascii_start().strip_prefix(name)?;
    Some(value.trim_ascii_start().strip_prefix(b"=")?.trim_ascii())
}

/// The position of the first `wanted` in `bytes`. Compares eight bytes at a time, in little code: cookies are too short for
/// the methods of libraries to pay off.
#[inline(always)]
fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (blocks, rest) = bytes.as_chunks();
    for (number, block) in blocks.iter().enumerate() {
        let different = u64::from_le_bytes(*block) ^ (ONES * u64::from(wanted));
        // The lowest bit that is set is the highest of the first byte that is 0.
        let zeros = different.wrapping_sub(ONES) & !different & (ONES << 7);
        if zeros != 0 {
            return Some(8 * number + zeros.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| *byte == wanted)?;
    Some(8 * blocks.len() + at)
}

/// The cookies with their names and values, as the client sent them.
pub fn pairs<'a>(headers: &HeaderMap<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let pairs = headers.all("cookie").flat_map(|header| header.split(|&byte| byte == b';'));
    pairs.take(COOKIES_MAX).filter_map(|pair| {
        let (name, value) = pair.split_at_checked(position(pair, b'=')?)?;
        Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
    })
}

/// The cookies of a request, read in one walk for any number of look-ups.
#[derive(Debug)]
pub struct Cookies<'a> {
    all: Vec<(&'a [u8], &'a [u8])>,
    /// Their names without percent-encoding.
    names: OnceCell<Vec<Cow<'a, [u8]>>>,
}

impl<'a> Cookies<'a> {
    /// Reads the cookies in `headers`.
    pub fn read(headers: &HeaderMap<'a>) -> Cookies<'a> {
        Cookies { all: pairs(headers).collect(), names: OnceCell::new() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The value of the cookie `name`, as the client sent it.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all.iter().find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| *value)
    }

    /// The value of the cookie `name`, if both may be percent-encoded, as scripts write them.
    pub fn get_encoded(&self, name: &str) -> Option<String> {
        let names = self.names.get_or_init(|| self.all.iter().map(|(name, _)| url::percent_decoded(name)).collect());
        let mut named = names.iter().zip(&self.all).filter(|(found, _)| ***found == *name.as_bytes());
        named.find_map(|(_, (_, value))| {
            // Some scripts put it into quotes.
            let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
            String::from_utf8(url::percent_decoded(value).into_owned()).ok()
        })
    }
}

/// A cookie's name, with invalid characters percent-encoded.
pub fn encoded_name(name: &str) -> String {
    percent::encoded(name, |byte| b"!#$&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_names_are_found() {
        let name = "gbStickyBuckets__id||a@b c";
        for written in [
            r#"x=1; gbStickyBuckets__id||a%40b%20c={"a":"1"}; y=2"#,
            "gbStickyBuckets__id%7C%7Ca%40b%20c=%7B%22a%22%3A%221%22%7D",
            r#"gb=0;gbStickyBuckets__id||a@b c="%7B%22a%22:%221%22%7D""#,
        ] {
            let headers = HeaderMap::of(&[("cookie", "first=0"), ("cookie", written)]);
            let cookies = Cookies::read(&headers);
            assert_eq!(cookies.get_encoded(name).as_deref(), Some(r#"{"a":"1"}"#), "{written}");
            assert_eq!(cookies.get_encoded("gbStickyBuckets__id||a"), None);
        }
        assert_eq!(encoded_name(name), "gbStickyBuckets__id||a%40b%20c");
        assert_eq!(Cookies::read(&HeaderMap::of(&[("cookie", "a=%ff")])).get_encoded("a"), None);
    }

    #[test]
    fn cookies_beyond_the_limit_are_ignored() {
        for (before, expected) in [(COOKIES_MAX - 1, Some(&b"1"[..])), (COOKIES_MAX, None)] {
            let [half, rest] = [before / 2, before - before / 2].map(|count| "a=0; ".repeat(count));
            let (half, rest) = (half.trim_end_matches("; "), format!("{rest}b=1"));
            let headers = HeaderMap::of(&[("cookie", half), ("cookie", &rest)]);
            assert_eq!(cookie(&headers, "b"), expected, "behind {before}");
            assert_eq!(Cookies::read(&headers).get("b"), expected, "behind {before}");
        }
    }

    #[test]
    fn byte_is_found_at_its_first_position() {
        let bytes: Vec<u8> = (0..40).map(|at| [b':', b';' | 0x80, b'<', 0, 0xff, 0x3a][at % 6]).collect();
        for length in 0..bytes.len() {
            assert_eq!(position(&bytes[..length], b';'), None, "{length}");
            for at in 0..length {
                let mut bytes = bytes[..length].to_vec();
                bytes[at..].iter_mut().step_by(3).for_each(|byte| *byte = b';');
                assert_eq!(position(&bytes, b';'), Some(at), "{at} of {length}");
            }
        }
    }

    #[test]
    fn first_cookie_of_a_name_wins_over_all_headers() {
        let headers = HeaderMap::of(&[
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
            assert_eq!(Cookies::read(&headers).get(name), expected, "{name}");
        }
    }
}
