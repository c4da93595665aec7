//! Notices that no visitor is identified: a mistake in `visitor` that otherwise shows only as empty experiments.

use crate::host::Host;
use crate::plugin_config::{IdSource, Visitor};
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::snapshot::Snapshot;

/// The number of requests without an id after which the warning is logged.
pub const REQUESTS_MAX: u32 = 1_000;

/// A worker's requests up to the first one with an id.
#[derive(Debug, Default)]
pub struct Identification {
    anonymous: u32,
    /// A request had an id, or the warning was logged.
    is_settled: bool,
}

impl Identification {
    /// Counts a request that experiments match.
    #[inline(always)]
    pub(crate) fn count(&mut self, has_id: bool) {
        self.anonymous = self.anonymous.saturating_add(1);
        self.is_settled |= has_id;
    }

    /// Warns once if no request had an id.
    pub(crate) fn report(&mut self, host: &impl Host, visitor: &Visitor, snapshot: Option<&Snapshot>) {
        if self.is_settled || self.anonymous < REQUESTS_MAX {
            return;
        }
        self.is_settled = true;
        let needs_id = |snapshot: &Snapshot| {
            snapshot.flag_evaluator.is_some() || snapshot.experiments.iter().any(|one| one.unit == AttributeName::Id)
        };
        if snapshot.is_some_and(needs_id) {
            host.log(
                log::Level::Warn,
                &format!(
                    "no visitor is identified: none of the first {} requests of this worker had an id. Sources of ids: {}. \
                     Check visitor.id and visitor.mint",
                    self.anonymous,
                    sources(visitor)
                ),
            );
        }
    }
}

/// The configured sources of ids.
fn sources(visitor: &Visitor) -> String {
    let id = visitor.id.iter().map(|source| match source {
        IdSource::Header(name) => format!("header {name}"),
        IdSource::Cookie(name) => format!("cookie {name}"),
        IdSource::JwtClaim { claim, .. } => format!("claim {claim} of a token"),
    });
    let minted = visitor.mint.iter().map(|mint| format!("minted cookie {}", mint.cookie.cookie));
    let all: Vec<String> = id.chain(minted).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin_config::PluginConfig;
    use crate::test_host::TestHost;
    use edgesplit_formats::native;
    use serde_json::json;

    fn logged(unit: &str, requests: &[bool]) -> Vec<String> {
        let plugin = PluginConfig::from_value(&json!({"experiments": {"cluster": "c"},
            "visitor": {"id": [{"header": "x-user-id"}], "mint": {"cookie": "ab"}}}));
        let document = json!({"schema": 1, "experiments": [{"key": "a", "state": "running", "unit": unit,
            "variants": [{"key": "b", "weight": 10000, "baseline": true}]}]});
        let (visitor, snapshot) = (plugin.unwrap().visitor, native::compile(&document, 64).snapshot);
        let (host, mut identification) = (TestHost::default(), Identification::default());
        for has_id in requests {
            identification.count(*has_id);
            identification.report(&host, &visitor, snapshot.as_ref());
        }
        host.log.into_inner()
    }

    #[test]
    fn missing_ids_are_reported_once() {
        assert_eq!(
            logged("id", &[false; 3_000]),
            [
                "no visitor is identified: none of the first 1000 requests of this worker had an id. Sources of ids: header \
              x-user-id, minted cookie ab. Check visitor.id and visitor.mint"
            ]
        );
        assert!(logged("id", &[false; 999]).is_empty());
        assert!(logged("host", &[false; 3_000]).is_empty());
        let mut one = [false; 3_000];
        one[700] = true;
        assert!(logged("id", &one).is_empty());
    }
}
