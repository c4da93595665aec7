//! Moments in RFC 3339.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The moment that `text` is, in microseconds since the epoch.
pub(crate) fn micros(text: &str) -> Option<i64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos() / 1_000).ok()
}

/// The moment that `text` is, in milliseconds since the epoch.
pub(crate) fn millis(text: &str) -> Option<i64> {
    micros(text).map(|micros| micros.div_euclid(1_000))
}
