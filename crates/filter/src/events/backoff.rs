//! The wait before a failing service is tried again.

use edgesplit_formats::moment::millis;

/// A `retry-after` is followed up to this multiple of the longest back-off.
pub const RETRY_AFTER_BACKOFFS_MAX: u64 = 10;

/// The names of the months in HTTP dates.
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Bounds of the back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest wait.
    pub min_ms: u64,
    /// The longest wait.
    pub max_ms: u64,
}

impl Backoff {
    /// The wait after `failures` failures in a row: evenly spread between `min_ms` and a ceiling that doubles with every
    /// failure up to `max_ms` (exponential back-off with full jitter, which spreads out proxies that failed together).
    /// A `retry-after` of the service is a lower bound, itself bounded: one far in the future must not stop delivery.
    pub fn wait_ms(self, failures: u32, retry_after_ms: Option<u64>, random: u64) -> u64 {
        let factor = 1_u64.checked_shl(failures.min(62)).unwrap_or(u64::MAX);
        let ceiling = self.min_ms.saturating_mul(factor).min(self.max_ms).max(self.min_ms);
        let spread = u128::from(ceiling - self.min_ms) + 1;
        // The upper half of the product of two 64-bit numbers is evenly spread below `spread`.
        let jitter = ((u128::from(random) * spread) >> 64) as u64;
        (self.min_ms + jitter)
            .max(retry_after_ms.unwrap_or(0).min(self.max_ms.saturating_mul(RETRY_AFTER_BACKOFFS_MAX)))
    }
}

/// A `retry-after` value, in milliseconds from `now_ms` on: seconds, or an HTTP date.
pub fn retry_after_ms(value: &[u8], now_ms: i64) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    // `Sun, 06 Nov 1994 08:49:37 GMT`, the one format that HTTP still allows to send.
    let mut parts = text.split(' ').skip(1);
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = 1 + MONTHS.iter().position(|name| *name == month)?;
    let date_ms = millis(&format!("{year}-{month:02}-{day}T{time}Z"))?;
    u64::try_from(date_ms.saturating_sub(now_ms)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { min_ms: 1_000, max_ms: 60_000 };

    #[test]
    fn wait_has_a_ceiling_that_doubles_up_to_the_maximum() {
        for (failures, ceiling) in [(0, 1_000), (1, 2_000), (2, 4_000), (5, 32_000), (6, 60_000), (u32::MAX, 60_000)] {
            assert_eq!(BACKOFF.wait_ms(failures, None, 0), 1_000, "{failures}");
            assert_eq!(BACKOFF.wait_ms(failures, None, u64::MAX), ceiling, "{failures}");
            let half = BACKOFF.wait_ms(failures, None, u64::MAX / 2);
            assert!(half.abs_diff(1_000 + (ceiling - 1_000) / 2) <= 1, "{failures}: {half}");
        }
    }

    #[test]
    fn retry_after_is_a_bounded_lower_bound() {
        assert_eq!(BACKOFF.wait_ms(1, Some(30_000), u64::MAX), 30_000);
        assert_eq!(BACKOFF.wait_ms(1, Some(10), u64::MAX), 2_000);
        assert_eq!(BACKOFF.wait_ms(1, Some(600_001), 0), 600_000);
        assert_eq!(BACKOFF.wait_ms(1, Some(u64::MAX), 0), 600_000);
        let short = Backoff { min_ms: 1, max_ms: 20 };
        assert_eq!(short.wait_ms(1, Some(3_600_000), 0), 200);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now_ms = 1_000_000_000_000; // 2001-09-09T01:46:40Z
        for (value, expected) in [
            (&b"120"[..], Some(120_000)),
            (b" 0 ", Some(0)),
            (b"Sun, 09 Sep 2001 01:47:10 GMT", Some(30_000)),
            (b"Sun, 09 Sep 2001 01:46:10 GMT", None),
            (b"Sun, 31 Dec 2000 01:46:10 GMT", None),
            (b"Mon, 10 Sep 2001 01:46:40 GMT", Some(86_400_000)),
            (b"Mon, 10 Sep 2001", None),
            (b"Mon, 10 Sept 2001 01:46:40 GMT", None),
            (b"Monday, 10-Sep-01 01:46:40 GMT", None),
            (b"soon", None),
            (b"-1", None),
            (b"\xff", None),
        ] {
            assert_eq!(retry_after_ms(value, now_ms), expected, "{value:?}");
        }
    }
}
