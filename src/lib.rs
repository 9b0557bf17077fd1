//! Strongroom: tokens that only a key inside a TPM, an HSM or a YubiKey can open.

pub mod device;
pub mod error;
pub mod ledger;
pub mod prompt;
pub mod secret;
pub mod store;
pub mod uri;

pub use error::{Error, Kind, Result};
pub use secret::Secret;
