//! The conditions on a key's use: TPM 2.0 part 1 §19.7 (enhanced authorisation).
//!
//! This computes a key's authPolicy in software, and satisfies it in a TPM session by the same steps in the same order. So the
//! steps at use are exactly those enrolled, and the session's own policy digest need not be trusted.

use super::cbor::{Read, expect, maybe, wrong};
use super::commands::Commands;
use super::error::DriverError;
use super::pcr::{self, Pcrs};
use super::policy_digest::{pcr_digest, step};
use super::signed_policy::{self, Signer};
use super::templates;
use crate::device::Purpose;
use minicbor::{Decoder, Encoder};
use sha2::{Digest as _, Sha256};
use tss_esapi::structures::Public;
use tss_esapi::traits::{Marshall, UnMarshall};

/// TPM_CC (part 2 §6.5.2), as hashed into a policy digest.
const POLICY_AUTHORIZE: u32 = 0x16a;
const POLICY_AUTH_VALUE: u32 = 0x16b;
const POLICY_COMMAND_CODE: u32 = 0x16c;
/// TPM2_ECDH_ZGen.
pub const ECDH_ZGEN: u32 = 0x154;
/// TPM2_Sign.
pub const SIGN: u32 = 0x15d;

/// TPM_CC of the only command that a key of this purpose is good for.
pub fn command_code(purpose: Purpose) -> u32 {
    if purpose == Purpose::Open { ECDH_ZGEN } else { SIGN }
}

/// The conditions of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The PCR values at enrolment.
    pub pcrs: Option<Pcrs>,
    /// The signer who approves values of these PCRs. Without one, the values at enrolment are required.
    pub signer: Option<Signer>,
    /// Whether a PIN is required.
    pub pin: bool,
}

impl Policy {
    /// authPolicy: the policy digest that a session must have to use the key.
    ///
    /// # Errors
    /// When the signer's key cannot be marshalled.
    pub fn digest(&self, purpose: Purpose) -> tss_esapi::Result<[u8; 32]> {
        let mut digest = [0; 32];
        if let Some(pcrs) = &self.pcrs {
            digest = pcr_digest(pcrs);
        }
        if let Some(signer) = &self.signer {
            digest = step(&[0; 32], POLICY_AUTHORIZE, &[&templates::name(&signer.public)?]);
            digest = Sha256::new().chain_update(digest).chain_update(&signer.reference).finalize().into();
        }
        if self.pin {
            digest = step(&digest, POLICY_AUTH_VALUE, &[]);
        }
        let command = command_code(purpose);
        Ok(step(&digest, POLICY_COMMAND_CODE, &[&command.to_be_bytes()]))
    }

    /// Satisfies the policy in a fresh session by the same steps.
    ///
    /// # Errors
    /// `Refused` when PCRs do not have the values that the key is bound to, naming them.
    pub fn satisfy<C: Commands + ?Sized>(
        &self,
        tpm: &mut C,
        purpose: Purpose,
        signatures: Option<&std::path::Path>,
    ) -> Result<(), DriverError> {
        match (&self.pcrs, &self.signer) {
            (Some(pcrs), Some(signer)) => signed_policy::satisfy(tpm, pcrs, signer, signatures)?,
            (Some(pcrs), None) => literal(tpm, pcrs)?,
            (None, _) => {}
        }
        if self.pin {
            tpm.policy_auth_value()?;
        }
        tpm.policy_command_code(purpose)
    }

    pub(super) fn write(&self, e: &mut Encoder<Vec<u8>>) -> Read<()> {
        e.array(3).map_err(wrong)?;
        match &self.pcrs {
            Some(pcrs) => pcrs.write(e)?,
            None => drop(e.null().map_err(wrong)?),
        }
        match &self.signer {
            Some(signer) => {
                let public = signer.public.marshall().map_err(wrong)?;
                e.array(2).and_then(|e| e.bytes(&public)?.bytes(&signer.reference)).map_err(wrong)?;
            }
            None => drop(e.null().map_err(wrong)?),
        }
        e.bool(self.pin).map(drop).map_err(wrong)
    }

    pub(super) fn read(d: &mut Decoder<'_>) -> Read<Self> {
        expect(d.array().map_err(wrong)?, 3)?;
        let pcrs = maybe(d, Pcrs::read)?;
        let signer = maybe(d, |d| {
            expect(d.array().map_err(wrong)?, 2)?;
            let public = Public::unmarshall(d.bytes().map_err(wrong)?).map_err(wrong)?;
            Ok(Signer { public, reference: d.bytes().map_err(wrong)?.into() })
        })?;
        if signer.is_some() && pcrs.is_none() {
            return Err("a signer without PCRs".into());
        }
        Ok(Self { pcrs, signer, pin: d.bool().map_err(wrong)? })
    }
}

/// PolicyPCR with the values at enrolment. The TPM compares them with the current ones immediately.
fn literal<C: Commands + ?Sized>(tpm: &mut C, pcrs: &Pcrs) -> Result<(), DriverError> {
    match tpm.policy_pcr(pcrs.digest(), pcrs.bank(), &pcrs.indices()) {
        // TPM_RC_VALUE: other values than these.
        Err(fault) if fault.is(0x84) => {
            let now = Pcrs::read_from(tpm, pcrs.bank(), &pcrs.indices())?;
            Err(pcr::refusal(pcrs, &pcrs.changed(&now)).into())
        }
        other => other,
    }
}
