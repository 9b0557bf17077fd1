//! What a rotation does in the ledger: stage a candidate, open it and what it replaces, put it into use, revoke the rest.

use crate::error::{Error, Kind, Result, printable};
use crate::ledger::body::{Body, State};
use crate::ledger::{Name, TokenId};
use crate::replica::{PolicyRow, TokenRow, VersionRow};
use crate::secret::Secret;
use crate::store::Lease;
use crate::timestamp::rfc3339_secs;
use crate::vault::Vault;
use crate::vault::ledger::submit::{Draft, RequiredRole};
use crate::vault::tokens::lookup::SealedToken;
use crate::vault::tokens::open_outcome::OpenedToken;
use crate::vault::tokens::put::PutOptions;
use std::time::Duration;

/// No machine says that it will be at work for longer than this (ms).
const BELIEVED_MS: u64 = 3_600_000;

/// A token with its versions and its policy, as the ledger has them now.
#[derive(Clone, Debug)]
pub struct RotationState {
    /// The token.
    pub token: TokenRow,
    /// Its versions, oldest first.
    pub versions: Vec<VersionRow>,
    /// Its policy.
    pub policy: PolicyRow,
    /// The time that periods are judged by (ms since 1970).
    pub now: u64,
}

impl Vault {
    /// A token that is to be rotated.
    ///
    /// # Errors
    /// As [`Vault::policy_state`]; `Refused` for a token that is suspended.
    pub fn rotation_state(&mut self, name: &Name, operation: &str) -> Result<RotationState> {
        let state = self.policy_state(name, operation)?;
        match state.token.suspended {
            false => Ok(state),
            true => Err(Error::new(Kind::Refused, operation, "the token is suspended")
                .with_hint(format!("`strongroom resume {name}`"))),
        }
    }

    /// A token that has a policy.
    ///
    /// # Errors
    /// `NotFound` without a token or a policy; those of [`Vault::check_witnesses`]; the store's.
    pub fn policy_state(&mut self, name: &Name, operation: &str) -> Result<RotationState> {
        self.refresh()?;
        // A revocation that is withheld would be rotated away, and issuers given what nobody should have.
        self.check_witnesses(operation)?;
        let token = self.token(name, operation)?;
        let policy = self.replica.policy_for(&token)?.ok_or_else(|| {
            Error::new(Kind::NotFound, operation, "it has no rotation policy").with_hint(format!(
                "`strongroom policy set {name} --every 30d --hook NAME` says how it is rotated"
            ))
        })?;
        let versions = self.replica.versions(&token)?;
        Ok(RotationState { versions, policy, now: self.latest_time(), token })
    }

    /// Takes or renews this machine's lease on a token, so that no other machine rotates it at once. That is a courtesy: the
    /// store is not believed, and a lease that would last longer than an hour is passed over.
    ///
    /// # Errors
    /// `Conflict` if another machine has it; the store's.
    pub fn take_lease(
        &mut self,
        name: &Name,
        token: TokenId,
        lasts: Duration,
        take_over: bool,
    ) -> Result<()> {
        let (holder, now) = (self.lease_holder(), (self.clock)());
        let lasts = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        let lease = Lease { token: token.0, holder, until: now.saturating_add(lasts) };
        let Some(other) = self.store.take_lease(&lease, now)? else { return Ok(()) };
        if take_over || other.until > now.saturating_add(BELIEVED_MS) {
            self.store.end_lease(&token.0, &other.holder)?;
            self.store.take_lease(&lease, now)?;
            return Ok(());
        }
        let (holder, until) = (printable(&other.holder), rfc3339_secs(other.until));
        let message = format!("the machine {holder} is rotating it, until {until} at most");
        Err(Error::new(Kind::Conflict, format!("rotate {name}"), message)
            .with_hint("wait, or add --take-over if that machine is gone"))
    }

    /// Ends this machine's lease. One that cannot be ended runs out.
    pub fn end_lease(&mut self, token: TokenId) {
        let holder = self.lease_holder();
        if let Err(error) = self.store.end_lease(&token.0, &holder) {
            log::warn!("{error}");
        }
    }

    /// This machine, and this installation on it.
    fn lease_holder(&self) -> String {
        let node = rustix::system::uname();
        let state = crate::ledger::sha256(self.state.as_os_str().as_encoded_bytes()).to_string();
        let node: String = node.nodename().to_string_lossy().chars().take(64).collect();
        format!("{node}/{}", &state[..8])
    }

    /// Stages a new version of a token whose newest version is `latest`, sealed to the devices that the version in use was
    /// put for.
    ///
    /// # Errors
    /// `Conflict` if another version was put in the meantime, or the name stands for another token; as [`Vault::put`].
    pub fn stage(&mut self, name: &Name, token: TokenId, latest: u64, value: &Secret) -> Result<u64> {
        let operation = format!("stage a new version of {name}");
        self.submit(&operation, RequiredRole::Write(&[name.as_str()]), |vault| {
            let row = vault.token(name, &operation)?;
            if row.id != token || row.latest != latest {
                let message = "somebody else put a version in the meantime";
                return Err(Error::new(Kind::Conflict, &operation, message)
                    .with_hint(format!("`strongroom rotate {name} --resume` goes on with it")));
            }
            let current = vault.current_version(&row)?;
            let now = vault.latest_time();
            let options = PutOptions {
                staged: true,
                // What nobody is to open yet, nobody opens earlier because it was rotated.
                not_before: current.as_ref().and_then(|version| version.not_before).filter(|at| *at > now),
                only: current.as_ref().map_or(Ok(Vec::new()), |version| vault.narrow(name, version))?,
                // The version before has to stay for the overlap.
                keep: current.and_then(|version| version.keep).map(|keep| keep.max(2)),
                ..PutOptions::default()
            };
            let devices = vault.recipients(&operation, name.as_str(), &options.only)?;
            let (body, sealed) = vault.compose_put(name, value, &options, &devices)?;
            let version = body.version;
            Ok((Draft { bodies: vec![Body::Put(Box::new(body))], sealed, ..Draft::default() }, version))
        })
    }

    /// The devices that a version was put for alone, so far as they may still open it; none if it is for all.
    fn narrow(&self, name: &Name, version: &VersionRow) -> Result<Vec<String>> {
        if !version.only {
            return Ok(Vec::new());
        }
        let mut openers = self.replica.openers()?;
        openers.retain(|device| device.opens(name.as_str()) && version.is_for(&device.id));
        match openers.is_empty() {
            true => Err(Error::new(
                Kind::Refused,
                format!("stage a new version of {name}"),
                "no device that it was put for may open it any more",
            )
            .with_hint(format!("put a version for others: `strongroom put {name} --only DEVICE`"))),
            false => Ok(openers.iter().map(|device| device.id.to_string()).collect()),
        }
    }

    /// Opens a version for a hook: one that is staged, or that was active and is not revoked, also when it has expired.
    ///
    /// # Errors
    /// As [`Vault::get_staged`].
    pub fn open_to_rotate(&mut self, name: &Name, version: u64) -> Result<OpenedToken> {
        self.open_for_hook(name, version, &format!("open {name}@{version} to rotate it"), false)
    }

    /// Opens a version so that its issuer can be told to refuse it, also when it is suspended.
    ///
    /// # Errors
    /// As [`Vault::get_staged`].
    pub fn open_to_revoke(&mut self, name: &Name, version: u64) -> Result<OpenedToken> {
        self.open_for_hook(name, version, &format!("open {name}@{version} to revoke it"), true)
    }

    fn open_for_hook(
        &mut self,
        name: &Name,
        version: u64,
        operation: &str,
        suspended: bool,
    ) -> Result<OpenedToken> {
        self.check_counters(operation)?;
        let sealed = self.look_up_for_hook(name, version, operation, suspended);
        self.open_one(name.as_str(), sealed).into_token()
    }

    fn look_up_for_hook(
        &mut self,
        name: &Name,
        version: u64,
        operation: &str,
        suspended: bool,
    ) -> Result<SealedToken> {
        self.author(operation, RequiredRole::Write(&[name.as_str()]))?;
        let witnessed = self.check_witnesses(operation)?;
        let token = self.token(name, operation)?;
        let row = self.replica.version_row(&token, version)?;
        let open = |row: &VersionRow| match row.state {
            Some(State::Staged | State::Active) => suspended || !token.suspended,
            Some(State::Suspended) => suspended,
            Some(State::Revoked) | None => false,
        };
        let row = row.filter(open).ok_or_else(|| {
            Error::new(Kind::Refused, operation, "it was suspended or revoked in the meantime")
        })?;
        self.with_sealed_bytes(&token, row, witnessed)
    }
}
