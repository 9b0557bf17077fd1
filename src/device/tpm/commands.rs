//! The commands of opening and signing, which two clients send: [`Direct`](super::direct::Direct) speaks to the TPM itself,
//! [`Esys`](super::esys::Esys) through tpm2-tss.
//!
//! A client has one session at a time: a policy session, salted, with HMACs and AES-128-CFB both ways.

use super::error::DriverError;
use super::key_blob::WrappedKey;
use super::pcr::Bank;
use super::signed_policy::Signer;
use super::templates::Name;
use crate::device::Purpose;
use tss_esapi::structures::Public;
use zeroize::Zeroizing;

/// An object in the TPM, by the number that its client has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub u32);

/// TPM 2.0 part 3, by section. Every call may fail with the TPM's response code, or because no sound response came.
pub trait Commands: Send {
    /// TPM2_ReadPublic, §12.4: the object at a persistent handle, and the name of the public area that was returned. `None` when
    /// the handle is empty.
    fn persistent(&mut self, handle: u32) -> Result<Option<(Key, Name)>, DriverError>;

    /// TPM2_CreatePrimary, §24.1, under the owner hierarchy: the key, and the name of the public area that was returned.
    fn create_primary(&mut self, template: &Public) -> Result<(Key, Name), DriverError>;

    /// TPM2_Load, §12.2. The key has the public area that was given, or it is an error.
    fn load(&mut self, parent: Key, key: &WrappedKey) -> Result<Key, DriverError>;

    /// TPM2_FlushContext, §28.4.
    fn flush(&mut self, key: Key) -> Result<(), DriverError>;

    /// TPM2_StartAuthSession, §11.1, salted to a key that was read or made by this client: the session's handle.
    fn start_session(&mut self, salt: Key) -> Result<u32, DriverError>;

    /// TPM2_FlushContext, §28.4, of the session.
    fn flush_session(&mut self) -> Result<(), DriverError>;

    /// TPM2_PCR_Read, §22.4: the values of at most eight registers, by index. Fewer where the bank lacks some.
    fn pcr_read(&mut self, bank: Bank, indices: &[u8]) -> Result<Vec<Vec<u8>>, DriverError>;

    /// TPM2_PolicyPCR, §23.7.
    fn policy_pcr(&mut self, digest: [u8; 32], bank: Bank, indices: &[u8]) -> Result<(), DriverError>;

    /// TPM2_PolicyAuthorize, §23.16, for the session's policy digest, with the first of the signatures that is the signer's; it is
    /// false when none is. The TPM verifies it: TPM2_LoadExternal, TPM2_VerifySignature, §20.1, TPM2_FlushContext.
    fn policy_authorize(
        &mut self,
        approved: [u8; 32],
        signer: &Signer,
        signatures: &[Vec<u8>],
    ) -> Result<bool, DriverError>;

    /// TPM2_PolicyAuthValue, §23.17.
    fn policy_auth_value(&mut self) -> Result<(), DriverError>;

    /// TPM2_PolicyCommandCode, §23.11: the session is good for this purpose's command only.
    fn policy_command_code(&mut self, purpose: Purpose) -> Result<(), DriverError>;

    /// TPM2_ECDH_ZGen, §14.5, on P-256, by the session: the x-coordinate.
    fn ecdh_z_gen(
        &mut self,
        key: Key,
        pin: Option<&[u8]>,
        peer: &[u8; 65],
    ) -> Result<Zeroizing<Vec<u8>>, DriverError>;

    /// TPM2_Sign, §20.2, ECDSA on P-256, by the session: r ‖ s.
    fn sign(&mut self, key: Key, pin: Option<&[u8]>, digest: &[u8; 32]) -> Result<[u8; 64], DriverError>;

    /// TPM2_GetCapability, §30.2, TPM_CAP_HANDLES: the handles in use from this one on.
    fn handles(&mut self, first: u32) -> Result<Vec<u32>, DriverError>;

    /// TPM2_GetCapability, §30.2, TPM_CAP_TPM_PROPERTIES: tag and value of so many from this one on.
    fn properties(&mut self, first: u32, count: u32) -> Result<Vec<(u32, u32)>, DriverError>;

    /// The name of somebody's transient object; `None` for an object whose name is not SHA-256.
    fn name_at(&mut self, handle: u32) -> Result<Option<Name>, DriverError>;

    /// TPM2_FlushContext of somebody's transient object or session.
    fn flush_at(&mut self, handle: u32) -> Result<(), DriverError>;
}
