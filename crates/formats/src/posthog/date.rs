//! Dates of filters and of visitors.

use crate::moment;
use time::{Date, Month, OffsetDateTime};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// The date of a filter.
pub(super) enum Bound {
    /// Microseconds since the epoch.
    At(i64),
    /// A number of hours, days, weeks, months or years ago.
    Ago(u32, char),
}

impl Bound {
    pub(super) fn parse(text: &str) -> Option<Bound> {
        let ago = || {
            let text = text.strip_prefix('-').unwrap_or(text);
            let unit = text.chars().next_back().filter(|unit| "hdwmy".contains(*unit))?;
            let number = text.strip_suffix(unit).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?;
            Some(Bound::Ago(number.parse().ok().filter(|number| *number < 10_000)?, unit))
        };
        ago().or_else(|| parse(text).map(Bound::At))
    }

    /// In microseconds since the epoch. None before the year 1.
    pub(super) fn micros(&self, now_ms: i64) -> Option<i64> {
        let now = now_ms * 1_000;
        match *self {
            Bound::At(micros) => Some(micros),
            Bound::Ago(number, unit) => match unit {
                'h' => Some(now - i64::from(number) * HOUR_US),
                'd' => Some(now - i64::from(number) * DAY_US),
                'w' => Some(now - i64::from(number) * 7 * DAY_US),
                'm' => months_ago(now, number as i32),
                _ => months_ago(now, 12 * number as i32),
            },
        }
    }
}

/// The same time of the day some months before. Every month on the way has the day, or the last one it has.
fn months_ago(now: i64, months: i32) -> Option<i64> {
    let date = OffsetDateTime::from_unix_timestamp(now.div_euclid(1_000_000)).ok()?.date();
    let index = date.year() * 12 + i32::from(u8::from(date.month())) - 1;
    let target = index - months;
    if target < 12 {
        return None;
    }
    let mut day = date.day();
    // A year at a time, only the last month counts: no other is on the way.
    let step = if months % 12 == 0 { 12 } else { 1 };
    let mut at = index;
    while at > target && day > 28 {
        at -= step;
        let (month, year) = month(at)?;
        day = day.min(month.length(year));
    }
    let (month, year) = month(target)?;
    let then = Date::from_calendar_date(year, month, day).ok()?;
    Some(now - i64::from(date.to_julian_day() - then.to_julian_day()) * DAY_US)
}

/// The month with this number since the year 0, and its year.
fn month(index: i32) -> Option<(Month, i32)> {
    Some((Month::try_from((index % 12 + 1) as u8).ok()?, index / 12))
}

/// A date in ISO 8601, in microseconds since the epoch. Without an offset it is in UTC.
pub(super) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let (text, zone) = match text.strip_suffix('Z').or_else(|| text.strip_suffix(" UTC").or(text.strip_suffix(" utc")))
    {
        Some(text) => (text, "+00:00"),
        None => (text, ""),
    };
    let (date, rest) = text.split_at_checked(10)?;
    let mut rest = rest.chars();
    let Some(_separator) = rest.next() else {
        return moment::micros(&format!("{date}T00:00:00+00:00"));
    };
    let rest = rest.as_str();
    let (time, offset) = rest.split_at(rest.find(['+', '-']).unwrap_or(rest.len()));
    let offset = match (zone, offset) {
        ("", "") => "+00:00",
        ("", offset) => offset,
        (zone, "") => zone,
        _ => return None,
    };
    let seconds = match time.trim_end().split(':').count() {
        1 => ":00:00",
        2 => ":00",
        _ => "",
    };
    moment::micros(&format!("{date}T{}{seconds}{offset}", time.trim_end()))
}
