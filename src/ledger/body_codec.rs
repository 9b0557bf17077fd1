//! Encoding bodies to and from CBOR (docs/reference/format.md, section 3). One function per shape, the writer above the
//! reader.

use super::body::{
    Anchor, Body, Counter, Destroy, Enrol, Genesis, Grant, Put, Rename, Repair, Reseal, Retire, Role, Roles,
    State, StateChange, Target, Ungrant,
};
use super::cbor::{Decoded, Malformed, Reader, Writer};
use super::id::{DeviceId, GrantId, Hash, TokenId};
use super::signature::SignatureAlgorithm;
use crate::device::PublicKey;
use enrolled_key::{Form, read_enrolled_key, read_key, write_enrolled_key, write_key};

mod enrolled_key;

/// A value or kind from a later version of the format.
pub(super) const NEWER: Malformed = Malformed("a value of a newer format");

impl Body {
    /// The kind's number.
    pub(super) fn kind(&self) -> u64 {
        match self {
            Self::Genesis(_) => 0,
            Self::Enrol(b) if b.has_material() => 11,
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
            Self::Reseal(_) => 12,
            Self::Anchor(_) => 13,
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
        }
    }

    pub(super) fn read(kind: u64, r: &mut Reader<'_>) -> Decoded<Self> {
        Ok(match kind {
            0 => Self::Genesis(read_genesis(r)?),
            1 => Self::Enrol(Box::new(read_enrol(r, Form::Bare)?)),
            2 => Self::Retire(read_retire(r)?),
            3 => Self::Roles(read_role_change(r)?),
            4 => Self::Put(Box::new(read_put(r)?)),
            5 => Self::State(read_state_change(r)?),
            6 => Self::Destroy(read_destroy(r)?),
            7 => Self::Rename(read_rename(r)?),
            8 => Self::Grant(read_grant(r)?),
            9 => Self::Ungrant(read_ungrant(r)?),
            10 => Self::Repair(read_repair(r)?),
            11 => Self::Enrol(Box::new(read_enrol(r, Form::WithMaterial)?)),
            12 => Self::Reseal(read_reseal(r)?),
            13 => Self::Anchor(read_anchor(r)?),
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
        Role::Open => w.array(1).uint(1),
        Role::Write(prefix) => w.array(2).uint(2).text(prefix),
        Role::Admin => w.array(1).uint(3),
    };
}

fn write_roles(w: &mut Writer, roles: &[Role]) {
    w.array(roles.len());
    roles.iter().for_each(|role| write_role(w, role));
}

fn read_roles(r: &mut Reader<'_>) -> Decoded<Vec<Role>> {
    let roles = r.list("roles", |r| match (r.array("a role")?, r.uint("a role")?) {
        (1, 1) => Ok(Role::Open),
        (2, 2) => r.text("a role's prefix").map(Role::Write),
        (1, 3) => Ok(Role::Admin),
        (_, 1..=3) => Err(Malformed("a role")),
        _ => Err(NEWER),
    })?;
    if sorted_roles(roles.clone()) == roles { Ok(roles) } else { Err(Malformed("roles out of order")) }
}

fn write_enrol(w: &mut Writer, b: &Enrol) {
    w.array(7).bytes(&b.device.0).text(&b.name).text(&b.model).text(&b.serial);
    let form = if b.has_material() { Form::WithMaterial } else { Form::Bare };
    write_enrolled_key(w, &b.opening, form);
    write_enrolled_key(w, &b.signing, form);
    write_roles(w, &b.roles);
}

fn read_enrol(r: &mut Reader<'_>, form: Form) -> Decoded<Enrol> {
    r.array_of(7, "an enrolment")?;
    let (device, name) = (device_id(r)?, r.text("a device's name")?);
    let (model, serial) = (r.text("a model")?, r.text("a serial")?);
    let (opening, signing, roles) =
        (read_enrolled_key(r, form)?, read_enrolled_key(r, form)?, read_roles(r)?);
    check_opens(&opening.key)?;
    check_signs(&signing.key)?;
    let enrol = Enrol { device, name, model, serial, opening, signing, roles };
    // Canonical: without material the kind is 1.
    if enrol.has_material() == (form == Form::WithMaterial) {
        Ok(enrol)
    } else {
        Err(Malformed("no material"))
    }
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

fn write_recipients(w: &mut Writer, recipients: &[DeviceId]) {
    w.array(recipients.len());
    recipients.iter().for_each(|device| {
        w.bytes(&device.0);
    });
}

fn write_put(w: &mut Writer, b: &Put) {
    w.array(13).bytes(&b.token.0).text(&b.name).uint(b.version).bytes(&b.digest.0).uint(b.length);
    write_recipients(w, &b.recipients);
    w.uint(state_number(b.state)).maybe_uint(b.not_before).maybe_uint(b.expiry);
    w.array(b.labels.len());
    for (key, value) in &b.labels {
        w.array(2).text(key).text(value);
    }
    w.text(&b.description).maybe_uint(b.keep).null();
}

fn read_put(r: &mut Reader<'_>) -> Decoded<Put> {
    r.array_of(13, "a put")?;
    let put = Put {
        token: token_id(r)?,
        name: r.text("a name")?,
        version: r.uint("a version")?,
        digest: Hash(r.fixed("a digest")?),
        length: r.uint("a length")?,
        recipients: r.list("recipients", device_id)?,
        state: read_state(r)?,
        not_before: r.maybe(|r| r.uint("not-before"))?,
        expiry: r.maybe(|r| r.uint("an expiry"))?,
        labels: r.list("labels", |r| {
            r.array_of(2, "a label")?;
            Ok((r.text("a label's key")?, r.text("a label's value")?))
        })?,
        description: r.text("a description")?,
        keep: r.maybe(|r| r.uint("keep"))?,
    };
    // The rotation policy: always null in this version.
    r.maybe(|_| Err::<(), _>(NEWER))?;
    let sorted = put.recipients.is_sorted_by(|a, b| a < b) && put.labels.is_sorted_by(|a, b| a.0 < b.0);
    if sorted { Ok(put) } else { Err(Malformed("recipients or labels out of order")) }
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

fn write_reseal(w: &mut Writer, b: &Reseal) {
    w.array(5).bytes(&b.token.0).uint(b.version).bytes(&b.digest.0).uint(b.length);
    write_recipients(w, &b.recipients);
}

fn read_reseal(r: &mut Reader<'_>) -> Decoded<Reseal> {
    r.array_of(5, "a reseal")?;
    let reseal = Reseal {
        token: token_id(r)?,
        version: r.uint("a version")?,
        digest: Hash(r.fixed("a digest")?),
        length: r.uint("a length")?,
        recipients: r.list("recipients", device_id)?,
    };
    let sorted = reseal.recipients.is_sorted_by(|a, b| a < b);
    if sorted { Ok(reseal) } else { Err(Malformed("recipients out of order")) }
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
