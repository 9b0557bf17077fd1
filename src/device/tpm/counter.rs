//! Counters: NV indices of type counter, TPM 2.0 part 1 §37.2.4.

use super::chip::Chip;
use super::error::{Command, Fault};
use super::seat::{self, Seat};
use super::shared::lock;
use crate::device::Counting;
use crate::error::{Error, Kind, Result};
use std::cell::Cell;
use tss_esapi::Context;
use tss_esapi::attributes::{NvIndexAttributes, NvIndexAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::{NvIndexType, SessionType};
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, SessionHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::NvPublicBuilder;

/// Where the TCG's registry of reserved handles leaves indices to the owner: the first that is free is taken.
const FIRST: u32 = 0x0180_5300;
const LAST: u32 = 0x0180_53ff;
/// A counter is 64 bits.
const SIZE: u16 = 8;

impl Counting for Chip {
    fn make_counter(&mut self) -> Result<(u32, u64)> {
        self.count("make a counter", |seat, session| {
            let index = define(seat, session)?;
            let handle = find(seat, index, session)?;
            // A counter that was never raised has no value (TPM_RC_NV_UNINITIALIZED).
            match increment(seat, handle, session).and_then(|()| read(seat, handle, session)) {
                Ok(value) => Ok((index, value)),
                Err(fault) => {
                    let _ = undefine(seat, handle, session);
                    Err(fault)
                }
            }
        })
    }

    fn read_counter(&mut self, index: u32) -> Result<u64> {
        self.count("read the counter", |seat, session| {
            let handle = find(seat, index, session)?;
            read(seat, handle, session)
        })
    }

    fn raise_counter(&mut self, index: u32) -> Result<u64> {
        let before = Cell::new(None);
        self.count("raise the counter", |seat, session| {
            let handle = find(seat, index, session)?;
            let stands = read(seat, handle, session)?;
            // Another attempt, after an answer that was lost, finds out whether the first one has raised it.
            if before.get().is_none_or(|before| before == stands) {
                before.set(Some(stands));
                increment(seat, handle, session)?;
            }
            read(seat, handle, session)
        })
    }

    fn remove_counter(&mut self, index: u32) -> Result<()> {
        self.count("remove the counter", |seat, session| {
            let handle = find(seat, index, session)?;
            undefine(seat, handle, session)
        })
    }
}

impl Chip {
    /// Works with a session of its own: a policy session cannot stand for an owner without policy.
    fn count<T>(
        &mut self,
        tried: &str,
        job: impl Fn(&mut Seat, AuthSession) -> Result<T, Fault>,
    ) -> Result<T> {
        lock(&self.shared).work(tried, &self.name, |seat| {
            let session = match seat.pinned_parent() {
                // Nobody between here and the TPM can speak for it.
                Some(key) => seat::start_session(&mut seat.context, key, SessionType::Hmac)?,
                None => salted_to_srk(seat)?,
            };
            let done = job(seat, session);
            let ended = seat.context.flush_context(SessionHandle::from(session).into());
            if ended.is_err() {
                seat.leave(session);
            }
            done.and_then(|done| ended.of("TPM2_FlushContext").map(|()| done))
        })
    }
}

/// Where no key was used yet there is nothing to compare the storage root key with.
fn salted_to_srk(seat: &mut Seat) -> Result<AuthSession, Fault> {
    let srk = seat::primary(&mut seat.context)?;
    let name = seat::name_of(&mut seat.context, srk.into())?;
    seat.remember(name);
    let session = seat::start_session(&mut seat.context, srk, SessionType::Hmac);
    let flushed = seat.context.flush_context(srk.into()).of("TPM2_FlushContext");
    session.and_then(|session| flushed.map(|()| session))
}

/// Written by increments only, read and removed by the owner, no dictionary attack protection.
fn attributes(written: bool) -> tss_esapi::Result<NvIndexAttributes> {
    NvIndexAttributesBuilder::new()
        .with_owner_write(true)
        .with_owner_read(true)
        .with_no_da(true)
        .with_nv_index_type(NvIndexType::Counter)
        .with_written(written)
        .build()
}

/// A command that the session authorises for the owner, whose authValue is empty. A TPM refuses a session that encrypts what a
/// command does not have: TPM_RC_ATTRIBUTES.
fn by_owner<T>(
    seat: &mut Seat,
    session: AuthSession,
    (decrypt, encrypt): (bool, bool),
    command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
) -> tss_esapi::Result<T> {
    let (_, mask) = SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
    let (these, _) = SessionAttributesBuilder::new().with_decrypt(decrypt).with_encrypt(encrypt).build();
    seat.context.tr_sess_set_attributes(session, these, mask)?;
    seat.context.execute_with_session(Some(session), command)
}

fn define(seat: &mut Seat, session: AuthSession) -> Result<u32, Fault> {
    const COMMAND: &str = "TPM2_NV_DefineSpace";
    for index in FIRST..=LAST {
        let public = NvPublicBuilder::new()
            .with_nv_index(NvIndexTpmHandle::new(index).of(COMMAND)?)
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(attributes(false).of(COMMAND)?)
            .with_data_area_size(SIZE.into())
            .build()
            .of(COMMAND)?;
        let defined = by_owner(seat, session, (true, false), |context| {
            context.nv_define_space(Provision::Owner, None, public)
        });
        match defined.of(COMMAND) {
            Ok(_) => return Ok(index),
            // TPM_RC_NV_DEFINED
            Err(fault) if fault.is(0x14c) => {}
            Err(fault) => return Err(fault),
        }
    }
    let answer = format!("every index from {FIRST:#x} to {LAST:#x} is in use");
    Err(Error::new(Kind::Conflict, "make a counter", answer)
        .with_hint("remove those of stores that are no more: `tpm2_nvreadpublic`, `tpm2_nvundefine INDEX`")
        .into())
}

/// The index, if it is a counter as [`define`] makes them. The ledger's word is not enough: any index that stands there would
/// be read, raised and removed.
fn find(seat: &mut Seat, index: u32, session: AuthSession) -> Result<NvIndexHandle, Fault> {
    const COMMAND: &str = "TPM2_NV_ReadPublic";
    if !(FIRST..=LAST).contains(&index) {
        return Err(another(index).into());
    }
    let handle = TpmHandle::NvIndex(NvIndexTpmHandle::new(index).of(COMMAND)?);
    let found = seat.context.execute_without_session(|context| context.tr_from_tpm_public(handle));
    let handle = match found.of(COMMAND) {
        Ok(found) => NvIndexHandle::from(found),
        Err(fault) if fault.is(0x8b) => return Err(missing(index).into()),
        Err(fault) => return Err(fault),
    };
    let public = by_owner(seat, session, (false, true), |context| context.nv_read_public(handle));
    let (public, _) = public.of(COMMAND)?;
    // Its first increment sets TPMA_NV_WRITTEN (part 2 §13.4).
    let ours = [attributes(false).of(COMMAND)?, attributes(true).of(COMMAND)?];
    if ours.contains(&public.attributes()) && public.data_size() == usize::from(SIZE) {
        Ok(handle)
    } else {
        Err(another(index).into())
    }
}

fn increment(seat: &mut Seat, handle: NvIndexHandle, session: AuthSession) -> Result<(), Fault> {
    let raised =
        by_owner(seat, session, (false, false), |context| context.nv_increment(NvAuth::Owner, handle));
    raised.of("TPM2_NV_Increment")
}

fn read(seat: &mut Seat, handle: NvIndexHandle, session: AuthSession) -> Result<u64, Fault> {
    let read =
        by_owner(seat, session, (false, true), |context| context.nv_read(NvAuth::Owner, handle, SIZE, 0));
    let bytes = read.of("TPM2_NV_Read")?;
    match bytes.value().try_into() {
        Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
        Err(_) => Err(Error::new(Kind::Device, "read the counter", "it has not eight bytes").into()),
    }
}

fn undefine(seat: &mut Seat, handle: NvIndexHandle, session: AuthSession) -> Result<(), Fault> {
    let removed = by_owner(seat, session, (false, false), |context| {
        context.nv_undefine_space(Provision::Owner, handle)
    });
    removed.of("TPM2_NV_UndefineSpace")
}

fn missing(index: u32) -> Error {
    let answer = format!("there is no counter {index:#x}: somebody removed it, or this is another TPM");
    Error::new(Kind::KeyMissing, "find the counter", answer)
}

fn another(index: u32) -> Error {
    let answer = format!("there is no counter {index:#x}: another index stands there, or none of ours could");
    Error::new(Kind::KeyMissing, "find the counter", answer)
}
