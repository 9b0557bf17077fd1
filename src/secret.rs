//! Secret bytes: zeroized on drop, hidden in `Debug`, never reallocated.

pub mod mask;

use crate::error::{Error, Kind, Result};
use rand_core::{OsRng, RngCore};
use std::fmt;
use std::io::Read;
use zeroize::Zeroizing;

/// What generated tokens are made of: letters and digits survive every shell, URL and configuration file.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The length of generated tokens by default: 190 bits.
pub const DEFAULT_TEXT_LENGTH: usize = 32;

/// The largest token: 1 MiB, systemd's own limit for a credential.
pub const MAX_TOKEN_BYTES: usize = 1 << 20;

/// A token's bytes, a PIN or a file key. Wiped when dropped; `Debug` shows the length only.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Wraps bytes, which are zeroized from now on.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. Named so that a reader of the calling code notices.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Random letters and digits, each as likely as any other: bytes that do not divide evenly are thrown away.
    ///
    /// # Errors
    /// `Io` when the operating system has no random bytes.
    pub fn random_text(length: usize) -> Result<Self> {
        let even = u8::try_from(256 / ALPHABET.len() * ALPHABET.len() - 1).unwrap_or(u8::MAX);
        let mut text = Zeroizing::new(Vec::with_capacity(length));
        let mut random = Zeroizing::new([0; 64]);
        while text.len() < length {
            let filled = OsRng.try_fill_bytes(&mut *random);
            filled.map_err(|e| Error::new(Kind::Io, "get random bytes", e.to_string()))?;
            let letters = random
                .iter()
                .filter(|byte| **byte <= even)
                .map(|byte| ALPHABET[usize::from(*byte) % ALPHABET.len()]);
            let missing = length - text.len();
            text.extend(letters.take(missing));
        }
        Ok(Self(text))
    }

    /// Reads to the end. `Usage` error for more than [`MAX_TOKEN_BYTES`].
    ///
    /// The buffer has its full size from the start: a growing one would leave copies of the secret behind.
    pub fn read_from(mut reader: impl Read, operation: &str) -> Result<Self> {
        let mut bytes = Zeroizing::new(vec![0; MAX_TOKEN_BYTES + 1]);
        let mut filled = 0;
        while filled < bytes.len() {
            match reader.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::new(Kind::Io, operation, e.to_string()).caused_by(e)),
            }
        }
        if filled > MAX_TOKEN_BYTES {
            return Err(Error::new(Kind::Usage, operation, "a token holds at most 1 MiB")
                .with_hint("keep large files elsewhere, and their key here"));
        }
        Ok(Self(Zeroizing::new(bytes[..filled].to_vec())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.len())
    }
}

impl From<Zeroizing<Vec<u8>>> for Secret {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}
