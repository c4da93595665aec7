//! The characters of a pattern, and the tokens of escapes, counts, names and classes.

use super::error::CompileError;

/// A pattern while it is read.
pub(super) struct Scanner {
    pattern: Vec<char>,
    /// The next character of the pattern.
    pub(super) at: usize,
}

/// An item of a class.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    Char(char),
    /// Several characters, by the letter of their escape.
    Set(char),
}

/// Whether an escape of this letter stands for several characters.
pub(super) fn names_set(letter: char) -> bool {
    matches!(letter, 'd' | 'D' | 'w' | 'W' | 's' | 'S')
}

impl Scanner {
    pub(super) fn new(pattern: &str) -> Scanner {
        Scanner { pattern: pattern.chars().collect(), at: 0 }
    }

    /// The text from `start` up to here.
    pub(super) fn since(&self, start: usize) -> String {
        self.pattern.get(start..self.at).unwrap_or_default().iter().collect()
    }

    pub(super) fn peek(&self, ahead: usize) -> Option<char> {
        self.pattern.get(self.at + ahead).copied()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek(0);
        self.at += usize::from(next.is_some());
        next
    }

    pub(super) fn skip(&mut self, ch: char) -> bool {
        let there = self.peek(0) == Some(ch);
        self.at += usize::from(there);
        there
    }

    /// The rest of `{3}`, `{3,}` or `{3,5}`, all of it; any other `{` stands for itself.
    pub(super) fn count(&mut self) -> Option<String> {
        let rest = self.pattern.get(self.at..)?;
        let length = rest.iter().position(|&ch| ch == '}')?;
        let text: String = rest.get(..length)?.iter().collect();
        let (from, to) = text.split_once(',').unwrap_or((&text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if from.is_empty() || !digits(from) || !digits(to) {
            return None;
        }
        self.at += length + 1;
        Some(format!("{{{text}}}"))
    }

    /// The name of a group, up to its `>`.
    pub(super) fn name(&mut self) -> Result<String, CompileError> {
        let mut name = String::new();
        loop {
            match self.next().ok_or("has a group name without its >")? {
                '>' => break,
                ch => name.push(ch),
            }
        }
        let starts_well = name.starts_with(|ch: char| ch.is_alphabetic() || matches!(ch, '_' | '$'));
        if !starts_well || !name.chars().all(|ch| ch.is_alphanumeric() || matches!(ch, '_' | '$')) {
            return Err(format!("has an invalid group name: {name:?}").into());
        }
        Ok(name)
    }

    /// The one character that an escape stands for. A letter that means nothing stands for itself.
    pub(super) fn escaped_char(&mut self, ch: char) -> Result<char, CompileError> {
        Ok(match ch {
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'v' => '\u{B}',
            'f' => '\u{C}',
            '0' if !self.peek(0).is_some_and(|ch| ch.is_ascii_digit()) => '\0',
            '0'..='9' => {
                return Err(CompileError::Unsupported("uses an octal escape, which is not supported".to_owned()));
            }
            'c' => match self.peek(0).filter(char::is_ascii_alphabetic) {
                Some(letter) => {
                    self.at += 1;
                    char::from_u32(u32::from(letter) % 32).unwrap_or_default()
                }
                None => {
                    // JavaScript takes the backslash of such a `\c` for itself, and so the `c` comes next.
                    self.at -= 1;
                    '\\'
                }
            },
            'x' => self.hex(2).and_then(char::from_u32).unwrap_or('x'),
            'u' => match self.hex(4) {
                None => 'u',
                Some(unit) => {
                    let half = || CompileError::Unsupported("has half of a surrogate pair".to_owned());
                    self.code_point(unit).ok_or_else(half)?
                }
            },
            _ => ch,
        })
    }

    /// The next digits as a hexadecimal number, if there are that many.
    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text = self.pattern.get(self.at..self.at + digits)?;
        let number = text.iter().try_fold(0, |number, ch| Some(number * 16 + ch.to_digit(16)?))?;
        self.at += digits;
        Some(number)
    }

    /// The character of a UTF-16 unit, together with the escaped one that follows where it takes two.
    fn code_point(&mut self, unit: u32) -> Option<char> {
        if (0xD800..0xDC00).contains(&unit) && self.skip('\\') && self.skip('u') {
            let low = self.hex(4).filter(|low| (0xDC00..0xE000).contains(low))?;
            return char::from_u32(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00));
        }
        char::from_u32(unit)
    }

    /// The next item of a class, or none at its `]`.
    pub(super) fn class_item(&mut self) -> Result<Option<Item>, CompileError> {
        let item = match self.next().ok_or("has a [ without its ]")? {
            ']' => return Ok(None),
            '\\' => match self.next().ok_or("ends with \\")? {
                'b' => Item::Char('\u{8}'),
                ch if names_set(ch) => Item::Set(ch),
                ch => Item::Char(self.escaped_char(ch)?),
            },
            ch => Item::Char(ch),
        };
        Ok(Some(item))
    }
}
