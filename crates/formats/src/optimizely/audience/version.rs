//! Semantic versions as the JavaScript SDK compares them. They differ from semver.org's: a target of fewer parts, such as
//! `2.1`, stands for all versions that begin with it, and the text behind the `-` or the `+` is compared as a whole.

use edgesplit_engine::condition::value::is_space;
use edgesplit_engine::number::leading_integer;
use std::cmp::Ordering;

/// Up to three numbers, then the text behind the first `-` or `+`, if there is any.
struct Version<'a> {
    parts: Vec<&'a str>,
    pre_release: bool,
    build: bool,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Version<'a>> {
        if text.contains(is_space) {
            return None;
        }
        let (numbers, suffix) = text.split_once(['-', '+']).unwrap_or((text, ""));
        let mut parts: Vec<&str> = numbers.split('.').collect();
        if parts.len() > 3 || !parts.iter().all(|part| is_number(part)) {
            return None;
        }
        parts.extend(Some(suffix).filter(|suffix| !suffix.is_empty()));
        let separator = text.as_bytes().get(numbers.len());
        Some(Version { parts, pre_release: separator == Some(&b'-'), build: separator == Some(&b'+') })
    }
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `text` is a version that others can be compared with.
pub(super) fn is_version(text: &str) -> bool {
    Version::parse(text).is_some()
}

/// The order of the visitor's version and the target; none if one of them is not a version.
pub(super) fn compare(user: &str, target: &str) -> Option<Ordering> {
    let (user, target) = (Version::parse(user)?, Version::parse(target)?);
    for (position, target_part) in target.parts.iter().enumerate() {
        let Some(user_part) = user.parts.get(position) else {
            // 2.1 comes after 2.1-beta, but before 2.1.1.
            let after = target.pre_release || target.build;
            return Some(if after { Ordering::Greater } else { Ordering::Less });
        };
        let order = if is_number(user_part) {
            let numbers = leading_integer(user_part).zip(leading_integer(target_part));
            // A text that begins with no digit is `NaN` to JavaScript: neither less nor greater.
            numbers.and_then(|(user, target)| user.partial_cmp(&target)).unwrap_or(Ordering::Equal)
        } else {
            match user_part.encode_utf16().cmp(target_part.encode_utf16()) {
                Ordering::Equal => Ordering::Equal,
                // A release comes after its pre-releases, for any of their names.
                _ if target.pre_release && !user.pre_release => Ordering::Greater,
                _ if user.pre_release && !target.pre_release => Ordering::Less,
                order => order,
            }
        };
        if order.is_ne() {
            return Some(order);
        }
    }
    let is_before_release = user.pre_release && !target.pre_release;
    Some(if is_before_release { Ordering::Less } else { Ordering::Equal })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ordering::{Equal, Greater, Less};

    #[test]
    fn versions_are_compared_as_the_sdks_do() {
        for (user, target, expected) in [
            ("2.0.0", "2.0.0", Some(Equal)),
            ("2.0.1", "2.0.0", Some(Greater)),
            ("2.10.0", "2.9", Some(Greater)),
            ("2.0.0", "2", Some(Equal)),
            ("2.9.9", "2", Some(Equal)),
            ("2", "2.0.0", Some(Less)),
            ("2.0", "2.0-beta", Some(Greater)),
            ("2.0", "2.0+build", Some(Greater)),
            ("2.1.3-beta", "2.1.3-beta", Some(Equal)),
            ("2.1.3-beta", "2.1.3", Some(Less)),
            ("2.1.3-beta", "2.1.3-beta.1", Some(Less)),
            ("2.1.3-beta", "2.1.3-alpha", Some(Greater)),
            ("2.1.3-beta+1", "2.1.3-beta", Some(Greater)),
            ("2.1.3+build", "2.1.3-beta", Some(Greater)),
            ("2.1.3-alpha", "2.1.3+build", Some(Less)),
            ("2.1.2+build", "2.1.2", Some(Equal)),
            ("02.00.7", "2.0.7", Some(Equal)),
            ("2147483648", "2147483647", Some(Greater)),
            ("9007199254740993", "9007199254740992", Some(Equal)),
            ("2.0.0-1", "2.0.0-2", Some(Less)),
            ("2.0.0-1", "2.0.0-beta", Some(Equal)),
            ("2.0.0-3", "2.0.0-2beta", Some(Greater)),
            ("2.0.0-3", "2.0.0--5", Some(Greater)),
            ("2.0.0-1", "2.0.0+x", Some(Less)),
            ("2.0.0-", "2.0.0", Some(Less)),
            ("2.0.0", "2.0.0-", Some(Equal)),
            ("2.0-a\tb", "2.0", None),
            ("2.0-\u{1f600}", "2.0-\u{ff5e}", Some(Less)),
            ("2.0.0.0", "2.0.0", None),
            ("2..0", "2.0.0", None),
            ("2.x", "2.0", None),
            ("v2.0", "2.0", None),
            (" 2.0", "2.0", None),
            ("", "2.0", None),
            ("+build", "2.0", None),
            ("2.0.0", "two", None),
        ] {
            assert_eq!(compare(user, target), expected, "{user} against {target}");
        }
    }
}
