//! The two texts that tell the origin and its caches what was decided.

use super::snapshot::{Choice, Snapshot, Variant};
use std::borrow::Cow;
use std::fmt::Write;

/// What a preview's cache key begins with. It has no `.`, so that it is no variant's pair.
pub const PREVIEW_MARKER: &str = "preview";

/// Makes the cache key of a preview out of that of its choices. With a `nonce` that nobody has used before, no cache has
/// an object for it, nor will anybody ask for the one that it may leave.
pub fn mark_preview(cache_key: &mut String, nonce: Option<u128>) {
    let nonce = nonce.map(|nonce| format!("~{nonce:032x}")).unwrap_or_default();
    let separator = if cache_key.is_empty() { "" } else { "~" };
    cache_key.insert_str(0, &format!("{PREVIEW_MARKER}{nonce}{separator}"));
}

/// Both texts for choices in any order, each in the order of the experiments' keys: `key=variant` for every choice, baselines
/// too; and `key.variant` for every choice that is not a baseline, so that the baseline shares its cached objects with visitors
/// who are in no experiment. Either is empty without one.
pub fn texts(snapshot: &Snapshot, choices: &mut [Choice]) -> (String, String) {
    let rank = |choice: &Choice| snapshot.experiments.get(choice.experiment).map(|experiment| experiment.rank);
    choices.sort_unstable_by_key(rank);
    let joined = |pair: fn(&Variant) -> Option<&str>, separator| {
        let pairs = choices.iter().filter_map(|choice| pair(snapshot.choice(*choice)?.1));
        pairs.collect::<Vec<_>>().join(separator)
    };
    (joined(|variant| variant.assignment.as_deref(), ", "), joined(|variant| variant.cache_pair.as_deref(), "~"))
}

/// A variant's pair in the assignments header.
pub fn assignment_pair(experiment: &str, variant: &str) -> String {
    format!("{}={}", percent_encoded(experiment, ""), percent_encoded(variant, ""))
}

/// A variant's pair in the cache key, in which `.` and `~` separate.
pub fn cache_pair(experiment: &str, variant: &str) -> String {
    format!("{}.{}", percent_encoded(experiment, ".~"), percent_encoded(variant, ".~"))
}

/// `text` with every byte outside `[A-Za-z0-9_.~-]`, and those in `also`, as `%XX`.
pub fn percent_encoded(text: &str, also: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'~' | b'-');
        if plain && !also.as_bytes().contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Undoes [`percent_encoded`]; `None` where `text` is nothing that it writes.
pub fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'~' | b'-');
    if text.bytes().all(plain) {
        return Some(Cow::Borrowed(text));
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                decoded.push((digit(*high)? << 4) | digit(*low)?);
                after
            }
            (&byte, _) if plain(byte) => {
                decoded.push(byte);
                after
            }
            _ => return None,
        };
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_where_they_could_be_misread() {
        assert_eq!(assignment_pair("nav.v2~x", "grün=1"), "nav.v2~x=gr%C3%BCn%3D1");
        assert_eq!(cache_pair("nav.v2~x", "b-1_c"), "nav%2Ev2%7Ex.b-1_c");
    }

    #[test]
    fn names_come_back_and_what_is_none_does_not() {
        for name in ["", "checkout-button", "nav.v2~x", "grün 1%", "\u{1f600}\0"] {
            for also in ["", ".~"] {
                assert_eq!(percent_decoded(&percent_encoded(name, also)).as_deref(), Some(name));
            }
        }
        for odd in ["%", "%4", "%4g", "%%41", "a b", "a=b", "ü", "%ff"] {
            assert_eq!(percent_decoded(odd), None, "{odd}");
        }
    }
}
