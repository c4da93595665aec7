//! Where the filter acts, and what it does to requests and responses.

use super::block::{self, Block};
use super::names;
use crate::engine::pattern::Pattern;
use crate::http::headers::is_name;
use crate::problem::{Node, Problems};
use std::ops::RangeInclusive;

const BUDGET_BOUNDS: RangeInclusive<u64> = 1..=1_000_000;

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
}

impl Default for Request {
    fn default() -> Request {
        Request { assignments_header: "x-ab-assignments".to_owned(), cache_key: CacheKey::default() }
    }
}

impl Request {
    /// Whether the filter itself writes the request header `name`, however that is written.
    pub fn owns(&self, name: &[u8]) -> bool {
        is_name(name, self.assignments_header.as_bytes())
            || self.cache_key.header.as_ref().is_some_and(|own| is_name(name, own.as_bytes()))
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
}

impl Default for CacheKey {
    fn default() -> CacheKey {
        CacheKey { header: Some("x-ab-cache-key".to_owned()), query: None, budget: 64 }
    }
}

/// What is done to responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// Whether responses on routes with an experiment are made private to the browser, so that no cache in front of the
    /// proxy keeps one visitor's variant.
    pub downstream_private: bool,
}

impl Default for Response {
    fn default() -> Response {
        Response { downstream_private: true }
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

pub(super) fn read(node: Node<'_>, problems: &mut Problems) -> Option<Request> {
    let block = Block::open(node, &["assignments_header", "cache_key", "sticky", "preview"], problems)?;
    let defaults = Request::default();

    let assignments_header =
        block.or("assignments_header", defaults.assignments_header, problems, names::owned_header_name);
    let cache_key = block.or("cache_key", defaults.cache_key, problems, read_cache_key);
    block.not_built("sticky", "", problems);
    block.not_built("preview", "", problems);

    if let (Some(assignments), Some(CacheKey { header: Some(cache_key), .. })) = (&assignments_header, &cache_key)
        && assignments == cache_key
    {
        let message = format!("{cache_key} is the assignments_header too; expected two different names");
        problems.error(&block.path().field("cache_key").field("header"), message);
    }
    Some(Request { assignments_header: assignments_header?, cache_key: cache_key? })
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
    Some(CacheKey { header: header?, query: query?, budget: budget? })
}

pub(super) fn read_response(node: Node<'_>, problems: &mut Problems) -> Option<Response> {
    let block = Block::open(node, &["downstream_caching", "debug_header"], problems)?;
    let defaults = Response::default();
    let downstream_private = block.or("downstream_caching", defaults.downstream_private, problems, |node, problems| {
        block::choice(node, &[("private", true), ("unchanged", false)], problems)
    });
    block.not_built("debug_header", ": it needs request.preview, which is not either", problems);
    Some(Response { downstream_private: downstream_private? })
}
