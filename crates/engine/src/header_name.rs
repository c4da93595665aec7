//! Names of headers, and sets of them that are found by length first.

use crate::sort::sort;

/// Lengths that names have, in bytes; 63 stands for 63 and more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeaderLengthMask(u64);

impl HeaderLengthMask {
    /// All lengths.
    pub const ANY: HeaderLengthMask = HeaderLengthMask(u64::MAX);

    /// These lengths.
    pub const fn of(mut lengths: &[usize]) -> HeaderLengthMask {
        let mut bits = 0;
        while let [length, rest @ ..] = lengths {
            bits |= length_bit(*length);
            lengths = rest;
        }
        HeaderLengthMask(bits)
    }

    /// All lengths from `length` on.
    pub const fn at_least(length: usize) -> HeaderLengthMask {
        HeaderLengthMask(u64::MAX << if length < 63 { length } else { 63 })
    }

    /// These lengths and those of `other`.
    pub const fn or(self, other: HeaderLengthMask) -> HeaderLengthMask {
        HeaderLengthMask(self.0 | other.0)
    }

    /// Whether names of `length` bytes are meant.
    pub const fn contains(self, length: usize) -> bool {
        self.0 & length_bit(length) != 0
    }
}

const fn length_bit(length: usize) -> u64 {
    1 << if length < 63 { length } else { 63 }
}

/// Whether `found` is the name `wanted`, which is in lower case. Some hosts hand names over as clients wrote them.
#[inline(always)]
pub fn is_name(found: &[u8], wanted: &[u8]) -> bool {
    // A known name of a few bytes is compared as one or two numbers. Most other names of its length end differently.
    found.len() == wanted.len() && ends_alike(found, wanted) && (found == wanted || is_other_case(found, wanted))
}

#[inline(always)]
fn ends_alike(found: &[u8], wanted: &[u8]) -> bool {
    /// Letters differ from themselves in the other case in this bit alone.
    const CASE: u8 = 0x20;
    matches!((found.last(), wanted.last()), (Some(found), Some(wanted)) if (found ^ wanted) & !CASE == 0)
}

#[cold]
#[inline(never)]
fn is_other_case(found: &[u8], wanted: &[u8]) -> bool {
    found.eq_ignore_ascii_case(wanted)
}

/// The spelling that stands for all spellings of `name` that origins may confuse: lower case, with `-` for `_`. Origins
/// that speak CGI or WSGI fold names in this way.
pub fn folded(name: &[u8]) -> Vec<u8> {
    name.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect()
}

/// Names of headers, found by their length first: most headers of a request have none of these lengths. Names that differ
/// in case, or in `_` for `-`, are one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameSet {
    /// Folded, each once.
    names: Vec<String>,
    lengths: HeaderLengthMask,
    /// The first letters, by [`letter_bit`].
    first_letters: u32,
}

/// A bit for the first letter of a name, the same for all spellings. Several letters share one.
#[inline(always)]
fn letter_bit(name: &[u8]) -> u32 {
    name.first().map_or(0, |byte| 1 << (if *byte == b'_' { b'-' } else { *byte } % 32))
}

impl NameSet {
    /// The set of these names.
    pub fn new(names: Vec<String>) -> NameSet {
        let mut names: Vec<String> =
            names.into_iter().map(|name| name.to_ascii_lowercase().replace('_', "-")).collect();
        sort(&mut names);
        names.dedup();
        let lengths =
            names.iter().fold(HeaderLengthMask::default(), |all, name| all.or(HeaderLengthMask::of(&[name.len()])));
        let first_letters = names.iter().fold(0, |all, name| all | letter_bit(name.as_bytes()));
        NameSet { names, lengths, first_letters }
    }

    /// The names, folded and sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The lengths that they have.
    pub fn lengths(&self) -> HeaderLengthMask {
        self.lengths
    }

    /// Whether `name` is one of them, in any spelling.
    #[inline(always)]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.lengths.contains(name.len()) && self.first_letters & letter_bit(name) != 0 && self.find(name)
    }

    #[inline(never)]
    fn find(&self, name: &[u8]) -> bool {
        if name.iter().any(|byte| byte.is_ascii_uppercase() || *byte == b'_') {
            self.has(&folded(name))
        } else {
            self.has(name)
        }
    }

    fn has(&self, name: &[u8]) -> bool {
        self.names.binary_search_by(|own| own.as_bytes().cmp(name)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_set_finds_every_spelling() {
        let long = "x-".repeat(50);
        let set = NameSet::new(vec!["x-b".to_owned(), "X_abc".to_owned(), "x_b".to_owned(), long.clone()]);
        assert_eq!(set.names(), ["x-abc", "x-b", long.as_str()]);
        for (name, expected) in [
            ("x-b", true),
            ("X-B", true),
            ("x_b", true),
            ("X_B", true),
            ("y-b", false),
            ("x-abc", true),
            ("x-c", false),
            ("x-abcd", false),
            ("x.b", false),
            (&long, true),
            ("", false),
        ] {
            assert_eq!(set.contains(name.as_bytes()), expected, "{name}");
        }
    }
}
