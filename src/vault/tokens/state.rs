//! Changes of state, destruction and new names.

use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use crate::ledger::body::{Body, Destroy, Rename, State, StateChange};
use crate::vault::Vault;
use crate::vault::ledger::submit::{Draft, RequiredRole};

impl Vault {
    /// Sets a version's state, or the whole token's: `Active` resumes (and activates what is staged), `Suspended`
    /// closes for now, `Revoked` for ever.
    ///
    /// # Errors
    /// `NotFound`; `Refused` without the role or for a change that is not allowed, such as from revoked to active.
    pub fn set_state(&mut self, name: &Name, version: Option<u64>, state: State, reason: &str) -> Result<()> {
        let verb = match state {
            State::Active => "resume",
            State::Suspended => "suspend",
            State::Revoked => "revoke",
            State::Staged => "stage",
        };
        let tried = with_version(verb, name, version);
        self.submit(&tried, RequiredRole::Write(&[name.as_str()]), |vault| {
            let token = vault.token(name, &tried)?.id;
            let change =
                StateChange { token, version: number(&tried, version)?, state, reason: reason.into() };
            Ok((Draft { bodies: vec![Body::State(change)], ..Draft::default() }, ()))
        })
    }

    /// Deletes the sealed bytes of a version, or of all and the token with them. Answers how many versions went.
    ///
    /// # Errors
    /// `NotFound`; `Refused` without the role `admin`.
    pub fn destroy(&mut self, name: &Name, version: Option<u64>, reason: &str) -> Result<u64> {
        let tried = with_version("destroy", name, version);
        self.submit(&tried, RequiredRole::Admin, |vault| {
            let token = vault.token(name, &tried)?;
            let version = number(&tried, version)?;
            let mut versions = vault.replica.versions(&token)?;
            versions.retain(|row| row.state.is_some() && (version == 0 || row.version == version));
            let (name, reason) = (token.name, reason.into());
            let body = Body::Destroy(Destroy { token: token.id, name, version, reason });
            let destroyed: Vec<_> = versions.iter().map(|row| row.digest).collect();
            let count = destroyed.len() as u64;
            Ok((Draft { bodies: vec![body], destroyed, ..Draft::default() }, count))
        })
    }

    /// Gives a token another name; its versions, states and grants stay.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the new name is taken; `Refused` without the role on both names.
    pub fn rename(&mut self, from: &Name, to: &Name) -> Result<()> {
        let tried = format!("rename {from} to {to}");
        self.submit(&tried, RequiredRole::Write(&[from.as_str(), to.as_str()]), |vault| {
            let token = vault.token(from, &tried)?.id;
            if vault.replica.find(to.as_str())?.is_some() {
                return Err(Error::new(Kind::Refused, &tried, format!("there is a token `{to}` already")));
            }
            let (from, to) = (from.as_str().into(), to.as_str().into());
            Ok((Draft { bodies: vec![Body::Rename(Rename { token, from, to })], ..Draft::default() }, ()))
        })
    }
}

fn with_version(verb: &str, name: &Name, version: Option<u64>) -> String {
    version.map_or_else(|| format!("{verb} {name}"), |version| format!("{verb} {name}@{version}"))
}

/// 0 is the whole token in the ledger, and no version for people.
fn number(tried: &str, version: Option<u64>) -> Result<u64> {
    match version {
        Some(0) => Err(Error::new(Kind::NotFound, tried, "versions are counted from 1")),
        version => Ok(version.unwrap_or(0)),
    }
}
