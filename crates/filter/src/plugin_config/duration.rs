//! Durations: a decimal number and its unit, such as `250ms`, `10s`, `0.25s`, `5m` or `8760h`.
//!
//! A bare number is refused, because it could mean seconds or milliseconds.

use edgesplit_formats::diagnostics::{Node, Problems};
use edgesplit_formats::document::Kind;
use serde_json::{Value, json};

pub(super) const SECOND_MS: u64 = 1000;
pub(super) const MINUTE_MS: u64 = 60 * SECOND_MS;
pub(super) const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Units in milliseconds, the longest first.
const UNITS: [(&str, u64); 4] = [("h", HOUR_MS), ("m", MINUTE_MS), ("s", SECOND_MS), ("ms", 1)];

/// As many as a protobuf duration has; keeps the arithmetic within 64 bits.
const FRACTION_DIGITS_MAX: usize = 9;

/// Why a text is no duration.
#[derive(Debug, PartialEq, Eq)]
enum Flaw {
    /// It does not read as number and unit.
    Syntax,
    /// It does not come out as whole milliseconds.
    Fraction,
    /// It is longer than 64 bits of milliseconds.
    Overflow,
}

/// A duration, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Millis {
    min_ms: u64,
    max_ms: u64,
}

/// A duration from `min_ms` to `max_ms`.
pub(super) const fn millis(min_ms: u64, max_ms: u64) -> Millis {
    Millis { min_ms, max_ms }
}

impl Kind for Millis {
    type Value = u64;

    fn expected(&self) -> String {
        format!("a duration from {} to {}", show_ms(self.min_ms), show_ms(self.max_ms))
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<u64> {
        match node.value.as_str().ok_or(Flaw::Syntax).and_then(parse) {
            Ok(ms) if (self.min_ms..=self.max_ms).contains(&ms) => return Some(ms),
            Ok(_) | Err(Flaw::Overflow) => node.expected(problems, &self.expected()),
            Err(Flaw::Fraction) => node.expected(problems, "a duration of whole milliseconds"),
            Err(Flaw::Syntax) => {
                node.expected(problems, r#"a duration such as "10s" (a number and one of the units ms, s, m, h)"#);
            }
        }
        None
    }

    fn schema(&self) -> Value {
        let bounds = format!("From {} to {}.", show_ms(self.min_ms), show_ms(self.max_ms));
        json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)$", "description": bounds})
    }

    fn show(&self, ms: &u64) -> Option<Value> {
        Some(json!(show_ms(*ms)))
    }
}

/// A duration of whole seconds, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds(pub(super) Millis);

impl Kind for Seconds {
    type Value = u64;

    fn expected(&self) -> String {
        self.0.expected()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<u64> {
        let ms = self.0.read(node, problems)?;
        if !ms.is_multiple_of(SECOND_MS) {
            node.expected(problems, "a duration of whole seconds");
            return None;
        }
        Some(ms / SECOND_MS)
    }

    fn schema(&self) -> Value {
        self.0.schema()
    }

    fn show(&self, seconds: &u64) -> Option<Value> {
        self.0.show(&(seconds * SECOND_MS))
    }
}

/// How a duration is shown: in the longest unit in which it is whole.
pub(super) fn show_ms(ms: u64) -> String {
    let whole = UNITS.iter().find(|(_, unit_ms)| ms > 0 && ms.is_multiple_of(*unit_ms));
    whole.map_or(format!("{ms}ms"), |(unit, unit_ms)| format!("{}{unit}", ms / unit_ms))
}

/// The duration in `text`, in milliseconds, if it is one.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    parse(text).ok()
}

fn parse(text: &str) -> Result<u64, Flaw> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(Flaw::Syntax)?;
    let (number, unit) = text.split_at_checked(end).ok_or(Flaw::Syntax)?;
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(Flaw::Syntax)?;
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return Err(Flaw::Syntax),
        Some((whole, fraction)) => (whole, fraction.trim_end_matches('0')),
        None => (number, ""),
    };
    if whole.is_empty() || fraction.contains('.') {
        return Err(Flaw::Syntax);
    }
    if fraction.len() > FRACTION_DIGITS_MAX {
        return Err(Flaw::Fraction);
    }
    // Only digits are left, so parsing fails on nothing but overflow.
    let whole: u64 = whole.parse().map_err(|_| Flaw::Overflow)?;
    let (mut parts, mut of) = (0, 1);
    for digit in fraction.bytes() {
        parts = parts * 10 + u64::from(digit - b'0');
        of *= 10;
    }
    let scaled = parts * unit_ms;
    if !scaled.is_multiple_of(of) {
        return Err(Flaw::Fraction);
    }
    whole.checked_mul(*unit_ms).and_then(|ms| ms.checked_add(scaled / of)).ok_or(Flaw::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_syntax() {
        for (text, expected) in [
            ("250ms", Ok(250)),
            ("10s", Ok(10_000)),
            ("5m", Ok(300_000)),
            ("1h", Ok(3_600_000)),
            ("8760h", Ok(31_536_000_000)),
            ("0.25s", Ok(250)),
            ("0.250000000000s", Ok(250)),
            ("1.5h", Ok(5_400_000)),
            ("0s", Ok(0)),
            ("007s", Ok(7000)),
            ("1.0ms", Ok(1)),
            ("0.5ms", Err(Flaw::Fraction)),
            ("0.0001s", Err(Flaw::Fraction)),
            ("0.1234567891h", Err(Flaw::Fraction)),
            ("18446744073709551616ms", Err(Flaw::Overflow)),
            ("18446744073709551615s", Err(Flaw::Overflow)),
            ("18446744073709551615.999s", Err(Flaw::Overflow)),
            ("", Err(Flaw::Syntax)),
            ("10", Err(Flaw::Syntax)),
            ("s", Err(Flaw::Syntax)),
            (".5s", Err(Flaw::Syntax)),
            ("1.s", Err(Flaw::Syntax)),
            ("1.2.3s", Err(Flaw::Syntax)),
            ("-5s", Err(Flaw::Syntax)),
            ("+5s", Err(Flaw::Syntax)),
            ("1 s", Err(Flaw::Syntax)),
            ("1h30m", Err(Flaw::Syntax)),
            ("1d", Err(Flaw::Syntax)),
            ("1S", Err(Flaw::Syntax)),
            ("1é", Err(Flaw::Syntax)),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn duration_is_shown_in_its_longest_whole_unit() {
        for (ms, expected) in
            [(0, "0ms"), (1, "1ms"), (1500, "1500ms"), (90_000, "90s"), (300_000, "5m"), (86_400_000, "24h")]
        {
            assert_eq!(show_ms(ms), expected);
        }
    }
}
