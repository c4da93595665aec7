//! The source of the visitor's id under a plugin configuration.

use crate::evaluate::Request;
use edgesplit_engine::decide::is_unit;
use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_filter::plugin_config::{IdSource, TokenSource, Visitor};
use edgesplit_filter::request_context::{self, RequestContext};
use std::cell::OnceCell;

/// The identity of the visitor, in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) text: String,
    /// The problem, if no request could supply the id.
    pub(super) problem: Option<String>,
}

impl Identity {
    /// The identity under `visitor`. A request without an id of its own is identified by its headers.
    pub(super) fn new(request: &Request<'_>, visitor: &Visitor) -> Identity {
        if let Some(id) = &request.id {
            return given(id, visitor);
        }
        let headers = request.headers.map();
        let context = RequestContext::new(&headers, visitor);
        let text = OnceCell::new();
        let from_source = |source: &IdSource| Some((request_context::id_from(&context, source, &text)?, name(source)));
        let minted = || {
            let cookie = &visitor.mint.as_ref()?.cookie;
            Some((request_context::minted_id(&context, cookie)?, format!("the minted cookie {}", cookie.cookie)))
        };
        let found = visitor.id.iter().find_map(from_source).or_else(minted);
        let typed = || Some((request.attributes?.get("id")?.as_str()?, "--attributes".to_owned()));
        let text = match (found.or_else(typed), &visitor.mint) {
            (Some((id, source)), _) => format!("{id:?}, from {source}"),
            (None, Some(mint)) => {
                format!("none yet; visitor.mint puts a new id into the cookie {}", mint.cookie.cookie)
            }
            (None, None) if visitor.id.is_empty() => "none: the plugin configuration has no visitor.id".to_owned(),
            (None, None) => format!("none: the request has no id in {}", names(&visitor.id)),
        };
        Identity { text, problem: None }
    }
}

/// The identity of a visitor with the id `id`, which `--id` gives.
fn given(id: &str, visitor: &Visitor) -> Identity {
    let mut sources: Vec<String> = visitor.id.iter().filter(|source| can_supply(source, id)).map(name).collect();
    let mint = visitor.mint.as_ref().map(|mint| &mint.cookie.cookie);
    sources.extend(
        mint.filter(|_| request_context::is_minted(id.as_bytes())).map(|mint| format!("the minted cookie {mint}")),
    );
    let problem = sources.is_empty().then(|| match (visitor.id.is_empty(), mint) {
        (true, None) => "the plugin configuration has neither visitor.id nor visitor.mint".to_owned(),
        (true, Some(mint)) => format!("the minted cookie {mint} only takes UUIDs of version 4"),
        (false, _) => format!("{} cannot have this value", names(&visitor.id)),
    });
    let text = match &problem {
        None => format!("{id:?}, as a request supplies it in {}", sources.join(" or ")),
        Some(_) => format!("{id:?}, from --id only"),
    };
    Identity { text, problem }
}

/// Whether a request can have the id `id` at `source`.
fn can_supply(source: &IdSource, id: &str) -> bool {
    let (name, value) = match source {
        IdSource::Header(name) => (name.clone(), id.to_owned()),
        IdSource::Cookie(name) => ("cookie".to_owned(), format!("{name}={id}")),
        // A token encodes its claims, so they can have any characters.
        IdSource::JwtClaim { .. } => return is_unit(id.as_bytes()) && id.trim_ascii() == id,
    };
    let headers = HeaderBlock::from_pairs(&[(name, value)]);
    let headers = headers.map();
    let visitor = Visitor::default();
    let context = RequestContext::new(&headers, &visitor);
    let text = OnceCell::new();
    !id.bytes().any(|byte| byte.is_ascii_control()) && request_context::id_from(&context, source, &text) == Some(id)
}

fn names(sources: &[IdSource]) -> String {
    sources.iter().map(name).collect::<Vec<_>>().join(" or ")
}

fn name(source: &IdSource) -> String {
    match source {
        IdSource::Header(name) => format!("the header {name}"),
        IdSource::Cookie(name) => format!("the cookie {name}"),
        IdSource::JwtClaim { claim, token: TokenSource::Header(name) } => {
            format!("the claim {claim} of the token in the header {name}")
        }
        IdSource::JwtClaim { claim, token: TokenSource::Cookie(name) } => {
            format!("the claim {claim} of the token in the cookie {name}")
        }
    }
}
