//! An Envoy's admin interface.

use crate::files::{agent, get};
use crate::http_url::HttpUrl;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest time for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// An Envoy's admin interface.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    agent: ureq::Agent,
    address: HttpUrl,
}

impl Admin {
    /// The interface at this address, such as `http://127.0.0.1:9901`.
    pub(crate) fn new(address: HttpUrl) -> Admin {
        Admin { agent: agent(TIMEOUT), address }
    }

    /// A page.
    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        get(&self.agent, &self.address.page(path), ANSWER_BYTES_MAX)
    }

    /// The counters and gauges whose names match this regular expression, by their names.
    pub(crate) fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>, String> {
        let filter: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let bytes = self.get(&format!("/stats?format=json&filter={filter}"))?;
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|_| "not an Envoy's admin interface: the answer is not JSON".to_owned())?;
        let stats = answer.get("stats").and_then(Value::as_array);
        let stats = stats.ok_or("not an Envoy's admin interface: the answer has no stats")?;
        let stat = |stat: &Value| Some((stat.get("name")?.as_str()?.to_owned(), stat.get("value")?.as_u64()?));
        Ok(stats.iter().filter_map(stat).collect())
    }
}
