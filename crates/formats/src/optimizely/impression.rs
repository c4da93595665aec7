//! Events for Optimizely's `/v1/events`: a batch belongs to a project and has a visitor for each event.
//!
//! An event is written when it happens, without the batch around it, because a buffer holds events of many visitors. The
//! batch begins with [`Project::write_batch_head`] and ends with [`BATCH_TAIL`]. Source: Optimizely's event API, and the
//! events of its SDKs.

use super::audience::exact;
use super::project::Project;
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use serde_json::{Map, Value, json};

/// The host that takes the events of most projects.
pub(super) const HOST: &str = "logx.optimizely.com";

/// The host that takes the events of projects in the region `EU`.
pub(super) const EU_HOST: &str = "eu.logx.optimizely.com";

/// The end of a batch, behind its visitors.
pub const BATCH_TAIL: &[u8] = b"]}";

/// The key of all events that report a decision.
const IMPRESSION_KEY: &str = "campaign_activated";

/// The start of the names of attributes that need not be known to the project: their keys are their ids.
const RESERVED_PREFIX: &str = "$opt_";

const BOT_FILTERING: &str = "$opt_bot_filtering";

/// The report of an outcome of a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impression {
    /// The layer's id, else the experiment's; empty where no rule decided.
    pub campaign_id: String,
    /// The experiment's, rule's or holdout's id; empty where no rule decided.
    pub experiment_id: String,
    /// The variation's id, where it is a number: Optimizely takes no other.
    pub variation_id: Option<String>,
    /// The flag's key; empty for an experiment that no flag uses.
    pub flag_key: String,
    /// The experiment's, rule's or holdout's key; empty where no rule decided.
    pub rule_key: String,
    /// The type of the rule that decided.
    pub rule_type: RuleType,
    /// The variation's key; empty without one.
    pub variation_key: String,
    /// The flag is on.
    pub enabled: bool,
}

/// The type of a rule that decides a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleType {
    /// An experiment that no flag uses.
    Experiment,
    /// An experiment of the flag.
    FeatureTest,
    /// A rule of the flag's rollout, or nothing.
    Rollout,
    /// A holdout.
    Holdout,
}

impl RuleType {
    /// The name in events.
    pub const fn name(self) -> &'static str {
        match self {
            RuleType::Experiment => "experiment",
            RuleType::FeatureTest => "feature-test",
            RuleType::Rollout => "rollout",
            RuleType::Holdout => "holdout",
        }
    }
}

/// The occurrence that an event reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EventKind<'a> {
    /// A visitor got an outcome of a flag.
    Impression(&'a Impression),
    /// A visitor did something that the project counts.
    Conversion {
        /// The event's id at Optimizely: [`Project::conversion_id`].
        id: &'a str,
        /// The event's key.
        key: &'a str,
    },
}

/// An event of one visitor.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// The user's id, even if another id was bucketed.
    pub user_id: &'a str,
    /// The attributes, from [`Project::visitor_attributes`].
    pub attributes: &'a [Value],
    /// The occurrence.
    pub kind: EventKind<'a>,
    /// The event's id, by which Optimizely recognizes repeats.
    pub uuid: &'a str,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
}

impl Event<'_> {
    /// Appends the event as one visitor of a batch, without line breaks.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut snapshot = Map::new();
        let (id, key) = match self.kind {
            EventKind::Impression(impression) => {
                snapshot.insert("decisions".to_owned(), vec![impression.decision()].into());
                (impression.campaign_id(), IMPRESSION_KEY)
            }
            EventKind::Conversion { id, key } => (Some(id), key),
        };
        let event = json!({"entity_id": id, "key": key, "timestamp": self.time_ms, "uuid": self.uuid});
        snapshot.insert("events".to_owned(), vec![event].into());
        let visitor = json!({"visitor_id": self.user_id, "attributes": self.attributes, "snapshots": [snapshot]});
        let _ = serde_json::to_writer(out, &visitor); // writing to memory cannot fail
    }
}

/// Whether a batch with this start belongs to a project in the region `EU`.
pub(super) fn is_eu(head: &[u8]) -> bool {
    head.first() == Some(&b' ')
}

impl Impression {
    /// The campaign's id; null where no rule decided, as in the JavaScript SDK.
    fn campaign_id(&self) -> Option<&str> {
        Some(self.campaign_id.as_str()).filter(|id| !id.is_empty())
    }

    fn decision(&self) -> Value {
        let metadata = json!({
            "flag_key": self.flag_key.as_str(),
            "rule_key": self.rule_key.as_str(),
            "rule_type": self.rule_type.name(),
            "variation_key": self.variation_key.as_str(),
            "enabled": self.enabled,
        });
        json!({
            "campaign_id": self.campaign_id(),
            "experiment_id": self.experiment_id.as_str(),
            "variation_id": self.variation_id.as_deref(),
            "metadata": metadata,
        })
    }
}

impl Project {
    /// The attributes of a visitor that an event carries: those the project knows, and among `names` the SDKs' own.
    pub fn visitor_attributes<'n>(
        &self,
        attributes: &impl Attributes,
        names: impl Iterator<Item = &'n str>,
    ) -> Vec<Value> {
        let mut reported = Vec::new();
        let mut report = |id: &str, key: &str, name: &AttributeName| {
            if let Some(value) = reported_value(&attributes.attribute(name)) {
                reported.push(custom(id, key, value));
            }
        };
        for attribute in &self.attributes {
            report(&attribute.id, &attribute.key, &attribute.name);
        }
        for key in names.filter(|name| name.starts_with(RESERVED_PREFIX)) {
            if !self.attributes.iter().any(|attribute| attribute.key == key) {
                report(key, key, &AttributeName::Named(key.to_owned()));
            }
        }
        if let Some(filtering) = self.bot_filtering {
            reported.push(custom(BOT_FILTERING, BOT_FILTERING, filtering.into()));
        }
        reported
    }

    /// The id of the event that counts conversions under `key`, where the project has one.
    pub fn conversion_id(&self, key: &str) -> Option<&str> {
        self.conversions.get(key)?.as_str()
    }

    /// Appends the start of a batch, in front of its visitors, which commas separate.
    pub fn write_batch_head(&self, out: &mut Vec<u8>) {
        let batch = json!({
            "account_id": self.account_id.as_str(),
            "project_id": self.project_id.as_str(),
            "revision": self.revision.as_str(),
            "client_name": "edgesplit",
            "client_version": env!("CARGO_PKG_VERSION"),
            "anonymize_ip": self.anonymize_ip,
            "enrich_decisions": true,
        });
        // A space, which JSON allows, marks the batches of the EU: they may wait beside others.
        out.extend(self.is_eu.then_some(b' '));
        let _ = serde_json::to_writer(&mut *out, &batch); // writing to memory cannot fail
        out.pop(); // the closing brace: the visitors come in front of it
        out.extend_from_slice(br#","visitors":["#);
    }
}

/// A value that Optimizely accepts: a text, a boolean, or a number that is not too large.
fn reported_value(value: &AttributeValue<'_>) -> Option<Value> {
    match value {
        AttributeValue::Text(text) => Some(Value::from(text.as_ref())),
        AttributeValue::Json(value @ (Value::String(_) | Value::Bool(_))) => Some((*value).clone()),
        AttributeValue::Json(Value::Number(number)) => exact(number).map(|_| number.clone().into()),
        AttributeValue::Json(_) | AttributeValue::Missing => None,
    }
}

/// An attribute of a visitor, as events name it.
fn custom(id: &str, key: &str, value: Value) -> Value {
    json!({"entity_id": id, "key": key, "type": "custom", "value": value})
}
