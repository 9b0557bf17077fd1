//! Terraform's and OpenTofu's credentials helper ("Credentials Helpers"): `get`, `store` and `forget`, each with a host.

use super::hosts::{HostTable, Location};
use super::{json, wiped};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::vault::{PutOptions, TokenBackend};
use serde::{Deserialize, Serialize};
use std::io::Read;
use zeroize::Zeroizing;

/// What Terraform wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A token.
    Get,
    /// Keep one: `terraform login`.
    Store,
    /// Close one: `terraform logout`.
    Forget,
}

#[derive(Serialize)]
struct Credential<'a> {
    token: &'a str,
}

/// Only what is understood can be kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    #[serde(deserialize_with = "wiped")]
    token: Zeroizing<String>,
}

/// Answers a request; with an empty object where there is no token.
///
/// # Errors
/// `Usage` for what is no request; those of the tokens.
pub fn serve(
    action: Action,
    host: &str,
    input: impl Read,
    hosts: &HostTable,
    tokens: &mut dyn TokenBackend,
) -> Result<Zeroizing<Vec<u8>>> {
    let nothing = Zeroizing::new(b"{}\n".to_vec());
    let at = Location::parse(host).filter(|at| at.path.is_empty());
    match (action, at) {
        (Action::Get, None) => Ok(nothing),
        (_, None) => Err(Error::new(Kind::Usage, "answer Terraform", "the host is not plain")),
        (Action::Get, Some(at)) => match hosts.open(tokens, &at, None)? {
            None => Ok(nothing),
            Some(found) => json(&Credential { token: found.text()? }),
        },
        (Action::Store, Some(at)) => store(&at, input, hosts, tokens).map(|()| Zeroizing::default()),
        (Action::Forget, Some(at)) => {
            hosts.suspend(tokens, &at, "terraform: logged out").map(|()| Zeroizing::default())
        }
    }
}

fn store(at: &Location, input: impl Read, hosts: &HostTable, tokens: &mut dyn TokenBackend) -> Result<()> {
    const OPERATION: &str = "keep a token of Terraform";
    let input = Secret::read_from(input, OPERATION)?;
    let login: Login = serde_json::from_slice(input.expose())
        .map_err(|_| Error::new(Kind::Usage, OPERATION, "the request is not {\"token\": \"...\"}"))?;
    match hosts.name_to_store(tokens, at) {
        Some(name) => {
            tokens.put(&name, &Secret::new(login.token.as_bytes().to_vec()), &PutOptions::default()).map(drop)
        }
        None => Err(Error::new(Kind::Usage, OPERATION, "the host makes no name of a token")
            .with_hint("add it to [hosts.terraform]")),
    }
}
