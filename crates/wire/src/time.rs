//! RFC 3339 times in UTC, to the microsecond.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use units::Time;
use utoipa::ToSchema;

const DAY_SECONDS: u64 = 86_400;
/// 9999-12-31T23:59:59.999999Z, the last moment that four digits of a year can say.
const MICROS_MAX: u64 = 253_402_300_799_999_999;

/// What a time looks like, before its digits are known.
const BLANK: [u8; 27] = *b"0000-00-00T00:00:00.000000Z";

/// Prints a time as `2026-11-24T00:25:03.123456Z`, always with six digits of fraction.
///
/// Times beyond the year 9999 are printed as its last moment.
#[must_use]
pub fn format(time: Time) -> String {
    with_text(time, str::to_owned)
}

/// The same without an allocation: `f` gets the text.
fn with_text<R>(time: Time, f: impl FnOnce(&str) -> R) -> R {
    let micros = time.micros().min(MICROS_MAX);
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (days, second) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = BLANK;
    let numbers = [
        (year, 0..4),
        (month, 5..7),
        (day, 8..10),
        (hour, 11..13),
        (minute, 14..16),
        (second, 17..19),
        (fraction, 20..26),
    ];
    for (mut number, places) in numbers {
        for digit in text[places].iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).expect("a digit fits");
            number /= 10;
        }
    }
    f(std::str::from_utf8(&text).expect("digits are ASCII"))
}

/// Reads an RFC 3339 time from 1970 on, with `Z` or an offset, and at most six digits of fraction; `None` for
/// anything else. What is finer than a microsecond is refused, not rounded.
#[must_use]
pub fn parse(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || !(20..=32).contains(&bytes.len()) {
        return None;
    }
    let shape = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let shaped = shape.iter().all(|&(at, byte)| bytes[at] == byte);
    if !shaped || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (number(&text[..4])?, number(&text[5..7])?, number(&text[8..10])?);
    let (hour, minute, second) =
        (number(&text[11..13])?, number(&text[14..16])?, number(&text[17..19])?);
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=month_days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let (micros, zone) = fraction(&text[19..])?;
    let seconds = days(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second;
    let seconds = seconds.checked_add_signed(-offset_seconds(zone)?)?;
    Some(Time::from_micros(seconds * 1_000_000 + micros)).filter(|time| time.micros() <= MICROS_MAX)
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Splits `.123Z` into microseconds and what follows.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let digits = &rest[..end];
    if !(1..=6).contains(&digits.len()) {
        return None;
    }
    Some((number(&format!("{digits:0<6}"))?, &rest[end..]))
}

/// Reads `Z` or `+01:00`.
fn offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let seconds = i64::try_from(hours * 3600 + minutes * 60).ok()?;
    (hours < 24 && minutes < 60).then_some(sign * seconds)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar. The year is taken to begin in March, so that the
/// leap day is its last; `(153 m + 2) / 5` is then the days before its month `m`.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The date that lies `days` after 1970-01-01; the inverse of [`days`].
fn civil(days: u64) -> (u64, u64, u64) {
    // The guess by the mean year of 365.2425 days is never late, and early by a year at most.
    let mut year = 1970 + days * 10_000 / 3_652_425;
    while self::days(year + 1, 1, 1) <= days {
        year += 1;
    }
    while self::days(year, 1, 1) > days {
        year -= 1;
    }
    let mut rest = days - self::days(year, 1, 1);
    let mut month = 1;
    while rest >= month_days(year, month) {
        rest -= month_days(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

fn month_days(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A [`Time`] as a field of a body: an RFC 3339 string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-24T00:25:03.123456Z")]
pub struct Timestamp(pub Time);

impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        Self(time)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_text(self.0, |text| f.write_str(text))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        with_text(self.0, |text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = parse(&text).ok_or_else(|| {
            serde::de::Error::custom("must be an RFC 3339 time with at most six digits of fraction")
        })?;
        Ok(Self(time))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn prop_times_are_read_back(micros in 0..=MICROS_MAX) {
            let time = Time::from_micros(micros);
            prop_assert_eq!(parse(&format(time)), Some(time));
        }

        #[test]
        fn prop_no_text_panics(text in "\\PC{0,40}|[0-9TZ:. +-]{20,32}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn known_moments_print() {
        let print = |seconds: u64| format(Time::from_micros(seconds * 1_000_000));
        assert_eq!(print(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(print(951_782_400), "2000-02-29T00:00:00.000000Z");
        assert_eq!(print(1_709_164_800), "2024-02-29T00:00:00.000000Z");
        assert_eq!(print(1_735_689_599), "2024-12-31T23:59:59.000000Z");
        assert_eq!(print(4_107_542_400), "2100-03-01T00:00:00.000000Z");
        assert_eq!(format(Time::MAX), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn offsets_and_short_fractions_are_read() {
        let utc = parse("2026-11-24T00:25:03.5Z").expect("it is a time");
        assert_eq!(utc.micros() % 1_000_000, 500_000);
        assert_eq!(parse("2026-11-24T01:25:03.5+01:00"), Some(utc));
        assert_eq!(parse("2026-11-23T23:55:03.500-00:30"), Some(utc));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let refused = [
            "",
            "0",
            "2026",
            "2026-11-24",
            "2026-11-24T00:25",
            "2026-11-24T00:25:03",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T00:60:00Z",
            "2026-11-24T00:00:60Z",
            "2026-11-24T00:25:03.Z",
            "2026-11-24T00:25:03.1234567Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "2026-11-24T00:25:03+1:00",
            "2026-11-24T00:25:03+25:00",
            "2026-11-24T00:25:03Z ",
            "２026-11-24T00:25:03Z",
            "2026-11-24X00:25:03Z",
        ];
        for text in refused {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
