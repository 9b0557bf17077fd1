//! Cargo's credential provider protocol, version 1 (The Cargo Book, "Credential Provider Protocol"): a line of JSON for
//! each message.
//!
//! `cargo/HOST` is the token of a registry; `cargo/HOST/publish` and the like come before it for that operation, so that
//! what only reads need not be able to publish.

use super::hosts::{HostTable, Location, open_first};
use super::json;
use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use crate::ledger::body::State;
use crate::secret::Secret;
use crate::vault::{PutOptions, TokenBackend};
use serde::{Deserialize, Serialize};
use serde_json::json as object;
use zeroize::Zeroizing;

/// What the provider says first.
pub const HELLO: &[u8] = b"{\"v\":[1]}\n";

/// The operations that may have a token of their own.
const OPERATIONS: [&str; 5] = ["read", "publish", "yank", "unyank", "owners"];

#[derive(Deserialize)]
struct Request {
    v: u64,
    registry: Registry,
    kind: String,
    #[serde(default)]
    operation: String,
    #[serde(default, deserialize_with = "optional")]
    token: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    index_url: String,
}

#[derive(Serialize)]
enum Response<'a> {
    Ok(Answer<'a>),
    Err(serde_json::Value),
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Answer<'a> {
    Get { token: &'a str, cache: &'static str, operation_independent: bool },
    Login,
    Logout,
}

fn optional<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    Ok(Option::deserialize(value)?.map(Zeroizing::new))
}

/// Answers one line. `login` is asked for a token where the request brings none.
///
/// # Errors
/// `Usage` for what is no request; those of the tokens.
pub fn serve(
    line: &[u8],
    hosts: &HostTable,
    tokens: &mut dyn TokenBackend,
    login: &mut dyn FnMut(&Name) -> Result<Secret>,
) -> Result<Zeroizing<Vec<u8>>> {
    let wrong = |what: &str| Error::new(Kind::Usage, "answer cargo", what);
    let request: Request =
        serde_json::from_slice(line).map_err(|_| wrong("the request is not JSON of the known form"))?;
    if request.v != 1 {
        return Err(Error::new(
            Kind::Unsupported,
            "answer cargo",
            "it speaks another version of the protocol",
        ));
    }
    let Some(at) = Location::parse(&request.registry.index_url) else { return failed("url-not-supported") };
    match request.kind.as_str() {
        "get" => get(&request, &at, hosts, tokens),
        "login" | "logout" => {
            let Some(name) = hosts.name_to_store(tokens, &at) else { return failed("url-not-supported") };
            if request.kind == "logout" {
                return match tokens.set_state(&name, None, State::Suspended, "cargo: logged out") {
                    Err(error) if error.kind() == Kind::NotFound => failed("not-found"),
                    other => other.and_then(|()| answered(&Response::Ok(Answer::Logout))),
                };
            }
            let token = match &request.token {
                Some(token) => Secret::new(token.as_bytes().to_vec()),
                None => login(&name)?,
            };
            tokens.put(&name, &token, &PutOptions::default())?;
            answered(&Response::Ok(Answer::Login))
        }
        _ => failed("operation-not-supported"),
    }
}

fn get(
    request: &Request,
    at: &Location,
    hosts: &HostTable,
    tokens: &mut dyn TokenBackend,
) -> Result<Zeroizing<Vec<u8>>> {
    let names: Vec<Name> =
        hosts.names(at).into_iter().flat_map(|name| of_operation(&request.operation, name)).collect();
    let Some(found) = open_first(tokens, &names, None)? else { return failed("not-found") };
    // Each operation may have a token of its own: cargo keeps none for another.
    let answer = Answer::Get { token: found.text()?, cache: "session", operation_independent: false };
    answered(&Response::Ok(answer))
}

/// The operation's own token, then the registry's.
fn of_operation(operation: &str, name: Name) -> Vec<Name> {
    let own =
        OPERATIONS.contains(&operation).then(|| Name::parse(&format!("{name}/{operation}")).ok()).flatten();
    own.into_iter().chain([name]).collect()
}

fn failed(kind: &str) -> Result<Zeroizing<Vec<u8>>> {
    answered(&Response::Err(object!({"kind": kind})))
}

fn answered(response: &Response<'_>) -> Result<Zeroizing<Vec<u8>>> {
    let mut line = json(response)?;
    line.push(b'\n');
    Ok(line)
}

/// An error in the protocol's own form.
pub fn failure(error: &Error) -> Vec<u8> {
    let hint: Vec<&str> = error.hint().into_iter().collect();
    let response = object!({"Err": {"kind": "other", "message": error.to_string(), "caused-by": hint}});
    format!("{response}\n").into_bytes()
}
