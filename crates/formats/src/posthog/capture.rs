//! Events as PostHog takes them: `POST /batch/`, with `$feature_flag_called`.

use super::evaluation::GROUPS;
use super::format::PostHog;
use super::rules::Rules;
use crate::events::{EventKind, EventWire, VendorEvent, write_joined, write_text};
use crate::moment::write_rfc3339_ms;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::flag::{FlagEvaluator, FlagExposure};

impl EventWire for PostHog {
    fn write(&self, event: &VendorEvent<'_>, _evaluator: Option<&dyn FlagEvaluator>, out: &mut Vec<u8>) -> bool {
        let EventKind::Exposure(FlagExposure { experiment, variant, attribute, unit, .. }) = event.kind else {
            return false;
        };
        let id = event.text(&AttributeName::Id);
        let group = attribute.strip_prefix(GROUPS);
        for (name, text) in [
            (r#"{"event":"$feature_flag_called","distinct_id":"#, id.as_deref().unwrap_or(event.unit)),
            (r#","uuid":"#, event.id),
            (r#","properties":{"locally_evaluated":true,"$feature_flag":"#, experiment),
            (r#","$feature_flag_response":"#, variant.unwrap_or_default()),
        ] {
            out.extend_from_slice(name.as_bytes());
            write_text(text, out);
        }
        if let Some(group) = group {
            out.extend_from_slice(br#","$groups":{"#);
            write_text(group, out);
            out.push(b':');
            write_text(unit, out);
            out.push(b'}');
        }
        out.extend_from_slice(br#"},"timestamp":""#);
        write_rfc3339_ms(out, event.time_ms);
        out.extend_from_slice(br#""}"#);
        true
    }

    /// The start of a body, with the key of the project.
    fn head(&self, evaluator: &dyn FlagEvaluator) -> Vec<u8> {
        let token = evaluator.downcast_ref::<Rules>().and_then(|rules| rules.token.as_deref());
        let mut head = br#"{"api_key":"#.to_vec();
        write_text(token.unwrap_or_default(), &mut head);
        head.extend_from_slice(br#","batch":["#);
        head
    }

    fn write_body(&self, head: &[u8], events: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
        write_joined(head, events, b"]}", out);
    }

    fn needs_own_config(&self) -> bool {
        true
    }
}
