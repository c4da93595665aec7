//! Regular expressions that Python and Rust's engines read in the same way, translated to JavaScript's. PostHog's SDK decides
//! those, and leaves the others to its service.

use std::iter::{Peekable, from_fn};
use std::str::Chars;

/// A translated pattern, and the features of it on which texts the engines may differ.
#[derive(Default)]
pub(crate) struct Translation {
    /// The pattern in JavaScript's syntax.
    pub(crate) pattern: String,
    has_words: bool,
    has_spaces: bool,
    has_end: bool,
    has_repetition: bool,
}

type Rest<'a> = Peekable<Chars<'a>>;

impl Translation {
    /// Translates `pattern`. None if the engines may differ; an invalid pattern stays invalid.
    pub(crate) fn new(pattern: &str) -> Option<Translation> {
        let mut translation = Translation::default();
        translation.run(&mut pattern.chars().peekable())?;
        Some(translation)
    }

    /// Whether the engines agree about `text`.
    pub(crate) fn supports(&self, text: &str) -> bool {
        // Classes differ beyond ASCII. Letters and digits there are in each of them.
        let is_odd_word = |ch: char| !ch.is_ascii() && !ch.is_alphanumeric();
        let is_odd_space = |ch: char| ('\u{1c}'..='\u{1f}').contains(&ch);
        !(self.has_end && self.has_repetition && text.ends_with('\n')
            || self.has_words && text.contains(is_odd_word)
            || self.has_spaces && text.contains(is_odd_space))
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
        self.has_words |= matches!(ch, 'w' | 'W');
        self.has_spaces |= matches!(ch, 's' | 'S');
        match (ch, in_class) {
            // A text with other characters beyond ASCII than letters and digits is undecided.
            ('w', false) => self.pattern.push_str("[\\w\u{80}-\u{10ffff}]"),
            ('w', true) => self.pattern.push_str("\\w\u{80}-\u{10ffff}"),
            ('W', false) => self.pattern.push_str("[^\\w\u{80}-\u{10ffff}]"),
            ('W', true) => self.pattern.push_str("\\x00-\\/:-@\\[-\\^`{-\\x7f"),
            ('x', _) => {
                let digits: String = from_fn(|| rest.next_if(char::is_ascii_hexdigit)).take(2).collect();
                self.pattern.extend(["\\x", &digits]);
                (digits.len() == 2).then_some(())?;
            }
            ('d' | 'D' | 's' | 'S' | 'f' | 'n' | 'r' | 't', _) | ('b', true) => self.pattern.extend(['\\', ch]),
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

#[cfg(test)]
mod tests {
    use super::*;
    use edgesplit_engine::condition::request_budget;
    use js_regex::JsRegex;

    /// Whether `text` matches, None for an invalid pattern; or none where the engines differ.
    fn decided(pattern: &str, text: &str) -> Option<Option<bool>> {
        let translation = Translation::new(pattern)?;
        let Ok(regex) = JsRegex::compile(&translation.pattern, false) else { return Some(None) };
        translation.supports(text).then(|| regex.is_match(text, &request_budget()).ok())
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
