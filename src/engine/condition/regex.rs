//! JavaScript's regular expressions, brought to what `regex-lite` reads.
//!
//! `regex-lite` matches in time bounded by pattern times text, and is small. Its syntax is Rust's, so a pattern is read
//! here as JavaScript reads it without flags or with `i` (ECMA-262, with its Annex B) and written anew. Patterns with
//! look-around or back-references, which it does not have, go to `backtrack`. What is left over: a character beyond
//! U+FFFF is one character here, two there; and without case, a long range of characters beyond ASCII keeps its case.

mod backtrack;
mod parse;

use backtrack::Program;
use regex_lite::{Regex, RegexBuilder};

/// How much memory a compiled pattern may take, which also bounds the time a match takes.
const REGEX_COMPILED_BYTES_MAX: usize = 64 * 1024;

/// How long a pattern may be.
const REGEX_PATTERN_BYTES_MAX: usize = 4096;

/// How long a range of characters may be for its other cases to be added.
const REGEX_FOLDED_RANGE_CHARS_MAX: usize = 1024;

/// What `\s` stands for in JavaScript, and its complement, as they are written inside a class.
const SPACE: &str = r"\t-\r \x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}\x{FEFF}";
const NOT_SPACE: &str = r"\x00-\x08\x0E-\x1F\x21-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{FEFE}\x{FF00}-\x{10FFFF}";
/// What `.` stands for in JavaScript.
const NOT_LINE_END: &str = r"[^\n\r\x{2028}\x{2029}]";

/// A compiled JavaScript pattern.
#[derive(Debug, Clone)]
pub(crate) enum JsRegex {
    /// In time bounded by pattern times text.
    Linear(Regex),
    /// In a bounded number of steps, after which nothing matches.
    Backtracking(Program),
}

impl JsRegex {
    /// Compiles a JavaScript pattern, with the flag `i` where `folded`. The error says what is wrong with it.
    pub(crate) fn compile(pattern: &str, folded: bool) -> Result<JsRegex, String> {
        if pattern.len() > REGEX_PATTERN_BYTES_MAX {
            return Err(format!("is longer than {REGEX_PATTERN_BYTES_MAX} bytes"));
        }
        let mut translator = Translator { pattern: pattern.chars().collect(), folded, ..Translator::default() };
        if let Err(reason) = translator.run() {
            return match translator.backtracks {
                true => Program::compile(pattern, folded).map(JsRegex::Backtracking),
                false => Err(reason),
            };
        }
        RegexBuilder::new(&translator.out)
            .case_insensitive(folded)
            .size_limit(REGEX_COMPILED_BYTES_MAX)
            .build()
            .map(JsRegex::Linear)
            .map_err(|error| format!("cannot be used: {error}"))
    }

    /// Whether some part of `text` matches.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        match self {
            JsRegex::Linear(regex) => regex.is_match(text),
            JsRegex::Backtracking(program) => program.is_match(text),
        }
    }
}

#[derive(Default)]
struct Translator {
    pattern: Vec<char>,
    /// The next character of the pattern.
    at: usize,
    /// Groups that are open.
    open: usize,
    /// Whether what was written last may be repeated.
    repeatable: bool,
    /// The names of groups so far, with the groups' numbers.
    names: Vec<(String, usize)>,
    /// Whether what stopped the translation is something that only backtracking can match.
    backtracks: bool,
    folded: bool,
    out: String,
}

/// What can stand in a class.
enum Item {
    Char(char),
    /// Several characters, by the letter of their escape.
    Set(char),
}

impl Translator {
    fn run(&mut self) -> Result<(), String> {
        while let Some(ch) = self.next() {
            match ch {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                ')' => {
                    self.open = self.open.checked_sub(1).ok_or("has a ) without its (")?;
                    self.atom(")");
                }
                '|' | '^' | '$' => {
                    self.out.push(ch);
                    self.repeatable = false;
                }
                '.' => self.atom(NOT_LINE_END),
                '*' | '+' | '?' => self.repeat(&ch.to_string())?,
                '{' => match self.count() {
                    Some(count) => self.repeat(&count)?,
                    None => self.literal('{'),
                },
                _ => self.literal(ch),
            }
        }
        if self.open > 0 { Err("has a ( without its )".to_owned()) } else { Ok(()) }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.pattern.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek(0);
        self.at += usize::from(next.is_some());
        next
    }

    fn skip(&mut self, ch: char) -> bool {
        let there = self.peek(0) == Some(ch);
        self.at += usize::from(there);
        there
    }

    /// Writes what may be repeated.
    fn atom(&mut self, text: &str) {
        self.out.push_str(text);
        self.repeatable = true;
    }

    fn literal(&mut self, ch: char) {
        if self.folded && !ch.is_ascii() {
            self.out.push('[');
            self.class_char(ch);
            self.out.push(']');
        } else {
            self.escaped(ch);
        }
        self.repeatable = true;
    }

    /// Writes a character so that it stands for itself, in and out of a class.
    fn escaped(&mut self, ch: char) {
        if ch.is_alphanumeric() {
            self.out.push(ch);
        } else {
            self.out.push_str(&format!(r"\x{{{:X}}}", u32::from(ch)));
        }
    }

    fn repeat(&mut self, how: &str) -> Result<(), String> {
        if !self.repeatable {
            return Err(format!("has nothing before {how} to repeat"));
        }
        self.out.push_str(how);
        if self.skip('?') {
            self.out.push('?');
        }
        self.repeatable = false;
        Ok(())
    }

    /// The rest of `{3}`, `{3,}` or `{3,5}`, all of it; any other `{` stands for itself.
    fn count(&mut self) -> Option<String> {
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

    /// The opening of a group. Only whether there is a match is asked, so nothing is captured.
    fn group(&mut self) -> Result<(), String> {
        if self.skip('?') {
            match (self.next(), self.peek(0)) {
                (Some(':'), _) => {}
                (Some('=' | '!'), _) | (Some('<'), Some('=' | '!')) => return Err(self.backtracking()),
                (Some('<'), _) => {
                    let name = self.name()?;
                    if self.names.iter().any(|(other, _)| *other == name) {
                        return Err(format!("has two groups of the name {name:?}"));
                    }
                    self.names.push((name, 0));
                }
                _ => return Err("has an invalid group: after (? only : and <name> may stand".to_owned()),
            }
        }
        self.open += 1;
        self.out.push_str("(?:");
        self.repeatable = false;
        Ok(())
    }

    /// The name of a group, up to its `>`.
    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        loop {
            match self.next().ok_or("has a group name without its >")? {
                '>' => break,
                ch => name.push(ch),
            }
        }
        let starts_well = name.starts_with(|ch: char| ch.is_alphabetic() || matches!(ch, '_' | '$'));
        if !starts_well || !name.chars().all(|ch| ch.is_alphanumeric() || matches!(ch, '_' | '$')) {
            return Err(format!("has an invalid group name: {name:?}"));
        }
        Ok(name)
    }

    /// Leaves the pattern to the matcher that backtracks.
    fn backtracking(&mut self) -> String {
        self.backtracks = true;
        "uses look-around or a back-reference".to_owned()
    }

    /// What follows a `\` outside of a class.
    fn escape(&mut self) -> Result<(), String> {
        match self.next().ok_or("ends with \\")? {
            'b' | 'B' if self.peek(0) == Some('{') && self.count().is_some() => {
                return Err("has nothing before { to repeat".to_owned());
            }
            ch @ ('b' | 'B') => {
                self.out.push('\\');
                self.out.push(ch);
                self.repeatable = false;
            }
            'k' if self.peek(0) == Some('<') => return Err(self.backtracking()),
            '1'..='9' => return Err(self.backtracking()),
            ch => match self.set(ch) {
                Some(set) => self.atom(&format!("[{set}]")),
                None => {
                    let ch = self.escaped_char(ch)?;
                    self.literal(ch);
                }
            },
        }
        Ok(())
    }

    fn set(&self, ch: char) -> Option<&'static str> {
        Some(match ch {
            'd' => r"\d",
            'D' => r"\D",
            'w' => r"\w",
            'W' => r"\W",
            's' => SPACE,
            'S' => NOT_SPACE,
            _ => return None,
        })
    }

    /// The one character that an escape stands for. A letter that means nothing stands for itself.
    fn escaped_char(&mut self, ch: char) -> Result<char, String> {
        Ok(match ch {
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'v' => '\u{B}',
            'f' => '\u{C}',
            '0' if !self.peek(0).is_some_and(|ch| ch.is_ascii_digit()) => '\0',
            '0'..='9' => return Err("uses an octal escape, which is not supported".to_owned()),
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
                Some(unit) => self.code_point(unit).ok_or("has half of a surrogate pair")?,
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

    /// A class, after its `[`.
    fn class(&mut self) -> Result<(), String> {
        let negated = self.skip('^');
        if self.skip(']') {
            // Nothing, or all but nothing, neither of which Rust's syntax can write like this.
            self.atom(if negated { r"[\x00-\x{10FFFF}]" } else { r"[^\x00-\x{10FFFF}]" });
            return Ok(());
        }
        self.out.push_str(if negated { "[^" } else { "[" });
        while let Some(first) = self.class_item()? {
            if self.peek(0) != Some('-') || self.peek(1) == Some(']') {
                self.class_write(&first);
                continue;
            }
            self.at += 1;
            let last = self.class_item()?.ok_or("has a [ without its ]")?;
            match (&first, &last) {
                (Item::Char(first), Item::Char(last)) if first > last => {
                    return Err("has a range whose ends are the wrong way round".to_owned());
                }
                (Item::Char(first), Item::Char(last)) => {
                    self.escaped(*first);
                    self.out.push('-');
                    self.escaped(*last);
                    if self.folded && !last.is_ascii() {
                        (*first..=*last).take(REGEX_FOLDED_RANGE_CHARS_MAX).for_each(|ch| self.other_cases(ch));
                    }
                }
                _ => {
                    self.class_write(&first);
                    self.escaped('-');
                    self.class_write(&last);
                }
            }
        }
        self.atom("]");
        Ok(())
    }

    /// The next item of a class, or none at its `]`.
    fn class_item(&mut self) -> Result<Option<Item>, String> {
        let item = match self.next().ok_or("has a [ without its ]")? {
            ']' => return Ok(None),
            '\\' => match self.next().ok_or("ends with \\")? {
                'b' => Item::Char('\u{8}'),
                ch => match self.set(ch) {
                    Some(_) => Item::Set(ch),
                    None => Item::Char(self.escaped_char(ch)?),
                },
            },
            ch => Item::Char(ch),
        };
        Ok(Some(item))
    }

    fn class_write(&mut self, item: &Item) {
        match item {
            Item::Char(ch) => self.class_char(*ch),
            Item::Set(name) => self.out.push_str(self.set(*name).unwrap_or_default()),
        }
    }

    fn class_char(&mut self, ch: char) {
        self.escaped(ch);
        if self.folded {
            self.other_cases(ch);
        }
    }

    /// Writes the other cases of a character into a class: `regex-lite` knows those of ASCII only.
    fn other_cases(&mut self, ch: char) {
        if ch.is_ascii() {
            return;
        }
        let upper_case = upper(ch);
        if upper_case != ch {
            self.escaped(upper_case);
        }
        if let Some(lower_case) = single(ch.to_lowercase()).filter(|&lower| lower != ch && upper(lower) == upper_case) {
            self.escaped(lower_case);
        }
    }
}

/// What JavaScript compares without case: the upper case, where it is one character and does not turn into ASCII.
pub(crate) fn upper(ch: char) -> char {
    single(ch.to_uppercase()).filter(|upper| ch.is_ascii() || !upper.is_ascii()).unwrap_or(ch)
}

fn single(mut chars: impl Iterator<Item = char>) -> Option<char> {
    let first = chars.next();
    if chars.next().is_some() { None } else { first }
}
