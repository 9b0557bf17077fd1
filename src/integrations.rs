//! Other programs' ways to their tokens: a project's variables, and the protocols of credential helpers.
//!
//! Each file is a thin translation to a [`TokenBackend`](crate::vault::TokenBackend), so that all of them go through an
//! agent where there is one. None of them prints or reads standard input by itself.

pub mod age;
pub mod aws;
pub mod cargo;
pub mod docker;
pub mod git;
pub mod hosts;
pub mod kubectl;
pub mod project;
pub mod template;
pub mod terraform;

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

/// A value and its secrets as JSON, which are wiped with it.
fn json(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>> {
    let text = serde_json::to_vec(value).map(Zeroizing::new);
    text.map_err(|e| Error::new(Kind::Io, "write JSON", e.to_string()))
}

/// A text that is wiped when it is dropped.
fn wiped<'de, D: Deserializer<'de>>(value: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(value).map(Zeroizing::new)
}
