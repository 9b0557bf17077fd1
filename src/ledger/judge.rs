//! The rules for well-signed statements (docs/reference/format.md, section 3), over the verified state.

use super::body::{
    Body, Destroy, Grant, Put, Rename, Repair, Reseal, Role, State, StateChange, Target, Ungrant,
};
use super::error::Ineffective;
use super::id::{DeviceId, GrantId, Hash, TokenId};
use super::name::{MAX_LABEL_BYTES, MAX_LABELS, MAX_TEXT_BYTES, Name, Prefix, check_short, check_text};
use super::statement::{Statement, Subject};
use super::{LogPosition, MAX_RECIPIENTS, MAX_SEALED_BYTES};
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

pub(super) use devices::enrolment_in_form;
use devices::{active, anchor, enrol, retire, roles, roles_in_form};

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
    /// Whether an active device other than this one has `admin`.
    fn another_admin(&self, than: &DeviceId) -> Result<bool>;
    /// A token that was ever put.
    fn token(&self, id: &TokenId) -> Result<Option<TokenState>>;
    /// Whether a token has this name now.
    fn name_taken(&self, name: &str) -> Result<bool>;
    /// The state of a version that was put; `Some(None)` if its sealed bytes were destroyed.
    fn version(&self, token: &TokenId, version: u64) -> Result<Option<Option<State>>>;
    /// Whether any version ever had these sealed bytes.
    fn digest_recorded(&self, digest: &Hash) -> Result<bool>;
    /// A grant's target; `None` if it does not exist or was revoked.
    fn grant(&self, id: &GrantId) -> Result<Option<Target>>;
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

impl DeviceState {
    /// Whether it may administer.
    pub fn is_admin(&self) -> bool {
        self.roles.contains(&Role::Admin)
    }

    /// Whether tokens are sealed to it.
    pub fn opens(&self) -> bool {
        self.roles.contains(&Role::Open)
    }

    /// Whether it may write this name (or everything under this prefix).
    pub fn writes(&self, name: &str) -> bool {
        self.roles.iter().any(|role| match role {
            Role::Write(prefix) => Prefix::parse(prefix).is_ok_and(|prefix| prefix.covers(name)),
            _ => false,
        })
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
    match &statement.body {
        Body::Genesis(_) => rule("a second genesis"),
        Body::Enrol(b) => enrol(b, view),
        Body::Retire(b) => retire(b, view),
        Body::Roles(b) => roles(b, view),
        Body::Put(b) => put(b, author, view),
        Body::State(b) => state(b, author, view),
        Body::Destroy(b) => destroy(b, author, view),
        Body::Rename(b) => rename(b, author, view),
        Body::Grant(b) => grant(b, author, view),
        Body::Ungrant(b) => ungrant(b, author, view),
        Body::Repair(b) => repair(b, before),
        Body::Reseal(b) => reseal(b, author, view),
        Body::Anchor(b) => anchor(b, view),
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

fn may_write(author: &DeviceState, name: &str) -> std::result::Result<(), Ineffective> {
    if author.writes(name) { Ok(()) } else { Err(Ineffective::Role("write")) }
}

fn put(b: &Put, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(put_in_form(b));
    check!(may_write(author, &b.name));
    match view.token(&b.token)? {
        None if b.version != 1 => return rule("the first version of a token is 1"),
        None if view.name_taken(&b.name)? => return rule("another token has this name"),
        None => {}
        Some(token) if token.destroyed => return rule("the token was destroyed"),
        Some(token) if token.name != b.name => return rule("the token has another name"),
        Some(token) if b.version != token.latest + 1 => return rule("the version is not the next one"),
        Some(_) => {}
    }
    sealed(&b.recipients, &b.digest, view)
}

/// Checks that new sealed bytes are for devices with the role `open` and not recorded before.
fn sealed(recipients: &[DeviceId], digest: &Hash, view: &impl LedgerView) -> Verdict {
    for recipient in recipients {
        if !active(recipient, view)?.is_some_and(|device| device.opens()) {
            return rule(format!("device {recipient} has no role `open`"));
        }
    }
    if view.digest_recorded(digest)? {
        return rule("these sealed bytes belong to another version");
    }
    Ok(Ok(()))
}

fn put_in_form(b: &Put) -> std::result::Result<(), String> {
    Name::parse(&b.name)?;
    check_text(&b.description, MAX_TEXT_BYTES)?;
    if b.labels.len() > MAX_LABELS {
        return Err(format!("at most {MAX_LABELS} labels"));
    }
    for (key, value) in &b.labels {
        check_short(key)?;
        check_text(value, MAX_LABEL_BYTES)?;
    }
    match b.state {
        State::Staged | State::Active => {}
        State::Suspended | State::Revoked => return Err("a new version is staged or active".into()),
    }
    if b.keep == Some(0) {
        return Err("keep is at least 1".into());
    }
    sealed_in_form(&b.recipients, b.length)
}

fn sealed_in_form(recipients: &[DeviceId], length: u64) -> std::result::Result<(), String> {
    if !(1..=MAX_RECIPIENTS).contains(&recipients.len()) {
        return Err(format!("sealed to nobody, or to more than {MAX_RECIPIENTS}"));
    }
    match (1..=MAX_SEALED_BYTES).contains(&length) {
        true => Ok(()),
        false => Err("a length that no sealed token has".into()),
    }
}

fn reseal(b: &Reseal, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(sealed_in_form(&b.recipients, b.length));
    if !author.is_admin() {
        return refuse(Ineffective::Role("admin"));
    }
    match view.token(&b.token)? {
        None => return rule("no such token"),
        Some(token) if token.destroyed => return rule("the token was destroyed"),
        Some(_) => {}
    }
    match view.version(&b.token, b.version)? {
        None => rule("no such version"),
        Some(None) => rule("the version was destroyed"),
        Some(Some(_)) => sealed(&b.recipients, &b.digest, view),
    }
}

/// The token, which must exist and which the author may write.
fn writable(
    id: &TokenId,
    author: &DeviceState,
    view: &impl LedgerView,
) -> Result<std::result::Result<TokenState, Ineffective>> {
    Ok(match view.token(id)? {
        None => Err(Ineffective::Rule("no such token".into())),
        Some(token) if token.destroyed => Err(Ineffective::Rule("the token was destroyed".into())),
        Some(token) => may_write(author, &token.name).map(|()| token),
    })
}

fn state(b: &StateChange, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(text(&b.reason));
    check!(writable(&b.token, author, view)?);
    if b.state == State::Staged {
        return rule("a version cannot go back to staged");
    }
    if b.version == 0 {
        return Ok(Ok(()));
    }
    match view.version(&b.token, b.version)? {
        None => rule("no such version"),
        Some(None) => rule("the version was destroyed"),
        Some(Some(State::Revoked)) => rule("revoked is final"),
        Some(Some(State::Staged)) if b.state == State::Suspended => rule("a staged version is not open yet"),
        Some(Some(_)) => Ok(Ok(())),
    }
}

fn destroy(b: &Destroy, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(text(&b.reason));
    if !author.is_admin() {
        return refuse(Ineffective::Role("admin"));
    }
    match view.token(&b.token)? {
        None => return rule("no such token"),
        Some(token) if token.destroyed => return rule("the token was destroyed before"),
        Some(token) if token.name != b.name => return rule("the token has another name"),
        Some(_) => {}
    }
    match b.version {
        0 => Ok(Ok(())),
        version => match view.version(&b.token, version)? {
            None => rule("no such version"),
            Some(None) => rule("the version was destroyed before"),
            Some(Some(_)) => Ok(Ok(())),
        },
    }
}

fn rename(b: &Rename, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(Name::parse(&b.to));
    let token = match writable(&b.token, author, view)? {
        Ok(token) => token,
        Err(why) => return refuse(why),
    };
    check!(may_write(author, &b.to));
    if token.name != b.from {
        return rule("the token has another name");
    }
    if view.name_taken(&b.to)? {
        return rule("another token has the new name");
    }
    Ok(Ok(()))
}

fn may_grant(target: &Target, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    match target {
        Target::Token(id) => Ok(writable(id, author, view)?.map(|_| ())),
        Target::Prefix(prefix) => {
            check!(roles_in_form(&[Role::Write(prefix.clone())]));
            Ok(may_write(author, prefix))
        }
    }
}

fn grant(b: &Grant, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(may_grant(&b.target, author, view)?);
    check!(text(&b.to));
    check!(b.ops.iter().try_for_each(|op| check_short(op)));
    check!(b.alias.iter().try_for_each(|alias| check_short(alias)));
    if b.to.is_empty() || b.ops.is_empty() {
        return rule("granted to nobody, or nothing");
    }
    match view.grant(&b.grant)? {
        Some(_) => rule("this grant was given before"),
        None => Ok(Ok(())),
    }
}

fn ungrant(b: &Ungrant, author: &DeviceState, view: &impl LedgerView) -> Verdict {
    check!(may_grant(&b.target, author, view)?);
    match view.grant(&b.grant)? {
        Some(target) if target == b.target => Ok(Ok(())),
        _ => rule("no such grant"),
    }
}

fn repair(b: &Repair, before: LogPosition) -> Verdict {
    check!(text(&b.reason));
    match (b.kept, b.chain) == (before.n, before.chain) {
        true => Ok(Ok(())),
        false => rule("a repair stands right after what it kept"),
    }
}
