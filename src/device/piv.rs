//! The `piv` driver: YubiKeys, by their PIV application (NIST SP 800-73-4) and Yubico's extensions of it.
//!
//! This file and its directory are the only ones that name `yubikey` and `pcsc`. From the bottom up: `error` says what a failure
//! means, `slots` which slots are whose, `find` finds the YubiKey a URI means, `card` talks to it, `login` decides about PINs,
//! `transaction` puts these together for one operation, `retry` repeats an operation whose connection was lost, `evidence`
//! judges attestations, `padding` is what RSA needs besides the card, `management` opens what creating keys needs, `create` makes them, and `device` is the
//! [`Device`]. `discovery` says what is plugged in.
//!
//! The opening key is in slot 9d or a retired one (82–95), the signing key in 9c or a retired one. A key counts as Strongroom's when the
//! URI names its slot, or when the certificate in its slot is its attestation, which is what Strongroom writes there.

use crate::device::Device;
use crate::error::Result;
use crate::prompt::Prompter;
use crate::uri::DeviceUri;

mod card;
mod create;
mod device;
mod discovery;
mod error;
mod evidence;
mod find;
mod login;
mod management;
mod padding;
mod retry;
mod slots;
mod tlv;
mod transaction;

pub use discovery::{PivInfo, ReaderInfo, ReferenceInfo, YubiKeyInfo, discover};

/// Connects to the YubiKey a URI names, or to the only one there is. Does not log in.
///
/// # Errors
/// `DeviceGone` when it, its reader or pcscd is missing; `Usage` when several are there and the URI names none, or for a slot that is
/// not for such keys; `Unsupported` for a firmware before 5.3.
pub fn connect(uri: &DeviceUri) -> Result<Box<dyn Device>> {
    Ok(Box::new(device::PivDevice::connect(uri)?))
}

/// As [`connect`], and waits for the YubiKey where a person is there to plug it in, a minute at most.
///
/// # Errors
/// As [`connect`].
pub fn connect_attended(uri: &DeviceUri, prompter: &mut dyn Prompter) -> Result<Box<dyn Device>> {
    Ok(Box::new(device::PivDevice::connect_attended(uri, prompter)?))
}
