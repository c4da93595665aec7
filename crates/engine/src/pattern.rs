//! Patterns for paths and hosts: literal text in which `*` stands for any run of bytes, `/` included.

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

    /// A pattern whose stars stand between the literal `pieces`.
    pub fn of_pieces<'a>(pieces: impl Iterator<Item = &'a str>) -> Pattern {
        Pattern { pieces: pieces.map(|piece| Box::from(piece.as_bytes())).collect() }
    }

    /// Compiles `text` for names that are compared without case, such as hosts: match it against lower case.
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

    /// Whether `text` matches. The work is bounded by the two lengths multiplied, and linear in practice: a literal
    /// piece is taken at its first place, which is never worse than a later one.
    pub fn matches(&self, text: &[u8]) -> bool {
        let [first, rest @ ..] = self.pieces.as_slice() else { return false };
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

    /// How many bytes stand between the first star and the last.
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

/// What follows the first place of `piece` in `text`.
fn find<'a>(text: &'a [u8], piece: &[u8]) -> Option<&'a [u8]> {
    if piece.is_empty() {
        return Some(text);
    }
    let at = text.windows(piece.len()).position(|window| window == piece)?;
    text.get(at + piece.len()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_bytes() {
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
