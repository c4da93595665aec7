//! The headers that are looked up in every request.

use crate::http::headers::{HeaderLengthMask, is_name};

/// A header that is looked up in every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Dnt,
    Host,
    Path,
    XMoz,
    Cookie,
    Method,
    SecGpc,
    Purpose,
    Authority,
    UserAgent,
    Connection,
    SecPurpose,
}

/// The lengths of the names of known headers.
pub(super) const LENGTHS: HeaderLengthMask = HeaderLengthMask::of(&[3, 4, 5, 6, 7, 10, 11]);

/// The header called `name`. Most other names of its length begin differently.
#[inline(always)]
fn known(name: &[u8]) -> Option<Known> {
    Some(match (name.len(), name.first()? | 0x20) {
        (3, b'd') if is_name(name, b"dnt") => Known::Dnt,
        (4, b'h') if is_name(name, b"host") => Known::Host,
        (5, b':') if is_name(name, b":path") => Known::Path,
        (5, b'x') if is_name(name, b"x-moz") => Known::XMoz,
        (6, b'c') if is_name(name, b"cookie") => Known::Cookie,
        (7, b':') if is_name(name, b":method") => Known::Method,
        (7, b's') if is_name(name, b"sec-gpc") => Known::SecGpc,
        (7, b'p') if is_name(name, b"purpose") => Known::Purpose,
        (10, b':') if is_name(name, b":authority") => Known::Authority,
        (10, b'u') if is_name(name, b"user-agent") => Known::UserAgent,
        (10, b'c') if is_name(name, b"connection") => Known::Connection,
        (11, b's') if is_name(name, b"sec-purpose") => Known::SecPurpose,
        _ => return None,
    })
}

/// The values of the known headers of a request.
#[derive(Debug, Default)]
pub(super) struct KnownHeaders<'a> {
    /// The first value of each name.
    values: [Option<&'a [u8]>; 12],
    /// Whether there are more headers with cookies: HTTP/2 clients may split them.
    pub(super) has_more_cookies: bool,
}

impl<'a> KnownHeaders<'a> {
    /// The first value of a header.
    #[inline(always)]
    pub(super) fn get(&self, known: Known) -> Option<&'a [u8]> {
        self.values.get(known as usize).copied().flatten()
    }

    /// Notes a header, if it is a known one.
    #[inline(always)]
    pub(super) fn note(&mut self, name: &[u8], value: &'a [u8]) {
        let Some(known) = known(name) else { return };
        match self.values.get_mut(known as usize) {
            Some(place @ None) => *place = Some(value),
            _ => self.has_more_cookies |= known == Known::Cookie,
        }
    }
}
