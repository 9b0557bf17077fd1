//! Docker's credential helper, which podman, skopeo and buildah speak too: `get`, `store`, `erase` and `list`
//! (github.com/docker/docker-credential-helpers).

use super::hosts::{HostTable, Location, USERNAME, current};
use super::{json, wiped};
use crate::error::{Error, Kind, Result};
use crate::ledger::Prefix;
use crate::replica::ListFilter;
use crate::secret::Secret;
use crate::vault::{EffectiveState, PutOptions, TokenBackend};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use zeroize::Zeroizing;

/// What a client takes for "there is none", and asks without a credential.
pub const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user's name for a token that has none: what is kept is then an identity token.
const TOKEN_USER: &str = "<token>";

/// Docker Hub, by the name under which clients ask for it.
const HUB: &str = "https://index.docker.io/v1/";

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A credential.
    Get,
    /// Keep one: `docker login`.
    Store,
    /// Close one: `docker logout`.
    Erase,
    /// Which hosts have one.
    List,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Credential<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    username: &'a str,
    secret: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Login {
    #[serde(rename = "ServerURL")]
    server: String,
    username: String,
    #[serde(deserialize_with = "wiped")]
    secret: Zeroizing<String>,
}

/// Answers a request. `None` where there is no token for it.
///
/// # Errors
/// `Usage` for what is no request; those of the tokens.
pub fn serve(
    action: Action,
    input: impl Read,
    hosts: &HostTable,
    tokens: &mut dyn TokenBackend,
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    if action == Action::List {
        return list(hosts, tokens).map(Some);
    }
    let input = Secret::read_from(input, "answer Docker")?;
    if action == Action::Store {
        return store(input.expose(), hosts, tokens).map(|()| Some(Zeroizing::new(Vec::new())));
    }
    let server = std::str::from_utf8(input.expose()).unwrap_or_default().trim();
    let Some(at) = Location::parse(server) else { return Ok(None) };
    if action == Action::Erase {
        return hosts.suspend(tokens, &at, "docker: logged out").map(|()| Some(Zeroizing::new(Vec::new())));
    }
    let Some(found) = hosts.open(tokens, &at, None)? else { return Ok(None) };
    let username = found.username().unwrap_or(TOKEN_USER);
    json(&Credential { server, username, secret: found.text()? }).map(Some)
}

fn store(input: &[u8], hosts: &HostTable, tokens: &mut dyn TokenBackend) -> Result<()> {
    let refused = |what: &str| Error::new(Kind::Usage, "keep a credential of Docker", what);
    let login: Login =
        serde_json::from_slice(input).map_err(|_| refused("the request is not JSON of the known form"))?;
    let at =
        Location::parse(login.server.trim()).ok_or_else(|| refused("the server's address is not plain"))?;
    let name = hosts.name_to_store(tokens, &at).ok_or_else(|| {
        refused("a registry without TLS has no token unless config.toml names it")
            .with_hint("add it to [hosts.docker]")
    })?;
    let labels = Some(vec![(USERNAME.to_owned(), login.username)]);
    let secret = Secret::new(login.secret.as_bytes().to_vec());
    tokens.put(&name, &secret, &PutOptions { labels, ..PutOptions::default() }).map(drop)
}

fn list(hosts: &HostTable, tokens: &mut dyn TokenBackend) -> Result<Zeroizing<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let user = |labels: &BTreeMap<String, String>| {
        labels.get(USERNAME).cloned().unwrap_or_else(|| TOKEN_USER.into())
    };
    let prefix =
        Prefix::parse("docker").map_err(|why| Error::new(Kind::Usage, "list the registries", why))?;
    tokens.list(&ListFilter { prefix, ..ListFilter::default() }, &mut |view| {
        if let Some(host) = view.name.strip_prefix("docker/")
            && view.state == EffectiveState::Active
        {
            found.insert(server_of(host), user(&view.labels));
        }
        Ok(true)
    })?;
    for (host, name) in hosts.configured() {
        if let Some(view) = current(tokens, name).filter(|view| view.state == EffectiveState::Active) {
            found.insert(server_of(host), user(&view.labels));
        }
    }
    json(&found)
}

fn server_of(host: &str) -> String {
    if host == "index.docker.io" { HUB.into() } else { host.into() }
}
