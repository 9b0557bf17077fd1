//! How long an agent may cache an opened version: the signed label `strongroom.cache`.

use crate::error::{Error, Kind, Result};
use crate::timestamp;
use std::time::Duration;

/// The label.
const LABEL: &str = "strongroom.cache";

/// The prefix of labels that have a meaning for Strongroom.
const OWN: &str = "strongroom.";

/// The longest time.
const MOST: Duration = Duration::from_secs(24 * 3600);

/// The duration in the labels; `None` if there is none or its form is unknown.
pub(crate) fn time(labels: &[(String, String)]) -> Option<Duration> {
    let (_, value) = labels.iter().find(|(key, _)| key == LABEL)?;
    timestamp::parse_duration(value).filter(|time| *time <= MOST)
}

/// Refuses reserved labels that this version does not understand.
///
/// # Errors
/// `Usage`.
pub(crate) fn check(labels: &[(String, String)], operation: &str) -> Result<()> {
    let refused = |message: String, hint: &str| {
        Err(Error::new(Kind::Usage, operation, message).with_hint(hint.to_owned()))
    };
    match labels.iter().find(|(key, _)| key.starts_with(OWN) && key != LABEL) {
        Some((key, _)) => {
            let message = format!("labels that begin with `{OWN}` are Strongroom's own, and `{key}` is none");
            refused(message, "the one there is: strongroom.cache=5m")
        }
        None if labels.iter().any(|(key, _)| key == LABEL) && time(labels).is_none() => {
            let message = format!("the label `{LABEL}` is a time of at most 24h");
            refused(message, "write it as one of 30s, 5m, 2h")
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(key: &str, value: &str) -> Vec<(String, String)> {
        vec![("owner".into(), "ops".into()), (key.into(), value.into())]
    }

    #[test]
    fn a_label_is_a_time() {
        assert_eq!(time(&labels(LABEL, "5m")), Some(Duration::from_secs(300)));
        assert_eq!(time(&labels("cache", "5m")), None);
        for text in ["", "5", "m", "0s", "-1s", "+1s", "5 m", "5d", "25h", "18446744073709551615h", "5м"] {
            assert_eq!(time(&labels(LABEL, text)), None, "{text}");
            assert!(check(&labels(LABEL, text), "put a").is_err(), "{text}");
        }
        assert!(
            check(&labels(LABEL, "24h"), "put a").is_ok() && check(&labels("cache", "x"), "put a").is_ok()
        );
        assert!(check(&labels("strongroom.cahce", "5m"), "put a").is_err());
        let both = [labels(LABEL, "5m"), labels("strongroom.zzz", "5m")].concat();
        assert!(check(&both, "put a").is_err());
    }
}
