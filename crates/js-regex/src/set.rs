//! Character sets: classes such as `[a-z]`, and the escapes that stand for several characters.

use super::case::any_with_upper;
use super::steps::{LimitExceeded, Steps};
use std::collections::BinaryHeap;

/// A range of characters, both ends included.
pub(super) type CharRange = (char, char);

/// The characters of some ranges, or all others.
#[derive(Debug, Clone)]
pub(super) struct CharSet {
    /// One bit for each ASCII character in the set, with the negation and the case applied.
    ascii: u128,
    /// Sorted, and not touching each other.
    ranges: Box<[CharRange]>,
    negated: bool,
    ignore_case: bool,
}

impl CharSet {
    pub(super) fn new(ranges: Vec<CharRange>, negated: bool, ignore_case: bool) -> CharSet {
        // A heap sorts in less code than a slice does.
        let mut ranges = BinaryHeap::from(ranges).into_sorted_vec();
        ranges.dedup_by(|next, last| {
            let overlaps = next.0 <= last.1;
            if overlaps {
                last.1 = last.1.max(next.1);
            }
            overlaps
        });
        let mut ascii = ranges.iter().fold(0, |bits, range| bits | ascii_bits(*range));
        if ignore_case {
            let lower = ascii_bits(('a', 'z'));
            let case_bit = 'a' as u32 - 'A' as u32;
            ascii |= (ascii & lower) >> case_bit | (ascii << case_bit) & lower;
        }
        if negated {
            ascii = !ascii;
        }
        CharSet { ascii, ranges: ranges.into(), negated, ignore_case }
    }

    /// Whether `ch` is in the set. If case is ignored, `ch` is in upper case.
    #[inline]
    pub(super) fn contains(&self, ch: char, steps: &mut Steps<'_>) -> Result<bool, LimitExceeded> {
        if ch.is_ascii() {
            return Ok(self.ascii >> (ch as u32) & 1 == 1);
        }
        self.contains_beyond_ascii(ch, steps)
    }

    fn contains_beyond_ascii(&self, ch: char, steps: &mut Steps<'_>) -> Result<bool, LimitExceeded> {
        // A lookup in the tables of cases costs about as much as this many comparisons.
        const CASE_STEPS: usize = 32;
        let comparisons = 1 + self.ranges.len().checked_ilog2().unwrap_or_default() as usize;
        steps.spend(if self.ignore_case { CASE_STEPS + 2 * comparisons } else { comparisons })?;
        let contains = match self.ignore_case {
            true => any_with_upper(ch, |ch| self.is_in_ranges(ch)),
            false => self.is_in_ranges(ch),
        };
        Ok(contains != self.negated)
    }

    fn is_in_ranges(&self, ch: char) -> bool {
        let behind = self.ranges.partition_point(|(first, _)| *first <= ch);
        behind.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|(_, last)| ch <= *last)
    }
}

/// The bits of a range's ASCII characters.
fn ascii_bits((first, last): CharRange) -> u128 {
    if !first.is_ascii() {
        return 0;
    }
    let last = (last as u32).min(127);
    (u128::MAX << (first as u32)) & (u128::MAX >> (127 - last))
}

const DIGIT: &[CharRange] = &[('0', '9')];
const WORD: &[CharRange] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
const SPACE: &[CharRange] = &[
    ('\t', '\r'),
    (' ', ' '),
    ('\u{A0}', '\u{A0}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{2000}', '\u{200A}'),
    ('\u{2028}', '\u{2029}'),
    ('\u{202F}', '\u{202F}'),
    ('\u{205F}', '\u{205F}'),
    ('\u{3000}', '\u{3000}'),
    ('\u{FEFF}', '\u{FEFF}'),
];
/// The characters that `.` does not match.
pub(super) const LINE_END: &[CharRange] = &[('\n', '\n'), ('\r', '\r'), ('\u{2028}', '\u{2029}')];

/// The ranges of `\d` and its like by the letter in lower case; the letter in upper case stands for all others.
pub(super) fn named_ranges(letter: char) -> &'static [CharRange] {
    match letter.to_ascii_lowercase() {
        'd' => DIGIT,
        'w' => WORD,
        _ => SPACE,
    }
}

/// The ranges between sorted `ranges`.
pub(super) fn complement(ranges: &[CharRange]) -> Vec<CharRange> {
    let mut between = Vec::new();
    let mut start = '\0';
    for &(first, last) in ranges {
        between.extend((start..first).next_back().map(|end| (start, end)));
        start = (last..).nth(1).unwrap_or(char::MAX);
    }
    between.push((start, char::MAX));
    between
}
