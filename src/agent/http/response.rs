//! What goes back: bytes, JSON, or a problem (RFC 9457) with the same fields as the command's errors.

use crate::client::Problem;
use crate::error::{Error, Kind};
use crate::secret::Secret;
use crate::vault::OpenedToken;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Serialize;

/// An error as an answer.
pub struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        problem(&self.0)
    }
}

/// What a handler returns.
pub type Answer<T> = Result<T, Failure>;

/// A value as JSON.
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(text) => bytes("application/json", text),
            Err(e) => problem(&Error::new(Kind::Io, "write JSON", e.to_string())),
        }
    }
}

/// Bytes of a media type.
pub fn bytes(media: &'static str, body: impl Into<Bytes>) -> Response {
    let mut answer = Response::new(Body::from(body.into()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// What is written as it comes about.
pub fn stream(media: &'static str, body: Body) -> Response {
    let mut answer = bytes(media, Bytes::new());
    *answer.body_mut() = body;
    answer
}

/// A token. Its bytes are wiped once they are sent.
pub fn token(token: OpenedToken) -> Response {
    let mut answer = secret(token.value);
    answer.headers_mut().insert(crate::client::VERSION, HeaderValue::from(token.version));
    answer
}

/// Bytes that are wiped once they are sent.
pub fn secret(secret: Secret) -> Response {
    bytes("application/octet-stream", Bytes::from_owner(Exposed(secret)))
}

struct Exposed(Secret);

impl AsRef<[u8]> for Exposed {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// An error.
pub fn problem(error: &Error) -> Response {
    problem_with(status(error.kind()), error)
}

/// An error whose status does not follow from its kind.
pub fn problem_with(status: StatusCode, error: &Error) -> Response {
    let problem = Problem::new(status.canonical_reason().unwrap_or("error"), status.as_u16(), error);
    let text = serde_json::to_vec(&problem).unwrap_or_default();
    let mut answer = bytes("application/problem+json", text);
    *answer.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// Closes the connection after this answer: the rest of the request is not read.
pub fn and_close(mut answer: Response) -> Response {
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
        Kind::Device | Kind::DeviceGone | Kind::Store | Kind::Stale => StatusCode::SERVICE_UNAVAILABLE,
        Kind::SealedElsewhere | Kind::KeyMissing | Kind::Evidence => StatusCode::BAD_GATEWAY,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a path that is not one of the API's.
pub fn refused_connection(error: &Error) -> Response {
    and_close(problem_with(StatusCode::FORBIDDEN, error))
}

/// The answer to a request whose turn did not come, for all the others of the same user.
pub fn too_many_requests() -> Response {
    let error = Error::new(Kind::Device, "answer", "too many requests of this user are in hand");
    and_close(problem(&error.with_target("the agent").with_hint("try again in a moment")))
}

/// The answer in place of one that is larger than anybody but the owner gets.
pub fn too_large() -> Response {
    let error = Error::new(Kind::Usage, "answer", "the answer holds more than 1 MiB");
    problem(&error.with_hint("ask for less: for one version, or for a page with a limit"))
}
