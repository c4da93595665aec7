//! Vendors' event formats. The filter buffers each event as one JSON text, and builds a body from the texts of a batch when
//! it sends them.

use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::flag::{FlagEvaluator, FlagExposure};
use std::borrow::Cow;
use std::fmt;

/// The events of a vendor's format.
pub trait EventWire: Sync {
    /// The `content-type` of a body.
    fn content_type(&self) -> &'static str;

    /// Appends `event` as one JSON text without line breaks. False if the vendor takes no such event. `evaluator` decides the
    /// config in force, if that is a vendor's.
    fn write(&self, event: &VendorEvent<'_>, evaluator: Option<&dyn FlagEvaluator>, out: &mut Vec<u8>) -> bool;

    /// The part of a body that depends on the config in force. It is stored with the events of a batch.
    fn head(&self, _evaluator: &dyn FlagEvaluator) -> Vec<u8> {
        Vec::new()
    }

    /// Appends the body that carries `events`, each as [`EventWire::write`] wrote it. `head` was written by
    /// [`EventWire::head`]. A body has at most 64 bytes more than its events, the commas between them and the head.
    fn write_body(&self, head: &[u8], events: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>);

    /// Whether events need a config of the same format, because they contain ids that only such a config has.
    fn needs_own_config(&self) -> bool {
        false
    }

    /// Whether an experiment that several flags use is reported once for each of them.
    fn is_per_flag(&self) -> bool {
        false
    }
}

/// Appends `start`, `events` with commas between them, and `end`.
pub fn write_joined(start: &[u8], events: &mut dyn Iterator<Item = &[u8]>, end: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(start);
    for (position, event) in events.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(event);
    }
    out.extend_from_slice(end);
}

/// An event of one visitor.
#[derive(Clone, Copy)]
pub struct VendorEvent<'a> {
    /// The exposure or the goal.
    pub kind: EventKind<'a>,
    /// The bucketed value.
    pub unit: &'a str,
    /// The event's id.
    pub id: &'a str,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    /// The attributes of the visitor and the request.
    pub attributes: &'a dyn Attributes,
    /// The attributes that the plugin configuration defines, by their aliases.
    pub aliases: &'a [(String, AttributeName)],
}

/// The occurrence that an event reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind<'a> {
    /// A visitor was shown a variant.
    Exposure(FlagExposure<'a>),
    /// A visitor reached the goal with this key.
    Goal(&'a str),
}

impl VendorEvent<'_> {
    /// The attribute `name`, if it is a text.
    pub fn text<'a>(&'a self, name: &'a AttributeName) -> Option<Cow<'a, str>> {
        match self.attributes.attribute(name) {
            AttributeValue::Text(text) => Some(text),
            AttributeValue::Missing | AttributeValue::Json(_) => None,
        }
    }
}

impl fmt::Debug for VendorEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendorEvent").field("kind", &self.kind).field("unit", &self.unit).finish_non_exhaustive()
    }
}
