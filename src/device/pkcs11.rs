//! The PKCS#11 driver: HSMs, smart cards and SoftHSM behind a vendor's module (PKCS#11 v2.40 and later).
//!
//! Only this file and its directory name `cryptoki`. From the bottom up:
//!
//! - `module` keeps one context per module file, `slots` finds the token that a URI names, `session` opens a session on it.
//! - `login` keeps the PIN, `retry` repeats an operation after the module lost its state.
//! - `objects` finds keys and reads their attributes, `operations` does the private-key operations.
//! - `templates` describes new keys, `cloud_kms` those of Google, `create` makes them.
//! - `device` implements [`Device`], `discovery` lists the modules of a machine.
//!
//! Strongroom's keys are token objects labelled `<object>-open` and `<object>-sign`, where `<object>` is the URI's
//! `object` attribute. Labels are not unique in PKCS#11, so a key is used only if exactly one object has its label.

use crate::device::Device;
use crate::error::Result;
use crate::uri::DeviceUri;

mod cloud_kms;
mod create;
mod device;
mod discovery;
mod error;
mod file_kind;
mod login;
mod module;
mod objects;
mod operations;
mod retry;
mod session;
mod slots;
mod start_lock;
mod templates;
mod token_info;

pub use discovery::{candidate_modules, module_of, tokens_of, well_known_modules};
pub use token_info::{PinInfo, TokenInfo};

/// Connects to the token a URI names: loads and initialises its module and opens a session. Does not log in.
///
/// The module is the one named by the URI's `module-path` or `module-name`, or by the environment variables
/// `STRONGROOM_PKCS11_MODULE` or `PKCS11_MODULE_PATH`, or the only one of [`well_known_modules`] that has a matching token.
///
/// # Errors
/// `DeviceGone` when the module or token is missing, `Usage` when the file is not a module or several tokens match,
/// `Unsupported` when the module is built for another architecture.
pub fn connect(uri: &DeviceUri) -> Result<Box<dyn Device>> {
    let module = discovery::module_of(uri)?;
    Ok(Box::new(device::Pkcs11Device::connect(uri, &module)?))
}
