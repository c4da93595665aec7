//! Text for people: on a terminal, in the proxy's log, on the dashboard.
//!
//! Configs, payloads and requests may contain characters that move the cursor, forge lines of a log or reverse the order
//! of the text. They are escaped wherever a person reads them.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with control characters (C0, DEL, C1), line separators and bidi controls as `\u{XXXX}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_unprintable(char) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{{{:x}}}", u32::from(char));
        } else {
            escaped.push(char);
        }
    }
    Cow::Owned(escaped)
}

fn is_unprintable(char: char) -> bool {
    let is_line_separator = matches!(char, '\u{2028}' | '\u{2029}');
    let is_bidi =
        matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    char.is_control() || is_line_separator || is_bidi
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_bidi_are_escaped() {
        for (text, expected) in [
            ("grün – 1 %\u{1f600}", "grün – 1 %\u{1f600}"),
            ("a\x1b[31m\r\n\tb", r"a\u{1b}[31m\u{d}\u{a}\u{9}b"),
            ("\u{9b}2J\x7f", r"\u{9b}2J\u{7f}"),
            ("user\u{202e}nimda\u{2066}\u{2028}", r"user\u{202e}nimda\u{2066}\u{2028}"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }
}
