//! The reports of assignments: Eppo's assignment log, which its SDKs pass to the application, and the exposures that
//! Datadog's intake takes.

use super::format::{Eppo, Payload};
use crate::events::{EventKind, EventWire, VendorEvent, write_joined};
use crate::moment::write_rfc3339_ms;
use edgesplit_engine::flag::FlagEvaluator;
use serde_json::{Map, Value};

impl EventWire for Eppo {
    fn write(&self, event: &VendorEvent<'_>, evaluator: Option<&dyn FlagEvaluator>, out: &mut Vec<u8>) -> bool {
        let report = evaluator.and_then(|evaluator| report(event, evaluator.downcast_ref()?));
        let Some(report) = report else { return false };
        let _ = serde_json::to_writer(out, &report); // writing to memory cannot fail
        true
    }

    fn head(&self, evaluator: &dyn FlagEvaluator) -> Vec<u8> {
        match evaluator.downcast_ref::<Payload>() {
            Some(payload) if payload.is_datadog => {
                let context = object(vec![
                    ("service", "edgesplit".into()),
                    ("env", payload.environment.as_str().into()),
                    ("version", env!("CARGO_PKG_VERSION").into()),
                ]);
                format!(r#"{{"context":{context},"exposures":["#).into_bytes()
            }
            _ => b"[".to_vec(),
        }
    }

    fn write_body(&self, head: &[u8], events: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
        let end: &[u8] = if head.starts_with(b"{") { b"]}" } else { b"]" };
        write_joined(head, events, end, out);
    }

    fn needs_own_config(&self) -> bool {
        true
    }
}

/// The report of an exposure. Neither vendor takes goals.
fn report(event: &VendorEvent<'_>, payload: &Payload) -> Option<Value> {
    let EventKind::Exposure(exposure) = event.kind else { return None };
    let (flag, outcome) = exposure.outcome?;
    let flag = payload.flags.get(flag)?;
    let report = flag.reports.get(outcome.checked_sub(1)?)?;
    let mut attributes = Map::new();
    for (alias, source) in event.aliases {
        if let Some(text) = event.text(source) {
            attributes.insert(alias.clone(), text.into());
        }
    }
    let (unit, variant) = (exposure.unit, exposure.variant);
    let mut time = Vec::new();
    write_rfc3339_ms(&mut time, event.time_ms);
    let own = match payload.is_datadog {
        true => vec![
            ("timestamp", event.time_ms.into()),
            ("allocation", object(vec![("key", report.allocation.as_str().into())])),
            ("flag", object(vec![("key", flag.key.as_str().into())])),
            ("variant", object(vec![("key", variant.into())])),
            ("subject", object(vec![("id", unit.into()), ("attributes", attributes.into())])),
        ],
        false => vec![
            ("featureFlag", flag.key.as_str().into()),
            ("allocation", report.allocation.as_str().into()),
            ("experiment", exposure.experiment.into()),
            ("variation", variant.into()),
            ("subject", unit.into()),
            ("subjectAttributes", attributes.into()),
            ("timestamp", String::from_utf8_lossy(&time).into()),
        ],
    };
    // The members of the payload stand beside these, and replace none.
    let mut written = report.extra.clone();
    insert_all(own, &mut written);
    Some(Value::Object(written))
}

/// The object with these members.
fn object(members: Vec<(&str, Value)>) -> Value {
    let mut object = Map::new();
    insert_all(members, &mut object);
    Value::Object(object)
}

/// Adds `members` in little code: a map that is collected brings the standard library's sort, 12 kB.
#[inline(never)]
fn insert_all(members: Vec<(&str, Value)>, object: &mut Map<String, Value>) {
    for (name, value) in members {
        object.insert(name.to_owned(), value);
    }
}
