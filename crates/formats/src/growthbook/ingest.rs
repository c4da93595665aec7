//! Events as GrowthBook's event ingestor takes them: the format of the tracking plugin of its JavaScript SDK.
//!
//! A batch is a JSON list, sent as `POST /track?client_key=<the SDK connection's key>` with the content type `text/plain`.

use crate::json;
use serde_json::{Map, Value};

/// The name of the event of an exposure.
pub const EXPERIMENT_VIEWED: &str = "Experiment Viewed";

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Happening<'a> {
    /// A visitor was shown a variation.
    Exposure {
        /// The experiment's key.
        experiment: &'a str,
        /// The variation's key.
        variation: &'a str,
        /// The name of the attribute that was hashed.
        attribute: &'a str,
        /// Its value.
        unit: &'a str,
    },
    /// A visitor did what a goal counts.
    Goal {
        /// The goal's key.
        key: &'a str,
    },
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IngestEvent<'a> {
    /// What happened.
    pub happening: Happening<'a>,
    /// The visitor's attributes.
    pub attributes: &'a Map<String, Value>,
    /// The whole URL.
    pub url: &'a str,
}

/// Attributes that stand beside the others, with the column each fills and whether it is null where it has no value.
const COLUMNS: &[(&str, &[&str], bool)] = &[
    ("user_id", &["user_id"], true),
    ("device_id", &["device_id", "anonymous_id", "id"], true),
    ("page_id", &["page_id"], true),
    ("session_id", &["session_id"], true),
    ("page_title", &["pageTitle"], false),
    ("utm_source", &["utmSource"], false),
    ("utm_medium", &["utmMedium"], false),
    ("utm_campaign", &["utmCampaign"], false),
    ("utm_term", &["utmTerm"], false),
    ("utm_content", &["utmContent"], false),
];

impl IngestEvent<'_> {
    /// Appends the event as one JSON object without line breaks.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (name, properties) = match self.happening {
            Happening::Exposure { experiment, variation, attribute, unit } => (
                EXPERIMENT_VIEWED,
                json::object([
                    ("experimentId", experiment.into()),
                    ("variationId", variation.into()),
                    ("hashAttribute", attribute.into()),
                    ("hashValue", unit.into()),
                ]),
            ),
            Happening::Goal { key } => (key, json::object([])),
        };
        let mut event = Map::new();
        for (column, sources, nullable) in COLUMNS {
            let mut given = sources.iter().filter_map(|source| self.attributes.get(*source));
            // The first one that has a value stands for all, and only a text does.
            let filled =
                |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value.as_f64() != Some(0.0);
            let value = given.find(|value| filled(value) && value.as_str() != Some(""));
            match value.filter(|value| value.is_string()) {
                Some(value) => drop(event.insert((*column).to_owned(), value.clone())),
                None if *nullable => drop(event.insert((*column).to_owned(), Value::Null)),
                None => {}
            }
        }
        let mut nested = Map::new();
        for (name, value) in self.attributes {
            if !COLUMNS.iter().any(|(_, sources, _)| sources.contains(&name.as_str())) {
                nested.insert(name.clone(), value.clone());
            }
        }
        event.insert("event_name".to_owned(), name.into());
        event.insert("properties_json".to_owned(), properties);
        event.insert("context_json".to_owned(), Value::Object(nested));
        event.insert("sdk_language".to_owned(), "edgesplit".into());
        event.insert("sdk_version".to_owned(), env!("CARGO_PKG_VERSION").into());
        event.insert("url".to_owned(), self.url.into());
        json::write(out, &Value::Object(event));
    }
}

/// The body that carries `events`, each written by [`IngestEvent::write`].
pub fn body<'a>(events: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = vec![b'['];
    for (position, event) in events.into_iter().enumerate() {
        if position > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.push(b']');
    body
}
