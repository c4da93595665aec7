//! The filter's own cookies in a browser: those to remove because consent is missing, because there are too many, or because
//! an earlier configuration set them for another domain.

use super::sticky::StickyBuckets;
use super::{RequestContext, is_minted, minted_id};
use crate::http::cookies::pairs;
use crate::http::url;
use crate::plugin_config::{OwnCookie, Request, Visitor};
use edgesplit_formats::FormatRef;

/// How many cookies of a vendor's sticky buckets a browser may have.
pub const VENDOR_COOKIES_MAX: usize = 16;

/// How many bytes they may have together. Servers limit the header with all cookies of a site, nginx to 8 kB.
pub const VENDOR_COOKIES_BYTES_MAX: usize = 4_096;

/// How many cookies of a vendor are looked at in a request.
const VENDOR_COOKIES_READ_MAX: usize = 64;

/// How many `Set-Cookie`s of one response remove cookies of a vendor.
pub const REMOVALS_MAX: usize = 12;

/// The `Set-Cookie`s that remove the filter's cookies from a browser, whichever domain they have.
pub fn expired_cookies(
    view: &RequestContext<'_>,
    visitor: &Visitor,
    request: &Request,
    format: FormatRef,
) -> Vec<String> {
    let host = host(view);
    let expired = |cookie: &OwnCookie| [cookie.expired_elsewhere(&host), vec![cookie.expired()]].concat();
    // A cookie of the minted id's name may be the site's own: it is ours if it looks like it.
    let mint = visitor.mint.as_ref().map(|mint| &mint.cookie);
    let mint = mint.filter(|mint| minted_id(view, mint).is_some()).map(expired);
    let sticky = request.sticky.as_ref().map(|sticky| match format.sticky_cookie_prefix() {
        Some(prefix) => {
            let cookies = vendor_cookies(view, prefix);
            cookies.flat_map(|(name, _)| expired(&sticky.named(name))).take(REMOVALS_MAX).collect()
        }
        None if view.cookie(&sticky.cookie).is_some() => expired(sticky),
        None => Vec::new(),
    });
    mint.into_iter().chain(sticky).flatten().collect()
}

/// The host of a request, for the domains of cookies.
pub fn host(view: &RequestContext<'_>) -> String {
    String::from_utf8_lossy(&view.host()).into_owned()
}

/// Whether a browser has another minted id beside `id`, which is its first.
pub fn has_other_minted_id(view: &RequestContext<'_>, mint: &OwnCookie, id: &str) -> bool {
    let mut has_own = false;
    let mut is_other = |value: &[u8]| {
        has_own |= value == id.as_bytes();
        has_own && value != id.as_bytes() && is_minted(value)
    };
    view.find_cookie(&mint.cookie, &mut is_other).is_some()
}

/// The sticky buckets of a browser. After a change of the cookie's domain, a browser may have two cookies, of which the first
/// takes precedence.
pub fn sticky_buckets<'a>(view: &RequestContext<'a>, cookie: &OwnCookie) -> StickyBuckets<'a> {
    let first = view.cookie(&cookie.cookie).unwrap_or_default();
    let mut buckets = StickyBuckets::parse(first);
    if let Some(other) = view.find_cookie(&cookie.cookie, &mut |value| value != first) {
        buckets.absorb(other);
    }
    buckets
}

/// The cookies in which a vendor keeps sticky buckets, with their names and values as the client sent them.
pub fn vendor_cookies<'a>(view: &RequestContext<'a>, prefix: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let text = std::str::from_utf8;
    let cookies = pairs(view.headers).filter_map(move |(name, value)| Some((text(name).ok()?, text(value).ok()?)));
    cookies.filter(move |(name, _)| name.starts_with(prefix)).take(VENDOR_COOKIES_READ_MAX)
}

/// The cookies of a vendor that are too many beside `written`, the names and lengths of those that the response writes: the
/// oldest among those that are not `used`. Browsers send the oldest first.
pub fn surplus_cookies<'a>(
    cookies: &[(&'a str, &'a str)],
    used: &[String],
    written: &[(String, usize)],
) -> Vec<&'a str> {
    let is_named = |name: &str, known: &str| url::percent_decoded(name.as_bytes()) == known.as_bytes();
    let is_written = |name: &str| written.iter().any(|(known, _)| is_named(name, known));
    let kept: Vec<_> = cookies.iter().filter(|(name, _)| !is_written(name)).collect();
    let mut count = kept.len() + written.len();
    let mut bytes = kept.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    bytes += written.iter().map(|(_, bytes)| bytes).sum::<usize>();
    let mut surplus = Vec::new();
    for (name, value) in kept.into_iter().filter(|(name, _)| !used.iter().any(|known| is_named(name, known))) {
        if count <= VENDOR_COOKIES_MAX && bytes <= VENDOR_COOKIES_BYTES_MAX || surplus.len() == REMOVALS_MAX {
            break;
        }
        count -= 1;
        bytes -= name.len() + value.len();
        surplus.push(*name);
    }
    surplus
}

/// The cookies of a vendor that a browser has twice with different values, each with the first value.
pub fn repeated_cookies<'a>(cookies: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut repeated: Vec<(&str, &str)> = Vec::new();
    for (at, (name, value)) in cookies.iter().enumerate() {
        let mut later = cookies.iter().skip(at + 1).filter(|(other, _)| other == name);
        if repeated.iter().all(|(known, _)| known != name) && later.any(|(_, other)| other != value) {
            repeated.push((name, value));
        }
    }
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surplus_cookies_are_the_oldest_unused_ones() {
        let names: Vec<String> = (0..20).map(|number| format!("gb||{number}")).collect();
        let cookies: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        let used = ["gb||1".to_owned()];
        assert_eq!(surplus_cookies(&cookies[..16], &used, &[]), [""; 0]);
        assert_eq!(surplus_cookies(&cookies[..16], &used, &[("gb||1".to_owned(), 6)]), [""; 0]);
        assert_eq!(surplus_cookies(&cookies[..16], &used, &[("gb||new".to_owned(), 6)]), ["gb||0"]);
        assert_eq!(surplus_cookies(&cookies, &used, &[]), ["gb||0", "gb||2", "gb||3", "gb||4"]);
        let long = "x".repeat(1_500);
        let cookies = [("gb||0", long.as_str()), ("gb%7C%7C1", &long), ("gb||2", &long)];
        assert_eq!(surplus_cookies(&cookies, &used, &[]), ["gb||0"]);
        assert_eq!(surplus_cookies(&cookies[1..2], &used, &[("gb||9".to_owned(), 3_000)]), [""; 0], "both are used");
        let many: Vec<_> = cookies.iter().cycle().take(VENDOR_COOKIES_READ_MAX).copied().collect();
        assert_eq!(surplus_cookies(&many, &[], &[]).len(), REMOVALS_MAX);
    }

    #[test]
    fn repeated_cookies_have_different_values() {
        let cookies = [("a", "1"), ("b", "1"), ("a", "1"), ("b", "2"), ("b", "3"), ("c", "1")];
        assert_eq!(repeated_cookies(&cookies), [("b", "1")]);
    }
}
