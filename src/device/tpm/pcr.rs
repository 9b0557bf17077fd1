//! Platform configuration registers: selections, values and changes.

use super::cbor::{Read, expect, wrong};
use super::commands::Commands;
use super::error::{DriverError, WithCommand};
use crate::error::{Error, Kind, Result};
use minicbor::{Decoder, Encoder};
use sha2::{Digest, Sha256};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{PcrSelectionList, PcrSlot};

/// PCRs of one bank with their values: at enrolment, now, or predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pcrs {
    bank: Bank,
    /// Sorted by index, no index twice, at least one.
    values: Vec<(u8, Vec<u8>)>,
}

/// A PCR bank: its registers use one hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bank {
    /// SHA-1, for old TPMs only.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// The number of PCRs in a PC client's TPM (TPM 2.0 part 1 §17).
const COUNT: u8 = 24;
/// TPM2_PCR_Read answers at most this many values at once.
const AT_ONCE: usize = 8;

impl Bank {
    const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name: `sha256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The bank of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.name().eq_ignore_ascii_case(name))
    }

    /// TPM_ALG_ID.
    fn id(self) -> u16 {
        match self {
            Self::Sha1 => 4,
            Self::Sha256 => 0xb,
            Self::Sha384 => 0xc,
            Self::Sha512 => 0xd,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The bank of a hash algorithm.
    pub fn from_algorithm(algorithm: HashingAlgorithm) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.algorithm() == algorithm)
    }

    fn algorithm(self) -> HashingAlgorithm {
        match self {
            Self::Sha1 => HashingAlgorithm::Sha1,
            Self::Sha256 => HashingAlgorithm::Sha256,
            Self::Sha384 => HashingAlgorithm::Sha384,
            Self::Sha512 => HashingAlgorithm::Sha512,
        }
    }
}

/// Parses `sha256:0,2,7` (or `sha256:0+2+7`, as systemd writes it).
///
/// # Errors
/// `Usage`, naming the mistake.
pub fn parse_selection(text: &str) -> Result<(Bank, Vec<u8>)> {
    let wrong = |message: &str| {
        Error::new(Kind::Usage, "read the PCR selection", message)
            .with_hint("write for example --pcrs sha256:0,2,7")
    };
    let (bank, indices) = text.split_once(':').ok_or_else(|| wrong("it does not name a bank"))?;
    let bank =
        Bank::named(bank).ok_or_else(|| wrong("its bank is not one of sha1, sha256, sha384, sha512"))?;
    let index = |text: &str| text.trim().parse().ok().filter(|index| *index < COUNT);
    let mut indices = indices
        .split([',', '+'])
        .map(|text| index(text).ok_or_else(|| wrong("a PCR is a number from 0 to 23")))
        .collect::<Result<Vec<u8>>>()?;
    indices.sort_unstable();
    match indices.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(wrong("a PCR is listed twice")),
        false => Ok((bank, indices)),
    }
}

impl Pcrs {
    /// Reads the current values.
    ///
    /// # Errors
    /// `Unsupported` when the bank is not active.
    pub fn read_from<C: Commands + ?Sized>(
        tpm: &mut C,
        bank: Bank,
        indices: &[u8],
    ) -> Result<Self, DriverError> {
        let mut values = Vec::with_capacity(indices.len());
        for some in indices.chunks(AT_ONCE) {
            let digests = tpm.pcr_read(bank, some)?;
            if digests.len() != some.len() {
                let message =
                    format!("this TPM does not have the {} bank, or not these PCRs in it", bank.name());
                return Err(Error::new(Kind::Unsupported, "read the PCRs", message)
                    .with_hint("`strongroom doctor` lists the banks")
                    .into());
            }
            values.extend(some.iter().copied().zip(digests));
        }
        Ok(Self { bank, values })
    }

    /// The bank.
    pub fn bank(&self) -> Bank {
        self.bank
    }

    /// Index and value, by index.
    pub fn values(&self) -> &[(u8, Vec<u8>)] {
        &self.values
    }

    /// The indices.
    pub fn indices(&self) -> Vec<u8> {
        self.values.iter().map(|(index, _)| *index).collect()
    }

    /// Replaces the PCR's value, if it is one of these.
    pub fn set(&mut self, index: u8, value: &[u8]) {
        if let Some((_, own)) = self.values.iter_mut().find(|(own, _)| *own == index) {
            *own = value.into();
        }
    }

    /// `sha256:0,2,7`.
    pub fn shown(&self) -> String {
        let indices: Vec<_> = self.values.iter().map(|(index, _)| index.to_string()).collect();
        format!("{}:{}", self.bank.name(), indices.join(","))
    }

    /// The digest that TPM2_PolicyPCR compares: SHA-256 over the values, by index.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.values.iter().for_each(|(_, value)| hash.update(value));
        hash.finalize().into()
    }

    /// TPML_PCR_SELECTION, as hashed into a policy (part 2 §10.9.7).
    pub fn marshalled(&self) -> [u8; 10] {
        marshalled(self.bank, &self.indices())
    }

    /// The indices whose values differ.
    pub fn changed(&self, now: &Self) -> Vec<u8> {
        let pairs = self.values.iter().zip(&now.values);
        pairs.filter(|(then, now)| then != now).map(|(then, _)| then.0).collect()
    }

    pub(super) fn write(&self, e: &mut Encoder<Vec<u8>>) -> Read<()> {
        e.array(2).and_then(|e| e.u16(self.bank.id())?.array(self.values.len() as u64)).map_err(wrong)?;
        for (index, value) in &self.values {
            e.array(2).and_then(|e| e.u8(*index)?.bytes(value)).map_err(wrong)?;
        }
        Ok(())
    }

    pub(super) fn read(d: &mut Decoder<'_>) -> Read<Self> {
        expect(d.array().map_err(wrong)?, 2)?;
        let id = d.u16().map_err(wrong)?;
        let bank = Bank::ALL.into_iter().find(|bank| bank.id() == id).ok_or("an unknown PCR bank")?;
        let count = d.array().map_err(wrong)?.ok_or("a list without length")?;
        let mut values: Vec<(u8, Vec<u8>)> = Vec::new();
        for _ in 0..count {
            expect(d.array().map_err(wrong)?, 2)?;
            let (index, value) = (d.u8().map_err(wrong)?, d.bytes().map_err(wrong)?);
            let follows = values.last().is_none_or(|(last, _)| *last < index);
            if !follows || index >= COUNT || value.len() != bank.size() {
                return Err("a PCR that cannot be".into());
            }
            values.push((index, value.into()));
        }
        if values.is_empty() { Err("no PCR".into()) } else { Ok(Self { bank, values }) }
    }
}

/// TPML_PCR_SELECTION of one bank (part 2 §10.9.7).
pub fn marshalled(bank: Bank, indices: &[u8]) -> [u8; 10] {
    let mut bits = [0; 3];
    indices.iter().for_each(|index| bits[usize::from(index / 8)] |= 1 << (index % 8));
    let [high, low] = bank.id().to_be_bytes();
    [0, 0, 0, 1, high, low, 3, bits[0], bits[1], bits[2]]
}

/// The same, as tpm2-tss takes it.
pub fn selection(bank: Bank, indices: &[u8]) -> Result<PcrSelectionList, DriverError> {
    let slots = indices.iter().map(|index| PcrSlot::try_from(1u32 << index)).collect::<Result<Vec<_>, _>>();
    let slots = slots.with_command("TPM2_PolicyPCR")?;
    PcrSelectionList::builder()
        .with_selection(bank.algorithm(), &slots)
        .build()
        .with_command("TPM2_PolicyPCR")
}

/// The refusal, naming the changed PCRs.
pub fn refusal(enrolled: &Pcrs, changed: &[u8]) -> Error {
    let message = match changed {
        [] => format!(
            "the TPM refused {}, although their values have not changed: repeat the command",
            enrolled.shown()
        ),
        [one] => format!("PCR {one} ({}) has changed since the key was made", meaning(*one)),
        several => format!("PCRs {} have changed since the key was made", listed(several)),
    };
    Error::new(Kind::Refused, "satisfy the PCR policy", message).with_hint(
        "`strongroom device pcrs` compares. If the change is legitimate, open with another device and bind this one again with \
         `strongroom device renew`",
    )
}

/// `0, 2 and 7`.
pub fn listed(indices: &[u8]) -> String {
    let shown: Vec<_> = indices.iter().map(u8::to_string).collect();
    match shown.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => shown.concat(),
    }
}

/// What is measured into a PCR (TCG PC Client Platform Firmware Profile §3.3.4, and the UAPI group's registry).
pub fn meaning(index: u8) -> &'static str {
    match index {
        0 => "firmware code",
        1 => "firmware configuration",
        2 => "option ROMs",
        3 => "option ROM configuration",
        4 => "boot loader",
        5 => "partition table, boot loader configuration",
        6 => "host platform",
        7 => "Secure Boot state and keys",
        8 => "kernel command line (GRUB)",
        9 => "kernel and initrd",
        10 => "IMA",
        11 => "unified kernel image",
        12 => "kernel command line and credentials",
        13 => "system extensions",
        14 => "shim's machine owner keys",
        15 => "system identity",
        16 => "debug",
        17..=22 => "dynamic launch",
        23 => "applications",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_a_bank_and_numbers() {
        assert_eq!(parse_selection("sha256:7,0, 2").unwrap(), (Bank::Sha256, vec![0, 2, 7]));
        assert_eq!(parse_selection("SHA384:11+12").unwrap(), (Bank::Sha384, vec![11, 12]));
        for wrong in ["7", "sha256:", "sha256:24", "sha256:-1", "md5:1", "sha256:1,1", "sha256:1;2"] {
            assert_eq!(parse_selection(wrong).unwrap_err().kind(), Kind::Usage, "{wrong}");
        }
    }

    #[test]
    fn a_change_is_named() {
        let pcrs = Pcrs { bank: Bank::Sha256, values: vec![(0, vec![0; 32]), (7, vec![1; 32])] };
        let mut now = pcrs.clone();
        assert!(pcrs.changed(&now).is_empty());
        now.set(7, &[2; 32]);
        now.set(9, &[2; 32]);
        assert_eq!(pcrs.changed(&now), [7]);
        assert_eq!(pcrs.marshalled(), [0, 0, 0, 1, 0, 0xb, 3, 0x81, 0, 0]);
        assert_eq!(pcrs.shown(), "sha256:0,7");
    }
}
