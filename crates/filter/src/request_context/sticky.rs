//! Sticky bucketing: a cookie that remembers the variants of a browser, so new weights do not move its visitor. It belongs to
//! the browser, not to an id: visitors keep their variants when they log in.
//!
//! ```text
//! 1~checkout-button.0.green~nav.3.mega
//! │ └ experiment.sticky_version.variant, the oldest first; names are percent-encoded, also their `.` and `~`
//! └ the version
//! ```
//!
//! The browser controls the cookie. An entry counts only if its variant exists, and malformed entries are ignored.

use edgesplit_engine::assignments::{percent_decoded, percent_encoded};
use edgesplit_engine::decide::StickyBucket;
use std::borrow::Cow;
use std::fmt::Write;

/// The largest cookie, with its name and attributes, that every browser keeps (RFC 6265, section 6.1).
pub const COOKIE_BYTES_MAX: usize = 4096;

/// How many experiments it remembers.
pub const ENTRIES_MAX: usize = 64;

/// The version that is written, and the only one that is read.
const VERSION: &str = "1";

/// The variants that the cookie remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StickyBuckets<'a> {
    /// The oldest first.
    entries: Vec<StickyBucket<'a>>,
    changed: bool,
    is_repeated: bool,
}

impl<'a> StickyBuckets<'a> {
    /// Reads a cookie's value. Malformed entries are ignored, and the first entry of an experiment counts. A value of another
    /// version, or one that is longer than any written one, has no entries.
    pub fn parse(value: &'a [u8]) -> StickyBuckets<'a> {
        let mut buckets = StickyBuckets::default();
        let text = if value.len() > COOKIE_BYTES_MAX { None } else { std::str::from_utf8(value).ok() };
        let mut parts = text.unwrap_or_default().split('~');
        if parts.next() != Some(VERSION) {
            return buckets;
        }
        for entry in parts.filter_map(parsed) {
            if buckets.entries.len() == ENTRIES_MAX {
                break;
            }
            if buckets.find(&entry.experiment).is_none() {
                buckets.entries.push(entry);
            }
        }
        buckets
    }

    /// Takes over the entries of a cookie of the same name for experiments that have none yet. The cookie is then written anew,
    /// because the browser has two.
    pub fn absorb(&mut self, value: &'a [u8]) {
        (self.changed, self.is_repeated) = (true, true);
        for entry in StickyBuckets::parse(value).entries {
            if self.find(&entry.experiment).is_none() {
                self.entries.push(entry);
            }
        }
    }

    /// Whether the browser has another cookie beside the one that was read.
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    /// The entries, the oldest first.
    pub fn buckets(&self) -> &[StickyBucket<'a>] {
        &self.entries
    }

    /// The variant that was remembered for this version of the experiment. It may not exist any more.
    pub fn variant(&self, experiment: &str, version: u32) -> Option<&str> {
        self.find(experiment).filter(|entry| entry.version == version).map(|entry| &*entry.variant)
    }

    /// Remembers a variant from now on, unless it is remembered already.
    pub fn remember(&mut self, experiment: &'a str, version: u32, variant: &'a str) {
        if self.variant(experiment, version) == Some(variant) {
            return;
        }
        self.changed = true;
        self.entries.retain(|entry| entry.experiment != experiment);
        let (experiment, variant) = (Cow::Borrowed(experiment), Cow::Borrowed(variant));
        self.entries.push(StickyBucket { experiment, version, variant });
    }

    /// Whether the cookie has to be written.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// The cookie's value, with the newest entries that fit. `other_bytes` of the cookie are its name and attributes.
    pub fn value(&self, other_bytes: usize) -> String {
        let bytes_max = COOKIE_BYTES_MAX.saturating_sub(other_bytes);
        let texts: Vec<String> = self.entries.iter().map(written).collect();
        let mut bytes = VERSION.len();
        let newest = texts.iter().rev().take(ENTRIES_MAX).take_while(|text| {
            bytes += text.len();
            bytes <= bytes_max
        });
        let kept = newest.count();
        let mut value = VERSION.to_owned();
        value.extend(texts.iter().skip(texts.len() - kept).map(String::as_str));
        value
    }

    fn find(&self, experiment: &str) -> Option<&StickyBucket<'a>> {
        self.entries.iter().find(|entry| entry.experiment == experiment)
    }
}

/// An entry of the value.
fn parsed(text: &str) -> Option<StickyBucket<'_>> {
    let (experiment, rest) = text.split_once('.')?;
    let (version, variant) = rest.split_once('.')?;
    let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    let bucket = StickyBucket {
        experiment: percent_decoded(experiment)?,
        version: if digits { version.parse().ok()? } else { return None },
        variant: percent_decoded(variant)?,
    };
    (!bucket.experiment.is_empty() && !bucket.variant.is_empty()).then_some(bucket)
}

/// A bucket as the value contains it, with the `~` in front of it.
fn written(bucket: &StickyBucket<'_>) -> String {
    let mut text = format!("~{}.", percent_encoded(&bucket.experiment, ".~"));
    // Writing to a string cannot fail.
    let _ = write!(text, "{}.{}", bucket.version, percent_encoded(&bucket.variant, ".~"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_cookie_is_read_back() {
        let mut buckets = StickyBuckets::parse(b"");
        assert_eq!((buckets.variant("nav", 0), buckets.changed()), (None, false));
        buckets.remember("nav", 0, "mega");
        buckets.remember("a.b~c", 7, "grün; x=1");
        assert!(buckets.changed());
        let value = buckets.value(0);
        assert_eq!(value, "1~nav.0.mega~a%2Eb%7Ec.7.gr%C3%BCn%3B%20x%3D1");

        let mut again = StickyBuckets::parse(value.as_bytes());
        assert_eq!((again.variant("nav", 0), again.variant("a.b~c", 7)), (Some("mega"), Some("grün; x=1")));
        again.remember("nav", 0, "mega");
        assert!(!again.changed(), "nothing new");
        // Another version of the experiment does not know its old buckets.
        assert_eq!(again.variant("nav", 1), None);
        again.remember("nav", 1, "plain");
        assert!(again.changed());
        assert_eq!(again.value(0), "1~a%2Eb%7Ec.7.gr%C3%BCn%3B%20x%3D1~nav.1.plain");
    }

    #[test]
    fn oldest_are_dropped_by_number_and_by_size() {
        let names: Vec<String> = (0..100).map(|number| format!("experiment-{number}")).collect();
        let mut buckets = StickyBuckets::default();
        for name in &names {
            buckets.remember(name, 0, "green");
        }
        let value = buckets.value(100);
        let again = StickyBuckets::parse(value.as_bytes());
        assert_eq!(again.entries.len(), ENTRIES_MAX);
        assert_eq!((again.variant("experiment-35", 0), again.variant("experiment-36", 0)), (None, Some("green")));
        // An entry that does not change keeps its age, because nothing is written then.
        let long = "ü".repeat(100);
        let mut large = StickyBuckets::default();
        for name in &names {
            large.remember(name, 0, &long);
        }
        for other_bytes in [0, 100, 3_000, 3_400, 4_090, 4_096, 10_000] {
            let value = large.value(other_bytes);
            let again = StickyBuckets::parse(value.as_bytes());
            assert!(
                value.len() + other_bytes <= COOKIE_BYTES_MAX.max(other_bytes + 1),
                "{other_bytes}: {}",
                value.len()
            );
            assert_eq!(again.entries.is_empty(), other_bytes > 3_450, "{other_bytes}");
            assert!(again.entries.is_empty() || again.variant("experiment-99", 0).is_some(), "the newest stays");
        }
    }

    #[test]
    fn malformed_entries_are_ignored() {
        for (value, expected) in [
            ("1~nav.0.mega", Some("mega")),
            ("1~~nav.0.mega~", Some("mega")),
            ("1~x~y.1~z.-1.a~.0.a~b.0.~c.+1.d~nav.0.mega", Some("mega")),
            ("1~nav.0.mega~nav.0.plain", Some("mega")),
            ("1~nav.00.mega", Some("mega")),
            ("1~nav.0.me%67a", Some("mega")),
            ("1~nav.0.me%6", None),
            ("1~nav.0.mega.x", Some("mega.x")),
            ("1~nav.4294967296.mega", None),
            ("2~nav.0.mega", None),
            ("nav.0.mega", None),
            (" 1~nav.0.mega", None),
            ("\"1~nav.0.mega\"", None),
            ("", None),
        ] {
            let buckets = StickyBuckets::parse(value.as_bytes());
            assert_eq!(buckets.variant("nav", 0), expected, "{value}");
            assert!(!buckets.changed());
        }
        let long = format!("1~nav.0.mega~{}", "x".repeat(COOKIE_BYTES_MAX));
        assert_eq!(StickyBuckets::parse(long.as_bytes()).variant("nav", 0), None);
    }

    #[test]
    fn ten_thousand_tampered_cookies_are_read_and_written_within_bounds() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..10_000 {
            let mut bytes = b"1~checkout-button.0.green~nav.3.mega~a%2Eb.7.gr%C3%BCn".to_vec();
            for _ in 0..next() % 8 {
                let at = next() as usize % bytes.len();
                match next() % 5 {
                    0 => bytes[at] = next() as u8,
                    1 => bytes.truncate(at.max(1)),
                    2 => bytes.insert(at, b"~.%1;\\\"\xff"[next() as usize % 8]),
                    3 => bytes.extend_from_within(at..),
                    _ => bytes = (0..=next() % 300).map(|_| next() as u8).collect(),
                }
            }
            let mut buckets = StickyBuckets::parse(&bytes);
            let _ = buckets.variant("nav", 3);
            buckets.remember("fresh", 1, "blue");
            let value = buckets.value(120);
            assert!(value.len() <= COOKIE_BYTES_MAX - 120);
            assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.~%-".contains(&byte)), "{value}");
            // Entries that were read can be read again.
            let again = StickyBuckets::parse(value.as_bytes());
            assert_eq!(again.entries, buckets.entries);
        }
    }
}
