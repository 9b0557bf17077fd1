//! The query of a request, and names in its path (RFC 3986 §3.4, and `+` for a space as forms send it).

use crate::error::{Error, Kind, Result};
use crate::ledger::Name;

/// The most parameters of one request.
const MAX_PARAMETERS: usize = 64;

/// Parameters, decoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// From what stands after the `?`. Every key must be one of `known`.
    ///
    /// # Errors
    /// `Usage`, naming what is wrong.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (decode(key, true)?, decode(value, true)?);
            if !known.contains(&key.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(
                    unusable("a parameter of the query is unknown").with_hint(format!("known here: {known}"))
                );
            }
            pairs.push((key, value));
            if pairs.len() > MAX_PARAMETERS {
                return Err(unusable("too many parameters"));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter that may be given once.
    ///
    /// # Errors
    /// `Usage` when it is given twice.
    pub fn one(&self, key: &str) -> Result<Option<&str>> {
        let mut found = self.all(key);
        match (found.next(), found.next()) {
            (found, None) => Ok(found),
            _ => Err(unusable(format!("{key} is given twice"))),
        }
    }

    /// All values of a parameter.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// A number.
    ///
    /// # Errors
    /// `Usage`.
    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or_else(|| unusable(format!("{key} is no number")))
        };
        self.one(key)?.map(number).transpose()
    }

    /// Set when it stands there alone, or with `true` or `1`.
    ///
    /// # Errors
    /// `Usage`.
    pub fn flag(&self, key: &str) -> Result<bool> {
        match self.one(key)? {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(unusable(format!("{key} is true or false"))),
        }
    }

    /// Milliseconds, from RFC 3339.
    ///
    /// # Errors
    /// `Usage`.
    pub fn time(&self, key: &str) -> Result<Option<u64>> {
        let time = |text: &str| {
            let at: Option<jiff::Timestamp> = text.parse().ok();
            at.and_then(|at| u64::try_from(at.as_millisecond()).ok())
                .ok_or_else(|| unusable(format!("{key} is no time in RFC 3339 since 1970")))
        };
        self.one(key)?.map(time).transpose()
    }
}

/// The name in a path.
///
/// # Errors
/// `Usage`, saying which rule was broken.
pub fn name_in_path(text: &str) -> Result<Name> {
    let text = decode(text, false)?;
    Name::parse(&text).map_err(|why| Error::new(Kind::Usage, "use the path as a name", why))
}

/// Percent-decoding to UTF-8.
fn decode(text: &str, form: bool) -> Result<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let pair = [bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)];
                let mut byte = [0];
                hex::decode_to_slice(pair, &mut byte).map_err(|_| unusable("a % without two digits"))?;
                byte[0]
            }
            b'+' if form => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| unusable("it is not UTF-8"))
}

fn unusable(why: impl Into<String>) -> Error {
    Error::new(Kind::Usage, "understand the request", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("a=x%20y+z&b&a2=%C3%A9&", &["a", "b", "a2"]).unwrap();
        assert_eq!((query.one("a").unwrap(), query.one("a2").unwrap()), (Some("x y z"), Some("é")));
        assert!(query.flag("b").unwrap() && !query.flag("c").unwrap());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in ["c=1", "a=%", "a=%4", "a=%zz", "a=%ff", &"a=1&".repeat(100)] {
            assert_eq!(Query::parse(text, &["a"]).unwrap_err().kind(), Kind::Usage, "{text}");
        }
        let query = Query::parse("a=1&a=2&n=-1&t=now&f=x", &["a", "n", "t", "f"]).unwrap();
        assert!(query.one("a").is_err() && query.number("n").is_err());
        assert!(query.time("t").is_err() && query.flag("f").is_err());
    }

    #[test]
    fn names_may_be_encoded_and_stay_names() {
        assert_eq!(name_in_path("prod%2Fdb+1").unwrap().as_str(), "prod/db+1");
        for text in ["a%00", "a//b", "..", "%2e%2e", "a%", "é"] {
            assert!(name_in_path(text).is_err(), "{text}");
        }
    }
}
