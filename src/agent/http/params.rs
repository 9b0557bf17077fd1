//! What a request's path and query may hold, and how it is read (RFC 3986 §3.4, and `+` for a space as forms send it).

use super::response::Failure;
use crate::client::api::texts::{
    GrantIdText, Grantable, GranteeText, Labels, NameText, PrefixText, ShortName, Time, Watchables, Words,
};
use crate::error::{Error, Kind, Result, printable};
use crate::ledger::name::{MAX_LABEL_BYTES, MAX_LABELS, check_short, check_text};
use crate::ledger::{Name, Prefix};
use crate::replica::ListFilter;
use crate::vault::{GrantOn, PutOptions};
use axum::RequestPartsExt;
use axum::extract::{FromRequestParts, RawPathParams};
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

/// The longest query that is read, in bytes: 64 labels and devices.
const MAX_QUERY: usize = 16 << 10;

/// The most tokens and prefixes that are watched at once.
const MAX_WATCHED: usize = 64;

/// The most tokens or lines of one page.
const MAX_PAGE: u32 = 1000;

/// Which version
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhichVersion {
    /// One version; without it the newest that came into use
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 0)]
    pub version: Option<u64>,
}

/// Which tokens to list
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// Only this name and what lies below it
    #[serde(default, deserialize_with = "text")]
    #[param(value_type = Option<PrefixText>)]
    pub prefix: Option<String>,
    /// Go on after this name: `next` of the page before
    #[serde(default, deserialize_with = "text")]
    #[param(value_type = Option<NameText>)]
    pub after: Option<String>,
    /// So many at most
    #[serde(default, deserialize_with = "limit")]
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    pub limit: Option<u32>,
    /// Those that were destroyed instead
    #[serde(default)]
    pub destroyed: bool,
}

/// Which tokens to watch
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Watching {
    /// A token's name, or a prefix with `/` at its end; may be given several times
    #[param(inline, value_type = Watchables)]
    pub on: Vec<String>,
}

/// How to store a version
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Putting {
    /// Not to be opened from then on
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<Time>)]
    pub expires: Option<u64>,
    /// Never expire; else, without `expires`, as long after this put as the version before
    #[serde(default)]
    pub never_expires: bool,
    /// Not to be opened before
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<Time>)]
    pub not_before: Option<u64>,
    /// Replaces the labels; may be given several times, with different keys
    #[serde(default)]
    #[param(inline, value_type = Labels)]
    pub label: Vec<String>,
    /// Replaces the description
    #[serde(default, deserialize_with = "words")]
    #[param(value_type = Option<Words>)]
    pub description: Option<String>,
    /// How many versions stay openable
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1)]
    pub keep: Option<u64>,
    /// Put it staged
    #[serde(default)]
    pub staged: bool,
    /// Seal to this device only; may be given several times
    #[serde(default)]
    #[param(value_type = Vec<ShortName>, max_items = 32)]
    pub only: Vec<String>,
    /// How many devices open it together; for the owner
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1)]
    pub threshold: Option<u64>,
}

/// What to destroy
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Destroying {
    /// One version; the whole token without it
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 0)]
    pub version: Option<u64>,
    /// Why; it stands in the ledger
    #[serde(default, deserialize_with = "words")]
    #[param(value_type = Option<Words>)]
    pub reason: Option<String>,
}

/// Which statements
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Positions {
    /// Newest first, before this position
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 0)]
    pub before: Option<u64>,
    /// Oldest first instead, after this position
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 0)]
    pub after: Option<u64>,
    /// So many at most
    #[serde(default, deserialize_with = "limit")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
}

/// Which lines of the access log
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Before {
    /// Go on before this row
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 0)]
    pub before: Option<u64>,
    /// So many at most
    #[serde(default, deserialize_with = "limit")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
}

/// Which grants
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantsOn {
    /// What they are on; all if not said
    #[serde(default, deserialize_with = "text")]
    #[param(value_type = Option<Grantable>)]
    pub on: Option<String>,
}

/// Grants to take back
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantsOf {
    /// What they are on
    #[param(value_type = Grantable)]
    pub on: String,
    /// To whom they are
    #[param(value_type = GranteeText)]
    pub to: String,
}

/// A grant's id, from the path
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub struct GrantNumber(#[param(value_type = GrantIdText)] pub String);

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
#[derive(IntoParams)]
#[into_params(names("name"), parameter_in = Path)]
pub struct TokenName(#[param(value_type = NameText)] pub Name);

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
    serde_html_form::from_str(query).map_err(|e| unusable(printable(&format!("the query: {e}"))))
}

fn unusable(why: impl Into<String>) -> Error {
    Error::new(Kind::Usage, "understand the request", why)
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// What may stand in the ledger as somebody's own words.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    crate::client::api::words(deserializer).map(Some)
}

/// Digits, of no larger number than OpenAPI's `int64` holds.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse().ok().filter(|n| digits && i64::try_from(*n).is_ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(D::Error::custom("there is no number, or one that is too large, where one belongs")),
    }
}

/// The size of a page.
fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let limit = number(deserializer)?.and_then(|n| u32::try_from(n).ok());
    match limit.is_some_and(|n| (1..=MAX_PAGE).contains(&n)) {
        true => Ok(limit),
        false => Err(D::Error::custom(format!("`limit` is from 1 to {MAX_PAGE}"))),
    }
}

/// RFC 3339, to milliseconds since 1970.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let ms = crate::timestamp::parse_rfc3339(&String::deserialize(deserializer)?);
    ms.map(Some).ok_or_else(|| D::Error::custom("there is no time in RFC 3339 since 1970 where one belongs"))
}

impl Listing {
    /// As the replica takes it, and how many at most.
    ///
    /// # Errors
    /// `Usage`.
    pub fn filter(self) -> Result<(ListFilter, usize)> {
        let unusable = |why| Error::new(Kind::Usage, "list tokens", why);
        let prefix = Prefix::parse(self.prefix.as_deref().unwrap_or("")).map_err(unusable)?;
        let after = self.after.as_deref().map(Name::parse).transpose().map_err(unusable)?;
        let after = after.map(|name| name.to_string()).unwrap_or_default();
        let limit = self.limit.unwrap_or(MAX_PAGE) as usize;
        Ok((ListFilter { prefix, destroyed: self.destroyed, after }, limit))
    }
}

impl Watching {
    /// As the vault takes it.
    ///
    /// # Errors
    /// `Usage`.
    pub fn on(&self) -> Result<Vec<GrantOn>> {
        if self.on.is_empty() || self.on.len() > MAX_WATCHED {
            return Err(unusable("`on` is given 1 to 64 times"));
        }
        self.on.iter().map(|on| on.parse().map_err(|why: String| unusable(&why))).collect()
    }
}

impl Putting {
    /// As the vault takes it.
    ///
    /// # Errors
    /// `Usage`.
    pub fn options(self) -> Result<PutOptions> {
        let mut labels = Vec::with_capacity(self.label.len());
        for text in &self.label {
            let (key, value) = text.split_once('=').ok_or_else(|| unusable("a label is KEY=VALUE"))?;
            let checked = check_short(key).and_then(|()| check_text(value, MAX_LABEL_BYTES));
            checked.map_err(|why| unusable(format!("the label {}: {why}", printable(key))))?;
            if labels.iter().any(|(known, _)| known == key) {
                // No schema says that keys differ, so this is no request of another shape.
                let message = format!("the label {key} is given twice");
                return Err(Error::new(Kind::Conflict, "understand the request", message));
            }
            labels.push((key.to_owned(), value.to_owned()));
        }
        if labels.len() > MAX_LABELS || self.only.len() > MAX_LABELS {
            return Err(unusable(format!("at most {MAX_LABELS} labels, and as many devices")));
        }
        for (name, value) in [("keep", self.keep), ("threshold", self.threshold)] {
            if value == Some(0) {
                return Err(unusable(format!("`{name}` is at least 1")));
            }
        }
        Ok(PutOptions {
            labels: (!labels.is_empty()).then_some(labels),
            description: self.description,
            not_before: self.not_before,
            expiry: self.expires,
            never_expires: self.never_expires,
            keep: self.keep,
            staged: self.staged,
            only: self.only,
            threshold: self.threshold,
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
        assert!(parse::<WhichVersion>("version=9223372036854775807").is_ok());
        assert!(parse::<WhichVersion>("version=9223372036854775808").is_err());
        assert!(parse::<Listing>("limit=1000").is_ok());
        assert!(parse::<Listing>("limit=1001").is_err() && parse::<Listing>("limit=0").is_err());
    }
}
