//! Redirects of variants.

use crate::http::url;
use crate::request_context::RequestContext;

/// The location of a redirect to `to`, with the request's query. `None`: the client is there already.
///
/// `sent` is the request's query as it came, which a preview's link needs on the same site. Another site gets the query
/// without the filter's own parameters: a preview's token must not leave the site.
pub(super) fn location(to: &str, sent: Option<&[u8]>, request: &RequestContext<'_>) -> Option<String> {
    let (address, fragment) = to.split_once('#').map_or((to, None), |(address, fragment)| (address, Some(fragment)));
    let (place, own_query) = address.split_once('?').map_or((address, None), |(place, query)| (place, Some(query)));
    let (is_same_host, path) = match place.split_once("://") {
        Some((_, rest)) => {
            let (authority, path) = rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, "/"));
            (url::host(authority.as_bytes()) == request.host(), path)
        }
        None => (true, place),
    };
    if is_same_host && path.as_bytes() == request.path {
        return None;
    }
    let query = if is_same_host { sent } else { request.query };
    let query = query.map(String::from_utf8_lossy);
    let queries: Vec<&str> =
        [own_query, query.as_deref()].into_iter().flatten().filter(|query| !query.is_empty()).collect();
    let mut location = place.to_owned();
    if !queries.is_empty() {
        location.push('?');
        location.push_str(&queries.join("&"));
    }
    if let Some(fragment) = fragment {
        location.push('#');
        location.push_str(fragment);
    }
    Some(location)
}
