//! A TPM's fixed properties: TPM_PT_FIXED, part 2 §6.13.

use super::commands::Commands;
use super::error::DriverError;
use crate::device::DeviceIdentity;
use crate::error::{Error, Kind};
use crate::uri::Scheme;

/// TPM_PT (part 2 §6.13).
const FAMILY_INDICATOR: u32 = 0x100;
const REVISION: u32 = 0x102;
const MANUFACTURER: u32 = 0x105;
const VENDOR_STRINGS: [u32; 4] = [0x106, 0x107, 0x108, 0x109];
const FIRMWARE_VERSION_1: u32 = 0x10b;
const MODES: u32 = 0x12d;

/// The fixed properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmInfo {
    /// TPM_PT_MANUFACTURER: four characters from the TCG's registry of vendors.
    pub maker: String,
    /// TPM_PT_VENDOR_STRING_1 to 4.
    pub model: String,
    /// TPM_PT_FIRMWARE_VERSION_1, as `major.minor`.
    pub firmware: String,
    /// TPM_PT_REVISION × 100: 138 is 1.38.
    pub revision: u32,
    /// TPM_PT_MODES, bit FIPS_140_2.
    pub fips: bool,
}

impl TpmInfo {
    /// Reads them.
    pub fn read<C: Commands + ?Sized>(tpm: &mut C) -> Result<Self, DriverError> {
        let properties = tpm.properties(FAMILY_INDICATOR, 46)?;
        let value = |wanted| properties.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let version = value(FIRMWARE_VERSION_1).ok_or_else(nonsense)?;
        let value = |wanted| value(wanted).unwrap_or(0);
        Ok(Self {
            maker: text(&[value(MANUFACTURER)]),
            model: text(&VENDOR_STRINGS.map(value)),
            firmware: format!("{}.{}", version >> 16, version & 0xffff),
            revision: value(REVISION),
            fips: value(MODES) & 1 != 0,
        })
    }

    /// Whether it is libtpms or a reference simulator: software that keeps its keys in files.
    pub fn simulator(&self) -> bool {
        let vendor = self.model.replace(' ', "");
        matches!(
            (self.maker.as_str(), vendor.as_str()),
            ("IBM", "SWTPM") | ("MSFT" | "XCG", _) | (_, "SWTPM")
        )
    }

    /// As a [`DeviceIdentity`]. A TPM has no serial number.
    pub fn identity(&self) -> DeviceIdentity {
        DeviceIdentity {
            scheme: Scheme::Tpm,
            maker: self.maker.clone(),
            model: self.model.clone(),
            serial: String::new(),
            firmware: self.firmware.clone(),
            label: "tpm".into(),
            simulator: self.simulator(),
        }
    }
}

/// Decodes four characters per word, padded with zero bytes or blanks. Drops all but printable ASCII.
fn text(words: &[u32]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_be_bytes());
    let shown: String = bytes.map(char::from).filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    shown.trim().to_owned()
}

fn nonsense() -> Error {
    Error::new(Kind::Device, "read the TPM's properties", "the response is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_four_characters() {
        assert_eq!(text(&[0x4942_4d00]), "IBM");
        assert_eq!(text(&[0x5357_2020, 0x2054_504d, 0, 0]), "SW   TPM");
        assert_eq!(text(&[0x1b5b_4800]), "[H");
    }

    #[test]
    fn simulators_are_recognised() {
        let info = |maker: &str, model: &str| TpmInfo {
            maker: maker.into(),
            model: model.into(),
            firmware: "1.0".into(),
            revision: 164,
            fips: false,
        };
        assert!(info("IBM", "SW   TPM").simulator());
        assert!(info("MSFT", "xCG fTPM").simulator());
        assert!(!info("IFX", "SLB9670").simulator());
        assert!(!info("INTC", "ADL").simulator());
    }
}
