//! A request's body: read within bounds and in time, into memory that is wiped.

use super::authorized::Gate;
use super::params::{Nothing, Params};
use super::response::Failure;
use crate::agent::Agent;
use crate::error::{Error, Kind, Result};
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Body as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The most bytes of a body in JSON.
pub const MAX_JSON_BYTES: usize = 64 << 10;

/// JSON that was sent.
///
/// # Errors
/// `Usage`, without what was sent.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    // Serde would take an array for an object.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::new(Kind::Usage, "understand the request", "the body is no JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|e| {
        // Serde's own words could repeat what was sent.
        let at = format!("the JSON is not as it should be, at line {}, column {}", e.line(), e.column());
        Error::new(Kind::Usage, "understand the request", at)
    })
}

impl Agent {
    /// A body of at most `most` bytes, that arrives in time. Its buffer never grows: that would leave copies behind.
    pub async fn read_body(
        &self,
        mut body: Body,
        most: usize,
        operation: &str,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let too_large =
            || Error::new(Kind::Usage, operation, format!("the body holds more than {most} bytes"));
        if body.size_hint().lower() > most as u64 {
            return Err(too_large());
        }
        let expected = body.size_hint().exact().and_then(|n| usize::try_from(n).ok()).unwrap_or(most);
        let mut bytes = Zeroizing::new(Vec::with_capacity(expected.min(most)));
        let deadline = tokio::time::Instant::now() + self.body_time;
        loop {
            let frame = tokio::time::timeout_at(deadline, body.frame()).await;
            let frame =
                frame.map_err(|_| Error::new(Kind::Usage, operation, "the body did not arrive in time"))?;
            let Some(frame) = frame else { return Ok(bytes) };
            let frame = frame.map_err(|_| Error::new(Kind::Usage, operation, "the body was cut off"))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > most {
                    return Err(too_large());
                }
                bytes.extend_from_slice(data);
            }
        }
    }
}

/// A request that is all in its body, as JSON. It has no query.
pub struct Sent<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Gate> for Sent<T> {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, gate: &Gate) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let Params(Nothing {}) = Params::from_request_parts(&mut parts, gate).await?;
        Ok(Self(parse(&gate.read_body(body, MAX_JSON_BYTES, "understand the request").await?)?))
    }
}
