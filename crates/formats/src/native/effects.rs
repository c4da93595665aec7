//! The effects of a variant, which stand under `set`: headers, a path rewrite, a redirect.

use crate::diagnostics::{Node, Problems};
use crate::document::{Kind, Map, Nullable, Object, Text, Then, is_token, lenient, strict};
use crate::effect_policy::{REQUEST_HEADERS_REFUSED, RESPONSE_HEADERS_REFUSED, is_refused};
use edgesplit_engine::path_rewrite::PathRewrite;
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::Effects;

/// The problem of a baseline that changes requests.
pub(crate) const BASELINE_CHANGES_REQUEST: &str =
    "a baseline may set only response_headers, because it has no part in the cache key";

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

/// How many headers of a request or a response a variant may set. Envoy refuses messages with more than 100 by default.
const HEADERS_MAX: usize = 256;

const REQUEST_HEADERS: Map<Text> = Map {
    name: |name| header_name(name, REQUEST_HEADERS_REFUSED),
    pattern: "",
    refused: REQUEST_HEADERS_REFUSED,
    value: HEADER_VALUE,
    members_max: HEADERS_MAX,
};

const RESPONSE_HEADERS: Map<Text> = Map {
    name: |name| header_name(name, RESPONSE_HEADERS_REFUSED),
    pattern: "",
    refused: RESPONSE_HEADERS_REFUSED,
    value: HEADER_VALUE,
    members_max: HEADERS_MAX,
};

crate::document! {
    for Effects {
        /// Headers for the origin. Clients may not send them.
        request_headers: Vec<(String, String)> | null = Vec::new() => REQUEST_HEADERS,
        /// Headers for the client.
        response_headers: Vec<(String, String)> | null = Vec::new() => RESPONSE_HEADERS,
        /// Replaces `prefix` at the start of the path by `with`.
        path: Option<PathRewrite> = None => Nullable(PATH_REWRITE),
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

const PATH_REWRITE: Then<Object<PathRewrite>, PathRewrite> = Then {
    kind: strict(),
    then: |rewrite, node, problems| {
        if rewrite.is_escaping() {
            let message = "an empty or a dot segment, in whichever encoding, could lead to another host or folder";
            problems.error(&node.path.field("with"), message);
        }
        Some(rewrite)
    },
};

/// Compiles a `set` object in which an unknown field is a warning; `None` where it is wrong.
pub(crate) fn compile(node: Node<'_>, problems: &mut Problems) -> Option<Effects> {
    lenient().read(node, problems)
}

/// Whether the redirect of these effects can never lead elsewhere, because every request of `route` is at its target.
pub(crate) fn leads_nowhere(effects: &Effects, route: &Route) -> bool {
    let Some(to) = effects.redirect.as_deref().filter(|to| to.starts_with('/')) else { return false };
    let to = to.split('#').next().unwrap_or_default();
    let (path, query) = to.split_once('?').unwrap_or((to, ""));
    let is_there = |pattern: &Pattern| pattern.is_exact() && pattern.prefix() == path.as_bytes();
    query.is_empty() && !route.paths.is_empty() && route.paths.iter().all(is_there)
}

/// The header's name in lower case, or the reason why no variant may set it.
fn header_name(name: &str, refused: &[&str]) -> Result<String, String> {
    if !is_token(name) {
        Err("not a header name: letters, digits and !#$%&'*+-.^_`|~ are allowed".to_owned())
    } else if is_refused(name, refused) {
        Err(format!("no variant may set this header, nor {}", refused.join(", ")))
    } else {
        Ok(name.to_ascii_lowercase())
    }
}

/// Whether `text` is printable ASCII without spaces, as URLs are.
fn is_url_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}
