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
            Bound::Ago(number, 'h') => Some(now - i64::from(number) * HOUR_US),
            Bound::Ago(number, 'd') => Some(now - i64::from(number) * DAY_US),
            Bound::Ago(number, 'w') => Some(now - i64::from(number) * 7 * DAY_US),
            Bound::Ago(number, unit) => months_ago(now, number, if unit == 'm' { 1 } else { 12 }),
        }
    }
}

/// The same time of the day, `count` steps of some months before. After each step, the day is at most the month's last one.
fn months_ago(now: i64, count: u32, step: u32) -> Option<i64> {
    let today = OffsetDateTime::from_unix_timestamp(now.div_euclid(1_000_000)).ok()?.date();
    let (mut date, mut left) = (today, count * step);
    while left > 0 {
        // Every month has 28 days.
        let months = if date.day() > 28 { step } else { left };
        left -= months;
        let index = date.year() * 12 + i32::from(u8::from(date.month())) - 1 - months as i32;
        let (month, year) = (Month::try_from((index.rem_euclid(12) + 1) as u8).ok()?, index / 12);
        date = Date::from_calendar_date(year, month, date.day().min(month.length(year))).ok().filter(|_| year > 0)?;
    }
    Some(now - i64::from(today.to_julian_day() - date.to_julian_day()) * DAY_US)
}

/// A date in ISO 8601, in microseconds since the epoch. Without an offset it is in UTC.
pub(super) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let zones = ["Z", " UTC", " utc"].iter().find_map(|zone| text.strip_suffix(zone));
    let (date, rest) = zones.unwrap_or(text).split_at_checked(10)?;
    let mut rest = rest.chars();
    // Any character separates the date from the time.
    let rest = rest.next().map_or("00", |_separator| rest.as_str());
    let (time, offset) = rest.split_at(rest.find(['+', '-']).unwrap_or(rest.len()));
    // An offset beside a zone is one too many.
    let zone = if zones.is_some() || offset.is_empty() { "+00:00" } else { "" };
    let time = time.trim_end();
    let seconds = [":00:00", ":00"].get(time.matches(':').count()).unwrap_or(&"");
    moment::micros(&format!("{date}T{time}{seconds}{offset}{zone}"))
}
