//! Endorsement keys and their certificates: TCG EK Credential Profile for TPM Family 2.0, version 2.6.
//!
//! The TPM's maker stores a certificate for the endorsement key in the TPM. The key itself is not stored: it is derived from its
//! hierarchy's seed by a public template, which yields the same key each time.

use super::error::{DriverError, WithCommand};
use crate::device::certificates::{Oid, SubjectKey, first_certificate};
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::traits::PublicKeyParts;
use tss_esapi::Context;
use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, ek, nv};
use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::{KeyHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{CapabilityData, EccParameter, Public};

/// The NV indices of the issuers' certificates, in sequence (§2.2.1.5.2).
const CHAIN: std::ops::Range<u32> = 0x01c0_0100..0x01c0_0200;
/// The NV range of all certificates.
const SHELF: std::ops::Range<u32> = 0x01c0_0000..0x01c0_0200;

/// The kinds of endorsement key in the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// L-2: EC P-256.
    P256,
    /// H-3: EC P-384.
    P384,
    /// L-1: RSA-2048.
    Rsa2048,
}

impl Kind {
    /// All kinds, fastest first. A TPM may take a minute to derive an RSA key.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::Rsa2048];

    /// The NV index of its certificate (§2.2.1.4, §2.2.1.5).
    pub const fn index(self) -> u32 {
        match self {
            Self::P256 => 0x01c0_000a,
            Self::P384 => 0x01c0_0016,
            Self::Rsa2048 => 0x01c0_0002,
        }
    }

    /// Whether PolicySecret(endorsement) authorises it, as for keys in the low range. Keys in the high range use the empty password.
    pub fn is_used_by_policy(self) -> bool {
        self != Self::P384
    }

    fn template(self) -> tss_esapi::Result<Public> {
        let algorithm = match self {
            Self::P256 => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
            Self::P384 => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP384),
            Self::Rsa2048 => AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
        };
        ek::create_ek_public_from_default_template_2(algorithm, None)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Rsa2048 => "RSA-2048",
        })
    }
}

/// The NV indices in the maker's range: TPM 2.0 part 2 §7.4, TCG registry of reserved handles §2.2.
pub struct EkCertificates(Vec<u32>);

impl EkCertificates {
    /// Lists the defined indices, so that we never read an undefined one.
    pub fn look(context: &mut Context) -> Result<Self, DriverError> {
        let asked = context.execute_without_session(|context| {
            context.get_capability(CapabilityType::Handles, SHELF.start, SHELF.end - SHELF.start)
        });
        let handles = match asked.with_command("TPM2_GetCapability")? {
            (CapabilityData::Handles(handles), _) => {
                handles.iter().map(|handle| u32::from(*handle)).collect()
            }
            _ => Vec::new(),
        };
        Ok(Self(handles))
    }

    /// The certificate for this kind of endorsement key, in DER. Not verified yet.
    pub fn certificate(&self, context: &mut Context, kind: Kind) -> Result<Option<Vec<u8>>, DriverError> {
        if !self.0.contains(&kind.index()) {
            return Ok(None);
        }
        let mut bytes = read(context, kind.index())?;
        // Some makers pad the index.
        if let Some(length) = first_certificate(&bytes).map(<[u8]>::len) {
            bytes.truncate(length);
        }
        Ok(Some(bytes))
    }

    /// The intermediate certificates between the endorsement keys and the maker's root, in DER.
    pub fn chain(&self, context: &mut Context) -> Result<Vec<Vec<u8>>, DriverError> {
        let mut bytes = Vec::new();
        for index in CHAIN.take_while(|index| self.0.contains(index)) {
            bytes.extend(read(context, index)?);
        }
        let (mut chain, mut rest) = (Vec::new(), bytes.as_slice());
        while let Some(one) = first_certificate(rest) {
            chain.push(one.to_vec());
            rest = rest.get(one.len()..).unwrap_or_default();
        }
        Ok(chain)
    }
}

/// The contents of an NV index that is readable without authorisation.
fn read(context: &mut Context, index: u32) -> Result<Vec<u8>, DriverError> {
    let index = NvIndexTpmHandle::new(index).with_command("TPM2_NV_ReadPublic")?;
    let found =
        context.execute_without_session(|context| context.tr_from_tpm_public(TpmHandle::NvIndex(index)));
    let handle = NvAuth::NvIndex(found.with_command("TPM2_NV_ReadPublic")?.into());
    let bytes = context
        .execute_with_session(Some(AuthSession::Password), |context| nv::read_full(context, handle, index));
    bytes.with_command("TPM2_NV_Read")
}

/// Makes the endorsement key. Returns its handle, which the caller must flush, and its public area.
pub fn make(context: &mut Context, kind: Kind) -> Result<(KeyHandle, Public), DriverError> {
    const COMMAND: &str = "TPM2_CreatePrimary";
    let template = kind.template().with_command(COMMAND)?;
    let made = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
    });
    made.with_command(COMMAND).map(|made| (made.key_handle, made.out_public))
}

/// Whether a TPM's key is a certificate's key.
pub fn is_about(public: &Public, certified: SubjectKey<'_>) -> bool {
    match (public, certified) {
        (Public::Ecc { parameters, unique, .. }, SubjectKey::Ec { curve, point }) => {
            let length = match parameters.ecc_curve() {
                EccCurve::NistP256 if curve == P256 => 32,
                EccCurve::NistP384 if curve == P384 => 48,
                _ => return false,
            };
            let halves = padded(unique.x(), length).zip(padded(unique.y(), length));
            halves.is_some_and(|(x, y)| [&[4], x.as_slice(), y.as_slice()].concat() == point)
        }
        (Public::Rsa { parameters, unique, .. }, SubjectKey::Rsa(der)) => {
            let Ok(key) = rsa::RsaPublicKey::from_pkcs1_der(der) else { return false };
            // Zero means the default exponent (part 2 §12.2.3.5).
            let exponent = match parameters.exponent().value() {
                0 => 65537,
                exponent => exponent,
            };
            key.n().to_bytes_be() == unique.value() && *key.e() == exponent.into()
        }
        _ => false,
    }
}

/// The object identifier of secp256r1.
pub const P256: Oid = Oid::new_unwrap("1.2.840.10045.3.1.7");
/// The object identifier of secp384r1.
pub const P384: Oid = Oid::new_unwrap("1.3.132.0.34");

/// Pads to this many bytes, because TPMs may omit leading zeroes.
fn padded(value: &EccParameter, length: usize) -> Option<Vec<u8>> {
    let mut padded = vec![0; length];
    let value = value.value();
    padded.get_mut(length.checked_sub(value.len())?..)?.copy_from_slice(value);
    Some(padded)
}
