//! Redirects of variants.

use crate::http::url;
use crate::request_context::RequestContext;
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::snapshot::{Choice, Snapshot};
use edgesplit_formats::effect_policy;

/// The target of a redirect, in its parts.
struct Target<'a> {
    /// The scheme and the authority, if the target has them.
    origin: Option<(&'a str, &'a str)>,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
    /// Everything before the query.
    place: &'a str,
}

impl<'a> Target<'a> {
    fn parse(to: &'a str) -> Target<'a> {
        let (address, fragment) = split(to, '#');
        let (place, query) = split(address, '?');
        let Some((scheme, rest)) = place.split_once("://") else {
            return Target { origin: None, path: place, query, fragment, place };
        };
        // Browsers read a backslash as a slash.
        let end = rest.find(['/', '\\']).and_then(|at| rest.split_at_checked(at));
        let (authority, path) = end.unwrap_or((rest, "/"));
        // A user's name, not the host, precedes an `@`.
        let authority = authority.rsplit('@').next().unwrap_or_default();
        Target { origin: Some((scheme, authority)), path, query, fragment, place }
    }

    fn is_on_host_of(&self, request: &RequestContext<'_>) -> bool {
        self.origin.is_none_or(|(_, authority)| url::host(authority.as_bytes()) == request.host())
    }

    /// Whether the client is at the target: it is on it in every part that the target has.
    fn is_reached(&self, request: &RequestContext<'_>) -> bool {
        let is_at_origin = self.origin.is_none_or(|(scheme, authority)| {
            let (sent, scheme) = (request.scheme(), scheme.as_bytes());
            let is_scheme = sent.is_none_or(|sent| sent.eq_ignore_ascii_case(scheme));
            let port = url::port(authority.as_bytes());
            let is_port =
                port.is_none_or(|port| request.port().or_else(|| default_port(sent.unwrap_or(scheme))) == Some(port));
            is_scheme && is_port
        });
        is_at_origin
            && self.is_on_host_of(request)
            && url::percent_decoded(self.path.as_bytes()) == url::percent_decoded(request.path)
            // A redirect carries the request's own query too.
            && self.query.is_none_or(|query| url::has_parameters(request.query.unwrap_or_default(), query.as_bytes()))
    }

    /// Whether a token may be sent to the target: it is on the same host, and not less secure.
    fn may_have_token(&self, request: &RequestContext<'_>) -> bool {
        let is_secure = |scheme: &[u8]| scheme.eq_ignore_ascii_case(b"https");
        let is_downgrade = self
            .origin
            .is_some_and(|(scheme, _)| request.scheme().is_some_and(is_secure) && !is_secure(scheme.as_bytes()));
        self.is_on_host_of(request) && !is_downgrade
    }
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, behind)| (before, Some(behind)))
}

fn default_port(scheme: &[u8]) -> Option<&'static [u8]> {
    if scheme.eq_ignore_ascii_case(b"https") {
        Some(b"443")
    } else if scheme.eq_ignore_ascii_case(b"http") {
        Some(b"80")
    } else {
        None
    }
}

/// Whether the choice's variant redirects to the client's own address, or to a host that is not allowed. The visitor then sees
/// no difference, and there is no exposure.
#[inline(never)]
pub(super) fn is_redirect_skipped(
    snapshot: &Snapshot,
    choice: Choice,
    request: &RequestContext<'_>,
    hosts: &[Pattern],
) -> bool {
    let redirect = snapshot.choice(choice).and_then(|(_, variant)| variant.effects.redirect.as_deref());
    redirect.is_some_and(|to| Target::parse(to).is_reached(request) || !leads_to_allowed_host(to, request, hosts))
}

/// Whether a redirect to `to` stays on the request's host, or leads to one of `hosts`.
pub(super) fn leads_to_allowed_host(to: &str, request: &RequestContext<'_>, hosts: &[Pattern]) -> bool {
    let Some((scheme, rest)) = to.split_once("://") else { return true };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some(host) = effect_policy::host(authority) else { return false };
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let is_own = host.as_bytes() == &*request.host();
    is_web && (is_own || hosts.iter().any(|pattern| pattern.matches(host.as_bytes())))
}

/// The location of a redirect to `to`, with the request's query. `None` if the client is there already.
///
/// `sent` is the request's query as it came, which a preview's link needs on the same site. Another site gets the query
/// without the filter's own parameters: a preview's token must not leave the site.
#[inline(never)]
pub(super) fn location(to: &str, sent: Option<&[u8]>, request: &RequestContext<'_>) -> Option<String> {
    let target = Target::parse(to);
    if target.is_reached(request) {
        return None;
    }
    let query = if target.may_have_token(request) { sent } else { request.query };
    let query = query.map(String::from_utf8_lossy);
    let queries: Vec<&str> =
        [target.query, query.as_deref()].into_iter().flatten().filter(|query| !query.is_empty()).collect();
    let mut location = target.place.to_owned();
    if !queries.is_empty() {
        location.push('?');
        location.push_str(&queries.join("&"));
    }
    if let Some(fragment) = target.fragment {
        location.push('#');
        location.push_str(fragment);
    }
    Some(location)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::headers::HeaderMap;
    use crate::plugin_config::Visitor;

    #[test]
    fn redirect_is_skipped_at_its_target_only() {
        let at = |scheme: &str, authority: &str, path: &str, to: &str| {
            let headers = HeaderMap::of(&[(":scheme", scheme), (":authority", authority), (":path", path)]);
            location(to, None, &RequestContext::new(&headers, &Visitor::default())).is_none()
        };
        for (scheme, authority, path, to, expected) in [
            ("https", "shop.example", "/new", "/new", true),
            ("https", "shop.example", "/new?a=1", "/new", true),
            ("https", "shop.example", "/n%65w", "/new", true),
            ("https", "shop.example", "/old", "/new", false),
            ("https", "shop.example", "/p", "/p?v=2", false),
            ("https", "shop.example", "/p?v=1", "/p?v=2", false),
            ("https", "shop.example", "/p?a=1&v=2", "/p?v=2", true),
            ("https", "shop.example", "/p?v=2&a=1", "/p?v=2&b", false),
            ("http", "shop.example", "/p", "https://shop.example/p", false),
            ("https", "Shop.Example", "/p", "https://shop.example/p", true),
            ("https", "shop.example:8443", "/p", "https://shop.example/p", true),
            ("https", "shop.example", "/p", "https://shop.example:8443/p", false),
            ("https", "shop.example:8443", "/p", "https://shop.example:8443/p", true),
            ("https", "shop.example", "/p", "https://shop.example:443/p", true),
            ("https", "shop.example", "/", "https://shop.example", true),
            ("https", "shop.example", "/p", "https://other.example/p", false),
            ("https", "shop.example", "/p", "https://shop.example@other.example/p", false),
        ] {
            assert_eq!(at(scheme, authority, path, to), expected, "{scheme}://{authority}{path} to {to}");
        }
    }

    #[test]
    fn redirects_lead_to_allowed_hosts_only() {
        let headers = HeaderMap::of(&[(":authority", "shop.example:8443")]);
        let visitor = Visitor::default();
        let request = RequestContext::new(&headers, &visitor);
        for (to, expected) in [
            ("/new", true),
            ("https://Shop.example/new", true),
            ("https://pay.example:444?a", true),
            ("https://evil.example/", false),
            ("https://evil.example?https://shop.example", false),
            ("https://shop.example@evil.example/", false),
            ("javascript://shop.example/%0aalert(1)", false),
        ] {
            assert_eq!(leads_to_allowed_host(to, &request, &[Pattern::new("pay.example")]), expected, "{to}");
        }
    }

    #[test]
    fn token_stays_on_the_site() {
        let headers = HeaderMap::of(&[(":scheme", "https"), (":authority", "shop.example"), (":path", "/old?a=1")]);
        let visitor = Visitor::default();
        let (request, sent) = (&RequestContext::new(&headers, &visitor), Some(&b"a=1&token=x"[..]));
        for (to, expected) in [
            ("/new", "/new?a=1&token=x"),
            ("https://shop.example/new#top", "https://shop.example/new?a=1&token=x#top"),
            ("http://shop.example/new", "http://shop.example/new?a=1"),
            ("https://other.example/new?v=2", "https://other.example/new?v=2&a=1"),
            ("https://shop.example:443@other.example/", "https://shop.example:443@other.example/?a=1"),
            (r"https://other.example\@shop.example/", r"https://other.example\@shop.example/?a=1"),
        ] {
            assert_eq!(location(to, sent, request).as_deref(), Some(expected));
        }
    }
}
