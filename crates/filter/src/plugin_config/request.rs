//! Where the filter acts, and what it does to requests and responses.

use super::block::{self, Block};
use super::names;
use super::own_cookie::{self, OwnCookie};
use crate::http::headers::{NameLengths, is_name};
use edgesplit_engine::pattern::Pattern;
use edgesplit_formats::diagnostics::{Node, Problems};
use std::fmt;
use std::ops::RangeInclusive;

/// How long sticky buckets are kept after they have changed last: 90 days.
const STICKY_AGE_S: u64 = 2160 * 3600;
/// The key of HMAC-SHA-256 has 64 bytes; longer ones are hashed first and gain nothing.
pub(super) const SECRET_BYTES_MAX: usize = 1024;
pub(super) const BUDGET_BOUNDS: RangeInclusive<u64> = 1..=1_000_000;

/// The paths on which the filter acts: those that match an entry of `include` and none of `exclude`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Never empty: a list that was given empty asks nothing and matches every path.
    pub include: Vec<Pattern>,
    /// May be empty.
    pub exclude: Vec<Pattern>,
}

impl Default for Paths {
    fn default() -> Paths {
        Paths { include: vec![Pattern::new("/*")], exclude: Vec::new() }
    }
}

/// What is told to the caches and to the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The header that names the visitor's variants to the origin; in lower case.
    pub assignments_header: String,
    /// How caches tell variants apart.
    pub cache_key: CacheKey,
    /// The cookie of sticky bucketing; `None`: visitors are bucketed anew with every request.
    pub sticky: Option<OwnCookie>,
    /// Links that show chosen variants; `None`: there are none.
    pub preview: Option<Preview>,
}

impl Default for Request {
    fn default() -> Request {
        Request {
            assignments_header: "x-ab-assignments".to_owned(),
            cache_key: CacheKey::default(),
            sticky: None,
            preview: None,
        }
    }
}

/// Links that show chosen variants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The query parameter that carries the token; a name that needs no percent-encoding.
    pub parameter: String,
    /// What tokens are signed with.
    pub secret: Secret,
}

/// The parameter of preview links where the configuration names no other.
pub const PREVIEW_PARAMETER: &str = "__ab_preview";

/// A text that is never shown; not empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Request {
    /// Whether the filter itself writes the request header `name`, however that is written.
    #[inline(always)]
    pub fn owns(&self, name: &[u8]) -> bool {
        is_name(name, self.assignments_header.as_bytes())
            || self.cache_key.header.as_ref().is_some_and(|own| is_name(name, own.as_bytes()))
    }

    /// The lengths of the names that it [owns](Request::owns).
    pub fn owned_lengths(&self) -> NameLengths {
        let cache_key = self.cache_key.header.as_ref().map(|own| NameLengths::of(&[own.len()]));
        NameLengths::of(&[self.assignments_header.len()]).or(cache_key.unwrap_or_default())
    }
}

/// How caches tell variants apart: by a header, a query parameter, or both. At least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKey {
    /// The header, for caches that can key on one; in lower case.
    pub header: Option<String>,
    /// The query parameter, for caches that key on the URL; a name that needs no percent-encoding.
    pub query: Option<String>,
    /// How many different cache keys a route may have.
    pub budget: u64,
    /// Whether that was configured, and is no default: then it holds for vendors' flags too.
    pub is_budget_given: bool,
}

impl Default for CacheKey {
    fn default() -> CacheKey {
        CacheKey { header: Some("x-ab-cache-key".to_owned()), query: None, budget: 64, is_budget_given: false }
    }
}

/// What is done to responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Whether responses on routes with an experiment are made private to the browser, so that no cache in front of the
    /// proxy keeps one visitor's variant.
    pub downstream_private: bool,
    /// The header that tells decisions and reasons to who has a valid preview link; in lower case.
    pub debug_header: Option<String>,
}

impl Default for Response {
    fn default() -> Response {
        Response { downstream_private: true, debug_header: None }
    }
}

pub(super) fn read_paths(node: Node<'_>, problems: &mut Problems) -> Option<Paths> {
    let block = Block::open(node, &["include", "exclude"], problems)?;
    let defaults = Paths::default();
    let include = block.or("include", defaults.include, problems, read_path_patterns);
    let exclude = block.or("exclude", defaults.exclude, problems, read_path_patterns);
    let mut include = include?;
    if include.is_empty() {
        include.push(Pattern::new("*"));
    }
    Some(Paths { include, exclude: exclude? })
}

fn read_path_patterns(node: Node<'_>, problems: &mut Problems) -> Option<Vec<Pattern>> {
    block::list(node, problems, |node, problems| {
        let expected = "a path pattern: it starts with / or * and has no query, fragment, space or control character";
        let text = names::text(node, expected, problems, |text| {
            text.starts_with(['/', '*'])
                && !text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '?' || c == '#')
        });
        text.map(|text| Pattern::new(&text))
    })
}

/// The cookie of sticky bucketing where its block says nothing more.
pub(super) fn sticky() -> OwnCookie {
    OwnCookie::new("ab_sticky", STICKY_AGE_S)
}

pub(super) fn read(node: Node<'_>, problems: &mut Problems) -> Option<Request> {
    let block = Block::open(node, &["assignments_header", "cache_key", "sticky", "preview"], problems)?;
    let defaults = Request::default();

    let assignments_header =
        block.or("assignments_header", defaults.assignments_header, problems, names::owned_header_name);
    let cache_key = block.or("cache_key", defaults.cache_key, problems, read_cache_key);
    let sticky = block.nullable("sticky", problems, |node, problems| own_cookie::read(node, sticky(), problems));
    let preview = block.nullable("preview", problems, read_preview);

    if let (Some(assignments), Some(CacheKey { header: Some(cache_key), .. })) = (&assignments_header, &cache_key)
        && assignments == cache_key
    {
        let message = format!("{cache_key} is the assignments_header too; expected two different names");
        problems.error(&block.path().field("cache_key").field("header"), message);
    }
    if let (Some(CacheKey { query: Some(query), .. }), Some(Some(preview))) = (&cache_key, &preview)
        && *query == preview.parameter
    {
        let message = format!("{query} is the cache key's parameter too; expected two different names");
        problems.error(&block.path().field("preview").field("parameter"), message);
    }
    Some(Request { assignments_header: assignments_header?, cache_key: cache_key?, sticky: sticky?, preview: preview? })
}

fn read_preview(node: Node<'_>, problems: &mut Problems) -> Option<Preview> {
    let block = Block::open(node, &["parameter", "secret"], problems)?;
    let parameter = block.or("parameter", PREVIEW_PARAMETER.to_owned(), problems, names::owned_parameter_name);
    let secret = block.required("secret", "the text that preview links are signed with", problems, |node, problems| {
        let secret = node.value.as_str().filter(|secret| (1..=SECRET_BYTES_MAX).contains(&secret.len()));
        if secret.is_none() {
            // What was found is not shown.
            problems.error(node.path, format!("expected a text of 1 to {SECRET_BYTES_MAX} bytes"));
        }
        secret.map(|secret| Secret(secret.to_owned()))
    });
    Some(Preview { parameter: parameter?, secret: secret? })
}

fn read_cache_key(node: Node<'_>, problems: &mut Problems) -> Option<CacheKey> {
    let block = Block::open(node, &["header", "query", "budget"], problems)?;
    let defaults = CacheKey::default();

    let header = if block.has("header") {
        block.nullable("header", problems, names::owned_header_name)
    } else {
        Some(defaults.header)
    };
    let query = block.nullable("query", problems, names::owned_parameter_name);
    let budget = block.or("budget", defaults.budget, problems, |node, problems| node.integer(BUDGET_BOUNDS, problems));

    if let (Some(None), Some(None)) = (&header, &query) {
        let message = "null is allowed only with a `query`: caches need one of the two to tell variants apart";
        problems.error(&block.path().field("header"), message);
    }
    Some(CacheKey { header: header?, query: query?, budget: budget?, is_budget_given: block.has("budget") })
}

pub(super) fn read_response(node: Node<'_>, problems: &mut Problems) -> Option<Response> {
    let block = Block::open(node, &["downstream_caching", "debug_header"], problems)?;
    let defaults = Response::default();
    let downstream_private = block.or("downstream_caching", defaults.downstream_private, problems, |node, problems| {
        block::choice(node, &[("private", true), ("unchanged", false)], problems)
    });
    let debug_header = block.nullable("debug_header", problems, names::own_response_header_name);
    Some(Response { downstream_private: downstream_private?, debug_header: debug_header? })
}
