//! Reports a TPM's state for `doctor`.

use super::connection_pool::{lock, share};
use super::error::{DriverError, WithCommand};
use super::identity::TpmInfo;
use super::lockout::Lockout;
use super::pcr::Bank;
use super::transport::Transport;
use crate::device::DeviceIdentity;
use crate::error::Result;
use crate::uri::DeviceUri;
use tss_esapi::Context;
use tss_esapi::constants::CapabilityType;
use tss_esapi::structures::CapabilityData;
use tss_esapi::tss2_esys::TPM2_HANDLE;

/// A TPM's state. Reading it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Maker, model, firmware.
    pub identity: DeviceIdentity,
    /// The revision of the specification: `1.38`.
    pub revision: String,
    /// The TPM reports FIPS 140-2 mode.
    pub fips: bool,
    /// In lockout: the TPM accepts no PIN now.
    pub locked: bool,
    /// The number of wrong PINs counted, and the number at which it locks.
    pub tries: (u32, u32),
    /// The active PCR banks: `sha256`.
    pub banks: Vec<&'static str>,
    /// The endorsement keys with certificates in the TPM.
    pub certificates: Vec<&'static str>,
    /// Reached through a resource manager, so several programs can use it at once.
    pub managed: bool,
}

impl Health {
    /// Whether one more wrong PIN locks the TPM.
    pub fn is_at_last_try(&self) -> bool {
        let (failures, limit) = self.tries;
        !self.locked && failures + 1 == limit
    }
}

/// The certificates' NV indices (TCG EK Credential Profile §2.2.1.4).
const CERTIFICATES: [(u32, &str); 3] =
    [(0x01c0_0002, "RSA-2048"), (0x01c0_000a, "EC P-256"), (0x01c0_0016, "EC P-384")];
/// The first index of the range.
const FIRST: u32 = 0x01c0_0000;

/// Reads the state of the TPM that a URI names.
///
/// # Errors
/// `DeviceGone` when there is no TPM, or this user may not use it; the TPM's errors.
pub fn examine(uri: &DeviceUri) -> Result<Health> {
    let (transport, name) = (Transport::from_uri(uri)?, uri.display_name());
    let managed = transport.is_managed();
    let shared = share(transport);
    lock(&shared).work_by_tss("examine the TPM", &name, |connection| {
        let (info, lockout) = (TpmInfo::read(&mut connection.tpm)?, Lockout::read(&mut connection.tpm)?);
        let context = &mut connection.tpm.context;
        Ok(Health {
            identity: info.identity(),
            revision: format!("{}.{:02}", info.revision / 100, info.revision % 100),
            fips: info.fips,
            locked: lockout.locked,
            tries: (lockout.failures, lockout.limit),
            banks: banks(context)?,
            certificates: certificates(context)?,
            managed,
        })
    })
}

fn ask(context: &mut Context, what: CapabilityType, first: u32) -> Result<CapabilityData, DriverError> {
    let asked = context.execute_without_session(|context| context.get_capability(what, first, 254));
    Ok(asked.with_command("TPM2_GetCapability")?.0)
}

fn banks(context: &mut Context) -> Result<Vec<&'static str>, DriverError> {
    let CapabilityData::AssignedPcr(assigned) = ask(context, CapabilityType::AssignedPcr, 0)? else {
        return Ok(Vec::new());
    };
    let kept = assigned.get_selections().iter().filter(|selection| !selection.is_empty());
    Ok(kept
        .filter_map(|selection| Bank::from_algorithm(selection.hashing_algorithm()))
        .map(Bank::name)
        .collect())
}

fn certificates(context: &mut Context) -> Result<Vec<&'static str>, DriverError> {
    let CapabilityData::Handles(handles) = ask(context, CapabilityType::Handles, FIRST)? else {
        return Ok(Vec::new());
    };
    let there = |index: u32| handles.iter().any(|handle| TPM2_HANDLE::from(*handle) == index);
    Ok(CERTIFICATES.iter().filter(|(index, _)| there(*index)).map(|(_, what)| *what).collect())
}
