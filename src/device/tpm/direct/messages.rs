//! Commands and responses of more than a line: part 3.

use super::frame::Command;
use super::marshal::{Reader, Writer};
use crate::device::tpm::policy::{ECDH_ZGEN, SIGN};
use crate::device::tpm::templates;

/// TPM_RH_NULL (part 2 §7.4).
const NULL: u32 = 0x4000_0007;
/// TPM_ALG (part 2 §6.3).
const ALG_AES: u16 = 0x0006;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
const ALG_ECDSA: u16 = 0x0018;
const ALG_CFB: u16 = 0x0043;

/// A policy session with SHA-256 and AES-128-CFB.
pub fn start(salt: u32, nonce: &[u8; 32], encrypted: &[u8]) -> Command {
    const POLICY: u8 = 1;
    Command::new("TPM2_StartAuthSession", 0x176, Some(salt)).with(|w| {
        let w = w.u32(NULL).sized(nonce).sized(encrypted).u8(POLICY);
        w.u16(ALG_AES).u16(128).u16(ALG_CFB).u16(ALG_SHA256)
    })
}

/// The point: x and y.
pub fn ecdh_z_gen(key: u32, peer: &[u8; 65]) -> Command {
    let point = Writer::default().sized(&peer[1..33]).sized(&peer[33..]).0;
    Command::new("TPM2_ECDH_ZGen", ECDH_ZGEN, Some(key)).with(|w| w.sized(&point))
}

/// By the key's own scheme. A null ticket: unrestricted keys also sign digests that the TPM did not compute.
pub fn sign(key: u32, digest: &[u8; 32]) -> Command {
    const HASHCHECK: u16 = 0x8024;
    Command::new("TPM2_Sign", SIGN, Some(key))
        .with(|w| w.sized(digest).u16(ALG_NULL).u16(HASHCHECK).u32(NULL).sized(&[]))
}

/// r ‖ s of a TPMT_SIGNATURE (part 2 §11.3.4).
pub fn ecdsa(signature: &[u8]) -> Option<[u8; 64]> {
    let mut reader = Reader(signature);
    if (reader.u16()?, reader.u16()?) != (ALG_ECDSA, ALG_SHA256) {
        return None;
    }
    let (r, s) = (templates::coordinate(reader.sized()?)?, templates::coordinate(reader.sized()?)?);
    reader.end()?;
    [r, s].concat().try_into().ok()
}

/// The digests of TPM2_PCR_Read's response.
pub fn pcr_values(response: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut reader = Reader(response);
    reader.u32()?;
    for _ in 0..reader.u32()? {
        reader.u16()?;
        let size = reader.u8()?;
        reader.bytes(size.into())?;
    }
    let values = (0..reader.u32()?).map(|_| reader.sized().map(<[u8]>::to_vec)).collect::<Option<_>>()?;
    reader.end()?;
    Some(values)
}

/// The list in a TPMS_CAPABILITY_DATA of this kind (part 2 §10.10.2).
pub fn list<T>(
    response: &[u8],
    kind: u32,
    mut item: impl FnMut(&mut Reader<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut reader = Reader(response);
    reader.u8()?;
    if reader.u32()? != kind {
        return None;
    }
    let items = (0..reader.u32()?).map(|_| item(&mut reader)).collect::<Option<_>>()?;
    reader.end()?;
    Some(items)
}
