//! What a new key should be like, beyond its purpose and algorithm.

use super::Device;
use crate::error::{Error, Kind, Result};
use crate::uri::Scheme;
use std::path::PathBuf;

/// Options for new keys. A driver refuses those that are another's: see [`CreateOptions::only_for`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Directory of PEM certificates that the evidence may rest on, in place of the vendors' bundled roots.
    pub roots: Option<PathBuf>,
    /// For a TPM.
    pub tpm: TpmOptions,
    /// For a YubiKey.
    pub piv: PivOptions,
}

/// Options for keys in a TPM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TpmOptions {
    /// Bind the keys to a PIN, guarded by the TPM's dictionary attack protection.
    pub pin: bool,
    /// Bind the keys to what was measured at boot: `sha256:0,2,7`.
    pub pcrs: Option<String>,
    /// Bind the keys to what this key (PEM) signs for those PCRs, instead of to their values now.
    pub pcr_policy_key: Option<PathBuf>,
    /// Also keep the opening key in the TPM at this persistent handle, and the signing key at the next one.
    pub persistent: Option<u32>,
}

/// Options for keys in a YubiKey.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PivOptions {
    /// `never`, `once` or `always`.
    pub pin_policy: Option<String>,
    /// `never`, `always` or `cached`.
    pub touch_policy: Option<String>,
    /// Replace what is in the slots: the serial, as the user typed it.
    pub overwrite: Option<String>,
    /// Accept keys that the YubiKey cannot attest.
    pub allow_unattested: bool,
}

impl CreateOptions {
    /// Refuses options that are for another kind of device.
    ///
    /// # Errors
    /// `Unsupported`, naming the kind of device that has them.
    pub fn only_for(&self, scheme: Scheme, device: &dyn Device) -> Result<()> {
        let tpm = scheme != Scheme::Tpm && self.tpm != TpmOptions::default();
        let piv = scheme != Scheme::Piv && self.piv != PivOptions::default();
        let others = match (tpm, piv) {
            (true, _) => "TPM",
            (_, true) => "YubiKey",
            _ => return Ok(()),
        };
        let message = format!("these options are for keys in a {others}");
        Err(Error::new(Kind::Unsupported, "make the keys", message).with_target(device.name()))
    }
}
