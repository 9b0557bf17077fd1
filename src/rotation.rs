//! Rotation: new values for tokens, set at their issuers by hooks.
//!
//! [`engine`] says which step comes next, [`rotate`] takes the steps, and a [`Hook`] does what has to be done at the issuer. All
//! that is remembered is in the ledger: a staged version is a rotation that was begun, on whatever machine.

pub mod engine;
mod exec;
mod file;
mod hook;
mod notify;
#[cfg(feature = "postgres")]
mod postgres_role;
mod program;
mod runner;

pub use hook::{Answer, Hook, Request, Value, hook_of, open_hook};
pub use notify::notify;
pub use runner::{Options, Outcome, revoke_at_issuer, rotate};
