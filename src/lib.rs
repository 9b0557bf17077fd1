//! Strongroom: tokens that only a key inside a TPM, an HSM or a YubiKey can open.

pub mod config;
pub mod device;
pub mod error;
pub mod ledger;
pub mod paths;
pub mod prompt;
pub mod replica;
pub mod seal;
pub mod secret;
pub mod store;
pub mod uri;
pub mod vault;

pub use error::{Error, Kind, Result};
pub use secret::Secret;
pub use vault::Vault;
