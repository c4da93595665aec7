//! What a variant `set`s: request and response headers, a path rewrite, a redirect.

use crate::diagnostics::{Node, Problems, Severity};
use edgesplit_engine::snapshot::{Effects, PathRewrite};
use serde_json::Value;

/// Request headers that no variant may set: the filter takes every header that it owns away from clients, and without
/// these a request is another request or none at all.
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

/// Compiles a `set` object; `None` where it is wrong.
pub fn compile(node: Node<'_>, problems: &mut Problems) -> Option<Effects> {
    node.object(problems)?;
    node.unknown_fields(&["request_headers", "response_headers", "path", "redirect"], Severity::Warning, problems);
    let request_headers = super::member(node, "request_headers", problems, |node, problems| {
        headers(node, REQUEST_HEADERS_REFUSED, problems)
    });
    let response_headers = super::member(node, "response_headers", problems, |node, problems| {
        headers(node, RESPONSE_HEADERS_REFUSED, problems)
    });
    let path = super::member(node, "path", problems, rewrite);
    let redirect = super::member(node, "redirect", problems, redirect);
    Some(Effects {
        request_headers: request_headers?.unwrap_or_default(),
        response_headers: response_headers?.unwrap_or_default(),
        path: path?,
        redirect: redirect?,
    })
}

fn headers(node: Node<'_>, refused: &[&str], problems: &mut Problems) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    for (name, value) in node.object(problems)? {
        let path = node.path.field(name);
        let value_node = Node { value, path: &path };
        let lower = name.to_ascii_lowercase();
        if !is_token(name) {
            problems.error(&path, "not a header name: letters, digits and !#$%&'*+-.^_`|~ are allowed");
        } else if refused.contains(&lower.as_str()) {
            problems.error(&path, format!("no variant may set this header, nor {}", refused.join(", ")));
        }
        let Some(text) = value_node.string(problems) else { continue };
        if text.chars().any(|char| char.is_control() && char != '\t') {
            value_node.expected(problems, "a header value without control characters");
        }
        headers.push((lower, text.to_owned()));
    }
    Some(headers)
}

fn rewrite(node: Node<'_>, problems: &mut Problems) -> Option<PathRewrite> {
    node.object(problems)?;
    node.unknown_fields(&["prefix", "with"], Severity::Warning, problems);
    let prefix = super::required(node, "prefix", problems, path);
    let with = super::required(node, "with", problems, path);
    Some(PathRewrite { prefix: prefix?, with: with? })
}

fn path(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    let text = node.string(problems)?;
    if text.starts_with('/') && is_url_text(text) && !text.contains(['?', '#']) {
        return Some(text.to_owned());
    }
    node.expected(problems, "a path that starts with \"/\", without query, spaces or control characters");
    None
}

fn redirect(node: Node<'_>, problems: &mut Problems) -> Option<String> {
    let text = node.string(problems)?;
    let absolute = ["https://", "http://"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    // Browsers read "//host" and "/\host" as another host: that has to be written out with its scheme.
    let local = text.starts_with('/') && !text.starts_with("//") && !text.starts_with("/\\");
    if (absolute || local) && is_url_text(text) {
        return Some(text.to_owned());
    }
    node.expected(problems, "a URL with http:// or https://, or a path that starts with one \"/\"");
    None
}

/// Whether `text` is printable ASCII without spaces, as URLs are.
fn is_url_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Adds the names of all request headers that the experiment `value` sets, be it valid or not: what a client sends under
/// such a name is spoofed whether or not the experiment runs.
pub(super) fn collect_owned(value: &Value, owned: &mut Vec<String>) {
    let variants = value.get("variants").and_then(Value::as_array).into_iter().flatten();
    variants.filter_map(|variant| variant.get("set")).for_each(|set| collect_set(set, owned));
}

/// Adds the names of all request headers that the `set` object sets, be it valid or not.
pub fn collect_set(set: &Value, owned: &mut Vec<String>) {
    let headers = set.get("request_headers").and_then(Value::as_object);
    for name in headers.into_iter().flat_map(|headers| headers.keys()) {
        let name = name.to_ascii_lowercase();
        if is_token(&name) && !REQUEST_HEADERS_REFUSED.contains(&name.as_str()) {
            owned.push(name);
        }
    }
}
