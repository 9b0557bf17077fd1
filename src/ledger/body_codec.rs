//! Encoding bodies to and from CBOR (docs/reference/format.md, section 3). One function per shape, the writer above the
//! reader.

use super::body::{
    Anchor, Approve, Body, Counter, Destroy, Enrol, Genesis, Grant, PolicyChange, Reject, Rename, Repair,
    Retire, Role, Roles, RotationPolicy, State, StateChange, Target, Ungrant,
};
use super::cbor::{Decoded, Malformed, NEWER, Reader, Writer};
use super::id::{DeviceId, GrantId, Hash, TokenId};
use super::signature::SignatureAlgorithm;
use crate::device::PublicKey;
use enrolled_key::{read_enrolled_key, read_key, write_enrolled_key, write_key};
use seals::{read_put, read_reseal, write_put, write_reseal};
use settings::{read_propose, read_settings, write_propose, write_settings};

mod enrolled_key;
mod seals;
mod settings;

impl Body {
    /// The kind and the body as one CBOR array: what a replica keeps of a change that it may need again.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(2).uint(self.kind());
        self.write(&mut w);
        w.finish()
    }

    /// The change that [`Body::to_bytes`] encoded; none for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        r.array_of(2, "a change").ok()?;
        let kind = r.uint("a kind").ok()?;
        let body = Self::read(kind, &mut r).ok()?;
        r.end().ok().map(|()| body)
    }

    /// The kind's number.
    pub(super) fn kind(&self) -> u64 {
        match self {
            Self::Genesis(_) => 0,
            Self::Enrol(_) => 1,
            Self::Retire(_) => 2,
            Self::Roles(_) => 3,
            Self::Put(_) => 4,
            Self::State(_) => 5,
            Self::Destroy(_) => 6,
            Self::Rename(_) => 7,
            Self::Grant(_) => 8,
            Self::Ungrant(_) => 9,
            Self::Repair(_) => 10,
            Self::Policy(_) => 11,
            Self::Reseal(_) => 12,
            Self::Anchor(_) => 13,
            Self::Settings(_) => 14,
            Self::Propose(_) => 15,
            Self::Approve(_) => 16,
            Self::Reject(_) => 17,
        }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        match self {
            Self::Genesis(b) => {
                w.array(3).bytes(&b.nonce).bytes(&b.device.0);
                write_key(w, &b.signing);
            }
            Self::Enrol(b) => write_enrol(w, b),
            Self::Retire(b) => {
                w.array(3).bytes(&b.device.0).bool(b.compromised).text(&b.reason);
            }
            Self::Roles(b) => {
                w.array(2).bytes(&b.device.0);
                write_roles(w, &b.roles);
            }
            Self::Put(b) => write_put(w, b),
            Self::State(b) => {
                w.array(4).bytes(&b.token.0).uint(b.version).uint(state_number(b.state)).text(&b.reason);
            }
            Self::Destroy(b) => {
                w.array(4).bytes(&b.token.0).text(&b.name).uint(b.version).text(&b.reason);
            }
            Self::Rename(b) => {
                w.array(3).bytes(&b.token.0).text(&b.from).text(&b.to);
            }
            Self::Grant(b) => write_grant(w, b),
            Self::Ungrant(b) => {
                w.array(2).bytes(&b.grant.0);
                b.target.subject().write(w);
            }
            Self::Repair(b) => {
                w.array(3).uint(b.kept).bytes(&b.chain.0).text(&b.reason);
            }
            Self::Reseal(b) => write_reseal(w, b),
            Self::Anchor(b) => write_anchor(w, b),
            Self::Policy(b) => write_policy(w, b),
            Self::Settings(b) => write_settings(w, b),
            Self::Propose(b) => write_propose(w, b),
            Self::Approve(b) => {
                w.array(1).bytes(&b.proposal.0);
            }
            Self::Reject(b) => {
                w.array(2).bytes(&b.proposal.0).text(&b.reason);
            }
        }
    }

    pub(super) fn read(kind: u64, r: &mut Reader<'_>) -> Decoded<Self> {
        Ok(match kind {
            0 => Self::Genesis(read_genesis(r)?),
            1 => Self::Enrol(Box::new(read_enrol(r)?)),
            2 => Self::Retire(read_retire(r)?),
            3 => Self::Roles(read_role_change(r)?),
            4 => Self::Put(Box::new(read_put(r)?)),
            5 => Self::State(read_state_change(r)?),
            6 => Self::Destroy(read_destroy(r)?),
            7 => Self::Rename(read_rename(r)?),
            8 => Self::Grant(read_grant(r)?),
            9 => Self::Ungrant(read_ungrant(r)?),
            10 => Self::Repair(read_repair(r)?),
            11 => Self::Policy(read_policy(r)?),
            12 => Self::Reseal(read_reseal(r)?),
            13 => Self::Anchor(read_anchor(r)?),
            14 => Self::Settings(Box::new(read_settings(r)?)),
            15 => Self::Propose(Box::new(read_propose(r)?)),
            16 => Self::Approve(read_approve(r)?),
            17 => Self::Reject(read_reject(r)?),
            _ => return Err(NEWER),
        })
    }
}

fn device_id(r: &mut Reader<'_>) -> Decoded<DeviceId> {
    r.fixed("a device id").map(DeviceId)
}

fn token_id(r: &mut Reader<'_>) -> Decoded<TokenId> {
    r.fixed("a token id").map(TokenId)
}

fn check_signs(key: &PublicKey) -> Decoded<()> {
    match SignatureAlgorithm::from_key(key) {
        Some(_) => Ok(()),
        None => Err(Malformed("a signing key that signs nothing")),
    }
}

fn check_opens(key: &PublicKey) -> Decoded<()> {
    match key {
        PublicKey::RsaPss { .. } => Err(Malformed("an opening key that opens nothing")),
        _ => Ok(()),
    }
}

fn read_genesis(r: &mut Reader<'_>) -> Decoded<Genesis> {
    r.array_of(3, "a genesis body")?;
    let (nonce, device) = (r.fixed("a nonce")?, device_id(r)?);
    let signing = read_key(r)?;
    check_signs(&signing)?;
    Ok(Genesis { nonce, device, signing })
}

fn encoded_role(role: &Role) -> Vec<u8> {
    let mut w = Writer::new();
    write_role(&mut w, role);
    w.finish()
}

/// Roles in canonical order, none twice.
pub fn sorted_roles(mut roles: Vec<Role>) -> Vec<Role> {
    roles.sort_by_cached_key(encoded_role);
    roles.dedup();
    roles
}

fn write_role(w: &mut Writer, role: &Role) {
    match role {
        Role::Open(prefix) => w.array(2).uint(1).text(prefix),
        Role::Write(prefix) => w.array(2).uint(2).text(prefix),
        Role::Admin => w.array(1).uint(3),
        Role::Grant(prefix) => w.array(2).uint(4).text(prefix),
        Role::Witness => w.array(1).uint(5),
    };
}

fn write_roles(w: &mut Writer, roles: &[Role]) {
    w.array(roles.len());
    roles.iter().for_each(|role| write_role(w, role));
}

fn read_roles(r: &mut Reader<'_>) -> Decoded<Vec<Role>> {
    let roles = r.list("roles", |r| match (r.array("a role")?, r.uint("a role")?) {
        (2, 1) => r.text("a role's prefix").map(Role::Open),
        (2, 2) => r.text("a role's prefix").map(Role::Write),
        (1, 3) => Ok(Role::Admin),
        (2, 4) => r.text("a role's prefix").map(Role::Grant),
        (1, 5) => Ok(Role::Witness),
        (_, 1..=5) => Err(Malformed("a role")),
        _ => Err(NEWER),
    })?;
    if sorted_roles(roles.clone()) == roles { Ok(roles) } else { Err(Malformed("roles out of order")) }
}

fn write_enrol(w: &mut Writer, b: &Enrol) {
    w.array(8).bytes(&b.device.0).text(&b.name).text(&b.model).text(&b.serial);
    write_enrolled_key(w, &b.opening);
    write_enrolled_key(w, &b.signing);
    write_roles(w, &b.roles);
    match &b.replaces {
        Some(device) => w.bytes(&device.0),
        None => w.null(),
    };
}

fn read_enrol(r: &mut Reader<'_>) -> Decoded<Enrol> {
    r.array_of(8, "an enrolment")?;
    let (device, name) = (device_id(r)?, r.text("a device's name")?);
    let (model, serial) = (r.text("a model")?, r.text("a serial")?);
    let (opening, signing, roles) = (read_enrolled_key(r)?, read_enrolled_key(r)?, read_roles(r)?);
    check_opens(&opening.key)?;
    check_signs(&signing.key)?;
    let replaces = r.maybe(device_id)?;
    Ok(Enrol { device, name, model, serial, opening, signing, roles, replaces })
}

fn read_retire(r: &mut Reader<'_>) -> Decoded<Retire> {
    r.array_of(3, "a retirement")?;
    Ok(Retire { device: device_id(r)?, compromised: r.bool("compromised")?, reason: r.text("a reason")? })
}

fn read_role_change(r: &mut Reader<'_>) -> Decoded<Roles> {
    r.array_of(2, "a change of roles")?;
    Ok(Roles { device: device_id(r)?, roles: read_roles(r)? })
}

fn state_number(state: State) -> u64 {
    match state {
        State::Staged => 0,
        State::Active => 1,
        State::Suspended => 2,
        State::Revoked => 3,
    }
}

fn read_state(r: &mut Reader<'_>) -> Decoded<State> {
    match r.uint("a state")? {
        0 => Ok(State::Staged),
        1 => Ok(State::Active),
        2 => Ok(State::Suspended),
        3 => Ok(State::Revoked),
        _ => Err(NEWER),
    }
}

/// Labels, or a policy's parameters.
fn write_pairs(w: &mut Writer, pairs: &[(String, String)]) {
    w.array(pairs.len());
    for (key, value) in pairs {
        w.array(2).text(key).text(value);
    }
}

fn read_pairs(r: &mut Reader<'_>, what: &'static str) -> Decoded<Vec<(String, String)>> {
    let pairs = r.list(what, |r| {
        r.array_of(2, what)?;
        Ok((r.text(what)?, r.text(what)?))
    })?;
    if pairs.is_sorted_by(|a, b| a.0 < b.0) { Ok(pairs) } else { Err(Malformed("labels out of order")) }
}

fn read_state_change(r: &mut Reader<'_>) -> Decoded<StateChange> {
    r.array_of(4, "a change of state")?;
    let (token, version) = (token_id(r)?, r.uint("a version")?);
    Ok(StateChange { token, version, state: read_state(r)?, reason: r.text("a reason")? })
}

fn read_destroy(r: &mut Reader<'_>) -> Decoded<Destroy> {
    r.array_of(4, "a destruction")?;
    let (token, name) = (token_id(r)?, r.text("a name")?);
    Ok(Destroy { token, name, version: r.uint("a version")?, reason: r.text("a reason")? })
}

fn read_rename(r: &mut Reader<'_>) -> Decoded<Rename> {
    r.array_of(3, "a rename")?;
    Ok(Rename { token: token_id(r)?, from: r.text("a name")?, to: r.text("a name")? })
}

fn write_grant(w: &mut Writer, b: &Grant) {
    w.array(6).bytes(&b.grant.0);
    b.target.subject().write(w);
    w.text(&b.to).array(b.ops.len());
    for op in &b.ops {
        w.text(op);
    }
    w.maybe_uint(b.until);
    match &b.alias {
        Some(alias) => w.text(alias),
        None => w.null(),
    };
}

fn read_target(r: &mut Reader<'_>) -> Decoded<Target> {
    match super::Subject::read(r)? {
        super::Subject::Token(id) => Ok(Target::Token(id)),
        super::Subject::Prefix(prefix) => Ok(Target::Prefix(prefix)),
        _ => Err(Malformed("a grant's subject")),
    }
}

fn read_grant(r: &mut Reader<'_>) -> Decoded<Grant> {
    r.array_of(6, "a grant")?;
    let grant = Grant {
        grant: GrantId(r.fixed("a grant id")?),
        target: read_target(r)?,
        to: r.text("a grantee")?,
        ops: r.list("operations", |r| r.text("an operation"))?,
        until: r.maybe(|r| r.uint("until"))?,
        alias: r.maybe(|r| r.text("an alias"))?,
    };
    if grant.ops.is_sorted_by(|a, b| a < b) { Ok(grant) } else { Err(Malformed("operations out of order")) }
}

fn read_ungrant(r: &mut Reader<'_>) -> Decoded<Ungrant> {
    r.array_of(2, "an ungrant")?;
    Ok(Ungrant { grant: GrantId(r.fixed("a grant id")?), target: read_target(r)? })
}

fn read_repair(r: &mut Reader<'_>) -> Decoded<Repair> {
    r.array_of(3, "a repair")?;
    Ok(Repair {
        kept: r.uint("a position")?,
        chain: Hash(r.fixed("a chain value")?),
        reason: r.text("a reason")?,
    })
}

fn write_policy(w: &mut Writer, b: &PolicyChange) {
    w.array(2);
    b.target.subject().write(w);
    match &b.policy {
        Some(policy) => {
            w.array(4).uint(policy.period).uint(policy.overlap).text(&policy.hook);
            write_pairs(w, &policy.params);
        }
        None => {
            w.null();
        }
    }
}

fn read_policy(r: &mut Reader<'_>) -> Decoded<PolicyChange> {
    r.array_of(2, "a change of policy")?;
    let target = read_target(r)?;
    let policy = r.maybe(|r| {
        r.array_of(4, "a policy")?;
        let (period, overlap) = (r.uint("a period")?, r.uint("an overlap")?);
        Ok(RotationPolicy { period, overlap, hook: r.text("a hook")?, params: read_pairs(r, "parameters")? })
    })?;
    Ok(PolicyChange { target, policy })
}

fn read_approve(r: &mut Reader<'_>) -> Decoded<Approve> {
    r.array_of(1, "an approval")?;
    Ok(Approve { proposal: Hash(r.fixed("a proposal")?) })
}

fn read_reject(r: &mut Reader<'_>) -> Decoded<Reject> {
    r.array_of(2, "a rejection")?;
    Ok(Reject { proposal: Hash(r.fixed("a proposal")?), reason: r.text("a reason")? })
}

fn write_anchor(w: &mut Writer, b: &Anchor) {
    w.array(2).bytes(&b.device.0);
    match b.counter {
        Some(counter) => w.array(2).uint(counter.index).uint(counter.start),
        None => w.null(),
    };
}

fn read_anchor(r: &mut Reader<'_>) -> Decoded<Anchor> {
    r.array_of(2, "an anchor")?;
    let device = device_id(r)?;
    let counter = r.maybe(|r| {
        r.array_of(2, "a counter")?;
        Ok(Counter { index: r.uint("an index")?, start: r.uint("a start")? })
    })?;
    Ok(Anchor { device, counter })
}
