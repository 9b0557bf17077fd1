//! What new keys should be like: the options that `init`, `device add` and `device renew` share.

use clap::Args;
use std::path::PathBuf;
use strongroom::device::{Algorithm, CreateOptions, PivOptions, TpmOptions};
use strongroom::error::printable;
use strongroom::{Error, Result};

/// Options for keys that are about to be made. Each driver refuses those that are another's.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "New keys")]
pub struct KeyOptions {
    /// The opening key's algorithm: p256, p384, rsa2048, rsa3072, rsa4096 or aes256 [default: the best the device can do]
    #[arg(long, value_name = "ALGORITHM")]
    algorithm: Option<String>,
    /// Directory of PEM certificates that the evidence may rest on, in place of the vendors' bundled roots
    #[arg(long, value_name = "DIR", visible_alias = "attestation-roots")]
    ek_roots: Option<PathBuf>,
    /// TPM: bind the keys to a PIN, guarded by its dictionary attack protection
    #[arg(long)]
    pin: bool,
    /// TPM: bind the keys to what was measured at boot, e.g. sha256:0,2,7
    #[arg(long, value_name = "BANK:PCR,…")]
    pcrs: Option<String>,
    /// TPM: bind them to PCR values signed by the owner of this key (PEM), instead of to the present values
    #[arg(long, value_name = "FILE", requires = "pcrs")]
    pcr_policy_key: Option<PathBuf>,
    /// TPM: also keep the opening key at this persistent handle, and the signing key at the next one
    #[arg(long, value_name = "HANDLE")]
    persistent: Option<String>,
    /// YubiKey: when it asks for the PIN
    #[arg(long, value_name = "WHEN", value_parser = ["never", "once", "always"])]
    pin_policy: Option<String>,
    /// YubiKey: when it asks for a touch
    #[arg(long, value_name = "WHEN", value_parser = ["never", "always", "cached"])]
    touch_policy: Option<String>,
    /// YubiKey: replace the keys in its slots; takes its serial number as confirmation
    #[arg(long, value_name = "SERIAL")]
    force: Option<String>,
    /// YubiKey: accept keys that it cannot attest
    #[arg(long)]
    allow_unattested: bool,
}

impl KeyOptions {
    /// The opening key's algorithm, where one was asked for.
    ///
    /// # Errors
    /// `Usage`.
    pub fn algorithm(&self) -> Result<Option<Algorithm>> {
        let text = self.algorithm.as_deref();
        text.map(|text| text.parse().map_err(|known| wrong("--algorithm", text, &format!("not {known}"))))
            .transpose()
    }

    /// Everything else.
    ///
    /// # Errors
    /// `Usage`.
    pub fn create(&self) -> Result<CreateOptions> {
        Ok(CreateOptions {
            roots: self.ek_roots.clone(),
            tpm: TpmOptions {
                pin: self.pin,
                pcrs: self.pcrs.clone(),
                pcr_policy_key: self.pcr_policy_key.clone(),
                persistent: self.persistent.as_deref().map(handle).transpose()?,
            },
            piv: PivOptions {
                pin_policy: self.pin_policy.clone(),
                touch_policy: self.touch_policy.clone(),
                overwrite: self.force.clone(),
                allow_unattested: self.allow_unattested,
            },
        })
    }
}

/// A TPM handle as people and tpm2-tools write it: `0x81010001`.
fn handle(text: &str) -> Result<u32> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    u32::from_str_radix(digits, 16)
        .map_err(|_| wrong("--persistent", text, "not a handle: write it in hexadecimal, e.g. 0x81010001"))
}

fn wrong(option: &str, text: &str, is: &str) -> Error {
    super::unusable_value(option, format!("`{}` is {is}", printable(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_hexadecimal() {
        for text in ["0x81010001", "81010001", "0X81010001"] {
            assert_eq!(handle(text).unwrap(), 0x8101_0001, "{text}");
        }
        for text in ["", "0x", "0x1_0", "handle", "0x181010001"] {
            assert_eq!(handle(text).unwrap_err().kind(), strongroom::Kind::Usage, "{text}");
        }
    }

    #[test]
    fn nothing_said_is_nothing_asked_for() {
        assert_eq!(KeyOptions::default().create().unwrap(), CreateOptions::default());
        assert_eq!(KeyOptions::default().algorithm().unwrap(), None);
    }
}
