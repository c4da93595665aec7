//! How a batch is stored in a slot of the shared data: versioned bytes that are checked before they are believed, since a
//! new module can meet what an old one wrote.

use super::event::derived_id;
use crate::plugin_config::EventFormat;
use edgesplit_engine::hash::fingerprint;
use std::ops::Range;
use uuid::Uuid;

/// The first bytes of a stored batch: a mark. One byte follows that says the version of the rest and the format of the events.
const MAGIC: [u8; 3] = *b"ESb";

/// That byte for the first of the formats.
const VERSION: u8 = 2;

/// What a batch's body has around its events, at most, beside the head that some formats have.
pub const FRAME_BYTES_MAX: usize = 64;

/// Events as JSON texts, one behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Events {
    /// The format that they are written in. It goes with them, as the head does: whoever sends them may know another config
    /// by then.
    format: EventFormat,
    /// What the body begins with where the format does not say it.
    head: Vec<u8>,
    text: Vec<u8>,
    /// Where each event ends in `text`.
    ends: Vec<u32>,
}

impl Events {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes they take up, with one for what separates each from the next.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.text.len() + self.ends.len()
    }

    /// The format that they are written in.
    pub fn format(&self) -> EventFormat {
        self.format
    }

    /// Says in which format they are written.
    pub fn set_format(&mut self, format: EventFormat) {
        self.format = format;
    }

    /// Whether one body can carry these and `others`.
    pub fn is_like(&self, others: &Events) -> bool {
        self.format == others.format && self.head == others.head
    }

    /// Begins the body with `head`.
    pub fn set_head(&mut self, head: Vec<u8>) {
        self.head = head;
    }

    /// Adds the event that `write` writes, unless that brings them over `bytes_max`.
    pub fn push(&mut self, bytes_max: usize, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let before = self.text.len();
        write(&mut self.text);
        match u32::try_from(self.text.len()) {
            Ok(end) if self.bytes() < bytes_max => {
                self.ends.push(end);
                true
            }
            _ => {
                self.text.truncate(before);
                false
            }
        }
    }

    /// How many events from `first` on fit into a batch of these limits: at least one, if there is one.
    pub fn fitting(&self, first: usize, max_events: usize, max_bytes: usize) -> usize {
        let start = self.start(first);
        let room = max_bytes.saturating_sub(FRAME_BYTES_MAX + self.head.len());
        let ends = self.ends.iter().skip(first).take(max_events).enumerate();
        let fitting = ends.take_while(|(before, end)| (**end as usize).saturating_sub(start) + before < room).count();
        fitting.max(1).min(self.len().saturating_sub(first))
    }

    /// The first `count` events, copied.
    pub fn first(&self, count: usize) -> Events {
        let ends: Vec<u32> = self.ends.iter().copied().take(count).collect();
        let end = ends.last().map_or(0, |&end| end as usize);
        let text = self.text.get(..end).unwrap_or_default().to_vec();
        Events { format: self.format, head: self.head.clone(), text, ends }
    }

    /// Adds all of `others`, which are alike, behind these.
    pub fn append(&mut self, others: &Events) {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(&others.text);
        self.ends.extend(others.ends.iter().map(|end| start.saturating_add(*end)));
    }

    /// Removes the first `count` events.
    pub fn remove_first(&mut self, count: usize) {
        let count = count.min(self.ends.len());
        let start = self.start(count);
        self.text.drain(..start.min(self.text.len()));
        self.ends.drain(..count);
        for end in &mut self.ends {
            *end = end.saturating_sub(start as u32);
        }
    }

    /// The events in `range`, one after the other.
    fn iter(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        let len = range.len();
        let ends = self.ends.iter().skip(range.start).take(len).map(|&end| end as usize);
        ends.scan(self.start(range.start), |start, end| {
            let event = self.text.get(*start..end);
            *start = end;
            event
        })
    }

    fn start(&self, event: usize) -> usize {
        event.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |&end| end as usize)
    }

    /// The body that carries the events in `range` under the batch id `id`.
    pub fn body(&self, id: &Uuid, range: Range<usize>) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.bytes() + FRAME_BYTES_MAX);
        if let Some(wire) = self.format.vendor_wire() {
            wire.write_body(&self.head, &mut self.iter(range), &mut body);
            return body;
        }
        let (start, separator, end): (&[u8], &[u8], &[u8]) = match self.format {
            EventFormat::Ndjson => (b"", b"\n", if range.is_empty() { b"" } else { b"\n" }),
            EventFormat::CloudEvents => (b"[", b",", b"]"),
            EventFormat::KafkaRest => (br#"{"records":["#, b",", b"]}"),
            EventFormat::Native | EventFormat::Vendor(_) => (br#"{"batch":""#, b",", b"]}"),
        };
        body.extend_from_slice(start);
        if self.format == EventFormat::Native {
            body.extend_from_slice(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
            body.extend_from_slice(br#"","events":["#);
        }
        for (at, event) in self.iter(range).enumerate() {
            if at > 0 {
                body.extend_from_slice(separator);
            }
            body.extend_from_slice(event);
        }
        body.extend_from_slice(end);
        body
    }

    /// The bytes that a slot holds for the batch `batch`.
    pub fn encode(&self, batch: u128) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(28 + self.head.len() + self.ends.len() * 4 + self.text.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION.wrapping_add(self.format.number()));
        bytes.extend_from_slice(&batch.to_le_bytes());
        bytes.extend_from_slice(&(self.ends.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.head.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.head);
        for end in &self.ends {
            bytes.extend_from_slice(&end.to_le_bytes());
        }
        bytes.extend_from_slice(&self.text);
        bytes
    }

    /// Reads what [`Events::encode`] wrote for `batch`; `None` for anything else.
    pub fn decode(bytes: &[u8], batch: u128) -> Option<Events> {
        let (version, rest) = bytes.strip_prefix(&MAGIC)?.split_first()?;
        let format = EventFormat::numbered(version.wrapping_sub(VERSION))?;
        let rest = rest.strip_prefix(&batch.to_le_bytes())?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (head_len, rest) = rest.split_first_chunk::<4>()?;
        let (head, rest) = rest.split_at_checked(u32::from_le_bytes(*head_len) as usize)?;
        let lengths = (u32::from_le_bytes(*count) as usize).checked_mul(4)?;
        let (ends, text) = rest.split_at_checked(lengths)?;
        let ends: Vec<u32> =
            ends.chunks_exact(4).filter_map(|end| end.first_chunk().map(|end| u32::from_le_bytes(*end))).collect();
        let whole = ends.last().map_or(text.is_empty(), |&end| end as usize == text.len());
        (whole && ends.is_sorted()).then(|| Events { format, head: head.to_vec(), text: text.to_vec(), ends })
    }
}

/// The id under which the events in `range` of a batch of `total` are sent: the batch's own for all of it, one of its own
/// for a part; the same for every try.
pub fn part_id(batch: u128, range: &Range<usize>, total: usize) -> Uuid {
    if *range == (0..total) {
        return super::event::random_id(batch);
    }
    let bounds = [range.start as u64, range.end as u64].map(u64::to_le_bytes);
    derived_id(fingerprint(&[&batch.to_le_bytes(), &bounds.concat()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn body(events: &Events, format: EventFormat, id: &Uuid, range: Range<usize>) -> Vec<u8> {
        let mut events = events.clone();
        events.set_format(format);
        events.body(id, range)
    }

    fn events(texts: &[&str]) -> Events {
        let mut events = Events::default();
        for text in texts {
            assert!(events.push(usize::MAX, |out| out.extend_from_slice(text.as_bytes())));
        }
        events
    }

    fn vendor(name: &str) -> EventFormat {
        EventFormat::Vendor(edgesplit_formats::find(name).unwrap())
    }

    #[test]
    fn bodies_carry_the_events_of_their_range() {
        let events = events(&[r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
        let id = part_id(5, &(1..3), 3);
        let native: Value = serde_json::from_slice(&body(&events, EventFormat::Native, &id, 1..3)).unwrap();
        assert_eq!(native, json!({"batch": id.to_string(), "events": [{"n": 2}, {"n": 3}]}));
        let lines = body(&events, EventFormat::Ndjson, &id, 0..3);
        assert_eq!(String::from_utf8(lines).unwrap(), "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
        assert_eq!(body(&events, EventFormat::Native, &id, 0..3).len(), events.bytes() - 1 + 60);
        let list = body(&events, vendor("growthbook"), &id, 0..2);
        assert_eq!(String::from_utf8(list).unwrap(), r#"[{"n":1},{"n":2}]"#);
        let mut with_head = events.first(2);
        with_head.set_head(br#"{"account_id":"1","visitors":["#.to_vec());
        assert_eq!(Events::decode(&with_head.encode(5), 5).as_ref(), Some(&with_head));
        let whole = body(&with_head.first(1), vendor("optimizely"), &id, 0..1);
        assert_eq!(String::from_utf8(whole).unwrap(), r#"{"account_id":"1","visitors":[{"n":1}]}"#);
        assert_eq!(with_head.fitting(0, 9, FRAME_BYTES_MAX + with_head.bytes()), 2);
        assert_eq!(with_head.fitting(0, 9, FRAME_BYTES_MAX + with_head.bytes() - 1), 1);
    }

    #[test]
    fn a_part_has_an_id_of_its_own_that_stays_the_same() {
        assert_eq!(part_id(5, &(0..3), 3).get_version_num(), 4);
        assert_eq!(part_id(5, &(0..2), 3), part_id(5, &(0..2), 3));
        assert_ne!(part_id(5, &(0..2), 3), part_id(5, &(0..3), 3));
        assert_ne!(part_id(5, &(0..2), 3), part_id(6, &(0..2), 3));
    }

    #[test]
    fn events_keep_the_format_that_they_are_written_in() {
        use EventFormat::{CloudEvents, KafkaRest, Native, Ndjson};
        let mut events = events(&["{}"]);
        let formats = [Native, Ndjson, CloudEvents, KafkaRest, vendor("optimizely"), vendor("growthbook")];
        for (number, format) in (0..).zip(formats) {
            assert_eq!((format.number(), EventFormat::numbered(number)), (number, Some(format)));
            events.set_format(format);
            let stored = Events::decode(&events.encode(7), 7).unwrap();
            assert_eq!((stored.format(), stored.first(1).format()), (format, format));
            assert_eq!(stored.is_like(&Events::default()), format == Native);
        }
    }

    #[test]
    fn only_what_was_stored_for_the_batch_is_believed() {
        let events = events(&["{}", "", "{\"a\":1}"]);
        let bytes = events.encode(7);
        assert_eq!(Events::decode(&bytes, 7), Some(events));
        assert_eq!(Events::decode(&bytes, 8), None);
        assert_eq!(Events::decode(b"", 7), None);
        for end in 0..bytes.len() {
            assert_eq!(Events::decode(&bytes[..end], 7), None, "cut at {end}");
        }
        for at in 0..36 {
            let mut lying = bytes.clone();
            lying[at] ^= 0xff;
            // A changed middle end moves a border between events; everything else is found out.
            assert!(Events::decode(&lying, 7).is_none_or(|events| events.len() == 3), "byte {at}");
        }
    }

    #[test]
    fn events_can_be_appended_and_the_first_copied_and_removed() {
        let mut all = events(&["aa", "b"]);
        all.append(&events(&["cc"]));
        assert_eq!(all, events(&["aa", "b", "cc"]));
        assert_eq!(all.first(2), events(&["aa", "b"]));
        all.remove_first(1);
        assert_eq!(all, events(&["b", "cc"]));
        all.remove_first(9);
        assert!(all.is_empty() && all.bytes() == 0);
    }

    #[test]
    fn a_batch_takes_what_fits_and_at_least_one() {
        let events = events(&["aaaa", "bbbb", "cccc"]);
        for (first, max_events, max_bytes, expected) in [
            (0, 9, 9_999, 3),
            (0, 2, 9_999, 2),
            (1, 9, 9_999, 2),
            (0, 9, FRAME_BYTES_MAX + 10, 2),
            (0, 9, FRAME_BYTES_MAX + 9, 1),
            (0, 9, 0, 1),
            (3, 9, 9_999, 0),
        ] {
            assert_eq!(events.fitting(first, max_events, max_bytes), expected, "{first} {max_events} {max_bytes}");
        }
    }
}
