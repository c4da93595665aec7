//! Semantic versions as the SDKs compare them, which is not quite as semver.org has it: a target of fewer parts, such
//! as `2.1`, stands for everything that begins with it, and what follows the `-` or the `+` is compared as one text.

use std::cmp::Ordering;

/// Up to three numbers, and what follows the first `-` or `+`.
struct Version<'a> {
    parts: [Option<&'a str>; 4],
    pre_release: bool,
    build: bool,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Version<'a>> {
        if text.contains(' ') {
            return None;
        }
        let separator = text.find(['-', '+']);
        let (numbers, suffix) = match separator {
            Some(at) => (text.get(..at)?, text.get(at + 1..)),
            None => (text, None),
        };
        let kind = separator.and_then(|at| text.as_bytes().get(at));
        let mut parts = [None; 4];
        let mut slots = parts.iter_mut();
        for number in numbers.split('.') {
            let more_than_three = slots.len() == 1;
            if more_than_three || !is_number(number) {
                return None;
            }
            *slots.next()? = Some(number);
        }
        if suffix.is_some() {
            *slots.next()? = suffix;
        }
        Some(Version { parts, pre_release: kind == Some(&b'-'), build: kind == Some(&b'+') })
    }
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Numbers of any length.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    let [a, b] = [a, b].map(|number| number.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Whether `text` is a version that others can be compared with.
pub(super) fn is_version(text: &str) -> bool {
    Version::parse(text).is_some()
}

/// The order of the visitor's version to the target's; none where one of them is no version.
pub(super) fn compare(user: &str, target: &str) -> Option<Ordering> {
    let (user, target) = (Version::parse(user)?, Version::parse(target)?);
    for (user_part, target_part) in user.parts.iter().zip(&target.parts) {
        // What the target leaves open is not compared.
        let Some(target_part) = *target_part else { break };
        let Some(user_part) = *user_part else {
            // 2.1 comes after 2.1-beta, but before 2.1.1.
            let after = target.pre_release || target.build;
            return Some(if after { Ordering::Greater } else { Ordering::Less });
        };
        if is_number(user_part) {
            if !is_number(target_part) {
                return None; // a number and a text have no order
            }
            match compare_numbers(user_part, target_part) {
                Ordering::Equal => {}
                order => return Some(order),
            }
        } else {
            match user_part.cmp(target_part) {
                Ordering::Equal => {}
                // A release comes after its pre-releases, for any of their names.
                _ if target.pre_release && !user.pre_release => return Some(Ordering::Greater),
                _ if user.pre_release && !target.pre_release => return Some(Ordering::Less),
                order => return Some(order),
            }
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
            ("99999999999999999999999.1", "99999999999999999999998.9", Some(Greater)),
            ("2.0.0-1", "2.0.0-2", Some(Less)),
            ("2.0.0-1", "2.0.0-beta", None),
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
