//! Tokens, versions and grants for programs: the form that `--json` prints and the agent returns.

use crate::error::{Error, Kind, Result};
use crate::ledger::body::{Seal, State};
use crate::ledger::{DeviceId, Name};
use crate::replica::{GrantRow, TokenRow, VersionRow};
use crate::vault::Vault;
use crate::vault::tokens::policy::{PolicyView, due};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The effective state of a version: its state and its times together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum EffectiveState {
    /// Opens.
    Active,
    /// Closed for now.
    Suspended,
    /// Closed for ever.
    Revoked,
    /// Stored, not yet in use.
    Staged,
    /// Active, and past its time.
    Expired,
    /// Active, and before its time.
    Early,
    /// Its sealed bytes are gone.
    Destroyed,
}

/// A version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct VersionView {
    /// Its token's name.
    pub name: String,
    /// From 1.
    pub version: u64,
    /// Its state now.
    pub state: EffectiveState,
    /// In a listing: a newer version, which is staged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<u64>,
    /// In a listing: when the token is to be rotated, by its policy.
    #[serde(default, with = "crate::timestamp", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<String>, format = DateTime))]
    pub rotation_due: Option<u64>,
    /// Why, in its author's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Not from then on.
    #[serde(with = "crate::timestamp")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<String>, format = DateTime))]
    pub expires: Option<u64>,
    /// Not before.
    #[serde(with = "crate::timestamp")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<String>, format = DateTime))]
    pub not_before: Option<u64>,
    /// By key.
    pub labels: BTreeMap<String, String>,
    /// In the user's words.
    pub description: String,
    /// How many versions stay active.
    pub keep: Option<u64>,
    /// When it was put, as its author claims.
    #[serde(with = "crate::timestamp")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<String>, format = DateTime))]
    pub put: Option<u64>,
    /// Who put it.
    pub by: String,
    /// The devices it is sealed to, by name.
    pub recipients: Vec<String>,
    /// How many of them open it together.
    pub threshold: u64,
    /// Its sealed bytes, for some of the devices each.
    pub seals: Vec<SealView>,
    /// The position of the put.
    pub n: u64,
}

/// Sealed bytes of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct SealView {
    /// Their SHA-256.
    pub digest: String,
    /// Their length in bytes.
    pub length: u64,
    /// The devices that open them, by name.
    pub recipients: Vec<String>,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct GrantView {
    /// Its id.
    pub id: String,
    /// The token's name, or a prefix with a `/` at its end.
    pub on: String,
    /// To whom.
    pub to: String,
    /// What they may do.
    pub ops: Vec<String>,
    /// Until when.
    #[serde(with = "crate::timestamp")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<String>, format = DateTime))]
    pub until: Option<u64>,
    /// The credential id that a systemd unit uses for it.
    #[serde(rename = "as")]
    pub alias: Option<String>,
    /// The position of the grant.
    pub n: u64,
}

/// A token with its versions and grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub token_id: String,
    /// Suspended as a whole.
    pub suspended: bool,
    /// Destroyed as a whole.
    pub destroyed: bool,
    /// Of these versions, the newest that came into use; none if none did. It opens where no version is named.
    #[serde(default)]
    pub current: Option<u64>,
    /// Why it does not open: the current version counts, or the newest where there is none.
    #[serde(default)]
    pub closed: Option<String>,
    /// How it is rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<PolicyView>,
    /// When it is to be rotated.
    #[serde(default, with = "crate::timestamp", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "agent", schema(value_type = Option<String>, format = DateTime))]
    pub rotation_due: Option<u64>,
    /// Oldest first.
    pub versions: Vec<VersionView>,
    /// Those that reach it, on prefixes too.
    pub grants: Vec<GrantView>,
}

impl EffectiveState {
    /// Of one version of a token.
    pub fn from_row(vault: &Vault, token: &TokenRow, row: &VersionRow) -> Self {
        match row.state {
            None => Self::Destroyed,
            Some(State::Revoked) => Self::Revoked,
            Some(State::Staged) => Self::Staged,
            Some(State::Suspended) => Self::Suspended,
            Some(State::Active) if token.suspended => Self::Suspended,
            Some(State::Active) if row.expiry.is_some_and(|at| at <= vault.latest_time()) => Self::Expired,
            Some(State::Active) if row.not_before.is_some_and(|at| at > vault.latest_time()) => Self::Early,
            Some(State::Active) => Self::Active,
        }
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
            Self::Staged => "staged",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Destroyed => "destroyed",
        }
    }
}

impl VersionView {
    /// The current version of a token, for a listing.
    pub fn from_current(vault: &Vault, token: &TokenRow, row: VersionRow) -> Self {
        let newest = (token.latest > row.version).then(|| vault.replica().version_row(token, token.latest));
        let newest = newest.and_then(|newest| newest.ok().flatten());
        let staged = newest.filter(|newest| newest.state == Some(State::Staged)).map(|newest| newest.version);
        let policy = vault.replica().policy_for(token).ok().flatten();
        let rotation_due = policy.and_then(|row_of| due(&row_of.policy, token, &row));
        Self { staged, rotation_due, ..Self::from_row(vault, token, row) }
    }

    /// One version of a token.
    pub fn from_row(vault: &Vault, token: &TokenRow, row: VersionRow) -> Self {
        let recipients = vault.device_names(&row.recipients());
        let seal = |seal: &Seal| SealView {
            digest: seal.digest.to_string(),
            length: seal.length,
            recipients: vault.device_names(&seal.recipients),
        };
        let state = EffectiveState::from_row(vault, token, &row);
        Self {
            name: token.name.clone(),
            version: row.version,
            state,
            staged: None,
            rotation_due: None,
            reason: row.reason,
            expires: row.expiry,
            not_before: row.not_before,
            labels: row.labels.into_iter().collect(),
            description: row.description,
            keep: row.keep,
            put: Some(row.time),
            by: vault.device_name(&row.author),
            recipients,
            threshold: row.threshold,
            seals: row.seals.iter().map(seal).collect(),
            n: row.n,
        }
    }
}

impl From<&GrantRow> for GrantView {
    fn from(grant: &GrantRow) -> Self {
        Self {
            id: grant.id.to_string(),
            on: grant.on(),
            to: grant.to.clone(),
            ops: grant.ops.clone(),
            until: grant.until,
            alias: grant.alias.clone(),
            n: grant.n,
        }
    }
}

impl TokenView {
    /// The current version.
    pub fn current_version(&self) -> Option<&VersionView> {
        self.versions.iter().find(|version| Some(version.version) == self.current)
    }

    /// A token with these of its versions.
    ///
    /// # Errors
    /// The replica's.
    pub fn from_versions(vault: &Vault, token: &TokenRow, versions: Vec<VersionRow>) -> Result<Self> {
        let current = versions.iter().rev().find(|row| row.since.is_some());
        let closed = current.or(versions.last()).and_then(|current| vault.closed_because(token, current));
        let grants = vault.replica().grants_reaching(token)?;
        let policy = vault.replica().policy_for(token)?;
        let rotation_due = match (&policy, current) {
            (Some(row), Some(current)) => due(&row.policy, token, current),
            _ => None,
        };
        Ok(Self {
            name: token.name.clone(),
            token_id: token.id.to_string(),
            suspended: token.suspended,
            destroyed: token.destroyed,
            current: current.map(|row| row.version),
            closed: closed.map(|(why, _)| why),
            rotation: policy.as_ref().map(PolicyView::from),
            rotation_due,
            versions: versions.into_iter().map(|row| VersionView::from_row(vault, token, row)).collect(),
            grants: grants.iter().map(GrantView::from).collect(),
        })
    }
}

impl Vault {
    /// The token that has this name, or the last one that had it, with all of its versions or one.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn shown(&mut self, name: &Name, version: Option<u64>, operation: &str) -> Result<TokenView> {
        self.refresh()?;
        let token = self.living_or_last(name, operation)?;
        let mut versions = self.replica.versions(&token)?;
        versions.retain(|row| version.is_none_or(|version| version == row.version));
        if versions.is_empty() {
            let message = format!("it has no such version; the newest is {}", token.latest);
            return Err(Error::new(Kind::NotFound, operation, message));
        }
        TokenView::from_versions(self, &token, versions)
    }

    /// The token of this name, or the last one that had it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn living_or_last(&self, name: &Name, operation: &str) -> Result<TokenRow> {
        match self.token(name, operation) {
            Err(error) if error.kind() == Kind::NotFound => self
                .replica
                .tokens_ever_named(name.as_str())?
                .pop()
                .filter(|token| token.destroyed)
                .ok_or(error),
            other => other,
        }
    }

    /// The names of devices, in the same order.
    pub fn device_names(&self, ids: &[DeviceId]) -> Vec<String> {
        let mut names: Vec<_> = ids.iter().map(|id| self.device_name(id)).collect();
        names.sort();
        names
    }

    /// A device's name; its id if it has none here.
    pub fn device_name(&self, id: &DeviceId) -> String {
        match self.replica.device_row(id) {
            Ok(Some(row)) => row.enrolment.name,
            _ => id.to_string(),
        }
    }
}

/// The devices that open a version: `a, b`, or `any 2 of a, b, c` where several open it together.
pub fn recipients_in_words(recipients: &[String], threshold: u64, between: &str) -> String {
    let names = recipients.join(between);
    if threshold > 1 { format!("any {threshold} of {names}") } else { names }
}
