//! The plugin configuration: from the bytes that the host hands over to validated, immutable types.
//!
//! Each block is declared once with [`document!`]: the declaration gives the types, the reader and the JSON Schema.
//! Every problem is collected with the path of its field. The rest of the filter never checks a value again: names are
//! well-formed, and in lower case where case has no meaning; durations are numbers with their unit in the name; lists
//! of patterns are compiled.

mod duration;
mod effects;
mod endpoint;
mod events;
mod experiments;
mod names;
mod own_cookie;
mod protobuf_struct;
mod request;
mod spool;
mod visitor;

#[cfg(test)]
mod tests;

pub use duration::parse_duration_ms;
pub use endpoint::{Endpoint, Scheme};
pub use events::{
    Batch, Dedupe, EventFormat, Events, OUTBOX_BATCHES_MAX, OUTBOX_BYTES_MAX, OnFull, OutboxLimits, Retry,
};
pub use experiments::{Experiments, Source};
pub use own_cookie::{OwnCookie, SameSite};
pub use request::{CacheKey, PREVIEW_PARAMETER, Paths, Preview, Request, Response, SECRET_BYTES_MIN, Secret};
pub use spool::SpoolFolder;
pub use visitor::{Consent, IdSource, Mint, MintOn, TokenSource, Visitor};

use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::json;
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::snapshot::{Experiment, Snapshot, State};
use edgesplit_formats::diagnostics::{Node, Path, Problems};
use edgesplit_formats::document;
use edgesplit_formats::document::{Anything, Kind, Nullable, strict};
use edgesplit_formats::effect_policy::{EffectPolicy, EffectRules};
use edgesplit_formats::{FormatRef, Options};
use serde_json::{Map, Value};

document! {
    /// Everything that is configured for one plugin.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PluginConfig {
        /// The source of experiments: a `cluster` to fetch from, an `inline` document, or both.
        pub experiments: Experiments => experiments::EXPERIMENTS,
        /// How visitors are identified, which attributes they have, and who takes no part.
        pub visitor: Visitor = Visitor::default() => visitor::VISITOR,
        /// The paths on which the filter acts.
        pub paths: Paths = Paths::default() => request::PATHS,
        /// The information that caches and the origin get.
        pub request: Request = Request::default() => request::REQUEST,
        /// The effects that experiments may have. Without this block, native experiments have those of its defaults, and
        /// vendors' flags have none.
        pub effects: Option<EffectRules> = None => Nullable(strict()),
        /// Changes to responses.
        pub response: Response = Response::default() => strict(),
        /// The service that gets exposures and goals; without this block there are no events.
        pub events: Option<Events> = None => Nullable(events::EVENTS),
        /// The location of this schema, for editors.
        pub editor as "$schema": () = () => Anything,
    }
}

/// The problem of a plugin configuration that identifies no visitor.
pub const NO_IDENTITY: &str = "no request has an id: the plugin configuration has neither visitor.id nor visitor.mint";

impl PluginConfig {
    /// Reads the bytes that the host provides: JSON text, or an encoded `google.protobuf.Struct`, which Envoy passes if
    /// the configuration is given as one.
    ///
    /// # Errors
    /// Every problem, each with the path of its field. Text that is not JSON is one problem, with its line and column.
    pub fn parse(bytes: &[u8]) -> Result<PluginConfig, Problems> {
        PluginConfig::from_value(&document(bytes)?)
    }

    /// Reads a configuration that is JSON already.
    ///
    /// # Errors
    /// Every problem, each with the path of its field.
    pub fn from_value(value: &Value) -> Result<PluginConfig, Problems> {
        let mut problems = Problems::new();
        match read(Node::root(value), &mut problems) {
            // A value may be readable in spite of a problem: only the count is decisive.
            Some(config) if problems.errors() == 0 => Ok(config),
            _ => Err(problems),
        }
    }

    /// The options with which the experiments are compiled.
    pub fn compile_options(&self) -> Options {
        let Experiments { format, decryption_key, generation, routes, goals, .. } = &self.experiments;
        Options {
            format: *format,
            budget: self.request.cache_key.budget,
            is_budget_kept: self.request.cache_key.is_budget_given,
            assignments_bytes_max: self.request.assignments_max_bytes,
            is_assignments_limit_kept: self.request.is_assignments_limit_given,
            events_host: self.events.as_ref().map(|events| events.endpoint.authority.clone()),
            events_path: self.events.as_ref().map(|events| events.endpoint.path.clone()),
            effects: self.effect_policy(),
            decryption_key: decryption_key.clone(),
            generation: *generation,
            routes: routes.clone(),
            goals: goals.clone(),
        }
    }

    /// The problem if no request can ever have an id, although experiments of `snapshot` bucket by it.
    pub fn identity_problem(&self, snapshot: &Snapshot) -> Option<&'static str> {
        let Visitor { id, mint, .. } = &self.visitor;
        (id.is_empty() && mint.is_none() && snapshot.experiments.iter().any(buckets_by_id)).then_some(NO_IDENTITY)
    }

    fn effect_policy(&self) -> EffectPolicy {
        effects::policy(self.effects.as_ref(), &self.visitor, &self.request, &self.response)
    }

    /// The hosts that redirects may lead to, beside the request's own.
    pub fn redirect_hosts(&self) -> &[Pattern] {
        self.effects.as_ref().map_or(&[], |effects| &effects.redirect_hosts)
    }
}

/// Whether visitors are bucketed by their id in `experiment`.
pub fn buckets_by_id(experiment: &Experiment) -> bool {
    matches!(experiment.state, State::Running | State::Flag(_)) && experiment.unit == AttributeName::Id
}

/// The options with which experiments are compiled without a plugin configuration.
pub fn default_options(format: FormatRef) -> Options {
    let (visitor, request, response) = Default::default();
    let effects = effects::policy(None, &visitor, &request, &response);
    Options { effects, ..Options::new(format, request.cache_key.budget) }
}

/// The document in either encoding, as JSON.
fn document(bytes: &[u8]) -> Result<Value, Problems> {
    if bytes.trim_ascii().is_empty() {
        // No configuration at all: the missing field explains more than "not JSON" would.
        return Ok(Value::Object(Map::new()));
    }
    let text = edgesplit_formats::without_byte_order_mark(bytes.to_vec());
    json::read(&text).or_else(|error| {
        protobuf_struct::decode(bytes).ok_or_else(|| {
            let mut problems = Problems::new();
            let message = format!("expected a JSON object (or an encoded google.protobuf.Struct): {error}");
            problems.error(&Path::Root, message);
            problems
        })
    })
}

/// The JSON Schema of a configuration. It does not cover most rules across fields.
pub fn schema() -> Value {
    let description = "The configuration of one Edgesplit plugin: JSON in the `configuration` of Envoy's wasm filter. \
                       Durations are texts such as 250ms, 10s, 5m or 1h. Only `experiments` is required.";
    let root = strict::<PluginConfig>().schema();
    document::schema::document("Edgesplit plugin configuration", description, root, Value::Object(Map::new()))
}

fn read(node: Node<'_>, problems: &mut Problems) -> Option<PluginConfig> {
    let config: PluginConfig = strict().read(node, problems)?;
    refuse_owned_sources(&config, node.path, problems);
    refuse_shared_cookies(&config, node.path, problems);
    if config.request.preview.is_none() && config.response.debug_header.is_some() {
        let message = "needs request.preview: only requests with a valid preview link get the header";
        problems.error(&node.path.field("response").field("debug_header"), message);
    }
    if let Some(Events { format: EventFormat::Vendor(format), .. }) = &config.events
        && format.event_wire().is_some_and(|wire| wire.needs_own_config())
        && config.experiments.format != *format
    {
        let name = format.name();
        let message = format!("needs experiments.format {name}: its events contain ids that only such a config has");
        problems.error(&node.path.field("events").field("format"), message);
    }
    Some(config)
}

/// Refuses to read an id or an attribute from a name that the filter owns. Such a name is removed from every request
/// first, and would never have a value.
fn refuse_owned_sources(config: &PluginConfig, path: &Path<'_>, problems: &mut Problems) {
    let PluginConfig { visitor, request, .. } = config;
    let owned = request.owned_names();
    let owned_header = |name: &String| owned.contains(name.as_bytes());
    let preview = request.preview.as_ref().map(|preview| &preview.parameter);
    let owned_parameter = |name: &String| request.cache_key.query.as_ref() == Some(name) || preview == Some(name);
    let message = |what: &str| format!("never has a value: the filter owns this {what} and removes it from requests");
    let path = path.field("visitor");

    let ids = path.field("id");
    for (index, source) in visitor.id.iter().enumerate() {
        if source.header().is_some_and(owned_header) {
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

/// Refuses a sticky cookie with the name of another cookie: one would overwrite the other.
fn refuse_shared_cookies(config: &PluginConfig, path: &Path<'_>, problems: &mut Problems) {
    let PluginConfig { visitor, request, .. } = config;
    let Some(sticky) = &request.sticky else { return };
    let other = if visitor.mint.as_ref().is_some_and(|mint| mint.cookie.cookie == sticky.cookie) {
        "visitor.mint"
    } else if visitor.consent.as_ref().is_some_and(|consent| consent.cookie == sticky.cookie) {
        "visitor.consent"
    } else if visitor.id.iter().any(|source| source.cookie() == Some(&sticky.cookie)) {
        "visitor.id"
    } else {
        return;
    };
    let message = format!("{} is the cookie of {other}, which sticky buckets would overwrite", sticky.cookie);
    problems.error(&path.field("request").field("sticky").field("cookie"), message);
}
