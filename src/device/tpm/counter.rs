//! Counters: NV indices of type counter, TPM 2.0 part 1 §37.2.4.

use super::commands::{Commands, Key};
use super::connection::{self, Connection};
use super::connection_pool::lock;
use super::create;
use super::device::TpmDevice;
use super::error::{DriverError, WithCommand};
use super::esys::{self, Esys};
use super::templates;
use crate::device::MonotonicCounter;
use crate::error::{Error, Kind, Result};
use std::cell::Cell;
use tss_esapi::Context;
use tss_esapi::attributes::{NvIndexAttributes, NvIndexAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::{NvIndexType, SessionType};
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::NvPublicBuilder;

/// The range of indices that the TCG's registry of reserved handles leaves to the owner. We take the first free one.
const FIRST: u32 = 0x0180_5300;
const LAST: u32 = 0x0180_53ff;
/// A counter is 64 bits.
const SIZE: u16 = 8;

impl MonotonicCounter for TpmDevice {
    fn make_counter(&mut self) -> Result<(u32, u64)> {
        self.count("make a counter", |connection, session| {
            let index = define(connection, session)?;
            let handle = find(connection, index, session)?;
            // A counter has no value before its first increment (TPM_RC_NV_UNINITIALIZED).
            match increment(connection, handle, session).and_then(|()| read(connection, handle, session)) {
                Ok(value) => Ok((index, value)),
                Err(fault) => {
                    let _ = undefine(connection, handle, session);
                    Err(fault)
                }
            }
        })
    }

    fn read_counter(&mut self, index: u32) -> Result<u64> {
        self.count("read the counter", |connection, session| {
            let handle = find(connection, index, session)?;
            read(connection, handle, session)
        })
    }

    fn raise_counter(&mut self, index: u32) -> Result<u64> {
        let before = Cell::new(None);
        self.count("raise the counter", |connection, session| {
            let handle = find(connection, index, session)?;
            let stands = read(connection, handle, session)?;
            // After a lost response, the next attempt checks whether the first one raised it.
            if before.get().is_none_or(|before| before == stands) {
                before.set(Some(stands));
                increment(connection, handle, session)?;
            }
            read(connection, handle, session)
        })
    }

    fn remove_counter(&mut self, index: u32) -> Result<()> {
        self.count("remove the counter", |connection, session| {
            let handle = find(connection, index, session)?;
            undefine(connection, handle, session)
        })
    }
}

impl TpmDevice {
    /// Runs a job with an HMAC session, because a policy session cannot authorise an owner without a policy.
    fn count<T>(
        &mut self,
        operation: &str,
        job: impl Fn(&mut Connection<Esys>, AuthSession) -> Result<T, DriverError>,
    ) -> Result<T> {
        let handle = self.uri.attribute("srk").and_then(create::handle).unwrap_or(templates::SRK);
        let mut shared = lock(&self.shared);
        let proven = shared.proven_parent();
        shared.work_by_tss(operation, &self.name, |connection| {
            let (salt, transient) = match &proven {
                // An interposer cannot forge the TPM's responses.
                Some(parent) => connection::storage_root_key(&mut connection.tpm, parent)?,
                None => storage_root_key(connection, handle)?,
            };
            let salted = |connection: &mut Connection<Esys>| {
                esys::with_session(connection, salt.into(), SessionType::Hmac, &job)
            };
            if !transient {
                return salted(connection);
            }
            let done = salted(connection);
            let flushed = connection.tpm.flush(salt);
            done.and_then(|done| flushed.map(|()| done))
        })
    }
}

/// Before any key was used, there is no enrolment to compare the storage root key with. A persistent one takes no slot.
fn storage_root_key(connection: &mut Connection<Esys>, handle: u32) -> Result<(Key, bool), DriverError> {
    if let Some((key, _)) = connection.tpm.persistent(handle)? {
        return Ok((key, false));
    }
    let [template, _] = templates::storage_root_keys().with_command("TPM2_CreatePrimary")?;
    let (key, name) = connection.tpm.create_primary(&template)?;
    connection.remember(name);
    Ok((key, true))
}

/// Written only by increments, read and removed by the owner, without dictionary attack protection.
fn attributes(written: bool) -> tss_esapi::Result<NvIndexAttributes> {
    NvIndexAttributesBuilder::new()
        .with_owner_write(true)
        .with_owner_read(true)
        .with_no_da(true)
        .with_nv_index_type(NvIndexType::Counter)
        .with_written(written)
        .build()
}

/// Runs a command that the session authorises for the owner, whose authValue is empty. Sets the encryption attributes to match the
/// command's parameters, or the TPM refuses it: TPM_RC_ATTRIBUTES.
fn by_owner<T>(
    connection: &mut Connection<Esys>,
    session: AuthSession,
    (decrypt, encrypt): (bool, bool),
    command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
) -> tss_esapi::Result<T> {
    let (_, mask) = SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
    let (these, _) = SessionAttributesBuilder::new().with_decrypt(decrypt).with_encrypt(encrypt).build();
    connection.tpm.context.tr_sess_set_attributes(session, these, mask)?;
    connection.tpm.context.execute_with_session(Some(session), command)
}

fn define(connection: &mut Connection<Esys>, session: AuthSession) -> Result<u32, DriverError> {
    const COMMAND: &str = "TPM2_NV_DefineSpace";
    for index in FIRST..=LAST {
        let public = NvPublicBuilder::new()
            .with_nv_index(NvIndexTpmHandle::new(index).with_command(COMMAND)?)
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(attributes(false).with_command(COMMAND)?)
            .with_data_area_size(SIZE.into())
            .build()
            .with_command(COMMAND)?;
        let defined = by_owner(connection, session, (true, false), |context| {
            context.nv_define_space(Provision::Owner, None, public)
        });
        match defined.with_command(COMMAND) {
            Ok(_) => return Ok(index),
            // TPM_RC_NV_DEFINED
            Err(fault) if fault.is(0x14c) => {}
            Err(fault) => return Err(fault),
        }
    }
    let message = format!("every index from {FIRST:#x} to {LAST:#x} is in use");
    Err(Error::new(Kind::Conflict, "make a counter", message)
        .with_hint(
            "remove those of stores that no longer exist: `tpm2_nvreadpublic`, `tpm2_nvundefine INDEX`",
        )
        .into())
}

/// The index, if it is a counter made by [`define`]. Trusting the ledger's number alone would let it read, raise and remove any
/// index.
fn find(
    connection: &mut Connection<Esys>,
    index: u32,
    session: AuthSession,
) -> Result<NvIndexHandle, DriverError> {
    const COMMAND: &str = "TPM2_NV_ReadPublic";
    if !(FIRST..=LAST).contains(&index) {
        return Err(another(index).into());
    }
    let handle = TpmHandle::NvIndex(NvIndexTpmHandle::new(index).with_command(COMMAND)?);
    let found = connection.tpm.context.execute_without_session(|context| context.tr_from_tpm_public(handle));
    let handle = match found.with_command(COMMAND) {
        Ok(found) => NvIndexHandle::from(found),
        Err(fault) if fault.is(0x8b) => return Err(missing(index).into()),
        Err(fault) => return Err(fault),
    };
    let public = by_owner(connection, session, (false, true), |context| context.nv_read_public(handle));
    let (public, _) = public.with_command(COMMAND)?;
    // Its first increment sets TPMA_NV_WRITTEN (part 2 §13.4).
    let ours = [attributes(false).with_command(COMMAND)?, attributes(true).with_command(COMMAND)?];
    if ours.contains(&public.attributes()) && public.data_size() == usize::from(SIZE) {
        Ok(handle)
    } else {
        Err(another(index).into())
    }
}

fn increment(
    connection: &mut Connection<Esys>,
    handle: NvIndexHandle,
    session: AuthSession,
) -> Result<(), DriverError> {
    let raised =
        by_owner(connection, session, (false, false), |context| context.nv_increment(NvAuth::Owner, handle));
    raised.with_command("TPM2_NV_Increment")
}

fn read(
    connection: &mut Connection<Esys>,
    handle: NvIndexHandle,
    session: AuthSession,
) -> Result<u64, DriverError> {
    let read = by_owner(connection, session, (false, true), |context| {
        context.nv_read(NvAuth::Owner, handle, SIZE, 0)
    });
    let bytes = read.with_command("TPM2_NV_Read")?;
    match bytes.value().try_into() {
        Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
        Err(_) => Err(Error::new(Kind::Device, "read the counter", "it has not eight bytes").into()),
    }
}

fn undefine(
    connection: &mut Connection<Esys>,
    handle: NvIndexHandle,
    session: AuthSession,
) -> Result<(), DriverError> {
    let removed = by_owner(connection, session, (false, false), |context| {
        context.nv_undefine_space(Provision::Owner, handle)
    });
    removed.with_command("TPM2_NV_UndefineSpace")
}

fn missing(index: u32) -> Error {
    let message = format!("there is no counter {index:#x}: it was removed, or this is another TPM");
    Error::new(Kind::KeyMissing, "find the counter", message)
}

fn another(index: u32) -> Error {
    let message = format!(
        "there is no counter {index:#x}: the index belongs to another program, or is outside Strongroom's range"
    );
    Error::new(Kind::KeyMissing, "find the counter", message)
}
