//! The reports of assignments: Eppo's assignment log, which its SDKs pass to the application, and the exposures that
//! Datadog's intake takes.

use super::format::{Eppo, Payload};
use crate::events::{EventKind, EventWire, VendorEvent, write_joined};
use crate::moment::write_rfc3339_ms;
use edgesplit_engine::flag::FlagEvaluator;
use serde_json::{Map, Value, json};

impl EventWire for Eppo {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn write(&self, event: &VendorEvent<'_>, evaluator: Option<&dyn FlagEvaluator>, out: &mut Vec<u8>) -> bool {
        let report = evaluator.and_then(|evaluator| report(event, evaluator.as_any().downcast_ref()?));
        let Some(report) = report else { return false };
        let _ = serde_json::to_writer(out, &report); // writing to memory cannot fail
        true
    }

    fn head(&self, evaluator: &dyn FlagEvaluator) -> Vec<u8> {
        match evaluator.as_any().downcast_ref::<Payload>() {
            Some(payload) if payload.is_datadog => {
                let context =
                    json!({"service": "edgesplit", "env": payload.environment, "version": env!("CARGO_PKG_VERSION")});
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
    let attributes = (event.aliases.iter())
        .filter_map(|(alias, source)| Some((alias.clone(), Value::from(event.text(source)?.into_owned()))));
    let attributes: Map<String, Value> = attributes.collect();
    let (unit, variant) = (exposure.unit, exposure.variant);
    let mut time = Vec::new();
    write_rfc3339_ms(&mut time, event.time_ms);
    let mut written = match payload.is_datadog {
        true => json!({
            "timestamp": event.time_ms,
            "allocation": {"key": report.allocation},
            "flag": {"key": flag.key},
            "variant": {"key": variant},
            "subject": {"id": unit, "attributes": attributes},
        }),
        false => json!({
            "featureFlag": flag.key,
            "allocation": report.allocation,
            "experiment": exposure.experiment,
            "variation": variant,
            "subject": unit,
            "subjectAttributes": attributes,
            "timestamp": String::from_utf8_lossy(&time),
        }),
    };
    if let Some(members) = written.as_object_mut() {
        for (name, value) in &report.extra {
            members.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    Some(written)
}
