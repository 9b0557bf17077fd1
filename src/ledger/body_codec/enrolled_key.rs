//! Public keys, and enrolled keys.

use crate::device::{Evidence, EvidenceLevel, OaepHash, PublicKey, RSA_BYTES};
use crate::ledger::body::EnrolledKey;
use crate::ledger::cbor::{Decoded, Malformed, NEWER, Reader, Writer};

pub(super) fn write_key(w: &mut Writer, key: &PublicKey) {
    match key {
        PublicKey::P256(point) => w.array(2).uint(1).bytes(point),
        PublicKey::Rsa { n, e, oaep } => w.array(4).uint(2).bytes(n).bytes(e).uint(match oaep {
            OaepHash::Sha1 => 1,
            OaepHash::Sha256 => 256,
        }),
        PublicKey::Aes256 { id } => w.array(2).uint(3).bytes(id),
        PublicKey::P384(point) => w.array(2).uint(4).bytes(point),
        PublicKey::RsaPss { n, e } => w.array(3).uint(5).bytes(n).bytes(e),
    };
}

pub(super) fn read_key(r: &mut Reader<'_>) -> Decoded<PublicKey> {
    let len = r.array("a key")?;
    match (r.uint("a key's algorithm")?, len) {
        (1, 2) => read_point::<65>(r, "a P-256 point", "a P-256 point that is not on the curve"),
        (2, 4) => {
            let parts = read_rsa(r)?;
            let oaep = match r.uint("an OAEP hash")? {
                1 => OaepHash::Sha1,
                256 => OaepHash::Sha256,
                _ => return Err(NEWER),
            };
            sound(parts).map(|(n, e)| PublicKey::Rsa { n, e, oaep })
        }
        (3, 2) => r.fixed("a key id").map(|id| PublicKey::Aes256 { id }),
        (4, 2) => read_point::<97>(r, "a P-384 point", "a P-384 point that is not on the curve"),
        (5, 3) => read_rsa(r).and_then(sound).map(|(n, e)| PublicKey::RsaPss { n, e }),
        (1..=5, _) => Err(Malformed("a key")),
        _ => Err(NEWER),
    }
}

/// Modulus and exponent.
type Rsa = (Vec<u8>, Vec<u8>);

fn read_rsa(r: &mut Reader<'_>) -> Decoded<Rsa> {
    Ok((r.bytes("a modulus")?.to_vec(), r.bytes("an exponent")?.to_vec()))
}

fn sound((n, e): Rsa) -> Decoded<Rsa> {
    let sound = RSA_BYTES.contains(&n.len()) && (1..=8).contains(&e.len()) && n[0] != 0 && e[0] != 0;
    if sound { Ok((n, e)) } else { Err(Malformed("an RSA key")) }
}

fn read_point<const N: usize>(
    r: &mut Reader<'_>,
    what: &'static str,
    off: &'static str,
) -> Decoded<PublicKey> {
    let point: [u8; N] = r.fixed(what)?;
    PublicKey::from_point(&point).ok_or(Malformed(off))
}

pub(super) fn write_level(w: &mut Writer, level: EvidenceLevel) {
    w.uint(match level {
        EvidenceLevel::Simulator => 0,
        EvidenceLevel::Reported => 1,
        EvidenceLevel::Attested => 2,
    });
}

pub(super) fn read_level(r: &mut Reader<'_>) -> Decoded<EvidenceLevel> {
    match r.uint("an evidence level")? {
        0 => Ok(EvidenceLevel::Simulator),
        1 => Ok(EvidenceLevel::Reported),
        2 => Ok(EvidenceLevel::Attested),
        _ => Err(NEWER),
    }
}

pub(super) fn write_enrolled_key(w: &mut Writer, slot: &EnrolledKey) {
    w.array(5);
    write_key(w, &slot.key);
    w.text(&slot.uri);
    write_level(w, slot.evidence.level);
    w.array(slot.evidence.claims.len());
    for (claim, holds) in &slot.evidence.claims {
        w.array(2).text(claim).bool(*holds);
    }
    w.bytes(&slot.material);
}

pub(super) fn read_enrolled_key(r: &mut Reader<'_>) -> Decoded<EnrolledKey> {
    r.array_of(5, "a key slot")?;
    let (key, uri, level) = (read_key(r)?, r.text("a key's URI")?, read_level(r)?);
    let claims = r.list("claims", |r| {
        r.array_of(2, "a claim")?;
        Ok((r.text("a claim's name")?, r.bool("a claim's value")?))
    })?;
    let material = r.bytes("a key's material")?.to_vec();
    Ok(EnrolledKey { key, uri, evidence: Evidence { level, claims }, material })
}
