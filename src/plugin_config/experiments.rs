//! Where experiments come from.

use super::block::{self, Block};
use super::duration::{HOUR_MS, MINUTE_MS, SECOND_MS};
use super::endpoint::{self, Endpoint};
use crate::problem::{Node, Problems};
use serde_json::Value;
use std::ops::RangeInclusive;

const REFRESH_BOUNDS_MS: RangeInclusive<u64> = 100..=24 * HOUR_MS;
const TIMEOUT_BOUNDS_MS: RangeInclusive<u64> = 1..=5 * MINUTE_MS;
const BODY_BOUNDS_BYTES: RangeInclusive<u32> = 1..=64 << 20;

/// Where experiments come from: a service, a document in the configuration itself, or first the one and then the
/// other. At least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiments {
    /// The service to fetch from; `None`: only `inline` counts.
    pub source: Option<Source>,
    /// A JSON object in the experiment format, not validated yet: in force until the first good fetch.
    pub inline: Option<Value>,
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
    let known =
        ["format", "cluster", "authority", "path", "headers", "refresh", "timeout", "max_bytes", "inline", "routes"];
    let block = Block::open(node, &known, problems)?;

    let format = block.or("format", (), problems, |node, problems| {
        block::format(node, &[("native", ())], &["optimizely", "growthbook"], problems)
    });
    let routes = block.or("routes", (), problems, |node, problems| {
        // Of another format nobody can say here whether it needs routes: the format is the problem then.
        if !node.array(problems)?.is_empty() && format.is_some() {
            let message = "only vendor formats have use for routes: a native experiment carries its own `route`";
            problems.error(node.path, message);
        }
        Some(())
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
    format?;
    routes?;
    Some(Experiments { source: source?, inline: inline? })
}

/// `Some(None)`: there is no cluster, so nothing is fetched.
fn read_source(block: &Block<'_>, problems: &mut Problems) -> Option<Option<Source>> {
    let refresh_ms = block.duration_ms("refresh", 10 * SECOND_MS, REFRESH_BOUNDS_MS, problems);
    let timeout_ms = block.duration_ms("timeout", 2 * SECOND_MS, TIMEOUT_BOUNDS_MS, problems);
    let max_bytes = block.size("max_bytes", 4 << 20, BODY_BOUNDS_BYTES, problems);
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
