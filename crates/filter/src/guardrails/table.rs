//! What workers know together of guarded variants, as versioned bytes that are checked before they are believed.

use edgesplit_engine::guardrail::{Looks, Tally};

/// Marks and versions of what follows it.
const MAGIC: [u8; 4] = *b"ESg\x01";

/// How many revisions are kept. There is one as a rule, and another while workers change over or a listener drains.
pub const REVISIONS_MAX: usize = 4;

/// The bytes of a row.
const ROW_BYTES: usize = 37;

/// The rows of the last revisions, the one that was used last in front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(Vec<(u64, Vec<Row>)>);

/// What is known of a variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Row {
    /// Tells it from the variants of all experiments.
    pub tag: u64,
    /// What all workers have counted.
    pub tally: Tally,
    /// How often it was compared with the baseline.
    pub looks: Looks,
    /// It is switched off.
    pub off: bool,
}

impl Table {
    /// The rows of a revision, in the order of `tags`; new ones where nothing is known.
    pub fn rows(&self, revision: u64, tags: impl Iterator<Item = u64>) -> Vec<Row> {
        let known = self.0.iter().find(|(known, _)| *known == revision).map_or(&[][..], |(_, rows)| rows);
        tags.map(|tag| known.iter().find(|row| row.tag == tag).copied().unwrap_or(Row { tag, ..Row::default() }))
            .collect()
    }

    /// Puts the rows of a revision in front; the one that was used longest ago goes where there are too many.
    pub fn put(&mut self, revision: u64, rows: Vec<Row>) {
        self.0.retain(|(known, _)| *known != revision);
        self.0.truncate(REVISIONS_MAX - 1);
        self.0.insert(0, (revision, rows));
    }

    /// The bytes of the table.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (revision, rows) in &self.0 {
            bytes.extend_from_slice(&revision.to_le_bytes());
            bytes.extend_from_slice(&(rows.len() as u64).to_le_bytes());
            for Row { tag, tally, looks, off } in rows {
                for number in [*tag, tally.responses, tally.errors, looks.at] {
                    bytes.extend_from_slice(&number.to_le_bytes());
                }
                bytes.extend_from_slice(&looks.count.to_le_bytes());
                bytes.push(u8::from(*off));
            }
        }
        bytes
    }

    /// Reads what [`Table::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Table> {
        let mut rest = bytes.strip_prefix(&MAGIC)?;
        let mut table = Table::default();
        while !rest.is_empty() {
            let (revision, after) = rest.split_first_chunk()?;
            let (rows, after) = after.split_first_chunk()?;
            let rows = usize::try_from(u64::from_le_bytes(*rows)).ok()?;
            let (rows, after) = after.split_at_checked(rows.checked_mul(ROW_BYTES)?)?;
            let rows: Option<Vec<Row>> = rows.chunks_exact(ROW_BYTES).map(Row::decode).collect();
            table.0.push((u64::from_le_bytes(*revision), rows?));
            rest = after;
        }
        (table.0.len() <= REVISIONS_MAX).then_some(table)
    }
}

impl Row {
    fn decode(bytes: &[u8]) -> Option<Row> {
        let (numbers, rest) = bytes.split_at_checked(32)?;
        let mut numbers =
            numbers.chunks_exact(8).filter_map(|bytes| bytes.first_chunk().copied().map(u64::from_le_bytes));
        let (tag, responses, errors, at) = (numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?);
        let (count, off) = rest.split_first_chunk()?;
        let off = match off {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let looks = Looks { count: u32::from_le_bytes(*count), at };
        Some(Row { tag, tally: Tally { responses, errors }, looks, off })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        let mut rows = table.rows(7, [1, 2].into_iter());
        rows[1].tally = Tally { responses: u64::MAX, errors: 3 };
        rows[1].looks = Looks { count: 4, at: 5 };
        rows[1].off = true;
        table.put(7, rows);
        table.put(8, table.rows(8, [9].into_iter()));
        table
    }

    #[test]
    fn a_table_survives_its_encoding_and_damage_is_found() {
        let bytes = table().encode();
        assert_eq!(Table::decode(&bytes), Some(table()));
        for end in (0..bytes.len()).filter(|end| *end != 4 && *end != 4 + 16 + ROW_BYTES) {
            assert_eq!(Table::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(Table::decode(&[&MAGIC[..], &[0xff; 16]].concat()), None, "more rows than there can be");
        let mut odd = bytes;
        if let Some(off) = odd.last_mut() {
            *off = 2;
        }
        assert_eq!(Table::decode(&odd), None);
    }

    #[test]
    fn a_revision_that_comes_back_is_known_and_the_oldest_goes() {
        let mut table = table();
        assert!(table.rows(7, [1, 2].into_iter())[1].off);
        for revision in 100..100 + REVISIONS_MAX as u64 {
            table.put(revision, table.rows(revision, [1].into_iter()));
        }
        assert_eq!(Table::decode(&table.encode()), Some(table.clone()));
        assert!(!table.rows(7, [1, 2].into_iter())[1].off, "forgotten");
    }
}
