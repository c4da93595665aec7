//! Regular expressions, as far as PostHog's SDK decides them: those that Python and PostHog's server read in the same way.

use super::verdict::Cause;
use crate::conditions::{PatternError, SavedGroups};
use crate::metered::Metered;
use js_regex::{CompileError, JsRegex};

pub(super) struct Pattern {
    regex: JsRegex,
    scan: Scan,
}

/// Only the server decides a pattern.
pub(super) struct Unsupported;

/// The translation of a pattern, and the features that matter.
#[derive(Default)]
struct Scan {
    out: String,
    has_words: bool,
    has_spaces: bool,
    has_end: bool,
    has_repetition: bool,
}

impl Pattern {
    /// Compiles a pattern. None if it is invalid.
    pub(super) fn compile(pattern: &str, patterns: &mut SavedGroups) -> Result<Option<Pattern>, Unsupported> {
        let mut scan = Scan::default();
        scan.run(pattern).ok_or(Unsupported)?;
        match patterns.pattern(&std::mem::take(&mut scan.out), false) {
            Ok(regex) => Ok(Some(Pattern { regex, scan })),
            Err(PatternError::Compile(CompileError::Invalid(_))) => Ok(None),
            Err(_) => Err(Unsupported),
        }
    }

    /// Whether `text` matches.
    pub(super) fn matches(&self, text: &str, context: &Metered<'_>) -> Result<bool, Cause> {
        let Scan { has_words, has_spaces, has_end, has_repetition, .. } = self.scan;
        // Classes differ beyond ASCII. Letters and digits there are in each of them.
        let is_odd_word = |ch: char| !ch.is_ascii() && !ch.is_alphanumeric();
        let is_odd_space = |ch: char| ('\u{1c}'..='\u{1f}').contains(&ch);
        if has_end && has_repetition && text.ends_with('\n')
            || has_words && text.contains(is_odd_word)
            || has_spaces && text.contains(is_odd_space)
        {
            return Err(Cause::Definition);
        }
        Ok(context.within(self.regex.is_match(text, context.visitor.steps)))
    }
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

impl Scan {
    /// Translates `pattern` to JavaScript. None if the SDK leaves it to the server.
    fn run(&mut self, pattern: &str) -> Option<()> {
        let mut rest = pattern.chars().peekable();
        // Whether each open group has a repetition, the last closed one, and the character before.
        let (mut groups, mut closed, mut previous) = (Vec::new(), false, '\0');
        while let Some(ch) = rest.next() {
            self.has_end |= ch == '$';
            self.has_repetition |= matches!(ch, '*' | '+' | '?' | '{' | '|');
            match ch {
                '\\' => match rest.next() {
                    Some('<' | '>') => return None,
                    Some('x') => {
                        let digits: String = rest.by_ref().take(2).collect();
                        if digits.len() != 2 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                            return None;
                        }
                        self.out.push_str("\\x");
                        self.out.push_str(&digits);
                    }
                    Some(escaped) => self.escape(escaped, false)?,
                    None => self.out.push('\\'),
                },
                '[' => self.class(&mut rest)?,
                '(' => {
                    groups.push(false);
                    self.out.push('(');
                    if rest.next_if_eq(&'?').is_some() {
                        rest.next_if_eq(&':')?;
                        self.out.push_str("?:");
                    }
                }
                ')' => {
                    closed = groups.pop().unwrap_or(false);
                    if let Some(outer) = groups.last_mut() {
                        *outer |= closed;
                    }
                    self.out.push(')');
                }
                '*' | '+' | '?' | '{' => {
                    if previous == ')' && closed || matches!(previous, '^' | '$') {
                        return None;
                    }
                    if let Some(group) = groups.last_mut() {
                        *group = true;
                    }
                    self.out.push(ch);
                    if ch == '{' {
                        self.bounds(&mut rest, previous)?;
                    }
                    if matches!(rest.peek(), Some('+' | '{')) {
                        return None;
                    }
                    previous = if ch == '{' { '}' } else { ch };
                    continue;
                }
                '.' => self.out.push_str("[^\\n]"),
                ']' | '}' => self.out.extend(['\\', ch]),
                ch => self.out.push(ch),
            }
            // Escapes, classes and literals are alike.
            previous = if matches!(ch, '(' | ')' | '|' | '^' | '$') { ch } else { 'x' };
        }
        Some(())
    }

    /// Translates the bounds of a repetition behind their brace. `previous` stands before it.
    fn bounds(&mut self, rest: &mut Characters<'_>, previous: char) -> Option<()> {
        let bounds: String = std::iter::from_fn(|| rest.next_if(|ch| *ch != '}')).collect();
        let (min, max) = bounds.split_once(',').unwrap_or((&bounds, ""));
        let is_number = |text: &str| text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_placed = !matches!(previous, '\0' | '|' | '(' | '*' | '+' | '?' | '}');
        if min.is_empty() || !is_number(min) || !is_number(max) || !is_placed {
            return None;
        }
        rest.next_if_eq(&'}')?;
        self.out.push_str(&bounds);
        self.out.push('}');
        Some(())
    }

    fn escape(&mut self, escaped: char, in_class: bool) -> Option<()> {
        self.has_words |= matches!(escaped, 'w' | 'W');
        self.has_spaces |= matches!(escaped, 's' | 'S');
        let is_punctuation = matches!(escaped, ' '..='~') && !escaped.is_ascii_alphanumeric();
        match (escaped, in_class) {
            // A text with other characters beyond ASCII than letters and digits is undecided.
            ('w', false) => self.out.push_str("[\\w\u{80}-\u{10ffff}]"),
            ('w', true) => self.out.push_str("\\w\u{80}-\u{10ffff}"),
            ('W', false) => self.out.push_str("[^\\w\u{80}-\u{10ffff}]"),
            ('W', true) => self.out.push_str("\\x00-\\/:-@\\[-\\^`{-\\x7f"),
            ('d' | 'D' | 's' | 'S' | 'f' | 'n' | 'r' | 't', _) | ('b', true) => self.out.extend(['\\', escaped]),
            (_, false) if is_punctuation => self.out.extend(['\\', escaped]),
            (_, true) if r"\-[]^.$*+?(){}|".contains(escaped) => self.out.extend(['\\', escaped]),
            _ => return None,
        }
        Some(())
    }

    /// Translates a class behind its bracket.
    fn class(&mut self, rest: &mut Characters<'_>) -> Option<()> {
        self.out.push('[');
        if rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        if rest.peek() == Some(&']') {
            return None;
        }
        // Neither end of a range is a class of characters.
        let (mut after_class, mut after_dash) = (false, false);
        loop {
            let Some(ch) = rest.next() else { return Some(()) };
            let mut is_class = false;
            match ch {
                ']' => break,
                '[' => return None,
                '&' | '~' | '-' if rest.peek() == Some(&ch) => return None,
                '-' if after_class && rest.peek() != Some(&']') => return None,
                '\\' => {
                    let escaped = rest.next()?;
                    is_class = matches!(escaped, 'd' | 'D' | 's' | 'S' | 'w' | 'W');
                    if is_class && after_dash {
                        return None;
                    }
                    self.escape(escaped, true)?;
                }
                ch => self.out.push(ch),
            }
            (after_class, after_dash) = (is_class, ch == '-');
        }
        self.out.push(']');
        Some(())
    }
}
