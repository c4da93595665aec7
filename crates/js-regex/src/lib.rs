//! JavaScript's regular expressions, as GrowthBook's rules use them.
//!
//! A pattern is read as JavaScript reads it without flags or with `i` (ECMA-262, with its Annex B) and compiled to a program, which
//! is that of Pike's and Thompson's matchers. It runs in time bounded by pattern times text, or, with look-around or
//! back-references, by a number of steps. What is left over: a character beyond U+FFFF is one character here, two there.

mod backtrack;
mod parse;
mod program;
mod scan;

use program::Program;

/// How long a pattern may be.
const REGEX_PATTERN_BYTES_MAX: usize = 4096;

/// A compiled JavaScript pattern.
#[derive(Debug, Clone)]
pub struct JsRegex(Program);

impl JsRegex {
    /// Compiles a JavaScript pattern, with the flag `i` where `folded`. The error says what is wrong with it.
    pub fn compile(pattern: &str, folded: bool) -> Result<JsRegex, String> {
        if pattern.len() > REGEX_PATTERN_BYTES_MAX {
            return Err(format!("is longer than {REGEX_PATTERN_BYTES_MAX} bytes"));
        }
        Program::compile(pattern, folded).map(JsRegex)
    }

    /// Whether some part of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// What JavaScript compares without case: the upper case, where it is one character and does not turn into ASCII.
pub fn upper(ch: char) -> char {
    single(ch.to_uppercase()).filter(|upper| ch.is_ascii() || !upper.is_ascii()).unwrap_or(ch)
}

fn single(mut chars: impl Iterator<Item = char>) -> Option<char> {
    let first = chars.next();
    if chars.next().is_some() { None } else { first }
}
