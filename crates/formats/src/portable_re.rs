//! Regular expressions that Python and Rust's engines read in the same way, translated to JavaScript's. PostHog's SDK decides
//! those, and leaves the others to its service.

use crate::re2::UNICODE_SPACES;
use std::borrow::Cow;
use std::iter::{Peekable, from_fn};
use std::str::Chars;

/// A translated pattern, and the features of it on which texts the engines may differ.
#[derive(Default)]
pub(crate) struct Translation {
    /// The pattern in JavaScript's syntax.
    pub(crate) pattern: String,
    has_digits: bool,
    /// Whether the pattern has a character from the first digit beyond ASCII on.
    has_late: bool,
    has_words: bool,
    has_spaces: bool,
    has_end: bool,
    has_repetition: bool,
}

type Rest<'a> = Peekable<Chars<'a>>;

impl Translation {
    /// Translates `pattern`. None if the engines may differ; an invalid pattern stays invalid.
    pub(crate) fn new(pattern: &str) -> Option<Translation> {
        let mut translation =
            Translation { has_late: pattern.contains(|ch| ch >= FIRST_DIGIT), ..Translation::default() };
        translation.run(&mut pattern.chars().peekable())?;
        Some(translation)
    }

    /// The text to match instead of `text`. None if the engines may differ about it.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        // Classes differ beyond ASCII. Letters and digits there are in each of them.
        let is_odd_word = |ch: char| !ch.is_ascii() && !ch.is_alphabetic() && !is_late_digit(ch);
        let is_odd_space = |ch: char| ('\u{1c}'..='\u{1f}').contains(&ch);
        if self.has_end && self.has_repetition && text.ends_with('\n')
            || self.has_words && text.contains(is_odd_word)
            || self.has_spaces && text.contains(is_odd_space)
        {
            return None;
        }
        if !self.has_digits || !text.contains(is_late_digit) {
            return Some(Cow::Borrowed(text));
        }
        // One digit stands for all of them: a pattern without such characters cannot distinguish them.
        let digits = text.chars().map(|ch| if is_late_digit(ch) { FIRST_DIGIT } else { ch });
        (!self.has_late).then(|| digits.collect())
    }

    fn run(&mut self, rest: &mut Rest<'_>) -> Option<()> {
        // Whether each open group and the last closed one have a repetition, and the kind of the element before.
        let (mut groups, mut closed, mut previous) = (Vec::new(), false, START);
        while let Some(ch) = rest.next() {
            self.has_end |= ch == '$';
            self.has_repetition |= matches!(ch, '*' | '+' | '?' | '{' | '|');
            match ch {
                '\\' => drop(self.escape(rest, false)?),
                '[' => self.class(rest)?,
                '(' => {
                    groups.push(false);
                    self.pattern.push('(');
                    if rest.next_if_eq(&'?').is_some() {
                        rest.next_if_eq(&':')?;
                        self.pattern.push_str("?:");
                    }
                }
                '*' | '+' | '?' | '{' => {
                    if previous == ')' && closed || matches!(previous, '^' | '$' | EMPTY_GROUP) {
                        return None;
                    }
                    self.pattern.push(ch);
                    if ch == '{' {
                        self.bounds(rest).filter(|()| !matches!(previous, START | '|' | '(' | REPETITION))?;
                    }
                    if matches!(rest.peek(), Some('+' | '{')) {
                        return None;
                    }
                }
                ')' => {
                    closed = groups.pop().unwrap_or(false);
                    self.pattern.push(')');
                }
                '.' => self.pattern.push_str("[^\\n]"),
                ']' | '}' => self.pattern.extend(['\\', ch]),
                ch => self.pattern.push(ch),
            }
            previous = match ch {
                '*' | '+' | '?' | '{' => REPETITION,
                ')' if matches!(previous, '(' | EMPTY_GROUP) => EMPTY_GROUP,
                '(' | ')' | '|' | '^' | '$' => ch,
                _ => LITERAL,
            };
            if (previous == REPETITION || ch == ')' && closed)
                && let Some(group) = groups.last_mut()
            {
                *group = true;
            }
        }
        Some(())
    }

    /// Translates the bounds of a repetition behind their brace.
    fn bounds(&mut self, rest: &mut Rest<'_>) -> Option<()> {
        let bounds: String = from_fn(|| rest.next_if(|ch| *ch != '}')).collect();
        let (min, max) = bounds.split_once(',').unwrap_or((&bounds, ""));
        let is_number = |text: &str| text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
        self.pattern.extend([&bounds, "}"]);
        rest.next_if_eq(&'}').filter(|_| !min.is_empty() && is_number(min) && is_number(max)).map(drop)
    }

    /// Translates an escape behind its backslash. Gives whether it is a class of characters.
    fn escape(&mut self, rest: &mut Rest<'_>, in_class: bool) -> Option<bool> {
        let Some(ch) = rest.next() else {
            self.pattern.push('\\');
            return Some(false);
        };
        self.has_digits |= matches!(ch, 'd' | 'D');
        self.has_words |= matches!(ch, 'w' | 'W');
        self.has_spaces |= matches!(ch, 's' | 'S');
        match (ch, in_class) {
            // A text with other characters beyond ASCII than letters and digits is undecided.
            ('w', false) => self.pattern.push_str("[\\w\u{80}-\u{10ffff}]"),
            ('w', true) => self.pattern.push_str("\\w\u{80}-\u{10ffff}"),
            ('W', false) => self.pattern.push_str("[^\\w\u{80}-\u{10ffff}]"),
            ('W', true) => self.pattern.push_str("\\x00-\\/:-@\\[-\\^`{-\\x7f"),
            ('d', false) => self.pattern.push_str("[\\d\u{660}]"),
            ('d', true) => self.pattern.push_str("\\d\u{660}"),
            ('D', false) => self.pattern.push_str("[^\\d\u{660}]"),
            ('D', true) => self.pattern.push_str("\\x00-\\/:-\u{65f}\u{661}-\u{10ffff}"),
            // Python's white space also has U+001C to U+001F. A text with one of them is undecided.
            ('s', false) => self.pattern.extend(["[", UNICODE_SPACES, "]"]),
            ('s', true) => self.pattern.push_str(UNICODE_SPACES),
            ('S', false) => self.pattern.extend(["[^", UNICODE_SPACES, "]"]),
            ('S', true) => self.pattern.push_str(OTHERS),
            ('x', _) => {
                let digits: String = from_fn(|| rest.next_if(char::is_ascii_hexdigit)).take(2).collect();
                self.pattern.extend(["\\x", &digits]);
                (digits.len() == 2).then_some(())?;
            }
            ('f' | 'n' | 'r' | 't', _) | ('b', true) => self.pattern.extend(['\\', ch]),
            ('<' | '>' | '\u{7f}'.., false) => return None,
            (_, false) if ch >= ' ' && !ch.is_ascii_alphanumeric() => self.pattern.extend(['\\', ch]),
            (_, true) if r"\-[]^.$*+?(){}|".contains(ch) => self.pattern.extend(['\\', ch]),
            _ => return None,
        }
        Some(matches!(ch, 'd' | 'D' | 's' | 'S' | 'w' | 'W'))
    }

    /// Translates a class behind its bracket.
    fn class(&mut self, rest: &mut Rest<'_>) -> Option<()> {
        self.pattern.push('[');
        self.pattern.extend(rest.next_if_eq(&'^'));
        if rest.peek() == Some(&']') {
            return None;
        }
        // Neither end of a range is a class of characters.
        let (mut after_class, mut after_dash) = (false, false);
        while let Some(ch) = rest.next() {
            let mut is_class = false;
            match ch {
                ']' => {
                    self.pattern.push(']');
                    break;
                }
                '[' => return None,
                '&' | '~' | '-' if rest.peek() == Some(&ch) => return None,
                '-' if after_class && rest.peek() != Some(&']') => return None,
                '\\' => is_class = self.escape(rest, true)?,
                ch => self.pattern.push(ch),
            }
            if is_class && after_dash {
                return None;
            }
            (after_class, after_dash) = (is_class, ch == '-');
        }
        Some(())
    }
}

/// The kinds of elements that a repetition may follow, beside the characters that stand for themselves.
const START: char = '\0';
const LITERAL: char = 'x';
const REPETITION: char = '*';
const EMPTY_GROUP: char = '0';

/// The characters that are no white space.
const OTHERS: &str = "\\x00-\\x08\\x0e-\\x1f!-\u{84}\u{86}-\u{9f}\u{a1}-\u{167f}\u{1681}-\u{1fff}\u{200b}-\u{2027}\u{202a}-\u{202e}\
    \u{2030}-\u{205e}\u{2060}-\u{2fff}\u{3001}-\u{10ffff}";

const FIRST_DIGIT: char = '\u{660}';

/// The decimal digits zero beyond ASCII. The other nine follow each.
const ZEROS: [u32; 65] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
    0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0,
    0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0,
    0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0,
    0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

fn is_late_digit(ch: char) -> bool {
    let code = u32::from(ch);
    let before = ZEROS.partition_point(|zero| *zero <= code).checked_sub(1);
    before.and_then(|at| ZEROS.get(at)).is_some_and(|zero| code - zero < 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgesplit_engine::condition::request_budget;
    use js_regex::JsRegex;

    /// Whether `text` matches, None for an invalid pattern; or none where the engines differ.
    fn decided(pattern: &str, text: &str) -> Option<Option<bool>> {
        let translation = Translation::new(pattern)?;
        let Ok(regex) = JsRegex::compile(&translation.pattern, false) else { return Some(None) };
        translation.text(text).map(|text| regex.is_match(&text, &request_budget()).ok())
    }

    #[test]
    fn patterns_are_decided_where_the_engines_agree() {
        for (pattern, text, expected) in [
            (r"\.com$", "a@b.com", Some(Some(true))),
            (r"^\w+$", "größe", Some(Some(true))),
            (r"^[\w.]+$", "größe.x", Some(Some(true))),
            (r"[\x41-C]\x42", "BB", Some(Some(true))),
            ("a{2,3}", "aa", Some(Some(true))),
            ("a.b", "a\u{2028}b", Some(Some(true))),
            ("", "a", Some(Some(true))),
            (r"^\d+$", "1\u{661}\u{ff19}", Some(Some(true))),
            (r"^[\d.]+$", "\u{661}.2", Some(Some(true))),
            (r"^\D$", "\u{661}", Some(Some(false))),
            (r"[\D]", "\u{661}", Some(Some(false))),
            (r"^[\D]{2}$", "a\u{66a}", Some(Some(true))),
            (r"\d", "\u{b2}", Some(Some(false))),
            ("^[^0-9]$", "\u{661}", Some(Some(true))),
            ("\\d|\u{666}", "\u{661}", None),
            (r"^\w$", "\u{661}", Some(Some(true))),
            (r"^\W$", "\u{b2}", None),
            (r"^\s+$", "\u{85}\u{b}\u{3000}", Some(Some(true))),
            (r"\s", "\u{feff}", Some(Some(false))),
            (r"[\s]", "\u{feff}", Some(Some(false))),
            (r"^\S$", "\u{feff}", Some(Some(true))),
            (r"^[\S]$", "\u{feff}", Some(Some(true))),
            (r"\S", "\u{85}", Some(Some(false))),
            (r"[\S]", "\u{85}", Some(Some(false))),
            (r"\w", "a€", None),
            ("a+$", "a\n", None),
            (r"\bcat", "cat", None),
            (r"\x4", "x4", None),
            ("(?i)a", "A", None),
            ("(?=a)", "a", None),
            ("(a+)+", "a", None),
            ("()?a", "a", None),
            ("a{,3}", "aa", None),
            ("[[:alpha:]]", "a", None),
            ("(", "a", Some(None)),
            ("a**", "a", Some(None)),
            (r"[\", "a", Some(None)),
        ] {
            assert_eq!(decided(pattern, text), expected, "{pattern}");
        }
    }
}
