//! The effects of a variant, which stand under `set`: headers, a path rewrite, a redirect.

use crate::diagnostics::{Node, Problems};
use crate::document::{Kind, Map, Nullable, Text, lenient, strict};
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::{Effects, PathRewrite};
use serde_json::Value;

/// Request headers that no variant may set. The filter removes the headers that it owns from every request, and without
/// these a request would be another request or none at all.
pub(super) const REQUEST_HEADERS_REFUSED: &[&str] = &[
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Response headers that no variant may set: they describe how the body is framed.
pub(super) const RESPONSE_HEADERS_REFUSED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const HEADER_VALUE: Text =
    Text::new("a header value without control characters", "^[^\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f]*$", |text| {
        !text.chars().any(|char| char.is_control() && char != '\t')
    });

const PATH: Text = Text::new(
    "a path that starts with \"/\", without query, spaces or control characters",
    "^/[!\"$->@-~]*$",
    |text| text.starts_with('/') && is_url_text(text) && !text.contains(['?', '#']),
);

// Browsers read "//host" and "/\host" as another host, which has to be written with its scheme.
const REDIRECT: Text = Text::new(
    "a URL with http:// or https://, or a path that starts with one \"/\"",
    "^(https?://[!-~]+|/([!-.0-\\[\\]-~][!-~]*)?)$",
    |text| {
        let is_longer = |scheme: &&str| text.len() > scheme.len() && text.starts_with(*scheme);
        let is_local = text.starts_with('/') && !text.starts_with("//") && !text.starts_with("/\\");
        (["https://", "http://"].iter().any(is_longer) || is_local) && is_url_text(text)
    },
);

const REQUEST_HEADERS: Map<Text> = Map {
    name: |name| header_name(name, REQUEST_HEADERS_REFUSED),
    pattern: "",
    refused: REQUEST_HEADERS_REFUSED,
    value: HEADER_VALUE,
};

const RESPONSE_HEADERS: Map<Text> = Map {
    name: |name| header_name(name, RESPONSE_HEADERS_REFUSED),
    pattern: "",
    refused: RESPONSE_HEADERS_REFUSED,
    value: HEADER_VALUE,
};

crate::document! {
    for Effects {
        /// Headers for the origin. Clients may not send them.
        request_headers: Vec<(String, String)> | null = Vec::new() => REQUEST_HEADERS,
        /// Headers for the client.
        response_headers: Vec<(String, String)> | null = Vec::new() => RESPONSE_HEADERS,
        /// Replaces `prefix` at the start of the path by `with`.
        path: Option<PathRewrite> = None => Nullable(strict()),
        /// A URL or a path: answers 302 (GET, HEAD) or 307, with the request's query.
        redirect: Option<String> = None => Nullable(REDIRECT),
    }
}

crate::document! {
    for PathRewrite {
        /// The start that is replaced; other paths are left alone.
        prefix: String => PATH,
        /// The new start.
        with: String => PATH,
    }
}

/// Compiles a `set` object in which an unknown field is a warning; `None` where it is wrong.
pub fn compile(node: Node<'_>, problems: &mut Problems) -> Option<Effects> {
    lenient().read(node, problems)
}

/// Whether the redirect of these effects can never lead elsewhere, because every request of `route` is at its target.
pub fn leads_nowhere(effects: &Effects, route: &Route) -> bool {
    let Some(to) = effects.redirect.as_deref().filter(|to| to.starts_with('/')) else { return false };
    let to = to.split('#').next().unwrap_or_default();
    let (path, query) = to.split_once('?').unwrap_or((to, ""));
    let is_there = |pattern: &Pattern| pattern.is_exact() && pattern.prefix() == path.as_bytes();
    query.is_empty() && !route.paths.is_empty() && route.paths.iter().all(is_there)
}

/// The header's name in lower case, or the reason why no variant may set it.
fn header_name(name: &str, refused: &[&str]) -> Result<String, String> {
    let lower = name.to_ascii_lowercase();
    if !is_token(name) {
        Err("not a header name: letters, digits and !#$%&'*+-.^_`|~ are allowed".to_owned())
    } else if refused.contains(&lower.as_str()) {
        Err(format!("no variant may set this header, nor {}", refused.join(", ")))
    } else {
        Ok(lower)
    }
}

/// Whether `text` is printable ASCII without spaces, as URLs are.
fn is_url_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Adds the names of all request headers that the experiment `value` sets, valid or not: a client that sends such a
/// header spoofs it, whether or not the experiment runs.
pub(super) fn collect_owned(value: &Value, owned: &mut Vec<String>) {
    let variants = value.get("variants").and_then(Value::as_array).into_iter().flatten();
    variants.filter_map(|variant| variant.get("set")).for_each(|set| collect_set(set, owned));
}

/// Adds the names of all request headers that the `set` object sets, valid or not.
pub fn collect_set(set: &Value, owned: &mut Vec<String>) {
    let headers = set.get("request_headers").and_then(Value::as_object);
    for name in headers.into_iter().flat_map(|headers| headers.keys()) {
        let name = name.to_ascii_lowercase();
        if is_token(&name) && !REQUEST_HEADERS_REFUSED.contains(&name.as_str()) {
            owned.push(name);
        }
    }
}
