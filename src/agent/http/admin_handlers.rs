//! The routes for the agent's owner.

use super::authorized::{Authorized, Owner};
use super::body::Sent;
use super::params::{
    Before, Destroying, GrantNumber, GrantsOf, GrantsOn, Nothing, Params, Positions, TokenName, WhichVersion,
};
use super::response::{self, Answer, Json};
use crate::agent::Agent;
use crate::client::api::texts::Octets;
use crate::client::api::{
    AccessPage, AgeFile, Destroyed, GrantList, GrantRequest, Locked, LockedDevice, LogPage, Rename, Renamed,
    Unlock, Unlocked,
};
use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use crate::secret::Secret;
use crate::vault::{
    EntryView, GrantOn, GrantOptions, GrantView, Grantee, LogOrder, Revoked, TokenBackend, TokenRef, Vault,
};
use axum::extract::Path;
use axum::response::Response;
use std::time::{Duration, Instant};

/// How many lines are answered where nothing is said.
const LINES: u32 = 100;

/// How long an answer waits for devices to log out.
const LOGOUT: Duration = Duration::from_secs(5);

const UNGRANT: &str = "take grants back";

/// About how many bytes of statements an answer holds at most.
const MOST_BYTES: usize = 4 << 20;

/// Give a token another name
///
/// For the owner.
#[utoipa::path(post, path = "/v1/rename", request_body = Rename, responses((status = 200, description = "Done", body = Renamed)))]
pub async fn rename(
    allowed: Authorized<Owner>,
    Sent(Rename { from, to }): Sent<Rename>,
) -> Answer<Json<Renamed>> {
    let name = |text: &str| Name::parse(text).map_err(|why| Error::new(Kind::Usage, "rename", why));
    let (old, new) = (name(&from)?, name(&to)?);
    allowed.write("rename", move |vault| vault.rename(&old, &new)).await?;
    Ok(Json(Renamed { from, to }))
}

/// Delete a token's sealed bytes
///
/// For the owner.
#[utoipa::path(
    delete, path = "/v1/tokens/{*name}", params(TokenName, Destroying),
    responses((status = 200, description = "Done", body = Destroyed))
)]
pub async fn destroy(
    allowed: Authorized<Owner>,
    TokenName(name): TokenName,
    Params(which): Params<Destroying>,
) -> Answer<Json<Destroyed>> {
    let (version, reason) = (which.version, which.reason.unwrap_or_default());
    let shown = name.to_string();
    let destroy = move |vault: &mut Vault| vault.destroy(&name, version, &reason);
    let destroyed = allowed.write("destroy", destroy).await?;
    Ok(Json(Destroyed { name: shown, version, destroyed }))
}

/// A version as it lies in the store: an age file
///
/// For the owner.
#[utoipa::path(
    get, path = "/v1/sealed/{*name}", params(TokenName, WhichVersion),
    responses((status = 200, description = "Done", body = Octets, content_type = "application/octet-stream"))
)]
pub async fn sealed(
    allowed: Authorized<Owner>,
    TokenName(name): TokenName,
    Params(which): Params<WhichVersion>,
) -> Answer<Response> {
    let operation = format!("show {name}");
    let wanted = TokenRef { name, version: which.version };
    let sealed =
        allowed.read("show sealed bytes", move |queries| queries.vault.sealed_version(&wanted, &operation));
    Ok(response::bytes("application/octet-stream", sealed.await?))
}

/// The key of an age file that is sealed to a device here
///
/// For the owner. Nothing if it is sealed to no device of the store. The header's MAC is for the client to check.
#[utoipa::path(
    post, path = "/v1/age-file", request_body = AgeFile,
    responses((status = 200, description = "Done", body = Octets, content_type = "application/octet-stream"))
)]
pub async fn age_file(allowed: Authorized<Owner>, Sent(file): Sent<AgeFile>) -> Answer<Response> {
    let key = allowed.agent().open_age_file(allowed.client(), file.into_stanzas()).await?;
    Ok(response::secret(key.unwrap_or_else(|| Secret::new(Vec::new()))))
}

/// The ledger
///
/// For the owner.
#[utoipa::path(get, path = "/v1/log", params(Positions), responses((status = 200, description = "Done", body = LogPage)))]
pub async fn log(allowed: Authorized<Owner>, Params(at): Params<Positions>) -> Answer<Json<LogPage>> {
    let order = if at.after.is_some() { LogOrder::OldestFirst } else { LogOrder::NewestFirst };
    let limit = at.limit.unwrap_or(LINES);
    let page = allowed.read("read the ledger", move |queries| {
        let mut page = Page::default();
        queries.vault.log(order, at.after.or(at.before), |vault, entry| {
            Ok(page.take(EntryView::from_entry(vault, &entry), limit))
        })?;
        Ok(page.entries)
    });
    Ok(Json(LogPage { entries: page.await? }))
}

/// The statements that changed a token
///
/// For the owner.
#[utoipa::path(
    get, path = "/v1/history/{*name}", params(TokenName, Positions),
    responses((status = 200, description = "Done", body = LogPage))
)]
pub async fn history(
    allowed: Authorized<Owner>,
    TokenName(name): TokenName,
    Params(at): Params<Positions>,
) -> Answer<Json<LogPage>> {
    let limit = at.limit.unwrap_or(LINES);
    let page = allowed.read("read the history", move |queries| {
        let (mut page, mut entries) = (Page::default(), TokenBackend::history(&mut queries.vault, &name)?);
        match at.after {
            Some(after) => entries.retain(|entry| entry.n > after),
            None => entries.reverse(),
        }
        let before = |n: u64| at.after.is_some() || at.before.is_none_or(|before| n < before);
        let _ = entries.into_iter().filter(|entry| before(entry.n)).all(|entry| page.take(entry, limit));
        Ok(page.entries)
    });
    Ok(Json(LogPage { entries: page.await? }))
}

/// Who read what, newest first
///
/// For the owner.
#[utoipa::path(get, path = "/v1/accesses", params(Before), responses((status = 200, description = "Done", body = AccessPage)))]
pub async fn accesses(allowed: Authorized<Owner>, Params(at): Params<Before>) -> Answer<Json<AccessPage>> {
    let (before, limit) = (at.before.unwrap_or(0), at.limit.unwrap_or(LINES));
    let page = allowed.read("read the access log", move |queries| {
        TokenBackend::accesses(&mut queries.vault, before, limit)
    });
    Ok(Json(AccessPage { accesses: page.await? }))
}

/// The grants that stand
///
/// For the owner.
#[utoipa::path(get, path = "/v1/grants", params(GrantsOn), responses((status = 200, description = "Done", body = GrantList)))]
pub async fn grants(allowed: Authorized<Owner>, Params(which): Params<GrantsOn>) -> Answer<Json<GrantList>> {
    let on = which.on.as_deref().map(|text| part(text, "list grants")).transpose()?;
    let grants =
        allowed.read("list grants", move |queries| TokenBackend::grants(&mut queries.vault, on.as_ref()));
    Ok(Json(GrantList { grants: grants.await? }))
}

/// Let somebody have a token, or all under a prefix
///
/// For the owner.
#[utoipa::path(
    post, path = "/v1/grants", request_body = GrantRequest,
    responses((status = 200, description = "Done", body = GrantView))
)]
pub async fn grant(allowed: Authorized<Owner>, Sent(request): Sent<GrantRequest>) -> Answer<Json<GrantView>> {
    const OPERATION: &str = "grant";
    let (on, to): (GrantOn, Grantee) = (part(&request.on, OPERATION)?, part(&request.to, OPERATION)?);
    let ops = request.ops.into_iter().map(Into::into).collect();
    let options = GrantOptions { ops, until: request.until, alias: request.alias };
    let grant = move |vault: &mut Vault| TokenBackend::grant(vault, &on, &to, &options);
    Ok(Json(allowed.write(OPERATION, grant).await?))
}

/// Take back all grants on one target to one grantee
///
/// For the owner.
#[utoipa::path(delete, path = "/v1/grants", params(GrantsOf), responses((status = 200, description = "Done", body = GrantList)))]
pub async fn ungrant(
    allowed: Authorized<Owner>,
    Params(GrantsOf { on, to }): Params<GrantsOf>,
) -> Answer<Json<GrantList>> {
    take_back(&allowed, Revoked::Of(part(&on, UNGRANT)?, part(&to, UNGRANT)?)).await
}

/// Take one grant back
///
/// For the owner.
#[utoipa::path(delete, path = "/v1/grants/{id}", params(GrantNumber), responses((status = 200, description = "Done", body = GrantList)))]
pub async fn ungrant_one(
    allowed: Authorized<Owner>,
    Path(GrantNumber(id)): Path<GrantNumber>,
    Params(Nothing {}): Params<Nothing>,
) -> Answer<Json<GrantList>> {
    take_back(&allowed, Revoked::Id(part(&id, UNGRANT)?)).await
}

async fn take_back(allowed: &Authorized<Owner>, which: Revoked) -> Answer<Json<GrantList>> {
    let ungrant = move |vault: &mut Vault| TokenBackend::ungrant(vault, &which);
    Ok(Json(GrantList { grants: allowed.write(UNGRANT, ungrant).await? }))
}

/// Unlock a device: it stays logged in
///
/// For the owner.
#[utoipa::path(post, path = "/v1/unlock", request_body = Unlock, responses((status = 200, description = "Done", body = Unlocked)))]
pub async fn unlock(allowed: Authorized<Owner>, Sent(request): Sent<Unlock>) -> Answer<Json<Unlocked>> {
    Ok(Json(allowed.agent().unlock(request).await?))
}

/// Log all devices out and forget PINs and cached tokens
///
/// For the owner.
#[utoipa::path(post, path = "/v1/lock", responses((status = 200, description = "Done", body = Locked)))]
pub async fn lock(allowed: Authorized<Owner>, Params(Nothing {}): Params<Nothing>) -> Json<Locked> {
    Json(allowed.agent().lock().await)
}

impl Agent {
    async fn unlock(&self, request: Unlock) -> Result<Unlocked> {
        let chosen: Vec<_> = self
            .devices
            .iter()
            .filter(|s| request.device.as_ref().is_none_or(|name| s.name == *name))
            .collect();
        let device = match chosen.as_slice() {
            [device] => device,
            [] => return Err(Error::new(Kind::NotFound, "unlock", "there is no such device here")),
            _ => {
                let error = Error::new(Kind::Usage, "unlock", "there are several devices here");
                return Err(error.with_hint("name one: `strongroom status` lists them"));
            }
        };
        device.unlock(request.pin, Instant::now() + self.deadline).await?;
        let status = device.status().0.word().into();
        Ok(Unlocked { device: device.name.clone(), status })
    }

    /// Hands nothing out from now on that was kept or is being opened, and logs the devices out.
    async fn lock(&self) -> Locked {
        self.cache.lock();
        let deadline = tokio::time::Instant::now() + LOGOUT;
        let locking: Vec<_> = self.devices.iter().map(|device| (device, device.lock())).collect();
        let mut devices = Vec::with_capacity(locking.len());
        for (device, done) in locking {
            let locked = matches!(tokio::time::timeout_at(deadline, done).await, Ok(Ok(())));
            devices.push(LockedDevice { device: device.name.clone(), locked });
        }
        Locked { devices }
    }
}

/// Statements for one answer.
#[derive(Default)]
struct Page {
    entries: Vec<EntryView>,
    bytes: usize,
}

impl Page {
    /// Takes one more; answers whether there is room for another.
    fn take(&mut self, entry: EntryView, limit: u32) -> bool {
        self.bytes += entry.words.len() + entry.body.to_string().len();
        self.entries.push(entry);
        self.entries.len() < limit as usize && self.bytes < MOST_BYTES
    }
}

/// A part of a request that has rules of its own.
fn part<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str, operation: &str) -> Result<T> {
    text.parse().map_err(|why: T::Err| Error::new(Kind::Usage, operation, why.to_string()))
}
