//! The body of a statement, by kind (docs/reference/format.md, section 3).
//!
//! Texts are kept as they are in the ledger and judged later: a well-signed statement with a bad name is ineffective,
//! not tampering.

use super::id::{DeviceId, GrantId, Hash, TokenId};
use super::subject::Subject;
use crate::device::{Evidence, PublicKey};

mod classes;
mod role;
mod settings;

pub use role::Role;
pub use settings::{Approve, Propose, Reject, Settings, Witnesses};

/// The body of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The first statement of a store.
    Genesis(Genesis),
    /// A device is enrolled.
    Enrol(Box<Enrol>),
    /// A device is retired.
    Retire(Retire),
    /// A device's roles are replaced.
    Roles(Roles),
    /// A token version is put.
    Put(Box<Put>),
    /// A token or version changes its state.
    State(StateChange),
    /// Sealed bytes are destroyed.
    Destroy(Destroy),
    /// A token is renamed.
    Rename(Rename),
    /// Grants an application a token or prefix.
    Grant(Grant),
    /// A grant is revoked.
    Ungrant(Ungrant),
    /// A tail that cannot be verified was dropped.
    Repair(Repair),
    /// Replaces a version's sealed bytes.
    Reseal(Reseal),
    /// Sets or removes a device's anchor.
    Anchor(Anchor),
    /// Sets or removes a rotation policy.
    Policy(PolicyChange),
    /// Replaces the store's settings.
    Settings(Box<Settings>),
    /// Proposes a change that several admins must agree to.
    Propose(Box<Propose>),
    /// Agrees to a proposal.
    Approve(Approve),
    /// Rejects a proposal.
    Reject(Reject),
}

/// Names the first device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// Random, so that two stores of one device differ.
    pub nonce: [u8; 16],
    /// The first device.
    pub device: DeviceId,
    /// Its signing key, on P-256 or P-384.
    pub signing: PublicKey,
}

/// One of a device's two keys, as enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledKey {
    /// Public part.
    pub key: PublicKey,
    /// Its location as an RFC 7512 URI.
    pub uri: String,
    /// The evidence that it cannot leave the device.
    pub evidence: Evidence,
    /// What the driver needs to use it, such as a wrapped key; empty if nothing.
    pub material: Vec<u8>,
}

/// A device with its keys and roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrol {
    /// Random.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// Maker and model, as the device reports them.
    pub model: String,
    /// Serial number, as the device reports it.
    pub serial: String,
    /// The opening key.
    pub opening: EnrolledKey,
    /// The signing key: always P-256.
    pub signing: EnrolledKey,
    /// What it may do.
    pub roles: Vec<Role>,
    /// The retired device that it succeeds: narrow versions (`only`) of that one are for it too.
    pub replaces: Option<DeviceId>,
}

/// Retirement of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retire {
    /// Which.
    pub device: DeviceId,
    /// Whether its keys may be in the wrong hands.
    pub compromised: bool,
    /// In the admin's words.
    pub reason: String,
}

/// Replaces a device's roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Which.
    pub device: DeviceId,
    /// All of them.
    pub roles: Vec<Role>,
}

/// A token version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Which token.
    pub token: TokenId,
    /// Its name, at this version.
    pub name: String,
    /// From 1.
    pub version: u64,
    /// Its sealed bytes, for different devices each; sorted by digest.
    pub seals: Vec<Seal>,
    /// How many recipients open it together: mostly 1.
    pub threshold: u64,
    /// Whether its author chose the recipients (`--only`).
    pub only: bool,
    /// Staged or active.
    pub state: State,
    /// Not to be opened before (ms).
    pub not_before: Option<u64>,
    /// Expires at. Milliseconds since 1970.
    pub expiry: Option<u64>,
    /// Sorted by key.
    pub labels: Vec<(String, String)>,
    /// In the user's words.
    pub description: String,
    /// How many versions stay active.
    pub keep: Option<u64>,
}

/// Sealed bytes: one age file for some devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// SHA-256 of the sealed bytes.
    pub digest: Hash,
    /// Length of the sealed bytes.
    pub length: u64,
    /// The devices that open it, sorted.
    pub recipients: Vec<DeviceId>,
}

/// The state of a token or version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Put, not yet in use.
    Staged,
    /// Can be opened.
    Active,
    /// Cannot be opened until it is active again.
    Suspended,
    /// Can never be opened again.
    Revoked,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Which token.
    pub token: TokenId,
    /// The version; 0 for the whole token.
    pub version: u64,
    /// Active, suspended or revoked.
    pub state: State,
    /// In the user's words.
    pub reason: String,
}

/// Destruction of sealed bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destroy {
    /// Which token.
    pub token: TokenId,
    /// Its name.
    pub name: String,
    /// The version; 0 for the whole token.
    pub version: u64,
    /// In the user's words.
    pub reason: String,
}

/// A new name for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// Which token.
    pub token: TokenId,
    /// Its old name.
    pub from: String,
    /// Its new name.
    pub to: String,
}

/// The target of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One token, through renames.
    Token(TokenId),
    /// All tokens under a prefix.
    Prefix(String),
}

/// An application's access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Random.
    pub grant: GrantId,
    /// Its target.
    pub target: Target,
    /// The grantee: `unit:web.service`, `user:deploy`, `group:ops`, `exe:/usr/bin/x`.
    pub to: String,
    /// The operations: `get`, …; sorted.
    pub ops: Vec<String>,
    /// Until when (ms).
    pub until: Option<u64>,
    /// The credential id that a systemd unit uses for it.
    pub alias: Option<String>,
}

/// A revoked grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ungrant {
    /// Which.
    pub grant: GrantId,
    /// Its target.
    pub target: Target,
}

/// A repair: everything after a position was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The last position kept.
    pub kept: u64,
    /// The chain there.
    pub chain: Hash,
    /// In the admin's words.
    pub reason: String,
}

/// Other sealed bytes for a version, of the same token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reseal {
    /// Which token.
    pub token: TokenId,
    /// Which version.
    pub version: u64,
    /// How many recipients open it together from now on.
    pub threshold: u64,
    /// The digests of the seals that go, sorted.
    pub drop: Vec<Hash>,
    /// The seals that come, sorted by digest.
    pub add: Vec<Seal>,
}

/// Sets or removes the rotation policy of a token or a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChange {
    /// What it is for.
    pub target: Target,
    /// The policy; `None` removes it.
    pub policy: Option<RotationPolicy>,
}

/// How a token is rotated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RotationPolicy {
    /// A new version is due this long after the last one became active (ms).
    pub period: u64,
    /// How long the last version stays active beside the new one (ms).
    pub overlap: u64,
    /// The name of a hook in each machine's configuration.
    pub hook: String,
    /// Texts for the hook, sorted by key.
    pub params: Vec<(String, String)>,
}

/// A device's anchor (docs/reference/format.md, section 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Which device.
    pub device: DeviceId,
    /// The counter; `None` removes the anchor.
    pub counter: Option<Counter>,
}

/// A monotonic counter in a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Counter {
    /// Its NV index (TPM 2.0 part 2 §13).
    pub index: u64,
    /// Its value when it began to count for the store.
    pub start: u64,
}

impl Target {
    /// The subject that a grant on it advances.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Token(id) => Subject::Token(*id),
            Self::Prefix(prefix) => Subject::Prefix(prefix.clone()),
        }
    }

    /// The prefix, or the token's name, which the ledger's statement does not hold; empty if it has none any more.
    pub fn path<'a>(&'a self, name: Option<&'a str>) -> &'a str {
        match (name, self) {
            (Some(name), _) => name,
            (None, Self::Prefix(prefix)) => prefix,
            (None, Self::Token(_)) => "",
        }
    }

    /// As users write it: `prod/db`, `prod/`.
    pub fn written(&self, name: Option<&str>) -> String {
        match self {
            Self::Token(_) => self.path(name).to_owned(),
            Self::Prefix(_) => format!("{}/", self.path(name)),
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Staged => "staged",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_advances_each_name_once() {
        let rename = |from: &str, to: &str| {
            Body::Rename(Rename { token: TokenId([1; 16]), from: from.into(), to: to.into() }).subjects()
        };
        let (token, name) = (Subject::Token(TokenId([1; 16])), |s: &str| Subject::Name(s.into()));
        assert_eq!(rename("aa", "b"), [token.clone(), name("b"), name("aa")]);
        assert_eq!(rename("a", "a"), [token, name("a")]);
    }
}
