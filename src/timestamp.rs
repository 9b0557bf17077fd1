//! Timestamps in milliseconds since 1970, shown as RFC 3339 in UTC, and durations in one unit, such as `5m`.

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

/// A time for people: UTC, to the second.
pub fn rfc3339_secs(ms: u64) -> String {
    timestamp(ms).map_or_else(|| "never".into(), |at| at.strftime("%FT%TZ").to_string())
}

/// A time for programs: RFC 3339, UTC, to the millisecond.
pub fn rfc3339_millis(ms: u64) -> String {
    timestamp(ms).map_or_else(|| "never".into(), |at| at.strftime("%FT%T.%3fZ").to_string())
}

/// The same for an optional time.
pub(super) fn rfc3339_millis_opt(at: Option<u64>) -> Option<String> {
    at.map(rfc3339_millis)
}

fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

/// RFC 3339, in the years 1970 to 8999: jiff holds no later ones in every time zone. One that is earlier in UTC is 0.
pub(crate) fn parse_rfc3339(text: &str) -> Option<u64> {
    let year: u32 = text.get(..4)?.parse().ok()?;
    let dashed = text.as_bytes().get(4) == Some(&b'-');
    let at: Timestamp = text.parse().ok().filter(|_| dashed && (1970..=8999).contains(&year))?;
    Some(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

/// For serde's `with`.
pub(crate) fn serialize<S: Serializer>(ms: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    ms.map(rfc3339_millis).serialize(serializer)
}

/// For serde's `with`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    if text == "never" {
        return Ok(Some(u64::MAX));
    }
    let at: Timestamp = text.parse().map_err(D::Error::custom)?;
    u64::try_from(at.as_millisecond()).map(Some).map_err(D::Error::custom)
}

/// A duration as `30s`, `5m` or `2h`; never zero.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number = text.strip_suffix(unit)?;
    if !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        's' => number,
        'm' => number.checked_mul(60)?,
        'h' => number.checked_mul(3600)?,
        _ => return None,
    };
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// The same, written with the largest unit that divides it.
pub fn format_duration(duration: Duration) -> String {
    match duration.as_secs() {
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// A span of milliseconds for people, in one unit, rounded down to what matters: 7s, 25m, 30h.
pub fn rounded_duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let unit = match seconds {
        0..120 => 1,
        120..36_000 => 60,
        _ => 3600,
    };
    match seconds {
        0 => "0s".into(),
        seconds => format_duration(Duration::from_secs(seconds - seconds % unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        for text in ["30s", "90s", "5m", "2h"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(parse_duration("120m"), parse_duration("2h"));
        for text in ["", "5", "m", "0s", "-1s", "+1s", "5 m", "5d", "18446744073709551615h", "5м"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn spans_are_rounded_to_what_matters() {
        for (seconds, text) in [
            (0, "0s"),
            (1, "1s"),
            (61, "61s"),
            (119, "119s"),
            (121, "2m"),
            (3_601, "1h"),
            (3_661, "61m"),
            (35_999, "599m"),
            (100_000, "27h"),
        ] {
            assert_eq!(rounded_duration(seconds * 1000 + 999), text);
        }
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Holder(#[serde(with = "super")] Option<u64>);

    #[test]
    fn times_survive_to_the_millisecond() {
        for ms in [None, Some(0), Some(1_764_226_800_123), Some(u64::MAX)] {
            let text = serde_json::to_string(&Holder(ms)).unwrap();
            assert_eq!(serde_json::from_str::<Holder>(&text).unwrap().0, ms, "{text}");
        }
        assert!(serde_json::from_str::<Holder>("\"tomorrow\"").is_err());
    }
}
