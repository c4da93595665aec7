//! The plugin configuration: from the bytes that the host hands over to validated, immutable types.
//!
//! Every problem is collected with the path of its field, so that a person can mend a configuration in one go. What
//! comes out holds no text that the rest of the filter would have to check again: names are well-formed and in lower
//! case where case means nothing, durations are numbers with their unit in the name, lists of patterns are compiled.

mod block;
mod duration;
mod endpoint;
mod events;
mod experiments;
mod names;
mod own_cookie;
mod protobuf_struct;
mod request;
#[cfg(not(target_arch = "wasm32"))]
pub mod schema;
mod visitor;

#[cfg(test)]
mod tests;

pub use duration::parse_duration_ms;
pub use endpoint::Endpoint;
pub use events::{
    Batch, Dedupe, EventFormat, Events, OUTBOX_BATCHES_MAX, OUTBOX_BYTES_MAX, OnFull, OutboxLimits, Retry,
};
pub use experiments::{Experiments, Source};
pub use own_cookie::{OwnCookie, SameSite};
pub use request::{CacheKey, PREVIEW_PARAMETER, Paths, Preview, Request, Response, Secret};
pub use visitor::{Consent, IdSource, Mint, TokenSource, Visitor};

use block::Block;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_formats::Options;
use edgesplit_formats::diagnostics::{Node, Path, Problems};
use serde_json::{Map, Value};

/// Everything that is configured for one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginConfig {
    /// Where experiments come from.
    pub experiments: Experiments,
    /// Who the visitor is and what is known of them.
    pub visitor: Visitor,
    /// On which paths the filter acts at all.
    pub paths: Paths,
    /// What is told to the caches and to the origin.
    pub request: Request,
    /// What is done to responses.
    pub response: Response,
    /// Where events go; `None`: there are none.
    pub events: Option<Events>,
}

impl PluginConfig {
    /// Reads what the host hands over: JSON text, or an encoded `google.protobuf.Struct`, which is what Envoy makes of
    /// a configuration that is given as one.
    ///
    /// # Errors
    /// Every problem there is, each with the path of its field. Text that is not JSON is one problem, with its line
    /// and column.
    pub fn parse(bytes: &[u8]) -> Result<PluginConfig, Problems> {
        PluginConfig::from_value(&document(bytes)?)
    }

    /// Reads a configuration that is JSON already.
    ///
    /// # Errors
    /// Every problem there is, each with the path of its field.
    pub fn from_value(value: &Value) -> Result<PluginConfig, Problems> {
        let mut problems = Problems::new();
        match read(Node::root(value), &mut problems) {
            // A problem may stand beside a value that could be read: only the count tells.
            Some(config) if problems.errors() == 0 => Ok(config),
            _ => Err(problems),
        }
    }

    /// What compiling the experiments needs beside them.
    pub fn compile_options(&self) -> Options {
        let Experiments { format, decryption_key, routes, goals, .. } = &self.experiments;
        Options {
            format: *format,
            budget: self.request.cache_key.budget,
            is_budget_kept: self.request.cache_key.is_budget_given,
            decryption_key: decryption_key.clone(),
            routes: routes.clone(),
            goals: goals.clone(),
        }
    }
}

/// The bytes as JSON, whichever of the two encodings they have.
fn document(bytes: &[u8]) -> Result<Value, Problems> {
    if bytes.trim_ascii().is_empty() {
        // No configuration at all: what is missing then says more than "not JSON" would.
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_slice(bytes).or_else(|error| {
        protobuf_struct::decode(bytes).ok_or_else(|| {
            let mut problems = Problems::new();
            let message = format!("expected a JSON object (or an encoded google.protobuf.Struct): {error}");
            problems.error(&Path::Root, message);
            problems
        })
    })
}

fn read(node: Node<'_>, problems: &mut Problems) -> Option<PluginConfig> {
    let known = ["experiments", "visitor", "paths", "request", "response", "events"];
    let block = Block::open(node, &known, problems)?;

    let experiments = block.required(
        "experiments",
        r#"an object with a "cluster" to fetch experiments from, an "inline" document, or both"#,
        problems,
        experiments::read,
    );
    let visitor = block.or("visitor", Visitor::default(), problems, visitor::read);
    let paths = block.or("paths", Paths::default(), problems, request::read_paths);
    let request = block.or("request", Request::default(), problems, request::read);
    let response = block.or("response", Response::default(), problems, request::read_response);
    let events = block.nullable("events", problems, events::read);

    if let (Some(visitor), Some(request)) = (&visitor, &request) {
        refuse_owned_sources(visitor, request, &block, problems);
        refuse_shared_cookies(visitor, request, &block, problems);
    }
    if let (Some(Request { preview: None, .. }), Some(Response { debug_header: Some(_), .. })) = (&request, &response) {
        let message = "needs request.preview: only who has a valid preview link gets the header";
        problems.error(&block.path().field("response").field("debug_header"), message);
    }
    if let (Some(experiments), Some(Some(events))) = (&experiments, &events)
        && let EventFormat::Vendor(format) = events.format
        && events.format.vendor_wire().is_some_and(|wire| wire.needs_own_config())
        && experiments.format != format
    {
        let name = format.name();
        let message = format!("needs experiments.format {name}: its events contain ids that only such a config has");
        problems.error(&block.path().field("events").field("format"), message);
    }
    Some(PluginConfig {
        experiments: experiments?,
        visitor: visitor?,
        paths: paths?,
        request: request?,
        response: response?,
        events: events?,
    })
}

/// Refuses to read an id or an attribute from a name that the filter owns: it is removed from every request first, so
/// it would never have a value.
fn refuse_owned_sources(visitor: &Visitor, request: &Request, block: &Block<'_>, problems: &mut Problems) {
    let owned_header =
        |name: &String| *name == request.assignments_header || request.cache_key.header.as_ref() == Some(name);
    let preview = request.preview.as_ref().map(|preview| &preview.parameter);
    let owned_parameter = |name: &String| request.cache_key.query.as_ref() == Some(name) || preview == Some(name);
    let message = |what: &str| format!("never has a value: the filter owns this {what} and removes it from requests");
    let path = block.path().field("visitor");

    let ids = path.field("id");
    for (index, source) in visitor.id.iter().enumerate() {
        let header = match source {
            IdSource::Header(name) | IdSource::JwtClaim { token: TokenSource::Header(name), .. } => Some(name),
            IdSource::Cookie(_) | IdSource::JwtClaim { token: TokenSource::Cookie(_), .. } => None,
        };
        if header.is_some_and(owned_header) {
            problems.error(&ids.index(index).field("header"), message("header"));
        }
    }
    let attributes = path.field("attributes");
    for (alias, source) in &visitor.attributes {
        match source {
            AttributeName::Header(name) if owned_header(name) => {
                problems.error(&attributes.field(alias), message("header"));
            }
            AttributeName::Query(name) if owned_parameter(name) => {
                problems.error(&attributes.field(alias), message("query parameter"));
            }
            _ => {}
        }
    }
}

/// Refuses a sticky cookie that is another cookie too: one would overwrite the other.
fn refuse_shared_cookies(visitor: &Visitor, request: &Request, block: &Block<'_>, problems: &mut Problems) {
    let Some(sticky) = &request.sticky else { return };
    let is_id = |source: &IdSource| match source {
        IdSource::Cookie(name) | IdSource::JwtClaim { token: TokenSource::Cookie(name), .. } => *name == sticky.cookie,
        IdSource::Header(_) | IdSource::JwtClaim { token: TokenSource::Header(_), .. } => false,
    };
    let other = if visitor.mint.as_ref().is_some_and(|mint| mint.cookie == sticky.cookie) {
        "visitor.mint"
    } else if visitor.consent.as_ref().is_some_and(|consent| consent.cookie == sticky.cookie) {
        "visitor.consent"
    } else if visitor.id.iter().any(is_id) {
        "visitor.id"
    } else {
        return;
    };
    let message = format!("{} is the cookie of {other}, which sticky buckets would overwrite", sticky.cookie);
    problems.error(&block.path().field("request").field("sticky").field("cookie"), message);
}
