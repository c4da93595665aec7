//! The counts that Unleash takes as events: `POST /api/client/metrics`. A call has the counts of its batch, from the first to
//! the last event.

use crate::moment::write_rfc3339_ms;
use edgesplit_engine::json;
use serde_json::{Map, Value, json};

/// The start of a body.
pub(super) const HEAD: &[u8] = br#"{"appName":"edgesplit","instanceId":"edgesplit","bucket":{"#;

/// Appends an exposure. It is longer than its part of a body.
pub(super) fn write(feature: &str, variant: &str, time_ms: i64, out: &mut Vec<u8>) {
    let mut time = Vec::new();
    write_rfc3339_ms(&mut time, time_ms);
    let event = json!({"feature": feature, "variant": variant, "time": String::from_utf8_lossy(&time)});
    let _ = serde_json::to_writer(out, &event); // writing to memory cannot fail
}

/// Appends the counts of `events`, which [`write`] wrote.
pub(super) fn write_body(head: &[u8], events: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
    let mut toggles = Map::new();
    let (mut start, mut stop) = (String::new(), String::new());
    for event in events.filter_map(|event| json::read(event).ok()) {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let (feature, variant, time) = (text("feature"), text("variant"), text("time"));
        // Texts of one length sort as the times do.
        if start.is_empty() || time < start.as_str() {
            start = time.to_owned();
        }
        if time > stop.as_str() {
            stop = time.to_owned();
        }
        let counts = toggles.entry(feature).or_insert_with(|| json!({"yes": 0, "no": 0, "variants": {}}));
        add(counts, "yes");
        if let Some(variants) = counts.get_mut("variants") {
            add(variants, variant);
        }
    }
    out.extend_from_slice(head);
    let bucket = json!({"start": start, "stop": stop, "toggles": toggles}).to_string();
    out.extend_from_slice(bucket.trim_start_matches('{').as_bytes());
    out.push(b'}');
}

/// Adds 1 to the member `name`.
fn add(counts: &mut Value, name: &str) {
    if let Some(counts) = counts.as_object_mut() {
        let count = counts.get(name).and_then(Value::as_u64).unwrap_or(0);
        counts.insert(name.to_owned(), (count + 1).into());
    }
}
