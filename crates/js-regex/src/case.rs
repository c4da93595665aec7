//! Comparison without case, as ECMA-262 defines it for patterns without the flag `u`: two characters are the same if
//! their upper cases are.

/// The upper case of `ch`, if it is one character and does not turn a character outside ASCII into one inside (ECMA-262,
/// Canonicalize). Characters beyond U+FFFF have none: to JavaScript they are two units.
pub fn upper(ch: char) -> char {
    if ch.is_ascii() {
        return ch.to_ascii_uppercase();
    }
    single(ch.to_uppercase()).filter(|upper| !upper.is_ascii() && ch <= '\u{FFFF}').unwrap_or(ch)
}

fn single(mut chars: impl Iterator<Item = char>) -> Option<char> {
    let first = chars.next();
    if chars.next().is_some() { None } else { first }
}

/// Whether `accepts` holds for a character whose upper case is `upper_case`.
pub(super) fn any_with_upper(upper_case: char, accepts: impl Fn(char) -> bool) -> bool {
    if accepts(upper_case) {
        return true;
    }
    if single(upper_case.to_lowercase()).is_some_and(|lower| upper(lower) == upper_case && accepts(lower)) {
        return true;
    }
    let others = UPPER_OF_SEVERAL.iter().find(|(upper, _)| *upper == upper_case).map_or("", |(_, others)| others);
    others.chars().any(accepts)
}

/// The upper cases of several characters, each with those that its lower case is not.
const UPPER_OF_SEVERAL: &[(char, &str)] = &[
    ('\u{39C}', "\u{B5}"),
    ('\u{1C4}', "\u{1C5}"),
    ('\u{1C7}', "\u{1C8}"),
    ('\u{1CA}', "\u{1CB}"),
    ('\u{1F1}', "\u{1F2}"),
    ('\u{399}', "\u{345}\u{1FBE}"),
    ('\u{392}', "\u{3D0}"),
    ('\u{395}', "\u{3F5}"),
    ('\u{398}', "\u{3D1}"),
    ('\u{39A}', "\u{3F0}"),
    ('\u{3A0}', "\u{3D6}"),
    ('\u{3A1}', "\u{3F1}"),
    ('\u{3A3}', "\u{3C2}"),
    ('\u{3A6}', "\u{3D5}"),
    ('\u{412}', "\u{1C80}"),
    ('\u{414}', "\u{1C81}"),
    ('\u{41E}', "\u{1C82}"),
    ('\u{421}', "\u{1C83}"),
    ('\u{422}', "\u{1C84}\u{1C85}"),
    ('\u{42A}', "\u{1C86}"),
    ('\u{462}', "\u{1C87}"),
    ('\u{A64A}', "\u{1C88}"),
    ('\u{1E60}', "\u{1E9B}"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_found_by_its_upper_case() {
        for ch in '\0'..='\u{FFFF}' {
            assert_eq!(upper(upper(ch)), upper(ch), "{ch:?}");
            assert!(any_with_upper(upper(ch), |other| other == ch), "{ch:?}");
        }
    }
}
