//! The two texts that carry decisions to the origin and its caches.

use super::snapshot::{Choice, Snapshot, Variant};
use crate::percent;
use crate::sort::sort_by;
use std::borrow::Cow;

/// The start of a preview's cache key. Without a `.`, it cannot be a variant's pair.
pub const PREVIEW_MARKER: &str = "preview";

/// Turns the cache key of choices into the one of a preview. With a fresh `nonce`, no cache has an object for it, and an
/// object that a cache stores is never requested again.
pub fn mark_preview(cache_key: &mut String, nonce: Option<u128>) {
    let nonce = nonce.map(|nonce| format!("~{nonce:032x}")).unwrap_or_default();
    let separator = if cache_key.is_empty() { "" } else { "~" };
    cache_key.insert_str(0, &format!("{PREVIEW_MARKER}{nonce}{separator}"));
}

/// The assignments header and the cache key for choices in any order, both sorted by the experiments' keys. The header is
/// `key=variant` for every choice, baselines too. The cache key is `key.variant` for every choice that is not a baseline, and
/// the baseline therefore shares its cached objects with visitors who are in no experiment. Either is empty without a pair.
pub fn texts(snapshot: &Snapshot, choices: &mut [Choice]) -> (String, String) {
    let rank = |choice: &Choice| snapshot.experiments.get(choice.experiment).map(|experiment| experiment.rank);
    sort_by(choices, |a, b| rank(a) < rank(b));
    let joined = |choices: &[Choice], pair: fn(&Variant) -> Option<&str>, separator| {
        let mut pairs: Vec<_> = choices.iter().filter_map(|choice| pair(snapshot.choice(*choice)?.1)).collect();
        // Flags about the same experiment share its key.
        pairs.dedup();
        pairs.join(separator)
    };
    let cache_key = joined(choices, |variant| variant.cache_pair.as_deref(), "~");
    let listed = listed(snapshot, choices).map(|mut listed| {
        sort_by(&mut listed, |a, b| rank(a) < rank(b));
        listed
    });
    (joined(listed.as_deref().unwrap_or(choices), assignment, SEPARATOR), cache_key)
}

/// How many of `choices` do not fit into the assignments header.
pub fn omitted(snapshot: &Snapshot, choices: &[Choice]) -> usize {
    listed(snapshot, choices).map_or(0, |listed| choices.len() - listed.len())
}

/// The choices that fit into the assignments header, in the order of the config. `None` if all do.
fn listed(snapshot: &Snapshot, choices: &[Choice]) -> Option<Vec<Choice>> {
    let max = snapshot.assignments_bytes_max?;
    let bytes = |choice: &Choice| snapshot.choice(*choice).map_or(0, |(_, variant)| pair_bytes(variant));
    // The last pair has no separator behind it.
    let room = max.saturating_add(SEPARATOR.len());
    if choices.iter().map(bytes).sum::<usize>() <= room {
        return None;
    }
    let mut listed = choices.to_vec();
    sort_by(&mut listed, |a, b| a.experiment < b.experiment);
    let mut used = 0;
    listed.retain(|choice| {
        let fits = used + bytes(choice) <= room;
        used += if fits { bytes(choice) } else { 0 };
        fits
    });
    Some(listed)
}

/// Separates the pairs of the assignments header.
const SEPARATOR: &str = ", ";

fn assignment(variant: &Variant) -> Option<&str> {
    variant.assignment.as_deref()
}

/// The bytes that a variant takes in the assignments header, with the separator behind it.
pub fn pair_bytes(variant: &Variant) -> usize {
    assignment(variant).map_or(0, |pair| pair.len() + SEPARATOR.len())
}

/// The length of the longest assignments header that pairs of `bytes` in total make, by [`pair_bytes`].
pub const fn header_bytes(bytes: u64) -> u64 {
    bytes.saturating_sub(SEPARATOR.len() as u64)
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
    percent::encoded(text, |byte| matches!(byte, b'_' | b'.' | b'~' | b'-') && !also.as_bytes().contains(&byte))
}

/// The pair in the cache key of a flag's outcome that has effects. The hash of the effects stands apart from the names, whose
/// dots are encoded. An outcome without a variant has an empty name.
pub fn outcome_pair(flag: &str, variant: &str, effects: u64) -> String {
    format!("{}.{effects:016x}", cache_pair(flag, variant))
}

/// Undoes [`percent_encoded`]. `None` if `text` cannot come from it.
pub fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'~' | b'-');
    // Most names are plain, and one pass over them is enough.
    if text.bytes().all(is_plain) {
        return Some(Cow::Borrowed(text));
    }
    let decoded = percent::decoded(text.as_bytes());
    let escapes = text.bytes().filter(|byte| *byte == b'%').count();
    // Each escape takes two bytes more than its character.
    if !text.bytes().all(|byte| is_plain(byte) || byte == b'%') || text.len() != decoded.len() + 2 * escapes {
        return None;
    }
    String::from_utf8(decoded.into_owned()).ok().map(Cow::Owned)
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
    fn encoded_names_are_read_back() {
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
