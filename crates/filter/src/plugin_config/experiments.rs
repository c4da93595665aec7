//! Where experiments come from.

use super::duration::{HOUR_MS, MINUTE_MS, SECOND_MS, millis};
use super::endpoint::{Address, CLUSTER, Endpoint};
use crate::call_failure::CALL_BODY_BYTES_MAX;
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::Goal;
use edgesplit_formats::diagnostics::{Node, Problems};
use edgesplit_formats::document;
use edgesplit_formats::document::{
    AnyObject, Choice, Flag, List, Nullable, Object, Parsed, Text, Then, in_place, strict, whole,
};
use edgesplit_formats::native;
use edgesplit_formats::native::route::Goals;
use edgesplit_formats::{DecryptionKey, FlagRoute, FormatRef, GENERATION};
use serde_json::Value;

/// Where experiments come from: a service, a document in the configuration itself, or first the one and then the
/// other. At least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiments {
    /// The format of fetched documents and of `inline`.
    pub format: FormatRef,
    /// The service to fetch from; `None` if there is only `inline`.
    pub source: Option<Source>,
    /// A JSON object in the experiment format, not validated yet: in force until the first good fetch.
    pub inline: Option<Value>,
    /// The key of a vendor's encrypted payload.
    pub decryption_key: Option<DecryptionKey>,
    /// The generation of a vendor's bucketing.
    pub generation: u32,
    /// The routes and baselines of a vendor's flags. The first that names a flag applies.
    pub routes: Vec<FlagRoute>,
    /// The goals beside a vendor's flags.
    pub goals: Vec<Goal>,
}

/// A service that serves the experiments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The service.
    pub endpoint: Endpoint,
    /// Milliseconds from one fetch to the next, before jitter.
    pub refresh_ms: u64,
    /// Milliseconds that a fetch may take.
    pub timeout_ms: u64,
    /// The largest body that is taken, in bytes.
    pub max_bytes: usize,
    /// Whether a config with a lower revision than the one in force is refused.
    pub monotonic: bool,
}

document! {
    /// The block `experiments` as it is written.
    pub(super) struct Block {
        /// The format of the experiments.
        format: FormatRef = edgesplit_formats::NATIVE => FORMAT,
        /// The service to fetch from, by the name of its cluster in Envoy's configuration.
        cluster: Option<String> = None => Nullable(CLUSTER),
        /// The rest of the service.
        address: Address => in_place(),
        /// Time from one fetch to the next, before jitter.
        refresh_ms as "refresh": u64 = 10 * SECOND_MS => millis(100, 24 * HOUR_MS),
        /// How long a fetch may take.
        timeout_ms as "timeout": u64 = 2 * SECOND_MS => millis(1, 5 * MINUTE_MS),
        /// A larger body is refused.
        max_bytes: usize = 4 << 20 => whole(1, CALL_BODY_BYTES_MAX as u64),
        /// Whether a document is refused whose `revision` is lower than the one in force.
        monotonic: bool = false => Flag,
        /// A document in the experiment format, in force until the first good fetch.
        inline: Option<Value> = None => Nullable(AnyObject),
        /// The key of a vendor's encrypted payload; for GrowthBook 16 bytes in base64.
        decryption_key: Option<String> = None => Nullable(DECRYPTION_KEY),
        /// The generation of the vendor's bucketing, where its SDKs have several: for flagd 2 or 3.
        bucketing_generation: u32 = GENERATION => whole(2, 3),
        /// Routes and baselines of a vendor's flags. The first entry that names a flag applies.
        routes: Vec<FlagRoute> = Vec::new() => List(FLAG_ROUTE),
        /// Goals beside a vendor's flags.
        goals: Vec<Goal> = Vec::new() => Goals::STRICT,
    }
}

const FORMAT: Choice<FormatRef> =
    Choice(|| edgesplit_formats::formats().map(|format| (format.name(), format)).collect());

const DECRYPTION_KEY: Text =
    Text::secret("the decryption key of the vendor's payload", "^[\\s\\S]+$", |text| !text.is_empty());

document! {
    /// An entry of `routes` as it is written.
    pub(super) struct FlagRouteBlock {
        /// Flags by their keys; `*` stands for any run of characters. Empty: every flag.
        keys: Vec<Pattern> = Vec::new() => List(Parsed {
            expected: "a flag's key, or a pattern with *",
            pattern: "^[\\s\\S]+$",
            parse: |text| (!text.is_empty()).then(|| Pattern::new(text)),
            write: Pattern::text,
        }),
        /// The requests that the flags are about.
        route: Route => in_place(),
        /// The key of the variant that visitors outside the experiment see.
        baseline: Option<String> = None => Nullable(native::KEY),
    }
}

const FLAG_ROUTE: Then<Object<FlagRouteBlock>, FlagRoute> = Then {
    kind: strict(),
    then: |FlagRouteBlock { keys, route, baseline }, _, _| Some(FlagRoute { keys, route, baseline }),
};

/// The block `experiments`.
pub(super) const EXPERIMENTS: Then<Object<Block>, Experiments> = Then {
    kind: strict().expecting(r#"an object with a "cluster" to fetch experiments from, an "inline" document, or both"#),
    then: Block::compile,
};

impl Block {
    fn compile(self, node: Node<'_>, problems: &mut Problems) -> Option<Experiments> {
        let Block {
            format,
            cluster,
            address,
            refresh_ms,
            timeout_ms,
            max_bytes,
            monotonic,
            inline,
            decryption_key,
            bucketing_generation: generation,
            routes,
            goals,
        } = self;
        let errors = problems.errors();
        if decryption_key.is_some() && !format.has_encryption() {
            let encrypted = edgesplit_formats::formats().filter(|format| format.has_encryption());
            let names: Vec<&str> = encrypted.map(|format| format.name()).collect();
            let message = format!("only configs of these formats can be encrypted: {}", names.join(", "));
            problems.error(&node.path.field("decryption_key"), message);
        }
        if generation != GENERATION && !format.has_generations() {
            let message = "only the format flagd has several generations of bucketing";
            problems.error(&node.path.field("bucketing_generation"), message);
        }
        if !routes.is_empty() && format.has_routes() {
            let message = "only vendor formats have use for routes: a native experiment carries its own `route`";
            problems.error(&node.path.field("routes"), message);
        }
        if !goals.is_empty() && format.has_routes() {
            let message = "only vendor formats have use for goals here: a native document has its own `goals`";
            problems.error(&node.path.field("goals"), message);
        }
        let source = if let Some(cluster) = cluster {
            let endpoint = address.endpoint(cluster, node, problems)?;
            Some(Source { endpoint, refresh_ms, timeout_ms, max_bytes, monotonic })
        } else {
            // `refresh`, `timeout` and `max_bytes` do no harm alone; these four show that a service was meant.
            for name in Address::NAMES.into_iter().filter(|name| node.value.get(name).is_some()) {
                problems.error(&node.path.field(name), "needs `cluster`: without it nothing is fetched");
            }
            None
        };
        if source.is_none() && inline.is_none() && problems.errors() == errors {
            let message =
                r#"expected a "cluster" to fetch experiments from, an "inline" document, or both; found neither"#;
            problems.error(node.path, message);
        }
        let decryption_key = decryption_key.as_deref().map(DecryptionKey::new);
        Some(Experiments { format, source, inline, decryption_key, generation, routes, goals })
    }
}
