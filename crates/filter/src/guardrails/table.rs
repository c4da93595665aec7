//! The counts of guarded variants in shared data.

use crate::shared_data::{Reader, Record, Writer};
use edgesplit_engine::guardrail::{InterimLooks, Tally};

/// How many revisions are kept. Usually there is one, and another while workers install a new one or a listener drains.
pub const REVISIONS_MAX: usize = 4;

/// The rows of the last revisions, the most recently used in front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(Vec<(u64, Vec<Row>)>);

/// The counts of a variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Row {
    /// Identifies the variant.
    pub tag: u64,
    /// The counts of all workers.
    pub tally: Tally,
    /// Its comparisons with the baseline so far.
    pub looks: InterimLooks,
    /// Whether it is switched off.
    pub off: bool,
}

impl Table {
    /// The rows of a revision, in the order of `tags`; new ones for unknown tags.
    pub fn rows(&self, revision: u64, tags: impl Iterator<Item = u64>) -> Vec<Row> {
        let known = self.0.iter().find(|(known, _)| *known == revision).map_or(&[][..], |(_, rows)| rows);
        tags.map(|tag| known.iter().find(|row| row.tag == tag).copied().unwrap_or(Row { tag, ..Row::default() }))
            .collect()
    }

    /// Puts the rows of a revision in front, and removes the least recently used one if there are too many.
    pub fn put(&mut self, revision: u64, rows: Vec<Row>) {
        self.0.retain(|(known, _)| *known != revision);
        self.0.truncate(REVISIONS_MAX - 1);
        self.0.insert(0, (revision, rows));
    }
}

impl Record for Table {
    const MARK: &'static [u8] = b"ESg\x01";

    fn write(&self, out: &mut Writer) {
        for (revision, rows) in &self.0 {
            out.u64(*revision);
            out.u64(rows.len() as u64);
            for Row { tag, tally, looks, off } in rows {
                for number in [*tag, tally.visitors, tally.errors, looks.at] {
                    out.u64(number);
                }
                out.u32(looks.count);
                out.u8(u8::from(*off));
            }
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Option<Table> {
        let mut table = Table::default();
        while !bytes.is_empty() && table.0.len() < REVISIONS_MAX {
            let (revision, count) = (bytes.u64()?, bytes.u64()?);
            let mut rows = Vec::new();
            for _ in 0..count {
                rows.push(Row::read(bytes)?);
            }
            table.0.push((revision, rows));
        }
        Some(table)
    }
}

impl Row {
    fn read(bytes: &mut Reader<'_>) -> Option<Row> {
        let (tag, visitors, errors, at) = (bytes.u64()?, bytes.u64()?, bytes.u64()?, bytes.u64()?);
        let looks = InterimLooks { count: bytes.u32()?, at };
        let off = match bytes.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Row { tag, tally: Tally { visitors, errors }, looks, off })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_data::tests::assert_stored;

    fn table() -> Table {
        let mut table = Table::default();
        let mut rows = table.rows(7, [1, 2].into_iter());
        rows[1].tally = Tally { visitors: 3, errors: 4 };
        rows[1].looks = InterimLooks { count: 5, at: 6 };
        rows[1].off = true;
        table.put(7, rows);
        table.put(8, Vec::new());
        table
    }

    #[test]
    fn stored_form_is_pinned() {
        let hex = "45536701 0800000000000000 0000000000000000 0700000000000000 0200000000000000 \
                   0100000000000000 0000000000000000 0000000000000000 0000000000000000 00000000 00 \
                   0200000000000000 0300000000000000 0400000000000000 0600000000000000 05000000 01";
        assert_stored(&table(), hex);
    }

    #[test]
    fn damaged_table_is_not_read() {
        let bytes = table().encode();
        // The mark alone, and the mark with the empty revision, are whole tables.
        for end in (0..bytes.len()).filter(|end| ![4, 20].contains(end)) {
            assert_eq!(Table::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(Table::decode(&[Table::MARK, &[0xff; 16]].concat()), None, "more rows than there can be");
        let mut odd = bytes;
        if let Some(off) = odd.last_mut() {
            *off = 2;
        }
        assert_eq!(Table::decode(&odd), None);
    }

    #[test]
    fn revisions_are_bounded_and_the_least_recently_used_is_removed() {
        let mut table = table();
        assert!(table.rows(7, [1, 2].into_iter())[1].off);
        for revision in 100..100 + REVISIONS_MAX as u64 {
            table.put(revision, table.rows(revision, [1].into_iter()));
        }
        assert_eq!(Table::decode(&table.encode()), Some(table.clone()));
        assert!(!table.rows(7, [1, 2].into_iter())[1].off);
    }
}
