//! Rotation policies: setting them, and which tokens are due.

use crate::error::{Error, Kind, Result};
use crate::ledger::Prefix;
use crate::ledger::body::{Body, PolicyChange, RotationPolicy, State};
use crate::replica::{PolicyRow, RotationRow, TokenRow, VersionRow};
use crate::vault::ledger::submit::{Draft, RequiredRole};
use crate::vault::{GrantOn, Vault};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A rotation policy, for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct PolicyView {
    /// The token's name, or a prefix with a `/` at its end.
    pub on: String,
    /// The name of a hook in each machine's configuration.
    pub hook: String,
    /// A new version is due this many seconds after the last one became active.
    pub every_seconds: u64,
    /// The version before stays open for this many seconds beside the new one.
    pub overlap_seconds: u64,
    /// Texts for the hook.
    pub params: BTreeMap<String, String>,
    /// The position of its statement.
    pub n: u64,
}

impl From<&PolicyRow> for PolicyView {
    fn from(row: &PolicyRow) -> Self {
        Self {
            on: row.on(),
            hook: row.policy.hook.clone(),
            every_seconds: row.policy.period / 1000,
            overlap_seconds: row.policy.overlap / 1000,
            params: row.policy.params.iter().cloned().collect(),
            n: row.n,
        }
    }
}

/// What a token needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RotationNeed {
    /// A rotation has begun: a version is staged.
    Finish,
    /// The version before the current one is to be revoked.
    Retire,
    /// A new version.
    Rotate,
}

impl RotationNeed {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Finish => "finish",
            Self::Retire => "retire",
            Self::Rotate => "rotate",
        }
    }
}

/// What a token needs next, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationView {
    /// The token's name.
    pub name: String,
    /// The version in use.
    pub version: u64,
    /// What it needs next.
    pub need: RotationNeed,
    /// When.
    #[serde(with = "crate::timestamp")]
    pub due: Option<u64>,
    /// The hook.
    pub hook: String,
    /// What the policy is on: the token's name, or a prefix with a `/` at its end.
    pub policy: String,
}

impl RotationView {
    fn from_row(row: &RotationRow) -> Self {
        let policy = &row.policy.policy;
        let since = row.version.since.unwrap_or(row.version.time);
        let (need, due) = match (row.staged, row.beside) {
            (true, _) => (RotationNeed::Finish, since),
            (false, true) => (RotationNeed::Retire, since.saturating_add(policy.overlap)),
            (false, false) => (RotationNeed::Rotate, since.saturating_add(policy.period)),
        };
        let (hook, on) = (policy.hook.clone(), row.policy.on());
        Self {
            name: row.token.name.clone(),
            version: row.version.version,
            need,
            due: Some(due),
            hook,
            policy: on,
        }
    }
}

/// When a token whose current version is this one is due. `None` for one that is closed: nothing opens it anew by itself.
pub(crate) fn due(policy: &RotationPolicy, token: &TokenRow, current: &VersionRow) -> Option<u64> {
    let open = !token.destroyed && !token.suspended && current.state == Some(State::Active);
    let since = current.since.filter(|_| open)?;
    Some(since.saturating_add(policy.period))
}

impl Vault {
    /// Sets the rotation policy of a token, or of all tokens under a prefix; `None` ends it. Returns whether that changed
    /// anything.
    ///
    /// # Errors
    /// `NotFound` for a token that does not exist, or when there is no policy to end; `Refused` unless a device here has the
    /// role `admin`, or both `write` and `open`.
    pub fn set_policy(&mut self, on: &GrantOn, policy: Option<&RotationPolicy>) -> Result<bool> {
        let operation = match policy {
            Some(_) => format!("set the rotation policy of {on}"),
            None => format!("end the rotation policy of {on}"),
        };
        self.submit(&operation, RequiredRole::SetPolicy(on.path()), |vault| {
            let target = vault.grant_target(on, &operation)?;
            let before = vault.replica.policy_on(&target)?;
            if before.is_none() && policy.is_none() {
                let error = Error::new(Kind::NotFound, &operation, "it has no policy of its own");
                return Err(error.with_hint("`strongroom policy show` lists the policies"));
            }
            if before.as_ref().map(|row| &row.policy) == policy {
                return Ok((Draft::default(), false));
            }
            let body = Body::Policy(PolicyChange { target, policy: policy.cloned() });
            Ok((Draft { bodies: vec![body], ..Draft::default() }, true))
        })
    }

    /// The policies: all, the one that a token follows, or those on a prefix and below it.
    ///
    /// # Errors
    /// `NotFound` for a token that does not exist.
    pub fn policies(&mut self, on: Option<&GrantOn>) -> Result<Vec<PolicyView>> {
        self.refresh()?;
        let mut rows = match on {
            Some(GrantOn::Token(name)) => {
                let token = self.token(name, &format!("show the rotation policy of {name}"))?;
                self.replica.policy_for(&token)?.into_iter().collect()
            }
            _ => self.replica.policies()?,
        };
        if let Some(GrantOn::Prefix(prefix)) = on {
            rows.retain(|row| prefix.covers(row.path()));
        }
        Ok(rows.iter().map(PolicyView::from).collect())
    }

    /// The policy that was set on exactly this, if any.
    ///
    /// # Errors
    /// `NotFound` for a token that does not exist.
    pub fn policy_of(&self, on: &GrantOn) -> Result<Option<PolicyView>> {
        let target = self.grant_target(on, &format!("show the rotation policy of {on}"))?;
        Ok(self.replica.policy_on(&target)?.as_ref().map(PolicyView::from))
    }

    /// What the tokens under `prefix` need until `until` (ms since 1970), by name.
    ///
    /// # Errors
    /// The replica's.
    pub fn due(&mut self, prefix: &Prefix, until: u64) -> Result<Vec<RotationView>> {
        self.refresh()?;
        let views = self.replica.rotations(prefix)?.iter().map(RotationView::from_row).collect::<Vec<_>>();
        Ok(views.into_iter().filter(|view| view.due.is_some_and(|due| due <= until)).collect())
    }
}
