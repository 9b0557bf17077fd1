//! A YubiKey in software, for tests.
//!
//! [`card`] is the card: APDUs in, APDUs out. [`service`] is what pcscd is for real ones, spoken to by the drop-in
//! libpcsclite in `pcsclite/`; [`touch`] touches the card. README.md says what is simulated, and what not.

pub mod apdu;
pub mod body;
pub mod card;
pub mod key;
pub mod protocol;
pub mod service;
pub mod tlv;
pub mod touch;
pub mod vpcd;
