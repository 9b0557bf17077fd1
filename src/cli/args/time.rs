//! Times as typed and as shown.
//!
//! Typed: a duration from now (`30d`, `12h`, `2w`, `6mo`, `1y`), a date (00:00 local time), or RFC 3339.
//! Shown: in UTC, to the second, as `2027-01-31T00:00:00Z`.

use jiff::civil::Date;
use jiff::{Span, SpanRelativeTo, Timestamp, ZonedDateTime};
use std::time::Duration;
use strongroom::timestamp::format_duration;
pub use strongroom::timestamp::{rfc3339_millis, rfc3339_secs};
use strongroom::{Error, Result};

/// How a time may be typed, for `--help`.
pub const FORMS: &str = "30d, 12h, 2w, 6mo, 1y, 2027-01-31 (00:00 local time) or RFC 3339";

/// A time in milliseconds since 1970. `option` is the option that it was typed for.
///
/// # Errors
/// `Usage`.
pub fn timestamp(option: &str, text: &str) -> Result<u64> {
    parse(text, &ZonedDateTime::now()).map_err(|why| unusable(option, why))
}

/// A time in the future.
///
/// # Errors
/// `Usage`, also for one that is past.
pub fn future(option: &str, text: &str) -> Result<u64> {
    let now = ZonedDateTime::now();
    match parse(text, &now) {
        Ok(at) if at > milliseconds(&now.timestamp()).unwrap_or(0) => Ok(at),
        Ok(at) => Err(unusable(option, format!("{} is past", rfc3339_secs(at)))),
        Err(why) => Err(unusable(option, why)),
    }
}

/// A span of time of fixed length, in milliseconds: seconds to weeks.
///
/// # Errors
/// `Usage`.
pub fn period(option: &str, text: &str) -> Result<u64> {
    let unusable = |why: String| {
        super::unusable_value(option, why).with_hint("a span of time is one of: 90s, 5m, 12h, 30d, 2w")
    };
    let span = duration(text).ok_or_else(|| unusable("it is not a number with a unit".into()))?;
    let whole = span.map_err(unusable)?.to_duration(SpanRelativeTo::days_are_24_hours());
    let whole = whole.map_err(|_| unusable("months and years differ in length".into()))?;
    match u64::try_from(whole.as_millis()) {
        Ok(0) | Err(_) => Err(unusable("it is no time at all".into())),
        Ok(milliseconds) => Ok(milliseconds),
    }
}

/// A span of seconds, with the largest unit that divides it: `30d`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0 => "0".into(),
        days if days % 86_400 == 0 => format!("{}d", days / 86_400),
        seconds => format_duration(Duration::from_secs(seconds)),
    }
}

/// A time in the past: a duration counts back from now.
///
/// # Errors
/// `Usage`.
pub fn past(option: &str, text: &str) -> Result<u64> {
    let now = ZonedDateTime::now();
    let at = match duration(text) {
        Some(span) => span.and_then(|span| {
            let earlier = now.checked_sub(span).map_err(|_| "it is too far away".to_owned())?;
            Ok(milliseconds(&earlier.timestamp()).unwrap_or(0))
        }),
        None => parse(text, &now),
    };
    at.map_err(|why| unusable(option, why))
}

fn unusable(option: &str, why: String) -> Error {
    super::unusable_value(option, why).with_hint(format!("a time is one of: {FORMS}"))
}

fn parse(text: &str, now: &ZonedDateTime) -> Result<u64, String> {
    let at = match duration(text) {
        Some(span) => now.checked_add(span?).map_err(|_| "it is too far away".to_owned())?.timestamp(),
        None => match text.parse::<Timestamp>() {
            Ok(at) => at,
            Err(_) => date(text, now)?,
        },
    };
    milliseconds(&at).ok_or_else(|| "it lies before 1970".into())
}

/// `None` if it is not a number with a unit. jiff parses the unit; it would also accept several, signs and fractions.
fn duration(text: &str) -> Option<Result<Span, String>> {
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let one = !number.is_empty() && !unit.is_empty() && unit.bytes().all(|b| b.is_ascii_alphabetic());
    one.then(|| {
        text.parse().map_err(|_| format!("`{unit}` is not a unit of time, or the time is too far away"))
    })
}

fn date(text: &str, now: &ZonedDateTime) -> Result<Timestamp, String> {
    let form = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let date: Date = match text.parse() {
        Ok(date) if form => date,
        _ => return Err("it is not a duration, a date or a time in RFC 3339".into()),
    };
    let midnight = date.to_zoned_datetime(now.time_zone().clone()).map_err(|e| e.to_string())?;
    Ok(midnight.timestamp())
}

fn milliseconds(at: &Timestamp) -> Option<u64> {
    u64::try_from(at.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn at(text: &str) -> Result<String, String> {
        // Half a year away from summer time, an hour and a half east of Greenwich.
        let zone = TimeZone::fixed(jiff::tz::Offset::from_seconds(5400).unwrap());
        let now = "2026-11-23T18:00:00Z".parse::<Timestamp>().unwrap().to_zoned_datetime(zone);
        parse(text, &now).map(rfc3339_secs)
    }

    #[test]
    fn durations_count_from_now() {
        for (text, expected) in [
            ("90s", "2026-11-23T18:01:30Z"),
            ("5m", "2026-11-23T18:05:00Z"),
            ("12h", "2026-11-24T06:00:00Z"),
            ("30d", "2026-12-23T18:00:00Z"),
            ("2w", "2026-12-07T18:00:00Z"),
            ("6mo", "2027-05-23T18:00:00Z"),
            ("1y", "2027-11-23T18:00:00Z"),
        ] {
            assert_eq!(at(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn periods_have_a_fixed_length() {
        for (text, seconds) in [("90s", 90), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600)] {
            assert_eq!(period("--every", text).unwrap(), seconds * 1000, "{text}");
        }
        for text in ["", "0s", "30", "1mo", "1y", "-1d", "2027-01-31", "99999999999w"] {
            assert!(period("--every", text).is_err(), "{text}");
        }
        let shown: Vec<_> = [0, 60, 3600, 86_400, 90_000].into_iter().map(span).collect();
        assert_eq!(shown, ["0", "1m", "1h", "1d", "25h"]);
    }

    #[test]
    fn dates_begin_at_midnight_where_one_is() {
        assert_eq!(at("2027-01-31").unwrap(), "2027-01-30T22:30:00Z");
    }

    #[test]
    fn rfc_3339_says_its_offset() {
        assert_eq!(at("2027-01-31T10:00:00+02:00").unwrap(), "2027-01-31T08:00:00Z");
        assert_eq!(at("2027-01-31T10:00:00Z").unwrap(), "2027-01-31T10:00:00Z");
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "30",
            "d",
            "-1d",
            "1.5h",
            "30x",
            "tomorrow",
            "2027-02-30",
            "20270131",
            "2027-01",
            "99999999999999999999d",
            "99999y",
            "1969-01-01",
            "2027-01-31T10:00",
            "\u{1b}[31m",
        ] {
            assert!(at(text).is_err(), "{text}: {:?}", at(text));
        }
    }
}
