//! The `piv` driver: YubiKeys, by their PIV application (NIST SP 800-73-4) and Yubico's extensions of it.
//!
//! Only this file and its directory name `yubikey` and `pcsc`. From the bottom up:
//!
//! - `error` explains failures, `slots` assigns slots to keys, `find` finds the YubiKey that a URI names.
//! - `card` talks to it, `login` keeps its PIN, `transaction` combines the two for one operation, `retry` repeats an
//!   operation after a lost connection.
//! - `evidence` verifies attestations, `padding` does RSA's paddings, `management` authenticates with the management key,
//!   `create` makes keys.
//! - `device` implements [`Device`], `discovery` lists what is plugged in.
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
/// `DeviceGone` when the YubiKey, its reader or pcscd is missing; `Usage` when several are plugged in and the URI names none, or
/// for a slot that cannot hold such a key; `Unsupported` for firmware before 5.3.
pub fn connect(uri: &DeviceUri) -> Result<Box<dyn Device>> {
    Ok(Box::new(device::PivDevice::connect(uri)?))
}

/// As [`connect`], but waits up to a minute for a person to plug in the YubiKey.
///
/// # Errors
/// As [`connect`].
pub fn connect_attended(uri: &DeviceUri, prompter: &mut dyn Prompter) -> Result<Box<dyn Device>> {
    Ok(Box::new(device::PivDevice::connect_attended(uri, prompter)?))
}
