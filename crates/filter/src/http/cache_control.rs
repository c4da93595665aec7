//! `cache-control` towards the browser and caches in front of the proxy.

use super::headers::{HeaderLengthMask, is_name, list_elements};

/// A header that some caches prefer to `cache-control`. It may have a vendor's name in front.
const CDN: &str = "cdn-cache-control";

/// The lengths of their names.
pub const OVERRIDING_LENGTHS: HeaderLengthMask =
    HeaderLengthMask::of(&[12, 15]).or(HeaderLengthMask::at_least(CDN.len()));

/// Whether a cache may prefer the header `name` to `cache-control`.
pub fn overrides_cache_control(name: &[u8]) -> bool {
    match name.len().checked_sub(CDN.len()).and_then(|at| name.split_at_checked(at)) {
        None => is_name(name, b"edge-control") || is_name(name, b"x-accel-expires"),
        Some((b"", _)) => is_name(name, CDN.as_bytes()) || is_name(name, b"surrogate-control"),
        Some((vendor, cdn)) => vendor.ends_with(b"-") && is_name(cdn, CDN.as_bytes()),
    }
}

/// Turns a response's `cache-control` values into one that no shared cache may store. `None` if they forbid it already.
///
/// `public` and `s-maxage` are removed. `private`, `no-cache` and `no-store` stay, and without any of the three `private` is
/// added. A `private="…"` or `no-cache="…"` with a list applies to the listed fields only, and is not one of the three.
pub fn made_private<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut kept: Vec<String> = Vec::new();
    let (mut dropped, mut guarded) = (false, false);
    for value in values {
        for directive in list_elements(value).map(String::from_utf8_lossy) {
            let directive = directive.trim();
            if directive.is_empty() {
                continue;
            }
            let name = directive.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
            match name.as_str() {
                "public" | "s-maxage" => {
                    dropped = true;
                    continue;
                }
                "private" | "no-cache" | "no-store" if !directive.contains('=') => guarded = true,
                _ => {}
            }
            kept.push(directive.to_owned());
        }
    }
    if guarded && !dropped {
        return None;
    }
    if !guarded {
        kept.insert(0, "private".to_owned());
    }
    Some(kept.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overriding_headers_are_known_by_name_and_pattern() {
        for (name, expected) in [
            ("surrogate-control", true),
            ("CDN-Cache-Control", true),
            ("cloudflare-cdn-cache-control", true),
            ("Vercel-CDN-Cache-Control", true),
            ("edge-control", true),
            ("x-accel-expires", true),
            ("-cdn-cache-control", true),
            ("xcdn-cache-control", false),
            ("cdn-cache-control-x", false),
            ("cache-control", false),
            ("", false),
        ] {
            assert_eq!(overrides_cache_control(name.as_bytes()), expected, "{name}");
            assert!(!expected || OVERRIDING_LENGTHS.contains(name.len()), "{name}");
        }
    }

    #[test]
    fn shared_caches_may_store_nothing() {
        for (values, expected) in [
            (&[][..], Some("private")),
            (&["public, max-age=60"], Some("private, max-age=60")),
            (&["max-age=60, s-maxage=600"], Some("private, max-age=60")),
            (&["max-age=60"], Some("private, max-age=60")),
            (&["Public"], Some("private")),
            (&["private, max-age=60"], None),
            (&["no-store"], None),
            (&["no-cache"], None),
            (&["public, no-cache"], Some("no-cache")),
            (&["private, s-maxage=5"], Some("private")),
            (&["max-age=60", "public"], Some("private, max-age=60")),
            (&["private=\"set-cookie, x\", max-age=5"], Some("private, private=\"set-cookie, x\", max-age=5")),
            (&[""], Some("private")),
        ] {
            assert_eq!(made_private(values.iter().map(|value| value.as_bytes())).as_deref(), expected, "{values:?}");
        }
    }
}
