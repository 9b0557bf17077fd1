//! The TPM driver: TPM 2.0 through tpm2-tss.
//!
//! This file and its directory are the only ones that name `tss_esapi`. From the bottom up: `error` explains response codes, `transport` reaches a TPM, `templates` say what keys are like, `pcr`, `signed_policy` and `policy` what has to hold
//! when they are used, `key_blob` is how a key is written down, `connection` is a connection with what is loaded over it, `connection_pool`
//! lets all devices of a process share one, with the PIN, `device` puts them together as a [`Device`], `create` makes
//! keys, `counter` counts.
//!
//! Strongroom's keys lie outside the TPM, encrypted to its storage root key, as part of their enrolment in the ledger: so a TPM with
//! room for three objects serves any number of stores. docs/reference/tpm.md tells the choices.

use super::Device;
use crate::error::Result;
use crate::uri::DeviceUri;

mod cbor;
mod connection;
mod connection_pool;
mod counter;
mod create;
mod credential;
mod device;
mod ek;
mod error;
mod evidence;
mod health;
mod identity;
mod key_blob;
mod lockout;
mod pcr;
mod pcr_binding;
mod policy;
mod policy_digest;
mod signed_policy;
mod templates;
mod transport;

pub use health::{Health, examine};

/// Connects to the TPM a `tpm:` URI names: the kernel's resource manager, or another transport by its `tcti`.
///
/// # Errors
/// `DeviceGone` when there is no TPM, or none for this user; `Usage` for a transport that does not exist.
pub fn connect(uri: &DeviceUri) -> Result<Box<dyn Device>> {
    Ok(Box::new(device::TpmDevice::connect(uri)?))
}
