//! Semantic versions, read and ordered as semver.org defines them.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

/// A version. Its build does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// The numbers.
    pub(crate) core: Vec<u64>,
    /// The pre-release; empty without one.
    pub(crate) pre_release: Box<str>,
}

/// The count of numbers in a strict version.
pub(crate) const STRICT: RangeInclusive<usize> = 3..=3;

impl Version {
    /// Reads a version with `parts` numbers.
    pub(crate) fn parse(text: &str, parts: RangeInclusive<usize>) -> Option<Version> {
        let (text, build) = split_once(text, '+');
        let (core, pre_release) = split_once(text, '-');
        let core: Option<Vec<u64>> = core.split('.').map(number).collect();
        let core = core.filter(|core| parts.contains(&core.len()))?;
        let are_valid = build.is_none_or(|build| build.split('.').all(is_identifier))
            && pre_release.is_none_or(|all| {
                all.split('.').all(|part| is_identifier(part) && (!is_digits(part) || has_number_form(part)))
            });
        are_valid.then(|| Version { core, pre_release: pre_release.unwrap_or_default().into() })
    }

    /// The precedence. Numbers that are not there count as 0.
    pub(crate) fn compare(&self, other: &Version) -> Ordering {
        let numbers = |version: &Version, at| version.core.get(at).copied().unwrap_or(0);
        let orders = (0..self.core.len().max(other.core.len())).map(|at| numbers(self, at).cmp(&numbers(other, at)));
        let core = orders.fold(Ordering::Equal, Ordering::then);
        core.then_with(|| match (self.pre_release.is_empty(), other.pre_release.is_empty()) {
            (false, false) => identifiers(&self.pre_release).cmp(identifiers(&other.pre_release)),
            (is_release, is_other_release) => is_release.cmp(&is_other_release),
        })
    }
}

/// The texts before and behind the first `separator`.
fn split_once(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, behind)| (before, Some(behind)))
}

fn is_digits(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_identifier(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether digits are a number without zeros in front.
fn has_number_form(digits: &str) -> bool {
    !digits.is_empty() && (digits == "0" || !digits.starts_with('0'))
}

/// The number that `part` is, without zeros in front.
pub(crate) fn number(part: &str) -> Option<u64> {
    if is_digits(part) && has_number_form(part) { part.parse().ok() } else { None }
}

/// The precedences of the identifiers: numbers come before texts. Longer numbers are larger, since none has zeros in front.
fn identifiers(pre_release: &str) -> impl Iterator<Item = (bool, usize, &str)> {
    let precedence = |part| if is_digits(part) { (false, part.len(), part) } else { (true, 0, part) };
    pre_release.split('.').map(precedence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text, 1..=9).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn order_is_the_precedence_of_the_standard() {
        let ascending = [
            "0.9.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.10.0",
            "2",
            "2.0.0.0.1",
            "2.1",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(version(pair[0]).compare(&version(pair[1])), Ordering::Less, "{pair:?}");
            assert_eq!(version(pair[1]).compare(&version(pair[0])), Ordering::Greater, "{pair:?}");
        }
        for (one, other) in [("1.2.3+build", "1.2.3"), ("18", "18.0.0.0"), ("1.0.0-a.1", "1.0.0-a.1+b-c.01")] {
            assert_eq!(version(one).compare(&version(other)), Ordering::Equal, "{one} {other}");
        }
    }

    #[test]
    fn other_texts_are_no_versions() {
        for text in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "v1.2.3",
            "1.2.x",
            "01.2.3",
            "1.2.3-",
            "1.2.3+",
            "1.2.3-a..b",
            "1.2.3-01",
            "1.2.3+a+b",
            "1.2.3-ä",
            " 1.2.3",
            "1.2.3 ",
            "1.+2.3",
            "99999999999999999999.0.0",
        ] {
            assert_eq!(Version::parse(text, STRICT), None, "{text}");
        }
        for text in ["1.2.3-0", "1.2.3--", "1.2.3-0a", "0.0.0+001"] {
            assert!(Version::parse(text, STRICT).is_some(), "{text}");
        }
    }
}
