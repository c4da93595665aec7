//! The two texts that tell the origin and its caches what was decided.

use super::snapshot::{Choice, Snapshot, Variant};
use std::fmt::Write;

/// Writes `key=variant` for every choice into `text`, instead of what is there; empty without one. Baselines stand in it too.
/// The choices are in the order of the experiments' keys.
pub fn write_assignments(snapshot: &Snapshot, choices: &[Choice], text: &mut String) {
    join(snapshot, choices, ", ", text, |variant| Some(&variant.assignment));
}

/// Writes `key.variant` for every choice that is not a baseline into `text`, instead of what is there; empty without one, so
/// that the baseline shares its cached objects with visitors who are in no experiment. The choices are in the order of the
/// experiments' keys.
pub fn write_cache_key(snapshot: &Snapshot, choices: &[Choice], text: &mut String) {
    join(snapshot, choices, "~", text, |variant| variant.cache_pair.as_ref());
}

fn join<'a>(
    snapshot: &'a Snapshot,
    choices: &[Choice],
    separator: &str,
    text: &mut String,
    pair: impl Fn(&'a Variant) -> Option<&'a String>,
) {
    text.clear();
    for pair in choices.iter().filter_map(|choice| pair(snapshot.choice(*choice)?.1)) {
        if !text.is_empty() {
            text.push_str(separator);
        }
        text.push_str(pair);
    }
}

/// `choices` in the order of the experiments' keys.
pub fn sort_by_key(snapshot: &Snapshot, choices: &mut [Choice]) {
    choices
        .sort_unstable_by_key(|choice| snapshot.experiments.get(choice.experiment).map(|experiment| experiment.rank));
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
fn percent_encoded(text: &str, also: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_where_they_could_be_misread() {
        assert_eq!(assignment_pair("nav.v2~x", "grün=1"), "nav.v2~x=gr%C3%BCn%3D1");
        assert_eq!(cache_pair("nav.v2~x", "b-1_c"), "nav%2Ev2%7Ex.b-1_c");
    }
}
