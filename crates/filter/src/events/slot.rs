//! The contents of a slot: a batch, with its events already encoded.

use super::event::{derived_id, random_id};
use crate::plugin_config::EventFormat;
use crate::shared_data::{Reader, Record, Writer};
use edgesplit_engine::hash::fingerprint;
use std::ops::Range;
use uuid::Uuid;

/// The byte behind the mark is the sum of this version and the number of the events' format.
const VERSION: u8 = 2;

/// The most bytes that a body has around its events, beside the head that some formats have.
pub const FRAME_BYTES_MAX: usize = 64;

/// The key of all slots in shared data: `/` and a slot's number follow.
pub fn slot_key(prefix: &str) -> String {
    format!("{prefix}/slot")
}

/// A batch whose events are encoded as JSON texts, one behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedBatch {
    /// Its id; 0 for events that still wait in a buffer.
    pub id: u128,
    /// The format of the events. Stored with them, like the head: the VM that sends them may have another configuration.
    format: EventFormat,
    /// The beginning of the body, for formats that take it from the experiments.
    head: Vec<u8>,
    text: Vec<u8>,
    /// Where each event ends in `text`.
    ends: Vec<u32>,
}

impl Record for EncodedBatch {
    const MARK: &'static [u8] = b"ESb";

    fn write(&self, out: &mut Writer) {
        out.reserve(25 + self.head.len() + self.ends.len() * 4 + self.text.len());
        out.u8(VERSION.wrapping_add(self.format.number()));
        out.u128(self.id);
        out.u32(self.ends.len() as u32);
        out.u32(self.head.len() as u32);
        out.bytes(&self.head);
        for end in &self.ends {
            out.u32(*end);
        }
        out.bytes(&self.text);
    }

    fn read(bytes: &mut Reader<'_>) -> Option<EncodedBatch> {
        let format = EventFormat::numbered(bytes.u8()?.wrapping_sub(VERSION))?;
        let (id, count, head_len) = (bytes.u128()?, bytes.u32()?, bytes.u32()?);
        let head = bytes.bytes(head_len)?.to_vec();
        let mut ends = Vec::new();
        for _ in 0..count {
            ends.push(bytes.u32()?);
        }
        let text = bytes.rest().to_vec();
        let is_whole = ends.last().map_or(text.is_empty(), |&end| end as usize == text.len());
        (is_whole && ends.is_sorted()).then_some(EncodedBatch { id, format, head, text, ends })
    }
}

impl EncodedBatch {
    /// How many events it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has no events.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes they take up, with one each for the separator.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.text.len() + self.ends.len()
    }

    /// The format of the events.
    pub fn format(&self) -> EventFormat {
        self.format
    }

    /// The beginning of the body.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Sets the format of the events.
    pub fn set_format(&mut self, format: EventFormat) {
        self.format = format;
    }

    /// Whether one body can contain these events and those of `other`.
    pub fn is_compatible(&self, other: &EncodedBatch) -> bool {
        self.format == other.format && self.head == other.head
    }

    /// Sets the beginning of the body.
    pub fn set_head(&mut self, head: Vec<u8>) {
        self.head = head;
    }

    /// Adds the event that `write` writes. False if that would exceed `bytes_max`.
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

    /// How many events from `first` on fit into a batch with these limits: at least one, if there is one.
    pub fn fitting(&self, first: usize, max_events: usize, max_bytes: usize) -> usize {
        let start = self.start(first);
        let available = max_bytes.saturating_sub(FRAME_BYTES_MAX + self.head.len());
        let ends = self.ends.iter().skip(first).take(max_events).enumerate();
        let fitting =
            ends.take_while(|(before, end)| (**end as usize).saturating_sub(start) + before < available).count();
        fitting.max(1).min(self.len().saturating_sub(first))
    }

    /// A copy with only the first `count` events.
    pub fn first(&self, count: usize) -> EncodedBatch {
        let ends: Vec<u32> = self.ends.iter().copied().take(count).collect();
        let end = ends.last().map_or(0, |&end| end as usize);
        let text = self.text.get(..end).unwrap_or_default().to_vec();
        EncodedBatch { id: self.id, format: self.format, head: self.head.clone(), text, ends }
    }

    /// Appends the events of `other`, which is compatible.
    pub fn append(&mut self, other: &EncodedBatch) {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(&other.text);
        self.ends.extend(other.ends.iter().map(|end| start.saturating_add(*end)));
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

    /// The events in `range`.
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

    /// The id under which the events in `range` are sent.
    pub fn part_id(&self, range: &Range<usize>) -> Uuid {
        part_id(self.id, range, self.len())
    }

    /// The body of a call that sends the events in `range`.
    pub fn body(&self, range: Range<usize>) -> Vec<u8> {
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
            let id = self.part_id(&range);
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
}

/// The id under which the events in `range` of a batch of `total` events are sent, at every attempt: the batch's own for all
/// of them, a derived one for a part.
pub fn part_id(batch: u128, range: &Range<usize>, total: usize) -> Uuid {
    if *range == (0..total) {
        return random_id(batch);
    }
    let bounds = [range.start as u64, range.end as u64].map(u64::to_le_bytes);
    derived_id(fingerprint(&[&batch.to_le_bytes(), &bounds.concat()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_data::tests::assert_stored;
    use serde_json::{Value, json};

    fn batch(texts: &[&str]) -> EncodedBatch {
        let mut batch = EncodedBatch { id: 5, ..EncodedBatch::default() };
        for text in texts {
            assert!(batch.push(usize::MAX, |out| out.extend_from_slice(text.as_bytes())));
        }
        batch
    }

    fn vendor(name: &str) -> EventFormat {
        EventFormat::Vendor(edgesplit_formats::find(name).unwrap())
    }

    fn body(batch: &EncodedBatch, format: EventFormat, range: Range<usize>) -> Vec<u8> {
        let mut batch = batch.clone();
        batch.set_format(format);
        batch.body(range)
    }

    #[test]
    fn body_contains_the_events_of_its_range() {
        let events = batch(&[r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
        let native: Value = serde_json::from_slice(&body(&events, EventFormat::Native, 1..3)).unwrap();
        assert_eq!(native, json!({"batch": part_id(5, &(1..3), 3).to_string(), "events": [{"n": 2}, {"n": 3}]}));
        let lines = body(&events, EventFormat::Ndjson, 0..3);
        assert_eq!(String::from_utf8(lines).unwrap(), "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
        assert_eq!(body(&events, EventFormat::Native, 0..3).len(), events.bytes() - 1 + 60);
        let list = body(&events, vendor("growthbook"), 0..2);
        assert_eq!(String::from_utf8(list).unwrap(), r#"[{"n":1},{"n":2}]"#);
    }

    #[test]
    fn head_begins_the_body_and_counts_towards_its_size() {
        let mut events = batch(&[r#"{"n":1}"#, r#"{"n":2}"#]);
        events.set_head(br#"{"account_id":"1","visitors":["#.to_vec());
        assert_eq!(EncodedBatch::decode(&events.encode()).as_ref(), Some(&events));
        let whole = body(&events.first(1), vendor("optimizely"), 0..1);
        assert_eq!(String::from_utf8(whole).unwrap(), r#"{"account_id":"1","visitors":[{"n":1}]}"#);
        assert_eq!(events.fitting(0, 9, FRAME_BYTES_MAX + events.bytes()), 2);
        assert_eq!(events.fitting(0, 9, FRAME_BYTES_MAX + events.bytes() - 1), 1);
    }

    #[test]
    fn part_id_is_the_same_at_every_attempt() {
        assert_eq!(part_id(5, &(0..3), 3).get_version_num(), 4);
        assert_eq!(part_id(5, &(0..2), 3), part_id(5, &(0..2), 3));
        assert_ne!(part_id(5, &(0..2), 3), part_id(5, &(0..3), 3));
        assert_ne!(part_id(5, &(0..2), 3), part_id(6, &(0..2), 3));
    }

    #[test]
    fn stored_batch_keeps_its_format() {
        use EventFormat::{CloudEvents, KafkaRest, Native, Ndjson};
        let mut events = batch(&["{}"]);
        let formats = [Native, Ndjson, CloudEvents, KafkaRest, vendor("optimizely"), vendor("growthbook")];
        for (number, format) in (0..).zip(formats) {
            assert_eq!((format.number(), EventFormat::numbered(number)), (number, Some(format)));
            events.set_format(format);
            let stored = EncodedBatch::decode(&events.encode()).unwrap();
            assert_eq!((stored.format(), stored.first(1).format()), (format, format));
            assert_eq!(stored.is_compatible(&EncodedBatch::default()), format == Native);
        }
    }

    #[test]
    fn stored_form_is_pinned() {
        let mut events = EncodedBatch { id: 0x0102, ..batch(&["{}", "{1}"]) };
        events.set_format(vendor("optimizely"));
        events.set_head(b"[".to_vec());
        let hex = "455362 06 02010000000000000000000000000000 02000000 01000000 5b 02000000 05000000 7b7d7b317d";
        assert_stored(&events, hex);
    }

    #[test]
    fn damaged_batch_is_not_read() {
        let events = batch(&["{}", "", "{\"a\":1}"]);
        let bytes = events.encode();
        assert_eq!(EncodedBatch::decode(&bytes), Some(events));
        for end in 0..bytes.len() {
            assert_eq!(EncodedBatch::decode(&bytes[..end]), None, "cut at {end}");
        }
        for at in (0..4).chain(20..36) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            // A changed middle end moves a border between events; everything else is found out.
            assert!(EncodedBatch::decode(&damaged).is_none_or(|events| events.len() == 3), "byte {at}");
        }
    }

    #[test]
    fn events_can_be_appended_copied_and_removed() {
        let mut all = batch(&["aa", "b"]);
        all.append(&batch(&["cc"]));
        assert_eq!(all, batch(&["aa", "b", "cc"]));
        assert_eq!(all.first(2), batch(&["aa", "b"]));
        all.remove_first(1);
        assert_eq!(all, batch(&["b", "cc"]));
        all.remove_first(9);
        assert!(all.is_empty() && all.bytes() == 0);
    }

    #[test]
    fn fitting_respects_the_limits_and_takes_at_least_one() {
        let events = batch(&["aaaa", "bbbb", "cccc"]);
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
