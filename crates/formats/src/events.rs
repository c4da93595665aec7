//! Vendors' event formats. The filter buffers each event as one JSON text, and builds a body from the texts of a batch when
//! it sends them.

use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::{LimitExceeded, StepBudget, VENDOR_ATTRIBUTE_STEPS, look_up, spend_bytes};
use edgesplit_engine::flag::{FlagEvaluator, FlagExposure};
use std::borrow::Cow;
use std::fmt;

/// The events of a vendor's format.
pub trait EventWire: Sync {
    /// The `content-type` of a body.
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    /// Appends `event` as one JSON text without line breaks. False if the vendor takes no such event. `evaluator` decides the
    /// config in force, if that is a vendor's.
    fn write(&self, event: &VendorEvent<'_>, evaluator: Option<&dyn FlagEvaluator>, out: &mut Vec<u8>) -> bool;

    /// The part of a body that depends on the config in force. It is stored with the events of a batch.
    fn head(&self, _evaluator: &dyn FlagEvaluator) -> Vec<u8> {
        Vec::new()
    }

    /// The host to send events to that begin with `head`, if it is not `configured`.
    fn host(&self, _head: &[u8], _configured: &str) -> Option<&'static str> {
        None
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

/// Appends `text` as JSON.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing to memory and encoding a text cannot fail.
    let _ = serde_json::to_writer(out, text);
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
    /// Whether URLs keep their query, which may contain names, addresses and tokens.
    pub keeps_url_query: bool,
    /// The steps that the attributes of the request's events may still take.
    pub steps: &'a StepBudget,
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
        match self.attribute(name) {
            AttributeValue::Text(text) => Some(text),
            AttributeValue::Missing | AttributeValue::Json(_) => None,
        }
    }

    /// Whether `name` stands for the URL.
    fn is_url(&self, name: &AttributeName) -> bool {
        let written = name.written();
        self.aliases.iter().any(|(alias, source)| *alias == *written && *source == AttributeName::Url)
            || *name == AttributeName::Url
    }

    /// The attribute `name`, if there are steps to look it up and to copy it.
    fn look_up<'a>(&'a self, name: &'a AttributeName) -> Result<AttributeValue<'a>, LimitExceeded> {
        let value = match look_up(&self.attributes, name, self.steps)? {
            AttributeValue::Text(url) if !self.keeps_url_query && self.is_url(name) => {
                let bare = url.split(['?', '#']).next().unwrap_or_default().to_owned();
                AttributeValue::Text(bare.into())
            }
            other => other,
        };
        if let AttributeValue::Text(text) = &value {
            self.steps.spend(VENDOR_ATTRIBUTE_STEPS)?;
            spend_bytes(text.len(), self.steps)?;
        }
        Ok(value)
    }
}

/// The attributes that may leave in the event.
impl Attributes for VendorEvent<'_> {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        self.look_up(name).unwrap_or(AttributeValue::Missing)
    }
}

impl fmt::Debug for VendorEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendorEvent").field("kind", &self.kind).field("unit", &self.unit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Page;

    impl Attributes for Page {
        fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
            let text = if *name == AttributeName::Id { "u?1" } else { "https://h/p?token=1#top" };
            AttributeValue::Text(text.into())
        }
    }

    #[test]
    fn urls_have_no_query_unless_it_is_kept() {
        let aliases = [("page".to_owned(), AttributeName::Url)];
        let steps = StepBudget::new(1_000);
        let event = |keeps_url_query| VendorEvent {
            kind: EventKind::Goal("g"),
            unit: "u1",
            id: "1",
            time_ms: 0,
            attributes: &Page,
            aliases: &aliases,
            keeps_url_query,
            steps: &steps,
        };
        for name in [AttributeName::Url, AttributeName::Named("page".to_owned())] {
            assert_eq!(event(true).text(&name).as_deref(), Some("https://h/p?token=1#top"));
            assert_eq!(event(false).text(&name).as_deref(), Some("https://h/p"));
        }
        assert_eq!(event(false).text(&AttributeName::Id).as_deref(), Some("u?1"));
        // Without steps there is no attribute.
        let _ = steps.spend(1_000);
        assert_eq!(event(false).text(&AttributeName::Id), None);
    }
}
