//! Events in the native format and in the formats that wrap it, and their ids.

use crate::plugin_config::EventFormat;
use edgesplit_engine::hash::fingerprint;
use edgesplit_formats::moment::{write_digits, write_rfc3339_ms};
use uuid::Uuid;

/// A longer path or host is cut.
pub const PATH_BYTES_MAX: usize = 2048;

/// One event. Absent values are null.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Its id: the same for the same exposure, which lets the receiver recognize repeats.
    pub id: Uuid,
    /// Exposure or goal.
    pub kind: EventKind,
    /// The visitor, as bucketed.
    pub unit: &'a str,
    /// The experiment's and the variant's keys, for an exposure; a vendor's default has no variant.
    pub exposure: Option<(&'a str, Option<&'a str>)>,
    /// The goal's key.
    pub goal: Option<&'a str>,
    /// The fields that all events of the request share.
    pub context: &'a EncodedContext,
}

/// The fields that all events of a request share.
#[derive(Debug, Clone)]
pub struct EventContext<'a> {
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    /// The revision of the config that decided.
    pub revision: Option<&'a str>,
    /// The request's host.
    pub host: &'a str,
    /// The request's path without its query.
    pub path: &'a str,
    /// The response's status.
    pub status: Option<u16>,
    /// The configured attributes that the request had.
    pub attributes: &'a [(String, String)],
}

/// An [`EventContext`] as events contain it: encoded once, because a page can have many experiments.
#[derive(Debug, Clone)]
pub struct EncodedContext {
    time: Vec<u8>,
    /// The end of an event.
    end: Vec<u8>,
}

impl EventContext<'_> {
    /// Encodes the fields.
    pub fn encode(&self) -> EncodedContext {
        const LIKELY_BYTES: usize = 128;
        let (mut time, mut end) = (Vec::with_capacity(TIME_BYTES), Vec::with_capacity(LIKELY_BYTES));
        write_rfc3339_ms(&mut time, self.time_ms);
        for (name, text) in [
            (&b",\"revision\":"[..], self.revision),
            (b",\"host\":", Some(cut(self.host))),
            (b",\"path\":", Some(cut(self.path))),
        ] {
            end.extend_from_slice(name);
            write_json_or_null(&mut end, text);
        }
        end.extend_from_slice(b",\"status\":");
        match self.status {
            Some(status) => write_digits(&mut end, u32::from(status), 3),
            None => end.extend_from_slice(b"null"),
        }
        for (at, (name, value)) in self.attributes.iter().enumerate() {
            end.extend_from_slice(if at == 0 { b",\"attributes\":{" } else { b"," });
            write_json(&mut end, name);
            end.push(b':');
            write_json(&mut end, value);
        }
        end.extend_from_slice(if self.attributes.is_empty() { b"}" } else { b"}}" });
        EncodedContext { time, end }
    }
}

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A visitor was shown a variant.
    Exposure,
    /// A visitor reached a goal.
    Goal,
}

impl EventKind {
    /// The name in events.
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::Exposure => "exposure",
            EventKind::Goal => "goal",
        }
    }
}

/// Identifies an exposure within a window. The receiver's and the worker's deduplication depend on it.
pub fn exposure_fingerprint(unit: &str, experiment: &str, variant: &str, window: i64) -> u128 {
    fingerprint(&[unit.as_bytes(), experiment.as_bytes(), variant.as_bytes(), &window.to_le_bytes()])
}

/// The id for a fingerprint: UUID version 8.
pub fn derived_id(fingerprint: u128) -> Uuid {
    uuid::Builder::from_custom_bytes(fingerprint.to_be_bytes()).into_uuid()
}

/// The id for random bits: UUID version 4.
pub fn random_id(random: u128) -> Uuid {
    uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
}

impl Event<'_> {
    /// Appends the event as it appears in a batch of `format`: one JSON object without line breaks.
    pub fn write_as(&self, format: EventFormat, out: &mut Vec<u8>) {
        match format {
            EventFormat::CloudEvents => {
                out.extend_from_slice(br#"{"specversion":"1.0","id":""#);
                out.extend_from_slice(self.id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
                // Source and id together identify an event. Ids alone are unique, so the source is constant.
                out.extend_from_slice(br#"","source":"/edgesplit","type":"edgesplit."#);
                out.extend_from_slice(self.kind.name().as_bytes());
                out.extend_from_slice(br#"","time":""#);
                out.extend_from_slice(&self.context.time);
                out.extend_from_slice(br#"","subject":"#);
                write_json(out, self.unit);
                out.extend_from_slice(br#","datacontenttype":"application/json","data":"#);
                self.write(out);
                out.push(b'}');
            }
            EventFormat::KafkaRest => {
                // The visitor as key keeps a visitor's events in order: in one partition.
                out.extend_from_slice(br#"{"key":"#);
                write_json(out, self.unit);
                out.extend_from_slice(br#","value":"#);
                self.write(out);
                out.push(b'}');
            }
            EventFormat::Native | EventFormat::Ndjson | EventFormat::Vendor(_) => {
                self.write(out);
            }
        }
    }

    /// Appends the event as one JSON object without line breaks.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (experiment, variant) = self.exposure.unzip();
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(self.id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        out.extend_from_slice(b"\",\"type\":\"");
        out.extend_from_slice(self.kind.name().as_bytes());
        out.extend_from_slice(b"\",\"time\":\"");
        out.extend_from_slice(&self.context.time);
        for (name, text) in [
            (&b"\",\"unit\":"[..], Some(self.unit)),
            (b",\"experiment\":", experiment),
            (b",\"variant\":", variant.flatten()),
            (b",\"goal\":", self.goal),
        ] {
            out.extend_from_slice(name);
            write_json_or_null(out, text);
        }
        out.extend_from_slice(&self.context.end);
    }
}

fn write_json_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_json(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// Written here for speed: the formats, which have the same function, are optimized for size.
fn write_json(out: &mut Vec<u8>, text: &str) {
    // Writing to memory and encoding a text cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn cut(path: &str) -> &str {
    path.get(..path.floor_char_boundary(PATH_BYTES_MAX)).unwrap_or(path)
}

/// The length of a text that [`write_rfc3339_ms`] writes.
const TIME_BYTES: usize = "2026-11-23T00:00:00.007Z".len();

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const CONTEXT: EventContext<'_> = EventContext {
        time_ms: 1_795_392_000_007,
        revision: Some("r42"),
        host: "shop.example",
        path: "/a",
        status: Some(200),
        attributes: &[],
    };

    fn exposure(context: &EncodedContext) -> Event<'_> {
        let id = derived_id(exposure_fingerprint("u\"1", "nav", "b", 3));
        Event { id, kind: EventKind::Exposure, unit: "u\"1", exposure: Some(("nav", Some("b"))), goal: None, context }
    }

    fn written(event: &Event<'_>) -> Value {
        let mut out = Vec::new();
        event.write(&mut out);
        assert!(!out.contains(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn event_has_every_key_and_null_without_a_value() {
        let context = CONTEXT.encode();
        let event = written(&exposure(&context));
        assert_eq!(
            event,
            json!({"id": event["id"], "type": "exposure", "time": "2026-11-23T00:00:00.007Z", "unit": "u\"1",
                   "experiment": "nav", "variant": "b", "goal": null, "revision": "r42", "host": "shop.example",
                   "path": "/a", "status": 200})
        );

        let attributes = [("country".to_owned(), "DE".to_owned())];
        let context = EventContext { revision: None, status: None, attributes: &attributes, ..CONTEXT }.encode();
        let goal = Event { kind: EventKind::Goal, exposure: None, goal: Some("purchase"), ..exposure(&context) };
        let event = written(&goal);
        assert_eq!(event["type"], "goal");
        assert_eq!(event["goal"], "purchase");
        assert_eq!(event["attributes"], json!({"country": "DE"}));
        for name in ["experiment", "variant", "revision", "status"] {
            assert_eq!(event.get(name), Some(&Value::Null), "{name}");
        }
    }

    #[test]
    fn formats_wrap_the_same_event() {
        let context = CONTEXT.encode();
        let written = |format: EventFormat| -> Value {
            let mut out = Vec::new();
            exposure(&context).write_as(format, &mut out);
            assert!(!out.contains(&b'\n'));
            serde_json::from_slice(&out).unwrap()
        };
        let native = written(EventFormat::Native);
        assert_eq!(written(EventFormat::Ndjson), native);
        assert_eq!(written(EventFormat::KafkaRest), json!({"key": "u\"1", "value": native}));
        assert_eq!(
            written(EventFormat::CloudEvents),
            json!({"specversion": "1.0", "id": native["id"], "source": "/edgesplit", "type": "edgesplit.exposure",
                   "time": native["time"], "subject": "u\"1", "datacontenttype": "application/json", "data": native})
        );
    }

    #[test]
    fn exposure_id_depends_on_unit_experiment_variant_and_window() {
        let id =
            |unit, experiment, variant, window| derived_id(exposure_fingerprint(unit, experiment, variant, window));
        let first = id("u1", "nav", "b", 3);
        assert_eq!(first, id("u1", "nav", "b", 3));
        assert_eq!((first.get_version_num(), first.get_variant()), (8, uuid::Variant::RFC4122));
        for other in
            [id("u2", "nav", "b", 3), id("u1", "na", "vb", 3), id("u1", "nav", "c", 3), id("u1", "nav", "b", 4)]
        {
            assert_ne!(first, other);
        }
        assert_eq!(random_id(1).get_version_num(), 4);
    }

    #[test]
    fn long_path_is_cut_between_characters() {
        let path = "ä".repeat(PATH_BYTES_MAX);
        let event = written(&exposure(&EventContext { path: &path, ..CONTEXT }.encode()));
        assert_eq!(event["path"].as_str().unwrap().len(), PATH_BYTES_MAX);
    }
}
