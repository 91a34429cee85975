//! Times in UTC, as in key files and answers (RFC 3339, whole seconds) and in the audit log (with milliseconds).

use time::{Date, Month, OffsetDateTime, Time};

/// Seconds in a day. Unix time has no leap seconds.
const DAY: u64 = 24 * 60 * 60;

/// The last second of the year 9999, the last year with four digits.
const LAST: u64 = 253_402_300_799;

/// A time in seconds since 1970: `2027-01-31T12:00:00Z`, or `2027-01-31` for the end of that day, which is the following
/// midnight. Times before 1970 become 0.
#[must_use]
pub fn parse_end(text: &str) -> Option<u64> {
    let (date, clock) = match text.split_once('T') {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let [year, month, day] = numbers(date, "dddd-dd-dd")?;
    let date = Date::from_calendar_date(year.into(), month_of(month)?, u8::try_from(day).ok()?).ok()?;
    let since_1970 = |clock: Time| u64::try_from(date.with_time(clock).assume_utc().unix_timestamp());
    let Some(clock) = clock else {
        return Some(since_1970(Time::MIDNIGHT).map_or(0, |midnight| midnight + DAY));
    };
    let [hour, minute, second] = numbers(clock, "dd:dd:ddZ")?.map(u8::try_from).map(Result::ok);
    Some(since_1970(Time::from_hms(hour?, minute?, second?).ok()?).unwrap_or(0))
}

/// The time as [`parse_end`] reads it: only the date, if it is the end of a day.
#[must_use]
pub fn write_end(unix: u64) -> Option<String> {
    match unix.checked_sub(DAY) {
        Some(day) if unix.is_multiple_of(DAY) => (day <= LAST).then(|| rfc3339(day)[..10].to_owned()),
        _ => (unix <= LAST).then(|| rfc3339(unix)),
    }
}

/// Seconds since 1970 as `2027-01-31T12:00:00Z`. Times after the year 9999 become the end of that year.
#[must_use]
pub fn rfc3339(unix: u64) -> String {
    let seconds = i64::try_from(unix.min(LAST)).unwrap_or_default();
    let moment = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second) = moment.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
}

/// The same for milliseconds since 1970, with three decimals.
#[must_use]
pub fn rfc3339_millis(unix: u64) -> String {
    let mut text = rfc3339(unix / 1000);
    text.truncate(text.len() - 1);
    text + &format!(".{:03}Z", unix % 1000)
}

/// The numbers of a text of exactly this form, where `d` is a digit.
fn numbers(text: &str, form: &str) -> Option<[u16; 3]> {
    let fits = |(byte, form): (u8, u8)| if form == b'd' { byte.is_ascii_digit() } else { byte == form };
    if text.len() != form.len() || !text.bytes().zip(form.bytes()).all(fits) {
        return None;
    }
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
}

fn month_of(number: u16) -> Option<Month> {
    Month::try_from(u8::try_from(number).ok()?).ok()
}

#[cfg(test)]
#[path = "../tests/units/date.rs"]
mod tests;
