//! policyDigest, computed in software: TPM 2.0 part 1 §19.7.

use super::error::{DriverError, WithCommand};
use super::pcr::Pcrs;
use sha2::{Digest as _, Sha256};
use tss_esapi::structures::Digest;

/// TPM_CC_PolicyPCR (part 2 §6.5.2).
const POLICY_PCR: u32 = 0x17f;

/// The digest of PolicyPCR alone, which a signer of PCR policies signs.
pub fn pcr_digest(pcrs: &Pcrs) -> [u8; 32] {
    step(&[0; 32], POLICY_PCR, &[&pcrs.marshalled(), &pcrs.digest()])
}

/// policyDigest' = H(policyDigest ‖ command ‖ parameters).
pub fn step(digest: &[u8; 32], command: u32, parameters: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new().chain_update(digest).chain_update(command.to_be_bytes());
    parameters.iter().for_each(|parameter| hash.update(parameter));
    hash.finalize().into()
}

/// As the library's type.
pub fn digest(bytes: [u8; 32]) -> Result<Digest, DriverError> {
    Digest::try_from(bytes.to_vec()).with_command("TPM2_PolicyPCR")
}
