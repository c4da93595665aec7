//! Events as PostHog takes them: `POST /batch/`, with `$feature_flag_called`.

use super::evaluate::GROUPS;
use crate::events::{EventKind, VendorEvent};
use crate::moment::write_rfc3339_ms;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::flag::FlagExposure;
use serde_json::{Value, json};

/// The start of a body, with the key of the project.
pub(super) fn head(token: &str) -> Vec<u8> {
    format!(r#"{{"api_key":{},"batch":["#, Value::from(token)).into_bytes()
}

/// Appends an event. False if it is no exposure of a flag.
pub(super) fn write(event: &VendorEvent<'_>, out: &mut Vec<u8>) -> bool {
    let EventKind::Exposure(FlagExposure { experiment, variant, attribute, unit, .. }) = event.kind else {
        return false;
    };
    let mut time = Vec::new();
    write_rfc3339_ms(&mut time, event.time_ms);
    let mut properties =
        json!({"$feature_flag": experiment, "$feature_flag_response": variant, "locally_evaluated": true});
    if let (Some(group), Some(properties)) = (attribute.strip_prefix(GROUPS), properties.as_object_mut()) {
        properties.insert("$groups".to_owned(), json!({ group: unit }));
    }
    let id = event.text(&AttributeName::Id);
    let event = json!({
        "event": "$feature_flag_called", "distinct_id": id.as_deref().unwrap_or(event.unit), "uuid": event.id,
        "timestamp": String::from_utf8_lossy(&time), "properties": properties,
    });
    let _ = serde_json::to_writer(out, &event); // writing to memory cannot fail
    true
}
