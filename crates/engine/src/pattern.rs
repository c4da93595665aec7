//! Patterns for paths and hosts: literal text in which `*` stands for any run of bytes, `/` included.

use super::condition::{LimitExceeded, StepBudget};
use memchr::memmem;

/// The number of bytes that are searched for a literal piece in one step.
const SEARCHED_BYTES_PER_STEP: usize = 4;
/// The number of bytes that are compared at a known position in one step.
const COMPARED_BYTES_PER_STEP: usize = 64;

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The literal pieces between the stars: one piece means no star at all.
    pieces: Vec<Box<[u8]>>,
}

impl Pattern {
    /// Compiles `text`. Every text is a pattern.
    pub fn new(text: &str) -> Pattern {
        Pattern { pieces: text.as_bytes().split(|&byte| byte == b'*').map(Box::from).collect() }
    }

    /// A pattern with stars between the literal `pieces`.
    pub fn of_pieces<'a>(pieces: impl Iterator<Item = &'a str>) -> Pattern {
        Pattern { pieces: pieces.map(|piece| Box::from(piece.as_bytes())).collect() }
    }

    /// Compiles `text` for names without case, such as hosts. Match it against lower case.
    pub fn ignoring_case(text: &str) -> Pattern {
        Pattern::new(&text.to_ascii_lowercase())
    }

    /// The pattern as it is written.
    pub fn text(&self) -> String {
        self.pieces.iter().map(|piece| String::from_utf8_lossy(piece)).collect::<Vec<_>>().join("*")
    }

    /// The literal text before the first star.
    pub fn prefix(&self) -> &[u8] {
        self.pieces.first().map_or(&[], |piece| piece)
    }

    /// Whether the pattern has no star and matches its own text only.
    pub fn is_exact(&self) -> bool {
        self.pieces.len() == 1
    }

    /// Whether every text matches that starts with the prefix.
    pub fn is_prefix(&self) -> bool {
        matches!(self.pieces.as_slice(), [_, rest] if rest.is_empty())
    }

    /// Whether the index of routes decides completely if a text matches: the pattern has no star, or only one at its end.
    pub(crate) fn is_known_by_prefix(&self) -> bool {
        self.is_exact() || self.is_prefix()
    }

    /// Whether `text` starts with the prefix, or equals a pattern without a star.
    pub(crate) fn starts_or_equals(&self, text: &[u8]) -> bool {
        if self.is_exact() { *text == *self.prefix() } else { text.starts_with(self.prefix()) }
    }

    /// Whether `text` matches. The work is linear in the two lengths, however many stars there are: a literal piece is
    /// taken at its first place, which is never worse than a later one.
    pub fn matches(&self, text: &[u8]) -> bool {
        let [first, rest @ ..] = self.pieces.as_slice() else { return false };
        if let [last] = rest
            && last.is_empty()
        {
            return text.starts_with(first);
        }
        let [middle @ .., last] = rest else { return **first == *text };
        let Some(text) = text.strip_prefix(&**first) else { return false };
        let Some(mut text) = text.strip_suffix(&**last) else { return false };
        for piece in middle {
            match find(text, piece) {
                Some(after) => text = after,
                None => return false,
            }
        }
        true
    }

    /// Whether `text` matches, if the budget has the steps to find out. They depend on the length of `text` only if the
    /// pattern has literal text between two stars.
    pub fn matches_within(&self, text: &[u8], steps: &StepBudget) -> Result<bool, LimitExceeded> {
        let ends = self.prefix().len().min(text.len()) + self.suffix().len().min(text.len());
        spend(1 + ends / COMPARED_BYTES_PER_STEP, steps)?;
        if !text.starts_with(self.prefix()) {
            return Ok(false);
        }
        if self.middle_bytes() > 0 {
            spend(text.len() / SEARCHED_BYTES_PER_STEP, steps)?;
        }
        Ok(self.matches(text))
    }

    /// Whether some text matches both patterns.
    pub fn meets(&self, other: &Pattern) -> bool {
        let shorter = self.prefix().len().min(other.prefix().len());
        if self.prefix().get(..shorter) != other.prefix().get(..shorter) {
            return false;
        }
        if other.is_exact() {
            return self.matches(other.prefix());
        }
        if self.is_exact() {
            return other.matches(self.prefix());
        }
        // Both have a star. Between their stars anything can be padded in, so only the two literal ends can disagree.
        let (a, b) = (self.suffix(), other.suffix());
        a.ends_with(b) || b.ends_with(a)
    }

    /// About how many bytes [`Pattern::meets`] compares at most.
    pub fn comparison_bytes(&self, other: &Pattern) -> usize {
        let ends = self.prefix().len().min(other.prefix().len()) + self.suffix().len().min(other.suffix().len());
        let searches = match (self.is_exact(), other.is_exact()) {
            (true, false) => self.prefix().len().saturating_mul(other.middle_bytes()),
            (false, true) => other.prefix().len().saturating_mul(self.middle_bytes()),
            _ => 0,
        };
        ends.saturating_add(searches)
    }

    /// The number of literal bytes between the first star and the last.
    fn middle_bytes(&self) -> usize {
        match self.pieces.as_slice() {
            [_, middle @ .., _] => middle.iter().map(|piece| piece.len()).sum(),
            _ => 0,
        }
    }

    fn suffix(&self) -> &[u8] {
        self.pieces.last().map_or(&[], |piece| piece)
    }
}

/// The text behind the first occurrence of `piece`.
fn find<'a>(text: &'a [u8], piece: &[u8]) -> Option<&'a [u8]> {
    let at = memmem::find(text, piece)?;
    text.get(at + piece.len()..)
}

fn spend(count: usize, steps: &StepBudget) -> Result<(), LimitExceeded> {
    steps.spend(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_matches_any_run_of_bytes() {
        for (pattern, text, expected) in [
            ("/checkout", "/checkout", true),
            ("/checkout", "/checkout/", false),
            ("/checkout*", "/checkout", true),
            ("/checkout*", "/checkout/a/b", true),
            ("/checkout*", "/check", false),
            ("*", "", true),
            ("/*", "", false),
            ("*.js", "/a/b.js", true),
            ("*.js", "/a/b.jsx", false),
            ("/a*b*c", "/a-b-c", true),
            ("/a*b*c", "/a-c-b", false),
            ("/ab*b", "/ab", false),
            ("/a**b", "/ab", true),
            ("/a*bb*b", "/abb", false),
            ("/a*bb*b", "/abbb", true),
            ("", "", true),
            ("", "/", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn text_need_not_be_utf8() {
        for (pattern, text, expected) in [
            ("*ab*", &b"\xffab\xff"[..], true),
            ("*ab*", b"a\xffb", false),
            ("*ä*c*", b"\xc3\xc3\xa4\xc3c", true),
            ("*ä*c*", b"c\xc3\xa4\xe2\x82", false),
            ("*a*", b"", false),
            ("/**\u{fffd}*", b"/\xff", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} on {text:?}");
        }
    }

    #[test]
    fn matching_takes_linear_time() {
        takes_linear_time(b'a');
        takes_linear_time(b'\xff');
    }

    fn takes_linear_time(byte: u8) {
        let seconds = |length: usize| {
            let pattern = Pattern::new(&format!("*{}b*", "a".repeat(length / 2)));
            let text = vec![byte; length];
            let times = (0..20).map(|_| {
                let start = std::time::Instant::now();
                assert!(!pattern.matches(std::hint::black_box(&text)));
                start.elapsed().as_secs_f64()
            });
            times.fold(f64::MAX, f64::min)
        };
        // Quadratic work would take 900 times as long.
        assert!((0..5).any(|_| seconds(90_000) < 150.0 * seconds(3_000)));
    }

    #[test]
    fn steps_follow_the_length_of_the_search() {
        let cost = |pattern: &str, text: &str| {
            let budget = StepBudget::new(100_000);
            let _ = Pattern::new(pattern).matches_within(text.as_bytes(), &budget);
            100_000 - budget.left()
        };
        let long = format!("/{}", "a".repeat(8_000));
        assert_eq!([cost("/b*", &long), cost("/a", &long), cost("/b*x*", &long)], [1; 3]);
        assert_eq!(cost("*x*", &long), 1 + 2_000);
        let budget = StepBudget::new(1_000);
        assert_eq!(Pattern::new("*a*").matches_within(long.as_bytes(), &budget), Err(LimitExceeded));
    }

    #[test]
    fn two_patterns_meet_where_one_text_matches_both() {
        for (a, b, expected) in [
            ("/a", "/a", true),
            ("/a", "/b", false),
            ("/a*", "/b*", false),
            ("/a*", "/ab*", true),
            ("/a*", "*", true),
            ("/a*", "/ab", true),
            ("/a*", "/b", false),
            ("*.js", "*.css", false),
            ("*.js", "/a*", true),
            ("/a*x", "/a*yx", true),
            ("/a*x*b", "/a*y*b", true),
            ("/a*b", "/a", false),
        ] {
            assert_eq!(Pattern::new(a).meets(&Pattern::new(b)), expected, "{a} and {b}");
            assert_eq!(Pattern::new(b).meets(&Pattern::new(a)), expected, "{b} and {a}");
        }
    }
}
