//! Positions in a text.

use std::fmt;

/// A range of bytes.
pub(crate) type Span = std::ops::Range<usize>;

/// A position. Both numbers count from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    /// The position of byte `at` of `text`.
    pub(crate) fn of(text: &str, at: usize) -> Position {
        let before = text.get(..at).unwrap_or(text);
        let column = before.get(line_start(text, at)..).unwrap_or_default().chars().count() + 1;
        Position { line: before.matches('\n').count() + 1, column }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at line {} column {}", self.line, self.column)
    }
}

/// The start of the line that byte `at` of `text` is in.
pub(crate) fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).rfind('\n').map_or(0, |end| end + 1)
}

/// The byte of `text` at a position, moved back to the start of its character.
pub(crate) fn offset(text: &str, line: usize, column_bytes: usize) -> usize {
    let line_start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    let at = (line_start + column_bytes.saturating_sub(1)).min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// The span of the character at byte `at`; empty at the end of the text.
pub(crate) fn character(text: &str, at: usize) -> Span {
    let length = text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    at..at + length
}
