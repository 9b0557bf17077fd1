//! The TPM driver: TPM 2.0, directly for opening and signing where that is possible, and through tpm2-tss.
//!
//! Only this file and its directory name `tss_esapi`. From the bottom up:
//!
//! - `error` explains response codes, `transport` connects to a TPM, `templates` holds the public areas of keys.
//! - `pcr`, `policy` and `signed_policy` are the conditions on a key's use, `key_blob` is a key's stored form.
//! - `commands` are those of opening and signing. `direct` sends them itself, `esys` through tpm2-tss.
//! - `crash_record` notes what is loaded in a bare TPM, for the case that the process is killed.
//! - `connection` is a connection with its loaded objects; `connection_pool` shares it, and the PIN, among a process's devices.
//! - `device` implements [`Device`], `create` makes keys, `evidence` attests them, `counter` provides monotonic counters.
//!
//! Strongroom's keys are stored outside the TPM, encrypted to its storage root key, as part of their enrolment in the ledger. So a
//! TPM with room for three objects serves any number of stores. docs/reference/tpm.md explains the design.

use super::Device;
use crate::error::Result;
use crate::uri::DeviceUri;

mod cbor;
mod commands;
mod connection;
mod connection_pool;
mod counter;
mod crash_record;
mod create;
mod credential;
mod device;
mod direct;
mod ek;
mod error;
mod esys;
mod evidence;
mod health;
mod identity;
mod kdf;
mod key_blob;
mod lockout;
mod pcr;
mod pcr_binding;
mod policy;
mod policy_digest;
mod signed_policy;
mod templates;
mod transport;

pub use direct::fuzz_responses;
pub use health::{Health, examine};

/// Connects to the TPM a `tpm:` URI names: the kernel's resource manager, or another transport by its `tcti`.
///
/// # Errors
/// `DeviceGone` when there is no TPM, or this user may not use it; `Usage` for an unknown transport.
pub fn connect(uri: &DeviceUri) -> Result<Box<dyn Device>> {
    Ok(Box::new(device::TpmDevice::connect(uri)?))
}
