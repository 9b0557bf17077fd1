//! What a request's path and query may hold, and how it is read (RFC 3986 §3.4, and `+` for a space as forms send it).

use super::response::Failure;
use crate::error::{Error, Kind, Result};
use crate::ledger::{Name, Prefix};
use crate::replica::ListFilter;
use crate::vault::PutOptions;
use axum::RequestPartsExt;
use axum::extract::{FromRequestParts, RawPathParams};
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

/// The longest query that is read, in bytes: 64 labels and devices.
const MAX_QUERY: usize = 16 << 10;

/// Which version
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhichVersion {
    /// One version; without it the newest that is not staged
    #[serde(default, deserialize_with = "number")]
    pub version: Option<u64>,
}

/// Which tokens to list
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// Only this name and what lies below it
    #[serde(default, deserialize_with = "text")]
    #[param(max_length = 255)]
    pub prefix: Option<String>,
    /// Go on after this name: `next` of the page before
    #[serde(default, deserialize_with = "text")]
    #[param(max_length = 255)]
    pub after: Option<String>,
    /// So many at most, and 1000 at most
    #[serde(default, deserialize_with = "number")]
    pub limit: Option<u64>,
    /// Those that were destroyed instead
    #[serde(default)]
    pub destroyed: bool,
}

/// How to store a version
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Putting {
    /// Not to be opened from then on
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    pub expires: Option<u64>,
    /// Not to be opened before
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<u64>,
    /// KEY=VALUE; replaces the labels, may be given several times
    #[serde(default)]
    #[param(max_items = 32)]
    pub label: Vec<String>,
    /// Replaces the description
    #[serde(default, deserialize_with = "text")]
    #[param(max_length = 1024)]
    pub description: Option<String>,
    /// How many versions stay openable
    #[serde(default, deserialize_with = "number")]
    pub keep: Option<u64>,
    /// Put it staged
    #[serde(default)]
    pub staged: bool,
    /// Seal to this device only; may be given several times
    #[serde(default)]
    #[param(max_items = 32)]
    pub only: Vec<String>,
}

/// What to destroy
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Destroying {
    /// One version; the whole token without it
    #[serde(default, deserialize_with = "number")]
    pub version: Option<u64>,
    /// Why; it stands in the ledger
    #[serde(default, deserialize_with = "text")]
    #[param(max_length = 1024)]
    pub reason: Option<String>,
}

/// Which lines, of what is numbered
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Positions {
    /// Newest first, before this position
    #[serde(default, deserialize_with = "number")]
    pub before: Option<u64>,
    /// Oldest first instead, after this position
    #[serde(default, deserialize_with = "number")]
    pub after: Option<u64>,
    /// So many at most, 100 if not said, and 1000 at most
    #[serde(default, deserialize_with = "number")]
    pub limit: Option<u64>,
}

/// Which statements of a token
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// Go on after this position
    #[serde(default, deserialize_with = "number")]
    pub after: Option<u64>,
    /// So many at most, 100 if not said, and 1000 at most
    #[serde(default, deserialize_with = "number")]
    pub limit: Option<u64>,
}

/// Which lines of the access log
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Before {
    /// Go on before this row
    #[serde(default, deserialize_with = "number")]
    pub before: Option<u64>,
    /// So many at most, 100 if not said, and 1000 at most
    #[serde(default, deserialize_with = "number")]
    pub limit: Option<u64>,
}

/// Which grants
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantsOn {
    /// A token's name, or a prefix with / at its end; all if not said
    #[serde(default, deserialize_with = "text")]
    #[param(max_length = 256)]
    pub on: Option<String>,
}

/// Which grants to take back
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhichGrants {
    /// The grant's id
    #[serde(default, deserialize_with = "text")]
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub id: Option<String>,
    /// Or what it is on
    #[serde(default, deserialize_with = "text")]
    #[param(max_length = 256)]
    pub on: Option<String>,
    /// Together with to whom
    #[serde(default, deserialize_with = "text")]
    #[param(max_length = 1024)]
    pub to: Option<String>,
}

/// No parameter
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The query, decoded. A parameter that is unknown, given twice or of another form is an error.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self(parse(parts.uri.query().unwrap_or(""))?))
    }
}

/// The token's name, from the path.
pub struct TokenName(pub Name);

impl<S: Sync> FromRequestParts<S> for TokenName {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self(token_name(parts).await?))
    }
}

/// The token's name, from the path.
///
/// # Errors
/// `Usage`, saying which rule was broken.
pub async fn token_name(parts: &mut Parts) -> Result<Name> {
    let path = parts.extract::<RawPathParams>().await.map_err(|_| unusable("the path is not UTF-8"))?;
    let text = path.iter().find(|(key, _)| *key == "name").map_or("", |(_, value)| value);
    Name::parse(text).map_err(|why| Error::new(Kind::Usage, "use the path as a name", why))
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T> {
    // The decoder below takes any % for itself, and any bytes for text.
    let digits =
        |part: &str| part.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    if query.len() > MAX_QUERY {
        return Err(unusable("the query is too long"));
    }
    if !query.split('%').skip(1).all(digits) {
        return Err(unusable("a % without two digits"));
    }
    percent_decode_str(query).decode_utf8().map_err(|_| unusable("it is not UTF-8"))?;
    serde_html_form::from_str(query)
        .map_err(|e| unusable(crate::error::printable(&format!("the query: {e}"))))
}

fn unusable(why: impl Into<String>) -> Error {
    Error::new(Kind::Usage, "understand the request", why)
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// Digits. A number that is too large for any version or position stands for the largest.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(Some(text.parse().unwrap_or(u64::MAX))),
        false => Err(D::Error::custom("there is no number where one belongs")),
    }
}

/// RFC 3339, since 1970, to milliseconds.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let at: Option<jiff::Timestamp> = String::deserialize(deserializer)?.parse().ok();
    let ms = at.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    ms.map(Some).ok_or_else(|| D::Error::custom("there is no time in RFC 3339 since 1970 where one belongs"))
}

impl Listing {
    /// As the replica takes it, and how many at most.
    ///
    /// # Errors
    /// `Usage`.
    pub fn filter(self, most: u64) -> Result<(ListFilter, usize)> {
        let prefix = Prefix::parse(self.prefix.as_deref().unwrap_or(""))
            .map_err(|why| Error::new(Kind::Usage, "list", why))?;
        let limit = usize::try_from(self.limit.unwrap_or(most).clamp(1, most)).unwrap_or(1);
        Ok((ListFilter { prefix, destroyed: self.destroyed, after: self.after.unwrap_or_default() }, limit))
    }
}

impl Putting {
    /// As the vault takes it.
    ///
    /// # Errors
    /// `Usage`.
    pub fn options(self) -> Result<PutOptions> {
        let label = |text: &String| {
            let pair = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
            pair.ok_or_else(|| Error::new(Kind::Usage, "put", "a label is KEY=VALUE"))
        };
        let labels = self.label.iter().map(label).collect::<Result<Vec<_>>>()?;
        Ok(PutOptions {
            labels: (!labels.is_empty()).then_some(labels),
            description: self.description,
            not_before: self.not_before,
            expiry: self.expires,
            keep: self.keep,
            staged: self.staged,
            only: self.only,
        })
    }
}

/// What the parsers of a query make of one, in words. For a fuzzer.
pub fn fuzz_query(query: &str) -> String {
    let options = parse::<Putting>(query).and_then(Putting::options);
    format!("{:?} {:?}", parse::<WhichVersion>(query), options.err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query: Putting = parse("label=x%20y+z=&label=b=%C3%A9&staged=true&description=&").unwrap();
        assert_eq!(query.label, ["x y z=", "b=é"]);
        assert_eq!((query.staged, query.description.as_deref(), query.keep), (true, Some(""), None));
        assert_eq!(parse::<Putting>("only=one").unwrap().only, ["one"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in ["c=1", "version=%", "version=%4", "version=%zz", "version=%ff", "version=-1", "version="]
        {
            assert_eq!(parse::<WhichVersion>(text).unwrap_err().kind(), Kind::Usage, "{text}");
        }
        for text in ["version=1&version=2", "version=%2B1", &"version=1&".repeat(4000)] {
            assert!(parse::<WhichVersion>(text).is_err(), "{text}");
        }
        assert!(parse::<Putting>("expires=now").is_err() && parse::<Putting>("staged=x").is_err());
        let huge = parse::<WhichVersion>("version=18446744073709551616").unwrap();
        assert_eq!(huge.version, Some(u64::MAX));
    }
}
