//! Events as GrowthBook's event ingestor takes them: the format of the tracking plugin of its JavaScript SDK.
//!
//! A batch is a JSON list, sent as `POST /track?client_key=<the SDK connection's key>` with the content type `text/plain`.

use crate::events::EventKind;
use edgesplit_engine::flag::FlagExposure;
use serde_json::{Map, Value, json};

/// The name of the event of an exposure.
const EXPERIMENT_VIEWED: &str = "Experiment Viewed";

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

/// Appends an event of a visitor with these attributes, on the page `url`, as one JSON object without line breaks.
pub(super) fn write(kind: EventKind<'_>, attributes: &Map<String, Value>, url: &str, out: &mut Vec<u8>) {
    let (name, properties) = match kind {
        EventKind::Exposure(FlagExposure { experiment, variant, attribute, unit, typed_unit, .. }) => (
            EXPERIMENT_VIEWED,
            json!({
                "experimentId": experiment,
                "variationId": variant.unwrap_or_default(),
                "hashAttribute": attribute,
                "hashValue": typed_unit.map_or_else(|| Value::from(unit), Value::clone),
            }),
        ),
        EventKind::Goal(key) => (key, json!({})),
    };
    let mut event = Map::new();
    for (column, sources, nullable) in COLUMNS {
        let mut given = sources.iter().filter_map(|source| attributes.get(*source));
        // The first one that has a value stands for all, and only a text does.
        let filled = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value.as_f64() != Some(0.0);
        let value = given.find(|value| filled(value) && value.as_str() != Some(""));
        match value.filter(|value| value.is_string()) {
            Some(value) => drop(event.insert((*column).to_owned(), value.clone())),
            None if *nullable => drop(event.insert((*column).to_owned(), Value::Null)),
            None => {}
        }
    }
    let mut nested = Map::new();
    for (name, value) in attributes {
        if !COLUMNS.iter().any(|(_, sources, _)| sources.contains(&name.as_str())) {
            nested.insert(name.clone(), value.clone());
        }
    }
    event.insert("event_name".to_owned(), name.into());
    event.insert("properties_json".to_owned(), properties);
    event.insert("context_json".to_owned(), Value::Object(nested));
    event.insert("sdk_language".to_owned(), "edgesplit".into());
    event.insert("sdk_version".to_owned(), env!("CARGO_PKG_VERSION").into());
    event.insert("url".to_owned(), url.into());
    let _ = serde_json::to_writer(out, &Value::Object(event)); // writing to memory cannot fail
}
