//! The order of revisions, for configs that may only become newer.

use std::cmp::Ordering;

/// Whether `new` is lower than `old`. Numbers in the text are compared by their value: `r9` is lower than `r10`. A config
/// without a revision is lower than any other.
pub(super) fn is_lower(new: Option<&str>, old: Option<&str>) -> bool {
    match (new, old) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(new), Some(old)) => compare(new, old) == Ordering::Less,
    }
}

/// Compares digit runs by value, and everything else by bytes.
fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while let (Some(first_a), Some(first_b)) = (a.bytes().next(), b.bytes().next()) {
        let order = if first_a.is_ascii_digit() && first_b.is_ascii_digit() {
            let (number_a, number_b) = (take_number(&mut a), take_number(&mut b));
            number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b))
        } else {
            let (char_a, char_b) = (take_char(&mut a), take_char(&mut b));
            char_a.cmp(&char_b)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// Takes the digits at the start of `text`, and gives them without leading zeros.
fn take_number<'a>(text: &mut &'a str) -> &'a str {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(end);
    *text = rest;
    number.trim_start_matches('0')
}

fn take_char(text: &mut &str) -> Option<char> {
    let mut chars = text.chars();
    let first = chars.next();
    *text = chars.as_str();
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_value() {
        let ascending = [
            "",
            "1",
            "1.9.0",
            "1.10.0",
            "2",
            "10",
            "2026-11-27T09:00Z",
            "2026-11-27T10:00Z",
            "99999999999999999999999",
            "100000000000000000000000",
            "r9",
            "r10",
            "r10-rc1",
            "r10a",
            "s1",
            "ü",
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), at.cmp(&other), "{a:?} {b:?}");
            }
        }
        assert_eq!(compare("r009", "r9"), Ordering::Equal);
    }

    #[test]
    fn missing_revision_is_lowest() {
        assert!(is_lower(None, Some("")) && !is_lower(Some(""), None) && !is_lower(None, None));
        assert!(is_lower(Some("r9"), Some("r10")) && !is_lower(Some("r10"), Some("r10")));
    }
}
