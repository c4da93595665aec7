//! Values of arguments that several subcommands take.

use edgesplit_filter::plugin_config::parse_duration_ms;
use edgesplit_formats::moment::millis;
use std::time::{SystemTime, UNIX_EPOCH};

/// A day, in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// The time, in milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Parses a time in RFC 3339, in milliseconds since the epoch.
pub(crate) fn moment_ms(text: &str) -> Result<i64, String> {
    millis(text).ok_or_else(|| "expected a time in RFC 3339, such as 2026-12-01T00:00:00Z".to_owned())
}

/// Parses a positive duration, in milliseconds: as in the plugin configuration, or in whole days.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let days = || text.strip_suffix('d')?.parse::<u64>().ok()?.checked_mul(DAY_MS);
    let expected = || "expected a duration such as 90s, 10m, 1h or 7d".to_owned();
    parse_duration_ms(text).or_else(days).filter(|ms| *ms > 0).ok_or_else(expected)
}
