//! Events as PostHog takes them: `POST /batch/`, with `$feature_flag_called`.

use super::evaluate::GROUPS;
use crate::events::{EventKind, VendorEvent, write_text};
use crate::moment::write_rfc3339_ms;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::flag::FlagExposure;

/// The start of a body, with the key of the project.
pub(super) fn head(token: &str) -> Vec<u8> {
    let mut head = br#"{"api_key":"#.to_vec();
    write_text(token, &mut head);
    head.extend_from_slice(br#","batch":["#);
    head
}

/// Appends an event. False if it is no exposure of a flag.
pub(super) fn write(event: &VendorEvent<'_>, out: &mut Vec<u8>) -> bool {
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
