//! The counts that Unleash takes as events: `POST /api/client/metrics`. A call has the counts of its batch, from the first to
//! the last event.

use super::format::Unleash;
use crate::events::{EventKind, EventWire, VendorEvent, write_text};
use crate::moment::write_rfc3339_ms;
use crate::shape::text;
use edgesplit_engine::flag::FlagEvaluator;
use edgesplit_engine::json;
use serde_json::{Map, Value};

/// The start of a body.
pub(super) const HEAD: &[u8] = br#"{"appName":"edgesplit","instanceId":"edgesplit","bucket":{"#;

/// Appends an exposure. It is longer than its part of a body.
pub(super) fn write(feature: &str, variant: &str, time_ms: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"feature":"#);
    write_text(feature, out);
    out.extend_from_slice(br#","variant":"#);
    write_text(variant, out);
    out.extend_from_slice(br#","time":""#);
    write_rfc3339_ms(out, time_ms);
    out.extend_from_slice(br#""}"#);
}

impl EventWire for Unleash {
    fn write(&self, event: &VendorEvent<'_>, _evaluator: Option<&dyn FlagEvaluator>, out: &mut Vec<u8>) -> bool {
        let EventKind::Exposure(exposure) = event.kind else { return false };
        write(exposure.experiment, exposure.variant.unwrap_or_default(), event.time_ms, out);
        true
    }

    fn head(&self, _evaluator: &dyn FlagEvaluator) -> Vec<u8> {
        HEAD.to_vec()
    }

    fn write_body(&self, head: &[u8], events: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
        let mut toggles = Map::new();
        let (mut start, mut stop) = (String::new(), String::new());
        for event in events.filter_map(|event| json::read(event).ok()) {
            let member = |name: &str| text(&event, name).unwrap_or_default();
            let (feature, time) = (member("feature"), member("time"));
            // Texts of one length sort as the times do.
            if start.is_empty() || time < start.as_str() {
                start = time.to_owned();
            }
            if time > stop.as_str() {
                stop = time.to_owned();
            }
            if !toggles.contains_key(feature) {
                let counts = json::read(br#"{"yes":0,"no":0,"variants":{}}"#);
                toggles.insert(feature.to_owned(), counts.unwrap_or_default());
            }
            if let Some(counts) = toggles.get_mut(feature) {
                add(counts, "yes");
                counts.get_mut("variants").into_iter().for_each(|variants| add(variants, member("variant")));
            }
        }
        for part in [head, br#""start":""#, start.as_bytes(), br#"","stop":""#, stop.as_bytes(), br#"","toggles":"#] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(Value::Object(toggles).to_string().as_bytes());
        out.extend_from_slice(b"}}");
    }

    fn needs_own_config(&self) -> bool {
        true
    }
}

/// Adds 1 to the member `name`.
fn add(counts: &mut Value, name: &str) {
    if let Some(counts) = counts.as_object_mut() {
        let count = counts.get(name).and_then(Value::as_u64).unwrap_or(0);
        counts.insert(name.to_owned(), (count + 1).into());
    }
}
