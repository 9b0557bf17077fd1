//! Changing a token's state, destroying and renaming it.

use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use crate::ledger::body::{Body, Destroy, Rename, State, StateChange};
use crate::ledger::judge::LedgerView;
use crate::replica::TokenRow;
use crate::vault::Vault;
use crate::vault::ledger::submit::{Draft, RequiredRole};

impl Vault {
    /// Sets the state of a version, or of the whole token: `Active` resumes (or activates a staged version),
    /// `Suspended` closes for now, `Revoked` for ever.
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
        let operation = with_version(verb, name, version);
        self.submit(&operation, RequiredRole::Write(&[name.as_str()]), |vault| {
            let row = vault.token(name, &operation)?;
            if let Some(version) = version.filter(|_| state == State::Active) {
                vault.expect_fit_for_use(&row, version, &operation)?;
            }
            let token = row.id;
            let change =
                StateChange { token, version: number(&operation, version)?, state, reason: reason.into() };
            Ok((Draft { bodies: vec![Body::State(change)], ..Draft::default() }, ()))
        })
    }

    /// Refuses to bring a staged version into use that has expired, as it would take the place of one that opens, or that
    /// too few devices could open.
    fn expect_fit_for_use(&self, token: &TokenRow, version: u64, operation: &str) -> Result<()> {
        let row = self.replica.version_row(token, version)?.filter(|row| row.state == Some(State::Staged));
        let Some(row) = row else { return Ok(()) };
        self.expect_threshold(&token.name, row.threshold, operation)
            .map_err(|error| error.with_hint(format!("`strongroom reseal {}` seals it so", token.name)))?;
        match row.expiry.filter(|expiry| *expiry <= self.latest_time()) {
            None => Ok(()),
            Some(at) => {
                let message = format!("it expired at {}", crate::timestamp::rfc3339_secs(at));
                Err(Error::new(Kind::Refused, operation, message)
                    .with_hint(format!("put a new version: `strongroom put {} --staged`", token.name)))
            }
        }
    }

    /// Refuses a threshold below what the settings ask for.
    fn expect_threshold(&self, name: &str, threshold: u64, operation: &str) -> Result<()> {
        let asked_for = self.replica.settings()?.threshold_for(name);
        if threshold >= asked_for {
            return Ok(());
        }
        let message = format!("the settings ask for {asked_for} devices that open {name} together");
        Err(Error::new(Kind::Refused, operation, message))
    }

    /// Deletes the sealed bytes of a version, or of all versions and the token with them. Returns how many versions
    /// were destroyed.
    ///
    /// # Errors
    /// `NotFound`; `Refused` without the role `admin`.
    pub fn destroy(&mut self, name: &Name, version: Option<u64>, reason: &str) -> Result<u64> {
        let operation = with_version("destroy", name, version);
        self.submit(&operation, RequiredRole::Admin, |vault| {
            let token = vault.token(name, &operation)?;
            let version = number(&operation, version)?;
            let mut versions = vault.replica.versions(&token)?;
            versions.retain(|row| row.state.is_some() && (version == 0 || row.version == version));
            let (name, reason) = (token.name, reason.into());
            let body = Body::Destroy(Destroy { token: token.id, name, version, reason });
            let seals = versions.iter().flat_map(|row| &row.seals);
            let destroyed = seals.map(|seal| seal.digest).collect();
            let count = versions.len() as u64;
            Ok((Draft { bodies: vec![body], destroyed, ..Draft::default() }, count))
        })
    }

    /// Renames a token. Its versions, states and grants stay.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the new name is taken; `Refused` without the role on both names.
    pub fn rename(&mut self, from: &Name, to: &Name) -> Result<()> {
        let operation = format!("rename {from} to {to}");
        self.submit(&operation, RequiredRole::WriteAndGrant(&[from.as_str(), to.as_str()]), |vault| {
            let token = vault.token(from, &operation)?.id;
            if vault.replica.find(to.as_str())?.is_some() {
                return Err(Error::new(
                    Kind::Refused,
                    &operation,
                    format!("there is a token `{to}` already"),
                ));
            }
            let threshold = vault.replica.lowest_threshold(&token)?.unwrap_or(u64::MAX);
            vault.expect_threshold(to.as_str(), threshold, &operation).map_err(|error| {
                error.with_hint(format!(
                    "put it anew: `strongroom get {from} | strongroom put {to}`, and destroy the old one"
                ))
            })?;
            let (from, to) = (from.as_str().into(), to.as_str().into());
            Ok((Draft { bodies: vec![Body::Rename(Rename { token, from, to })], ..Draft::default() }, ()))
        })
    }
}

fn with_version(verb: &str, name: &Name, version: Option<u64>) -> String {
    version.map_or_else(|| format!("{verb} {name}"), |version| format!("{verb} {name}@{version}"))
}

/// In the ledger, version 0 means the whole token; users cannot name it.
fn number(operation: &str, version: Option<u64>) -> Result<u64> {
    match version {
        Some(0) => Err(Error::new(Kind::NotFound, operation, "versions are counted from 1")),
        version => Ok(version.unwrap_or(0)),
    }
}
