//! git's credential helper (gitcredentials(7), git-credential(1)): `get`, `store` and `erase`.
//!
//! A request is lines of `key=value`. A host that has no token is answered with nothing, so that git asks the next helper.
//! What came from here comes back in git's `state[]` when it was taken or refused; older versions of git send the password.

use super::hosts::{HostTable, Location, USERNAME, current};
use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use crate::ledger::body::State;
use crate::secret::Secret;
use crate::vault::{EffectiveState, PutOptions, TokenBackend, TokenRef};
use std::io::Read;
use zeroize::Zeroizing;

/// The user's name where neither git nor the token has one. Hosts that take tokens take any.
const ANY_USER: &str = "x-access-token";

/// The most bytes of a request.
const MAX_REQUEST: usize = 64 << 10;

/// What git wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A credential.
    Get,
    /// One that was taken.
    Store,
    /// One that was refused.
    Erase,
}

/// What git says.
#[derive(Default)]
struct Request {
    protocol: String,
    host: String,
    path: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    expires: Option<u64>,
    knows_state: bool,
    /// The version of a token that came from here.
    ours: Option<TokenRef>,
}

/// Answers a request, with nothing where there is no token for it.
///
/// # Errors
/// `Usage` for what is no request; those of the tokens.
pub fn serve(
    action: Action,
    input: impl Read,
    hosts: &HostTable,
    tokens: &mut dyn TokenBackend,
) -> Result<Zeroizing<Vec<u8>>> {
    let request = Request::parse(input)?;
    let nothing = Zeroizing::new(Vec::new());
    let Some(at) = Location::from_parts(&request.protocol, &request.host, request.path.as_deref()) else {
        return Ok(nothing);
    };
    match action {
        Action::Get => return get(&request, &at, hosts, tokens),
        Action::Store => store(&request, &at, hosts, tokens)?,
        Action::Erase => erase(&request, &at, hosts, tokens)?,
    }
    Ok(nothing)
}

fn get(
    request: &Request,
    at: &Location,
    hosts: &HostTable,
    tokens: &mut dyn TokenBackend,
) -> Result<Zeroizing<Vec<u8>>> {
    let Some(found) = hosts.open(tokens, at, request.username.as_deref())? else {
        return Ok(Zeroizing::default());
    };
    let user = found.username().or(request.username.as_deref()).unwrap_or(ANY_USER);
    let mut lines = String::new();
    if request.knows_state {
        lines += &format!("capability[]=state\nstate[]=strongroom:{}@{}\n", found.name, found.token.version);
    }
    lines += &format!("username={user}\n");
    if let Some(expires) = found.expires() {
        lines += &format!("password_expiry_utc={}\n", expires / 1000);
    }
    // Of its whole size at once: the password is not moved about in memory.
    let parts = [&lines, "password=", found.text()?, "\n"];
    let mut answer = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| answer.extend_from_slice(part.as_bytes()));
    Ok(answer)
}

/// Keeps a password that was taken, unless it came from here or is the same.
fn store(request: &Request, at: &Location, hosts: &HostTable, tokens: &mut dyn TokenBackend) -> Result<()> {
    let (Some(password), Some(name)) = (&request.password, hosts.name_to_store(tokens, at)) else {
        return Ok(());
    };
    if request.ours.is_some() || password.is_empty() {
        return Ok(());
    }
    let view = current(tokens, &name);
    let owner = view.as_ref().and_then(|view| view.labels.get(USERNAME)).cloned();
    // Another user's token stays.
    if owner.is_some() && owner != request.username {
        return Ok(());
    }
    if view.is_some_and(|view| view.state == EffectiveState::Active) && is_stored(tokens, &name, password)? {
        return Ok(());
    }
    let label = |user: &String| vec![(USERNAME.to_owned(), user.clone())];
    let options = PutOptions {
        labels: request.username.as_ref().filter(|_| owner.is_none()).map(label),
        expiry: request.expires,
        ..PutOptions::default()
    };
    tokens.put(&name, password, &options).map(drop)
}

/// Suspends the version that was refused, so that it is given out no more and can be resumed.
fn erase(request: &Request, at: &Location, hosts: &HostTable, tokens: &mut dyn TokenBackend) -> Result<()> {
    for name in hosts.names(at) {
        let refused = match (&request.ours, &request.password) {
            (Some(ours), _) if ours.name == name => ours.version,
            (None, Some(password)) => match current(tokens, &name) {
                Some(view) if view.state == EffectiveState::Active && is_stored(tokens, &name, password)? => {
                    Some(view.version)
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(version) = refused {
            let reason = format!("git: refused by {}", at.host);
            return tokens.set_state(&name, Some(version), State::Suspended, &reason);
        }
    }
    Ok(())
}

fn is_stored(tokens: &mut dyn TokenBackend, name: &Name, password: &Secret) -> Result<bool> {
    let there = tokens.open_if_there(&TokenRef { name: name.clone(), version: None })?;
    Ok(there.is_some_and(|token| token.value == *password))
}

impl Request {
    fn parse(input: impl Read) -> Result<Self> {
        let wrong = |what: &str| Error::new(Kind::Usage, "answer git", what);
        let text = Secret::read_from(input, "answer git")?;
        if text.len() > MAX_REQUEST {
            return Err(wrong("the request is too long"));
        }
        let text = std::str::from_utf8(text.expose()).map_err(|_| wrong("the request is not UTF-8"))?;
        let mut request = Self::default();
        for line in text.split('\n').take_while(|line| !line.is_empty()) {
            let (key, value) = line.split_once('=').ok_or_else(|| wrong("a line is not key=value"))?;
            // A carriage return or a NUL would end the line for somebody else.
            if value.chars().any(char::is_control) {
                return Err(wrong("a value holds a control character"));
            }
            match key {
                "protocol" => value.clone_into(&mut request.protocol),
                "host" => value.clone_into(&mut request.host),
                "path" => request.path = Some(value.to_owned()),
                "username" => request.username = Some(value.to_owned()),
                "password" => request.password = Some(Secret::new(value.as_bytes().to_vec())),
                "password_expiry_utc" => {
                    request.expires = value.parse::<u64>().ok().and_then(|at| at.checked_mul(1000))
                }
                "capability[]" => request.knows_state |= value == "state",
                "state[]" => {
                    let ours = value.strip_prefix("strongroom:").and_then(|token| token.parse().ok());
                    request.ours = ours.or(request.ours);
                }
                _ => {}
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_what_is_none_is_refused() {
        let request = Request::parse(&b"protocol=https\nhost=h\nusername=u\npassword=a=b\ncapability[]=state\nstate[]=x:1\nstate[]=strongroom:git/h@3\nx=y\n\nignored"[..]).unwrap();
        assert_eq!((request.protocol.as_str(), request.host.as_str()), ("https", "h"));
        assert_eq!(request.password.unwrap().expose(), b"a=b");
        assert!(request.knows_state);
        assert_eq!(request.ours.unwrap().version, Some(3));
        for bad in
            [&b"nonsense\n"[..], b"host=a\rb\n", b"host=a\0\n", b"host=\xff\n", &[b'a'; MAX_REQUEST + 1]]
        {
            assert_eq!(Request::parse(bad).err().map(|e| e.kind()), Some(Kind::Usage));
        }
    }
}
