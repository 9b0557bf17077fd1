//! The `piv` driver: YubiKey PIV.

use super::Device;
use crate::error::{Error, Kind, Result};
use crate::uri::DeviceUri;

/// Connects to the device a `piv:` URI names. Does not log in.
///
/// # Errors
/// `Unsupported`.
pub fn connect(uri: &DeviceUri) -> Result<Box<dyn Device>> {
    Err(Error::new(Kind::Unsupported, "connect to the device", "not yet").on(uri.display_name()))
}
