//! Strongroom: tokens that only a key inside a TPM, an HSM or a YubiKey can open.
//!
//! A *token* is what an application shows to be let in: an API key, a password, a private key file. Strongroom keeps each
//! one as an [age](https://age-encryption.org/v1) file, sealed to keys that cannot leave their devices, and records every
//! change as a statement that a device signed. Where the tokens lie, the *store*, is not trusted: a client believes only
//! its *replica*, which is what it has verified itself.
//!
//! The `strongroom` command is a thin shell around this library. A program that wants its tokens without the command uses
//! [`Vault`]:
//!
//! ```no_run
//! use strongroom::ledger::Name;
//! use strongroom::vault::{PutOptions, Setup};
//! use strongroom::{Secret, Vault};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Store and devices as the user configured them. What is new in the store is verified here.
//! let mut vault = Vault::open(Setup::of_this_machine()?)?;
//! let name = Name::parse("prod/db/password")?;
//!
//! // A device signs the change.
//! let put = vault.put(&name, &Secret::new(b"correct horse".to_vec()), &PutOptions::default())?;
//! println!("{name} is now at version {}", put.version);
//!
//! // A device opens it. The bytes are wiped when `token` is dropped.
//! let token = vault.get(&name, None)?;
//! assert_eq!(token.expose(), b"correct horse");
//! # Ok(())
//! # }
//! ```
//!
//! # The house
//!
//! Dependencies point down only: no module uses one from a floor above its own.
//!
//! | floor | modules | what for |
//! |---|---|---|
//! | 7 | `agent`, [`client`] | a daemon that owns the devices and serves applications; its client |
//! | 7 | `rotation` | new values for tokens: the engine, and the hooks that set them at their issuers |
//! | 7 | [`integrations`] | other programs' ways to their tokens: project files, credential helpers |
//! | 6 | [`vault`] | the use cases: put, get, change, import, log, verify, repair, and devices that come and go |
//! | 5 | [`replica`] | what this client has verified; answers every question about names, states and devices |
//! | 4 | [`store`], [`seal`], [`config`] | where bytes lie; a token to an age file and back; what this machine uses |
//! | 3 | [`ledger`] | statements, batches, the chain, and what a statement may do; pure |
//! | 2 | [`device`] | the driver traits, and the drivers |
//! | 1 | [`uri`], [`prompt`], [`paths`], [`secret`], [`error`] | the ground |
//!
//! There is one error type, [`Error`]: what was tried, on what, what came back, what to do now, and the [`Kind`] that
//! programs branch on. Calls block; a [`Vault`] belongs to one thread at a time.
//!
//! # Features
//!
//! | feature | on by default | what for |
//! |---|---|---|
//! | `cli` | yes | the `strongroom` command; a library needs it not |
//! | `agent` | yes | the daemon, and tokio with it. The [`client`] of an agent is always there |
//! | `pkcs11` | yes | HSMs and smart cards behind a PKCS#11 module, SoftHSM among them |
//! | `tpm` | yes | TPM 2.0, swtpm among them, by way of tpm2-tss |
//! | `piv` | yes | YubiKeys, by way of pcscd |
//! | `rotation` | yes | rotating tokens, with hooks that set new values at their issuers; part of `cli` |
//! | `postgres` | yes | stores on PostgreSQL, and the hook for roles of a server |
//!
//! A URI of a driver that was left out is an error that names the feature.

#[cfg(feature = "agent")]
pub mod agent;
pub mod client;
pub mod config;
pub mod device;
pub mod error;
mod failpoint;
pub mod integrations;
pub mod ledger;
pub mod partial_file;
pub mod paths;
pub mod prompt;
pub mod replica;
#[cfg(feature = "rotation")]
pub mod rotation;
pub mod seal;
pub mod secret;
pub mod store;
pub mod timestamp;
pub mod uri;
pub mod vault;

pub use error::{Error, Kind, Result};
pub use secret::Secret;
pub use vault::Vault;
