//! The effects that experiments may have: the plugin configuration's block `effects`, and names that nothing overrides.
//!
//! The people who edit experiments may not be the ones who run the proxy. They cannot set headers that identify the
//! visitor, route the request or protect the browser.

use crate::diagnostics::{Path, Problems};
use crate::document::{Flag, List, Parsed, TOKEN, is_token};
use crate::native::route::HOST;
use edgesplit_engine::header_name::folded;
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::Effects;

/// Request headers that no variant may set; `*` stands for any ending.
pub(crate) const REQUEST_HEADERS_REFUSED: &[&str] = &[
    // How the message is framed and the connection used.
    "connection",
    "content-*",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-*",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // The client, and the URL that it requests.
    "authorization",
    "cookie",
    "forwarded",
    "host",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-*",
    "x-forwarded",
    "x-forwarded-*",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-*",
    "x-real-ip",
    "x-rewrite-url",
    // Request ids and trace context.
    "b3",
    "baggage",
    "grpc-trace-bin",
    "sw8",
    "sw8-*",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "uberctx-*",
    "x-amzn-trace-id",
    "x-b3-*",
    "x-client-trace-id",
    "x-cloud-trace-context",
    "x-datadog-*",
    "x-ot-span-context",
    "x-request-id",
];

/// Response headers that no variant may set; `*` stands for any ending.
pub(crate) const RESPONSE_HEADERS_REFUSED: &[&str] = &[
    // How the message is framed and the connection used.
    "connection",
    "content-*",
    "keep-alive",
    "proxy-*",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // The client's next URL and its storage. Servers in front obey the last four.
    "alt-svc",
    "clear-site-data",
    "location",
    "refresh",
    "service-worker-allowed",
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    "authentication-info",
    "x-accel-redirect",
    "x-envoy-*",
    "x-lighttpd-send-file",
    "x-sendfile",
    // Protection of the page. content-security-policy is among content-*.
    "access-control-*",
    "cross-origin-*",
    "expect-ct",
    "feature-policy",
    "nel",
    "origin-agent-cluster",
    "permissions-policy",
    "public-key-pins",
    "public-key-pins-report-only",
    "referrer-policy",
    "report-to",
    "reporting-endpoints",
    "strict-transport-security",
    "timing-allow-origin",
    "x-content-type-options",
    "x-frame-options",
    "x-permitted-cross-domain-policies",
    "x-xss-protection",
];

const HEADER_PATTERN: Parsed<Pattern> = Parsed {
    expected: "the name of a header, in which * stands for any run of characters, such as \"x-*\"",
    pattern: TOKEN,
    parse: |text| is_token(text).then(|| Pattern::new(&String::from_utf8_lossy(&folded(text.as_bytes())))),
    write: Pattern::text,
};

crate::document! {
    /// The effects that experiments may have.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct EffectRules {
        /// The request headers that variants may set; `*` stands for any run of characters.
        pub request_headers: Vec<Pattern> = vec![Pattern::new("x-*")] => List(HEADER_PATTERN),
        /// The response headers that variants may set.
        pub response_headers: Vec<Pattern> = vec![Pattern::new("x-*")] => List(HEADER_PATTERN),
        /// Whether variants may rewrite the path.
        pub paths: bool = true => Flag,
        /// The hosts that redirects may lead to, beside the request's own.
        pub redirect_hosts: Vec<Pattern> = Vec::new() => List(HOST),
    }
}

/// The effects that experiments may have in one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectPolicy {
    /// The rules.
    pub rules: EffectRules,
    /// Whether the plugin configuration has the rules. If not, vendors' flags have no effects.
    pub is_given: bool,
    /// Request headers that the filter itself writes, or that identify a visitor.
    pub reserved_request_headers: Vec<String>,
    /// Response headers that the filter itself writes.
    pub reserved_response_headers: Vec<String>,
}

impl EffectPolicy {
    /// Reports every effect at `path` that is not allowed on `route`.
    pub fn check(&self, effects: &Effects, route: &Route, path: &Path<'_>, problems: &mut Problems) {
        let EffectRules { request_headers, response_headers, paths, .. } = &self.rules;
        for (field, headers, allowed, reserved) in [
            ("request_headers", &effects.request_headers, request_headers, &self.reserved_request_headers),
            ("response_headers", &effects.response_headers, response_headers, &self.reserved_response_headers),
        ] {
            let field_path = path.field(field);
            for (name, _) in headers {
                let name_path = field_path.field(name);
                let spelling = folded(name.as_bytes());
                if reserved.iter().any(|reserved| folded(reserved.as_bytes()) == spelling) {
                    let message = "no variant may set this header: the filter writes it, or it identifies a visitor";
                    problems.error(&name_path, message);
                } else if !allowed.iter().any(|pattern| pattern.matches(&spelling)) {
                    problems.error(&name_path, not_allowed(&format!("effects.{field}"), allowed));
                }
            }
        }
        if effects.path.is_some() && !paths {
            let message = "not allowed: `effects.paths` of the plugin configuration is false";
            problems.error(&path.field("path"), message);
        }
        if let Some(redirect) = &effects.redirect {
            self.check_redirect(redirect, route, &path.field("redirect"), problems);
        }
    }

    /// The request's own host is known only when there is a request. A text that can never be a host is an error.
    fn check_redirect(&self, redirect: &str, route: &Route, path: &Path<'_>, problems: &mut Problems) {
        let Some((_, rest)) = redirect.split_once("://") else { return };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let Some(host) = host(authority) else {
            problems.error(path, format_args!("expected a host, with or without a port, found {authority:?}"));
            return;
        };
        let hosts = &self.rules.redirect_hosts;
        if hosts.iter().any(|pattern| pattern.matches(host.as_bytes())) {
            return;
        }
        if !route.hosts.is_empty() && !route.hosts.iter().any(|pattern| pattern.matches(host.as_bytes())) {
            problems.error(path, format_args!("{host}: {}", not_allowed("effects.redirect_hosts", hosts)));
        } else if !matches!(route.hosts.as_slice(), [own] if own.is_exact()) {
            let message = format!(
                "{host} is not in `effects.redirect_hosts` of the plugin configuration: only requests to this host are \
                 redirected"
            );
            problems.warning(path, message);
        }
    }
}

fn not_allowed(field: &str, allowed: &[Pattern]) -> String {
    let allowed = allowed.iter().map(Pattern::text).collect::<Vec<_>>().join(", ");
    let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed };
    format!("not allowed: `{field}` of the plugin configuration allows {allowed}")
}

/// The host of `authority` in lower case, without its port. `None` if it has a user or an invalid character.
pub fn host(authority: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let is_address = address.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte));
            (is_address.then(|| format!("[{address}]"))?, port)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at_checked(end)?;
            (host.bytes().all(is_plain).then(|| host.to_owned())?, port)
        }
    };
    let is_port = port.is_empty() || port.strip_prefix(':')?.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && !host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// Whether `name`, in whichever spelling, is among `refused`.
pub(crate) fn is_refused(name: &str, refused: &[&str]) -> bool {
    let name = folded(name.as_bytes());
    refused.iter().any(|refused| match refused.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix.as_bytes()),
        None => name == refused.as_bytes(),
    })
}

#[cfg(test)]
mod tests;
