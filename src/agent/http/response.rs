//! What goes back: bytes, JSON, or a problem (RFC 9457) with the same fields as the command's errors.

use crate::client::Problem;
use crate::error::{Error, Kind};
use crate::secret::Secret;
use crate::vault::OpenedToken;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// An answer.
pub type Answer = Response<Full<Bytes>>;

/// Bytes of a media type.
pub fn bytes(media: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A token. Its bytes are wiped once they are sent.
pub fn token(token: OpenedToken) -> Answer {
    let mut answer = bytes("application/octet-stream", Bytes::from_owner(Exposed(token.value)));
    answer.headers_mut().insert(crate::client::VERSION, HeaderValue::from(token.version));
    answer
}

struct Exposed(Secret);

impl AsRef<[u8]> for Exposed {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// JSON.
pub fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => bytes("application/json", text),
        Err(e) => problem(&Error::new(Kind::Io, "write JSON", e.to_string())),
    }
}

/// An error.
pub fn problem(error: &Error) -> Answer {
    problem_with(status(error.kind()), error)
}

/// An error whose status does not follow from its kind.
pub fn problem_with(status: StatusCode, error: &Error) -> Answer {
    let problem = Problem::new(status.canonical_reason().unwrap_or("error"), status.as_u16(), error);
    let text = serde_json::to_vec(&problem).unwrap_or_default();
    let mut answer = bytes("application/problem+json", text);
    *answer.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// There is something, but not by this method.
pub fn wrong_method(methods: &[&str]) -> Answer {
    let error = Error::new(Kind::Usage, "understand the request", "no such method here");
    let mut answer = problem_with(StatusCode::METHOD_NOT_ALLOWED, &error);
    if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
        answer.headers_mut().insert(ALLOW, allow);
    }
    answer
}

/// The rest of what the client sends is not wanted.
pub fn and_close(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The status of a sort of failure.
fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Usage => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Refused | Kind::Cancelled => StatusCode::FORBIDDEN,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::PinWrong | Kind::PinLocked | Kind::PinUnavailable => StatusCode::LOCKED,
        Kind::Device | Kind::DeviceGone | Kind::Store => StatusCode::SERVICE_UNAVAILABLE,
        Kind::KeyMissing | Kind::Evidence => StatusCode::BAD_GATEWAY,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
