//! Moments in RFC 3339.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The moment that `text` is, in microseconds since the epoch.
pub(crate) fn micros(text: &str) -> Option<i64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos() / 1_000).ok()
}

/// The moment that `text` is, in milliseconds since the epoch.
pub fn millis(text: &str) -> Option<i64> {
    micros(text).map(|micros| micros.div_euclid(1_000))
}

/// Appends the last `digits` decimal digits of `number`.
pub fn write_digits(out: &mut Vec<u8>, number: u32, digits: u32) {
    for place in (0..digits).rev() {
        out.push(b'0' + (number / 10_u32.pow(place) % 10) as u8);
    }
}

/// Appends a moment in RFC 3339, in UTC, with milliseconds.
pub fn write_rfc3339_ms(out: &mut Vec<u8>, time_ms: i64) {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, (hour, minute, second, milli)) = (moment.date(), moment.time().as_hms_milli());
    // Years before 0 and after 9999 do not occur.
    write_digits(out, date.year().unsigned_abs(), 4);
    for (sign, number, digits) in [
        (b'-', u32::from(u8::from(date.month())), 2),
        (b'-', u32::from(date.day()), 2),
        (b'T', u32::from(hour), 2),
        (b':', u32::from(minute), 2),
        (b':', u32::from(second), 2),
        (b'.', u32::from(milli), 3),
    ] {
        out.push(sign);
        write_digits(out, number, digits);
    }
    out.push(b'Z');
}
