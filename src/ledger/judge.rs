//! The rules for well-signed statements (docs/reference/format.md, section 3), over the verified state.

use super::LogPosition;
use super::body::{Body, Repair, Role, Seal, Settings, State, Target};
use super::error::Ineffective;
use super::id::{DeviceId, GrantId, Hash, TokenId};
use super::name::{MAX_TEXT_BYTES, check_text};
use super::statement::Statement;
use super::subject::Subject;
use crate::device::PublicKey;
use crate::error::Result;

/// Returns from the calling rule if the verdict is a refusal.
macro_rules! check {
    ($verdict:expr) => {
        if let Err(why) = $verdict {
            return refuse(why.into());
        }
    };
}

mod devices;
mod grants;
mod quorum;
mod tokens;

pub(super) use devices::enrolment_in_form;
pub use quorum::{Proposal, change_carried_out, is_closed_by};

/// The verified state that judging the next statement needs.
pub trait LedgerView {
    /// The subject's head; [`Hash::ZERO`] if it has none.
    fn head(&self, subject: &Subject) -> Result<Hash>;
    /// A device that was ever enrolled.
    fn device(&self, id: &DeviceId) -> Result<Option<DeviceState>>;
    /// Whether a device with this signing key was ever enrolled.
    fn signing_key_known(&self, key: &PublicKey) -> Result<bool>;
    /// Whether tokens are sealed to an active device with this opening key.
    fn opening_key_active(&self, key: &PublicKey) -> Result<bool>;
    /// Whether an active device has this name.
    fn device_name_taken(&self, name: &str) -> Result<bool>;
    /// The active devices with exactly this role.
    fn active_with(&self, role: &Role) -> Result<Vec<DeviceId>>;
    /// The store's settings.
    fn settings(&self) -> Result<Settings>;
    /// A proposal that was neither carried out nor rejected, by its statement's hash.
    fn proposal(&self, hash: &Hash) -> Result<Option<Proposal>>;
    /// How many proposals of this device are open.
    fn count_proposals(&self, proposer: &DeviceId) -> Result<u64>;
    /// Whether a device was enrolled in this one's place.
    fn is_replaced(&self, device: &DeviceId) -> Result<bool>;
    /// A token that was ever put.
    fn token(&self, id: &TokenId) -> Result<Option<TokenState>>;
    /// Whether a token has this name now.
    fn name_taken(&self, name: &str) -> Result<bool>;
    /// A version that was put.
    fn version(&self, token: &TokenId, version: u64) -> Result<Option<VersionState>>;
    /// The seals of a version.
    fn seals(&self, token: &TokenId, version: u64) -> Result<Vec<Seal>>;
    /// The lowest threshold of the token's versions that are neither revoked nor destroyed.
    fn lowest_threshold(&self, token: &TokenId) -> Result<Option<u64>>;
    /// Whether any version ever had these sealed bytes.
    fn digest_recorded(&self, digest: &Hash) -> Result<bool>;
    /// A grant's target; `None` if it does not exist or was revoked.
    fn grant(&self, id: &GrantId) -> Result<Option<Target>>;
    /// Whether a grant that stands gives this grantee something under this alias.
    fn alias_taken(&self, to: &str, alias: &str) -> Result<bool>;
}

/// A device as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// Its name.
    pub name: String,
    /// Its signing key.
    pub signing: PublicKey,
    /// Its opening key.
    pub opening: PublicKey,
    /// What it may do; empty once retired.
    pub roles: Vec<Role>,
    /// Retired for ever.
    pub retired: bool,
    /// Retired since its keys may be in the wrong hands.
    pub compromised: bool,
}

/// A token as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenState {
    /// Its current name.
    pub name: String,
    /// Its newest version.
    pub latest: u64,
    /// Suspended as a whole.
    pub suspended: bool,
    /// Destroyed as a whole.
    pub destroyed: bool,
}

/// A version as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionState {
    /// `None` if its sealed bytes were destroyed.
    pub state: Option<State>,
    /// How many recipients open it together.
    pub threshold: u64,
    /// The name that it was put under.
    pub name: String,
}

impl DeviceState {
    /// Whether it may administer.
    pub fn is_admin(&self) -> bool {
        self.roles.contains(&Role::Admin)
    }

    /// Whether tokens of this name are sealed to it.
    pub fn opens(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role.opens(name))
    }

    /// Whether it may write this name, or everything under this prefix.
    pub fn writes(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role.writes(name))
    }

    /// Whether it may grant this name, or everything under this prefix.
    pub fn grants(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role.grants(name))
    }
}

/// Why a statement has no effect; `Ok(Ok(()))` if it has one.
pub type Verdict = Result<std::result::Result<(), Ineffective>>;

/// Judges one statement by the state before it, which ends at `before`. Its batch has been verified; genesis and the
/// first enrolment are not judged here.
///
/// # Errors
/// Only those of the view; the verdict is the inner result.
pub fn judge(
    statement: &Statement,
    author: &DeviceState,
    before: LogPosition,
    view: &impl LedgerView,
) -> Verdict {
    for (subject, prev) in &statement.advances {
        if view.head(subject)? != *prev {
            return refuse(Ineffective::Stale(subject.clone()));
        }
    }
    if statement.body.is_admin() && !author.is_admin() {
        return refuse(Ineffective::Role("admin"));
    }
    if statement.body.needs_quorum() && view.settings()?.quorum > 1 {
        return rule("other admins must agree to it: propose it");
    }
    match &statement.body {
        Body::Genesis(_) => rule("a second genesis"),
        Body::Enrol(_) | Body::Retire(_) | Body::Roles(_) | Body::Settings(_) => {
            change(&statement.body, view)
        }
        Body::Put(b) => tokens::put(b, author, view),
        Body::State(b) => tokens::state(b, author, view),
        Body::Destroy(b) => tokens::destroy(b, author, view),
        Body::Rename(b) => tokens::rename(b, author, view),
        Body::Reseal(b) => tokens::reseal(b, author, view),
        Body::Grant(b) => grants::grant(b, author, view),
        Body::Ungrant(b) => grants::ungrant(b, author, view),
        Body::Policy(b) => grants::policy(b, author, view),
        Body::Repair(b) => repair(b, before),
        Body::Anchor(b) => devices::anchor(b, view),
        Body::Propose(b) => quorum::propose(b, statement, view),
        Body::Approve(b) => quorum::approve(b, statement, view),
        Body::Reject(b) => quorum::reject(b, statement, view),
    }
}

/// The rules for a change that may need a quorum: by itself, or when enough admins have agreed to it.
///
/// # Errors
/// Only those of the view; the verdict is the inner result.
pub fn change(body: &Body, view: &impl LedgerView) -> Verdict {
    match body {
        Body::Enrol(b) => devices::enrol(b, view),
        Body::Retire(b) => devices::retire(b, view),
        Body::Roles(b) => devices::roles(b, view),
        Body::Settings(b) => quorum::settings(b, view),
        _ => rule("a change that needs no agreement"),
    }
}

fn refuse(why: Ineffective) -> Verdict {
    Ok(Err(why))
}

fn rule(why: impl Into<String>) -> Verdict {
    refuse(Ineffective::Rule(why.into()))
}

impl From<String> for Ineffective {
    fn from(why: String) -> Self {
        Self::Rule(why)
    }
}

fn text(s: &str) -> std::result::Result<(), Ineffective> {
    check_text(s, MAX_TEXT_BYTES).map_err(Ineffective::Rule)
}

/// The token, if it exists and was not destroyed.
fn living(id: &TokenId, view: &impl LedgerView) -> Result<std::result::Result<TokenState, Ineffective>> {
    Ok(match view.token(id)? {
        None => Err(Ineffective::Rule("no such token".into())),
        Some(token) if token.destroyed => Err(Ineffective::Rule("the token was destroyed".into())),
        Some(token) => Ok(token),
    })
}

fn repair(b: &Repair, before: LogPosition) -> Verdict {
    check!(text(&b.reason));
    match (b.kept, b.chain) == (before.n, before.chain) {
        true => Ok(Ok(())),
        false => rule("a repair stands right after what it kept"),
    }
}
