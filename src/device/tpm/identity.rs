//! A TPM's fixed properties: TPM_PT_FIXED, part 2 §6.13.

use super::error::{DriverError, WithCommand};
use crate::device::DeviceIdentity;
use crate::error::{Error, Kind};
use crate::uri::Scheme;
use tss_esapi::Context;
use tss_esapi::constants::{CapabilityType, PropertyTag};
use tss_esapi::structures::CapabilityData;

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
    pub fn read(context: &mut Context) -> Result<Self, DriverError> {
        let asked = context.execute_without_session(|context| {
            context.get_capability(CapabilityType::TpmProperties, PropertyTag::FamilyIndicator.into(), 46)
        });
        let (data, _) = asked.with_command("TPM2_GetCapability")?;
        let CapabilityData::TpmProperties(properties) = data else { return Err(nonsense().into()) };
        let value = |tag| properties.find(tag).map_or(0, |property| property.value());
        let vendor = [
            PropertyTag::VendorString1,
            PropertyTag::VendorString2,
            PropertyTag::VendorString3,
            PropertyTag::VendorString4,
        ];
        let version = value(PropertyTag::FirmwareVersion1);
        Ok(Self {
            maker: text(&[value(PropertyTag::Manufacturer)]),
            model: text(&vendor.map(value)),
            firmware: format!("{}.{}", version >> 16, version & 0xffff),
            revision: value(PropertyTag::Revision),
            fips: value(PropertyTag::Modes) & 1 != 0,
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
