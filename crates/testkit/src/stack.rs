//! The services around one filter, and Envoys in front of them.

use super::bootstrap::{EnvoyOptions, Plugin};
use super::client::Reply;
use super::envoy::Envoy;
use super::http::{Request, values_of};
use super::roles::{Collector, ConfigService, Origin};
use super::{DEADLINE, eventually};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Origin, config service and collector.
pub struct Services {
    pub origin: Origin,
    pub configs: ConfigService,
    pub collector: Collector,
}

impl Services {
    /// All healthy; the config service has `document`.
    pub fn start(document: &Value) -> Services {
        let started = || -> std::io::Result<Services> {
            Ok(Services {
                origin: Origin::start()?,
                configs: ConfigService::start(document)?,
                collector: Collector::start()?,
            })
        };
        started().unwrap_or_else(|error| panic!("the services: {error}"))
    }

    /// An Envoy of two workers in front of all services, without the filter.
    pub fn proxy_options(&self) -> EnvoyOptions {
        EnvoyOptions::new(self.origin.port()).experiments(self.configs.port()).collector(self.collector.port())
    }

    /// The same with the filter.
    pub fn options(&self, configuration: &Value) -> EnvoyOptions {
        self.proxy_options().plugin(Plugin::new(configuration.clone()))
    }

    #[track_caller]
    pub fn envoy(&self, configuration: &Value) -> Envoy {
        Envoy::start(&self.options(configuration))
    }
}

/// A config with these experiments.
pub fn document(experiments: &[Value]) -> Value {
    json!({"schema": 1, "revision": "r1", "experiments": experiments})
}

/// A running experiment: all visitors are in `green`, and the other variant is the baseline. The members of `with` override.
pub fn experiment(key: &str, with: Value) -> Value {
    let mut experiment = json!({"key": key, "state": "running", "variants": [
        {"key": "control", "weight": 0, "baseline": true}, {"key": "green", "weight": 10000}]});
    merge(&mut experiment, with);
    experiment
}

/// Puts the members of the object `from` into the object `into`, those of objects in it too.
pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// `base` with the members of `with` on top.
pub fn merged(mut base: Value, with: Value) -> Value {
    merge(&mut base, with);
    base
}

/// All values of a header that the origin received, as text, out of its echo.
pub fn echoed(reply: &Reply, name: &str) -> Vec<String> {
    let echo = reply.json();
    let pairs = echo["headers"].as_array().cloned().unwrap_or_default();
    pairs.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap_or_default().to_owned()).collect()
}

/// All values of a header of a request, as text.
pub fn texts(request: &Request, name: &str) -> Vec<String> {
    values_of(&request.headers, name).map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

/// How long accounts must stay the same to be at rest. The events in workers' buffers count as queued and are reported once a
/// second: a count that stays the same for longer is in the outbox.
const QUIET: Duration = Duration::from_millis(1_500);

/// The outcomes of events, from Envoy's stats.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Accounts {
    pub emitted: u64,
    pub delivered: u64,
    pub rejected: u64,
    pub dropped_overflow: u64,
    pub dropped_expired: u64,
    pub diverted: u64,
    pub queued: u64,
}

impl Accounts {
    /// Those of the plugin `demo`.
    pub fn of(envoy: &Envoy) -> Accounts {
        let stats: BTreeMap<String, u64> = envoy.stats(r"edgesplit\.demo\.(events\.|outbox\.queued_events)");
        let count = |name: &str| stats.get(&format!("edgesplit.demo.{name}")).copied().unwrap_or_default();
        Accounts {
            emitted: count("events.emitted"),
            delivered: count("events.delivered"),
            rejected: count("events.rejected"),
            dropped_overflow: count("events.dropped_overflow"),
            dropped_expired: count("events.dropped_expired"),
            diverted: count("events.diverted"),
            queued: count("outbox.queued_events"),
        }
    }

    /// Waits until the accounts of an Envoy are as wanted and at rest, and returns them.
    #[track_caller]
    pub fn at_rest(envoy: &Envoy, is: impl Fn(&Accounts) -> bool) -> Accounts {
        let mut last = (Accounts::default(), Instant::now());
        eventually(DEADLINE, "the accounts are at rest", || {
            let accounts = Accounts::of(envoy);
            if accounts != last.0 {
                last = (accounts, Instant::now());
            }
            (is(&accounts) && last.1.elapsed() >= QUIET).then_some(accounts)
        })
    }

    /// How many events are accounted for; at rest as many as were emitted.
    pub fn accounted(&self) -> u64 {
        self.delivered + self.rejected + self.dropped_overflow + self.dropped_expired + self.diverted + self.queued
    }
}
