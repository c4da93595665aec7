//! Where experiments come from.

use super::block::{self, Block};
use super::duration::{HOUR_MS, MINUTE_MS, SECOND_MS};
use super::endpoint::{self, Endpoint};
use super::names;
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::snapshot::Goal;
use edgesplit_formats::diagnostics::{Node, Problems, Severity};
use edgesplit_formats::native;
use edgesplit_formats::{DecryptionKey, FlagRoute, FormatRef};
use serde_json::Value;
use std::ops::RangeInclusive;

pub(super) const REFRESH_BOUNDS_MS: RangeInclusive<u64> = 100..=24 * HOUR_MS;
pub(super) const TIMEOUT_BOUNDS_MS: RangeInclusive<u64> = 1..=5 * MINUTE_MS;
pub(super) const BODY_BOUNDS_BYTES: RangeInclusive<u32> = 1..=64 << 20;
pub(super) const REFRESH_MS: u64 = 10 * SECOND_MS;
pub(super) const TIMEOUT_MS: u64 = 2 * SECOND_MS;
pub(super) const BODY_BYTES: usize = 4 << 20;

/// Where experiments come from: a service, a document in the configuration itself, or first the one and then the
/// other. At least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiments {
    /// The format of what is fetched and of `inline`.
    pub format: FormatRef,
    /// The service to fetch from; `None`: only `inline` counts.
    pub source: Option<Source>,
    /// A JSON object in the experiment format, not validated yet: in force until the first good fetch.
    pub inline: Option<Value>,
    /// What a vendor's encrypted payload is decrypted with.
    pub decryption_key: Option<DecryptionKey>,
    /// The routes and baselines of a vendor's flags, the first that names a flag counts.
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
}

pub(super) fn read(node: Node<'_>, problems: &mut Problems) -> Option<Experiments> {
    let known = [
        "format",
        "cluster",
        "authority",
        "path",
        "headers",
        "refresh",
        "timeout",
        "max_bytes",
        "inline",
        "decryption_key",
        "routes",
        "goals",
    ];
    let block = Block::open(node, &known, problems)?;

    let format = block.or("format", edgesplit_formats::NATIVE, problems, |node, problems| {
        let built: Vec<_> = edgesplit_formats::formats().map(|format| (format.name(), format)).collect();
        block::format(node, &built, problems)
    });
    let decryption_key = block.nullable("decryption_key", problems, |node, problems| {
        let key = node.value.as_str().filter(|key| !key.is_empty());
        if key.is_none() {
            // What was found is not shown.
            problems.error(node.path, "expected the decryption key of the vendor's payload");
        } else if format.is_some_and(|format| !format.has_encryption()) {
            let encrypted = edgesplit_formats::formats().filter(|format| format.has_encryption());
            let names: Vec<&str> = encrypted.map(|format| format.name()).collect();
            problems.error(node.path, format!("only configs of these formats can be encrypted: {}", names.join(", ")));
        }
        key.map(DecryptionKey::new)
    });
    let routes = block.or("routes", Vec::new(), problems, |node, problems| {
        // Of another format nobody can say here whether it needs routes: the format is the problem then.
        if !node.array(problems)?.is_empty() && format.is_some_and(|format| format.has_routes()) {
            let message = "only vendor formats have use for routes: a native experiment carries its own `route`";
            problems.error(node.path, message);
        }
        block::list(node, problems, route)
    });
    let goals = block.or("goals", Vec::new(), problems, |node, problems| {
        if !node.array(problems)?.is_empty() && format.is_some_and(|format| format.has_routes()) {
            let message = "only vendor formats have use for goals here: a native document has its own `goals`";
            problems.error(node.path, message);
        }
        Some(native::goals(node, Severity::Error, problems))
    });
    let source = read_source(&block, problems);
    let inline = block.nullable("inline", problems, |node, problems| {
        node.object(problems)?;
        Some(node.value.clone())
    });

    if let (Some(None), Some(None)) = (&source, &inline) {
        let message = r#"expected a "cluster" to fetch experiments from, an "inline" document, or both; found neither"#;
        problems.error(node.path, message);
    }
    Some(Experiments {
        format: format?,
        source: source?,
        inline: inline?,
        decryption_key: decryption_key?,
        routes: routes?,
        goals: goals?,
    })
}

/// Which flags are about which requests, and what their baseline is.
fn route(node: Node<'_>, problems: &mut Problems) -> Option<FlagRoute> {
    let [hosts, paths, methods] = native::route::FIELDS;
    let block = Block::open(node, &["keys", hosts, paths, methods, "baseline"], problems)?;
    let keys = block.or("keys", Vec::new(), problems, |node, problems| {
        block::list(node, problems, |node, problems| {
            names::text(node, "a flag's key, or a pattern with *", problems, |text| !text.is_empty())
                .map(|text| Pattern::new(&text))
        })
    });
    let route = native::route::read(node, problems);
    let baseline = block.nullable("baseline", problems, native::key);
    Some(FlagRoute { keys: keys?, route: route?, baseline: baseline? })
}

/// `Some(None)`: there is no cluster, so nothing is fetched.
fn read_source(block: &Block<'_>, problems: &mut Problems) -> Option<Option<Source>> {
    let refresh_ms = block.duration_ms("refresh", REFRESH_MS, REFRESH_BOUNDS_MS, problems);
    let timeout_ms = block.duration_ms("timeout", TIMEOUT_MS, TIMEOUT_BOUNDS_MS, problems);
    let max_bytes = block.size("max_bytes", BODY_BYTES, BODY_BOUNDS_BYTES, problems);
    if block.has("cluster") {
        let endpoint = endpoint::read(block, problems);
        return Some(Some(Source {
            endpoint: endpoint?,
            refresh_ms: refresh_ms?,
            timeout_ms: timeout_ms?,
            max_bytes: max_bytes?,
        }));
    }
    // `refresh`, `timeout` and `max_bytes` do no harm alone; these three say that a service was meant.
    let errors = problems.errors();
    for name in endpoint::DEPENDENT.into_iter().filter(|name| block.has(name)) {
        problems.error(&block.path().field(name), "needs `cluster`: without it nothing is fetched");
    }
    (problems.errors() == errors).then_some(None)
}
