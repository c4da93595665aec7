//! Events as the native format writes them, and their ids.

use crate::plugin_config::EventFormat;
use edgesplit_engine::hash::fingerprint;
use time::OffsetDateTime;
use uuid::Uuid;

/// A longer path is cut: an event is about what happened, not a copy of the request.
pub const PATH_BYTES_MAX: usize = 2048;

/// One event. What it does not have is null.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Its id: the same for the same exposure, so that the receiver can tell repeats.
    pub id: Uuid,
    /// Exposure or goal.
    pub kind: Kind,
    /// The visitor, as bucketed.
    pub unit: &'a str,
    /// The experiment's and the variant's keys, of an exposure; who is shown a vendor's default has no variant.
    pub exposure: Option<(&'a str, Option<&'a str>)>,
    /// The goal's key.
    pub goal: Option<&'a str>,
    /// When and of what request.
    pub occasion: &'a WrittenOccasion,
}

/// What all events of a request have in common.
#[derive(Debug, Clone)]
pub struct Occasion<'a> {
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

/// An [`Occasion`] as events have it: written once, for a page has many experiments.
#[derive(Debug, Clone)]
pub struct WrittenOccasion {
    time: Vec<u8>,
    /// What an event ends with.
    end: Vec<u8>,
}

impl Occasion<'_> {
    /// Writes it.
    pub fn written(&self) -> WrittenOccasion {
        const LIKELY_BYTES: usize = 128;
        let (mut time, mut end) = (Vec::with_capacity(TIME_BYTES), Vec::with_capacity(LIKELY_BYTES));
        write_rfc3339_ms(&mut time, self.time_ms);
        for (name, text) in [
            (&b",\"revision\":"[..], self.revision),
            (b",\"host\":", Some(self.host)),
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
        WrittenOccasion { time, end }
    }
}

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A visitor was shown a variant.
    Exposure,
    /// A visitor did what a goal counts.
    Goal,
}

impl Kind {
    /// The name in events.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Exposure => "exposure",
            Kind::Goal => "goal",
        }
    }
}

/// What tells an exposure from others within a window: the receiver's deduplication and the worker's own rest on it.
pub fn exposure_fingerprint(unit: &str, experiment: &str, variant: &str, window: i64) -> u128 {
    fingerprint(&[unit.as_bytes(), experiment.as_bytes(), variant.as_bytes(), &window.to_le_bytes()])
}

/// An id out of a fingerprint: UUID version 8.
pub fn derived_id(fingerprint: u128) -> Uuid {
    uuid::Builder::from_custom_bytes(fingerprint.to_be_bytes()).into_uuid()
}

/// An id out of random bits: UUID version 4.
pub fn random_id(random: u128) -> Uuid {
    uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
}

impl Event<'_> {
    /// Appends the event as a batch of `format` has it: one JSON object without line breaks.
    pub fn write_as(&self, format: EventFormat, out: &mut Vec<u8>) {
        match format {
            EventFormat::CloudEvents => {
                out.extend_from_slice(br#"{"specversion":"1.0","id":""#);
                out.extend_from_slice(self.id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
                // Source and id together name an event, everywhere: ids are enough for that, so one source does.
                out.extend_from_slice(br#"","source":"/edgesplit","type":"edgesplit."#);
                out.extend_from_slice(self.kind.name().as_bytes());
                out.extend_from_slice(br#"","time":""#);
                out.extend_from_slice(&self.occasion.time);
                out.extend_from_slice(br#"","subject":"#);
                write_json(out, self.unit);
                out.extend_from_slice(br#","datacontenttype":"application/json","data":"#);
                self.write(out);
                out.push(b'}');
            }
            EventFormat::KafkaRest => {
                // What is about one visitor stays in order: records of one key are in one partition.
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
        out.extend_from_slice(&self.occasion.time);
        for (name, text) in [
            (&b"\",\"unit\":"[..], Some(self.unit)),
            (b",\"experiment\":", experiment),
            (b",\"variant\":", variant.flatten()),
            (b",\"goal\":", self.goal),
        ] {
            out.extend_from_slice(name);
            write_json_or_null(out, text);
        }
        out.extend_from_slice(&self.occasion.end);
    }
}

fn write_json_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_json(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_json(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail, and neither can turning a text into JSON.
    let _ = serde_json::to_writer(out, text);
}

/// Appends the last `digits` decimal digits of `number`.
fn write_digits(out: &mut Vec<u8>, number: u32, digits: u32) {
    for place in (0..digits).rev() {
        out.push(b'0' + (number / 10_u32.pow(place) % 10) as u8);
    }
}

fn cut(path: &str) -> &str {
    path.get(..path.floor_char_boundary(PATH_BYTES_MAX)).unwrap_or(path)
}

/// What [`write_rfc3339_ms`] writes.
const TIME_BYTES: usize = "2026-11-23T00:00:00.007Z".len();

/// Appends a moment in RFC 3339, in UTC, with milliseconds.
fn write_rfc3339_ms(out: &mut Vec<u8>, time_ms: i64) {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, (hour, minute, second, milli)) = (moment.date(), moment.time().as_hms_milli());
    // Years before 0 and after 9999 are no moments here.
    write_digits(out, date.year().unsigned_abs(), 4);
    for (sign, number, digits) in [
        (b'-', u32::from(u8::from(date.month())), 2),
        (b'-', u32::from(date.day()), 2),
        (b'T', u32::from(hour), 2),
        (b':', u32::from(minute), 2),
        (b':', u32::from(second), 2),
        (b'.', u32::from(milli), 3),
    ] {
        out.push(sign);
        write_digits(out, number, digits);
    }
    out.push(b'Z');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const OCCASION: Occasion<'_> = Occasion {
        time_ms: 1_795_392_000_007,
        revision: Some("r42"),
        host: "shop.example",
        path: "/a",
        status: Some(200),
        attributes: &[],
    };

    fn exposure(occasion: &WrittenOccasion) -> Event<'_> {
        let id = derived_id(exposure_fingerprint("u\"1", "nav", "b", 3));
        Event { id, kind: Kind::Exposure, unit: "u\"1", exposure: Some(("nav", Some("b"))), goal: None, occasion }
    }

    fn written(event: &Event<'_>) -> Value {
        let mut out = Vec::new();
        event.write(&mut out);
        assert!(!out.contains(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn every_key_is_there_and_null_where_it_has_no_value() {
        let occasion = OCCASION.written();
        let event = written(&exposure(&occasion));
        assert_eq!(
            event,
            json!({"id": event["id"], "type": "exposure", "time": "2026-11-23T00:00:00.007Z", "unit": "u\"1",
                   "experiment": "nav", "variant": "b", "goal": null, "revision": "r42", "host": "shop.example",
                   "path": "/a", "status": 200})
        );

        let attributes = [("country".to_owned(), "DE".to_owned())];
        let occasion = Occasion { revision: None, status: None, attributes: &attributes, ..OCCASION }.written();
        let goal = Event { kind: Kind::Goal, exposure: None, goal: Some("purchase"), ..exposure(&occasion) };
        let event = written(&goal);
        assert_eq!(event["type"], "goal");
        assert_eq!(event["goal"], "purchase");
        assert_eq!(event["attributes"], json!({"country": "DE"}));
        for name in ["experiment", "variant", "revision", "status"] {
            assert_eq!(event.get(name), Some(&Value::Null), "{name}");
        }
    }

    #[test]
    fn formats_put_the_same_event_into_their_own_frames() {
        let occasion = OCCASION.written();
        let written = |format: EventFormat| -> Value {
            let mut out = Vec::new();
            exposure(&occasion).write_as(format, &mut out);
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
    fn ids_are_derived_from_what_makes_an_exposure_one() {
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
    fn a_long_path_is_cut_between_characters() {
        let path = "ä".repeat(PATH_BYTES_MAX);
        let event = written(&exposure(&Occasion { path: &path, ..OCCASION }.written()));
        assert_eq!(event["path"].as_str().unwrap().len(), PATH_BYTES_MAX);
    }
}
