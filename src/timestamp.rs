//! Moments, which are milliseconds since 1970, as RFC 3339 in UTC: in JSON to the millisecond.

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time for people: UTC, to the second.
pub fn rfc3339_secs(ms: u64) -> String {
    timestamp(ms).map_or_else(|| "never".into(), |at| at.strftime("%FT%TZ").to_string())
}

/// A time for programs: RFC 3339, UTC, to the millisecond.
pub fn rfc3339_millis(ms: u64) -> String {
    timestamp(ms).map_or_else(|| "never".into(), |at| at.strftime("%FT%T.%3fZ").to_string())
}

/// The same of a time that may be none.
pub(super) fn rfc3339_millis_opt(at: Option<u64>) -> Option<String> {
    at.map(rfc3339_millis)
}

fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
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

#[cfg(test)]
mod tests {
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
