//! The contents of a file: a mark with a version, and frames `[length, CRC-32, entry]`. The first entry has the batch as it
//! was sealed. Later ones have events that joined it, or its progress.

use crate::events::outbox::Batch;
use crate::events::slot::EncodedBatch;
use crate::shared_data::{Reader, Record, Writer};
use crc::{CRC_32_ISO_HDLC, Crc};

/// The first bytes of a file: a name and the version of the format behind it.
pub(super) const MARK: &[u8] = b"ESs\x01";

/// The bytes of a frame in front of its entry.
const FRAME_HEAD_BYTES: usize = 8;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// A batch as a file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spooled {
    /// When it was sealed.
    pub sealed_at_ms: i64,
    /// The first event that is not settled.
    pub next: u32,
    /// How many events may be sent at once.
    pub part_max: u32,
    /// Its events.
    pub events: EncodedBatch,
}

/// The contents of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Another version's, or no spool's.
    Foreign,
    /// The file's first write was torn: it has no batch.
    Nothing,
    /// A batch.
    Batch {
        /// The batch.
        batch: Box<Spooled>,
        /// The bytes that contain it. Those behind are torn.
        len: u64,
    },
}

/// A change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    sealed_at_ms: i64,
    next: u32,
    part_max: u32,
    /// The position of the first of `events`.
    first: u32,
    events: Option<EncodedBatch>,
}

impl Record for Entry {
    const MARK: &'static [u8] = b"";

    fn write(&self, out: &mut Writer) {
        out.i64(self.sealed_at_ms);
        for number in [self.next, self.part_max, self.first] {
            out.u32(number);
        }
        if let Some(events) = &self.events {
            out.bytes(&events.encode());
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Option<Entry> {
        let sealed_at_ms = bytes.i64()?;
        let [next, part_max, first] = [bytes.u32()?, bytes.u32()?, bytes.u32()?];
        let events = match bytes.rest() {
            [] => None,
            events => Some(EncodedBatch::decode(events)?),
        };
        Some(Entry { sealed_at_ms, next, part_max, first, events })
    }
}

/// The frame that brings a file with the first `first` events up to `batch`. `events` are all of its events.
pub(super) fn frame(batch: &Batch, first: u32, mut events: EncodedBatch) -> Vec<u8> {
    events.remove_first(first as usize);
    let events = Some(events).filter(|events| !events.is_empty());
    let Batch { sealed_at_ms, next, part_max, .. } = *batch;
    let entry = Entry { sealed_at_ms, next, part_max, first, events }.encode();
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + entry.len());
    frame.extend_from_slice(&(entry.len() as u32).to_le_bytes());
    frame.extend_from_slice(&CRC.checksum(&entry).to_le_bytes());
    frame.extend_from_slice(&entry);
    frame
}

/// Reads a file. Everything from the first torn frame on is left out.
pub fn read(bytes: &[u8]) -> Contents {
    let Some(mut rest) = bytes.strip_prefix(MARK) else {
        // The length of a file may be on disk before its bytes.
        let written = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let is_torn = bytes.get(..written).is_some_and(|written| MARK.starts_with(written));
        return if is_torn { Contents::Nothing } else { Contents::Foreign };
    };
    let mut batch: Option<Box<Spooled>> = None;
    let mut len = MARK.len();
    while let Some((entry, behind)) = split_frame(rest) {
        let Some(entry) = Entry::decode(entry) else { return Contents::Foreign };
        if !apply(&mut batch, entry) {
            break;
        }
        len += rest.len() - behind.len();
        rest = behind;
    }
    match batch {
        Some(batch) => Contents::Batch { batch, len: len as u64 },
        None => Contents::Nothing,
    }
}

/// The entry of the first frame, if it is whole, and the bytes behind it.
fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let (entry, behind) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    (!entry.is_empty() && CRC.checksum(entry) == u32::from_le_bytes(*sum)).then_some((entry, behind))
}

/// Makes a change. False if it does not follow the ones before.
fn apply(batch: &mut Option<Box<Spooled>>, entry: Entry) -> bool {
    let batch = match (batch, entry.events) {
        (batch @ None, Some(events)) if entry.first == 0 => {
            batch.insert(Box::new(Spooled { events, ..Spooled::default() }))
        }
        (Some(batch), None) => batch,
        (Some(batch), Some(events)) if is_next(&batch.events, entry.first, &events) => {
            batch.events.append(&events);
            batch
        }
        _ => return false,
    };
    batch.sealed_at_ms = entry.sealed_at_ms;
    batch.next = entry.next;
    batch.part_max = entry.part_max;
    true
}

fn is_next(before: &EncodedBatch, first: u32, events: &EncodedBatch) -> bool {
    before.len() == first as usize && before.id == events.id && before.is_compatible(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_data::tests::bytes_of;

    fn events(texts: &[&str]) -> EncodedBatch {
        let mut events = EncodedBatch::default();
        events.id = 5;
        for text in texts {
            assert!(events.push(usize::MAX, |out| out.extend_from_slice(text.as_bytes())));
        }
        events
    }

    fn batch(events: u32, next: u32) -> Batch {
        Batch {
            id: 5,
            slot: 0,
            events,
            bytes: 3,
            sealed_at_ms: 7,
            next,
            part_max: events,
            tries: 0,
            written: true,
            lease: None,
        }
    }

    /// A file that had events, then one more, then progress; with the lengths that it had.
    fn file() -> (Vec<u8>, [usize; 3]) {
        let (first, all) = (events(&["{}", "{1}"]), events(&["{}", "{1}", "{2}"]));
        let mut file = [MARK, &frame(&batch(2, 0), 0, first)].concat();
        let mut lengths = [file.len(); 3];
        file.extend(frame(&batch(3, 0), 2, all.clone()));
        lengths[1] = file.len();
        file.extend(frame(&batch(3, 1), 3, all));
        lengths[2] = file.len();
        (file, lengths)
    }

    fn spooled(events: EncodedBatch, next: u32) -> Spooled {
        Spooled { sealed_at_ms: 7, next, part_max: events.len() as u32, events }
    }

    #[test]
    fn file_torn_at_any_byte_has_its_whole_frames() {
        let (file, lengths) = file();
        let states = [
            spooled(events(&["{}", "{1}"]), 0),
            spooled(events(&["{}", "{1}", "{2}"]), 0),
            spooled(events(&["{}", "{1}", "{2}"]), 1),
        ];
        for end in 0..=file.len() {
            let whole = lengths.iter().rposition(|len| *len <= end);
            let expected = whole.map_or(Contents::Nothing, |at| Contents::Batch {
                batch: Box::new(states[at].clone()),
                len: lengths[at] as u64,
            });
            assert_eq!(read(&file[..end]), expected, "cut at {end}");
            let zeros = [&file[..end], &vec![0; file.len() - end]].concat();
            // The last bytes of a whole frame may be zeros too.
            let expected = if zeros == file { read(&file) } else { expected };
            assert_eq!(read(&zeros), expected, "zeros from {end} on");
        }
    }

    #[test]
    fn damaged_byte_ends_the_file() {
        let (file, lengths) = file();
        for at in MARK.len()..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            let len = match read(&damaged) {
                Contents::Nothing => 0,
                Contents::Batch { len, .. } => len as usize,
                Contents::Foreign => panic!("byte {at}"),
            };
            let before = lengths.iter().rfind(|len| **len <= at).copied().unwrap_or(0);
            assert_eq!(len, before, "byte {at}");
        }
    }

    #[test]
    fn other_versions_are_foreign() {
        let (file, _) = file();
        let mut newer = file.clone();
        newer[3] = 2;
        assert_eq!(read(&newer), Contents::Foreign);
        assert_eq!(read(b"notes"), Contents::Foreign);
        // Events of another version, in a frame of this one.
        let entry = [&[0; 20][..], b"ESb\xff"].concat();
        let head = [(entry.len() as u32).to_le_bytes(), CRC.checksum(&entry).to_le_bytes()].concat();
        assert_eq!(read(&[MARK, &head, &entry].concat()), Contents::Foreign);
    }

    #[test]
    fn stored_form_is_pinned() {
        let bytes = [MARK, &frame(&batch(1, 0), 0, events(&["{}"]))].concat();
        let hex = "45537301 36000000 b64e2576 0700000000000000 00000000 01000000 00000000 455362 02 \
                   05000000000000000000000000000000 01000000 00000000 02000000 7b7d";
        assert_eq!(bytes, bytes_of(hex), "{bytes:02x?}");
    }
}
