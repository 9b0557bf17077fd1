//! The routes for applications: tokens, and what they need to know of the agent.

use super::authorized::{Anyone, Authorized, Granted, PerToken, ToList, ToPut, ToSetState};
use super::body::{MAX_JSON_BYTES, parse};
use super::params::{Listing, Nothing, Params, Putting, TokenName, WhichVersion};
use super::response::{self, Answer, Json};
use crate::client::api::texts::Octets;
use crate::client::api::{Health, StateChange, StateChanged, StoredVersion, TokenPage, WhoAmI};
use crate::error::{Error, Kind};
use crate::secret::{MAX_TOKEN_BYTES, Secret};
use crate::vault::{Op, TokenRef, TokenView, Vault};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use std::time::Instant;

/// List the tokens that the caller may see
///
/// For the owner, and clients that were granted `list`.
#[utoipa::path(get, path = "/v1/tokens", params(Listing), responses((status = 200, description = "Done", body = TokenPage)))]
pub async fn list(client: PerToken, Params(listing): Params<Listing>) -> Answer<Json<TokenPage>> {
    let (filter, limit) = listing.filter()?;
    let (tokens, more) = client.list(filter, limit).await?;
    let next = tokens.last().filter(|_| more).map(|last| last.name.clone());
    Ok(Json(TokenPage { tokens, next }))
}

/// All about a token, but the token
///
/// For the owner, and clients that were granted `list`.
#[utoipa::path(
    get, path = "/v1/tokens/{*name}", params(TokenName, WhichVersion),
    responses((status = 200, description = "Done", body = TokenView))
)]
pub async fn show(
    allowed: Authorized<Granted<ToList>>,
    Params(which): Params<WhichVersion>,
) -> Answer<Json<TokenView>> {
    let name = allowed.name().clone();
    let operation = match which.version {
        Some(version) => format!("show {name}@{version}"),
        None => format!("show {name}"),
    };
    let shown = move |vault: &mut Vault| vault.shown(&name, which.version, &operation);
    let mut view = allowed.read("show a token", move |queries| shown(&mut queries.vault)).await?;
    if !allowed.is_owner() {
        // Who else may have it is the owner's business.
        view.grants.clear();
    }
    Ok(Json(view))
}

/// A token's bytes
///
/// For the owner, and clients that were granted `get`.
#[utoipa::path(
    get, path = "/v1/values/{*name}", params(TokenName, WhichVersion),
    responses((status = 200, description = "Done", body = Octets, content_type = "application/octet-stream",
        headers(("strongroom-version" = u64, description = "The version that was opened"))))
)]
pub async fn get(
    client: PerToken,
    TokenName(name): TokenName,
    Params(which): Params<WhichVersion>,
) -> Answer<Response> {
    let token = client.open(&TokenRef { name, version: which.version }).await?;
    Ok(response::token(token))
}

/// Store a new version of a token
///
/// For the owner, and clients that were granted `put`; with `keep` or `only`, `state` as well. With `threshold`, for the owner.
#[utoipa::path(
    put, path = "/v1/values/{*name}", params(TokenName, Putting),
    request_body(content = Octets, content_type = "application/octet-stream"),
    responses((status = 200, description = "Done", body = StoredVersion))
)]
pub async fn put(
    allowed: Authorized<Granted<ToPut>>,
    Params(putting): Params<Putting>,
    body: Body,
) -> Answer<Json<StoredVersion>> {
    let options = putting.options()?;
    let name = allowed.name().clone();
    // It takes older versions, or devices, away from others.
    let takes = options.keep.is_some() || !options.only.is_empty();
    let choose = format!("put {name}, and choose what else opens");
    if takes {
        allowed.also(Op::State, &choose).await?;
    }
    // The agent's own device may be an admin's, which may lower it.
    if options.threshold.is_some() && !allowed.is_owner() {
        let message = "only the agent's owner says how many devices open it together";
        return Err(Error::new(Kind::Refused, format!("put {name}"), message).into());
    }
    let token = Secret::from(allowed.read_body(body, MAX_TOKEN_BYTES, &format!("put {name}")).await?);
    let also = takes.then_some((Op::State, choose.as_str()));
    let put = allowed.change("put", also, move |vault| vault.put(&name, &token, &options)).await?;
    let token_id = put.token.to_string();
    Ok(Json(StoredVersion {
        token_id,
        version: put.version,
        expires: put.expires,
        recipients: put.recipients,
        threshold: put.threshold,
    }))
}

/// Suspend, resume or revoke a token
///
/// For the owner, and clients that were granted `state`.
#[utoipa::path(
    post, path = "/v1/states/{*name}", params(TokenName), request_body = StateChange,
    responses((status = 200, description = "Done", body = StateChanged))
)]
pub async fn set_state(
    allowed: Authorized<Granted<ToSetState>>,
    Params(Nothing {}): Params<Nothing>,
    body: Body,
) -> Answer<Json<StateChanged>> {
    let change: StateChange = parse(&allowed.read_body(body, MAX_JSON_BYTES, "change a state").await?)?;
    let (name, state, version) = (allowed.name().clone(), change.state, change.version);
    let set = move |vault: &mut Vault| vault.set_state(&name, version, state.into(), &change.reason);
    allowed.change("change a state", None, set).await?;
    Ok(Json(StateChanged { name: allowed.name().to_string(), version, state }))
}

/// Who the agent takes the caller for
///
/// For anybody who reaches the socket.
#[utoipa::path(get, path = "/v1/whoami", responses((status = 200, description = "Done", body = WhoAmI)))]
pub async fn whoami(allowed: Authorized<Anyone>, Params(Nothing {}): Params<Nothing>) -> Json<WhoAmI> {
    let deadline = Instant::now() + allowed.agent().deadline;
    let client = allowed.agent().with_digest(allowed.client(), deadline).await;
    let peer = &client.peer;
    Json(WhoAmI {
        owner: allowed.is_owner(),
        uid: peer.uid,
        groups: peer.groups.clone(),
        pid: peer.pid,
        unit: peer.unit.as_ref().map(ToString::to_string),
        exe: peer.exe.as_ref().map(|exe| exe.path.display().to_string()),
        exe_sha256: client.digest.map(|digest| digest.to_string()),
    })
}

/// Whether all is well; devices and why not for the owner
///
/// For anybody who reaches the socket.
#[utoipa::path(
    get, path = "/v1/health",
    responses((status = 200, description = "All is well", body = Health), (status = 503, description = "Something is wrong", body = Health))
)]
pub async fn health(allowed: Authorized<Anyone>, Params(Nothing {}): Params<Nothing>) -> Response {
    let health = allowed.agent().health(allowed.is_owner());
    let status = if health.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

/// Numbers for Prometheus; no token's name
///
/// For anybody who reaches the socket.
#[utoipa::path(
    get, path = "/metrics",
    responses((status = 200, description = "Done", body = String, content_type = "text/plain; version=0.0.4"))
)]
pub async fn metrics(allowed: Authorized<Anyone>, Params(Nothing {}): Params<Nothing>) -> Answer<Response> {
    let text = allowed.agent().metrics().await?;
    Ok(response::bytes("text/plain; version=0.0.4", text))
}
