//! Identifiers: fixed-length bytes that print as lower-case hex.

use std::fmt;
use std::str::FromStr;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// From a slice of exactly its length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(s: &str) -> Result<Self, String> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(s, &mut bytes)
                    .map_err(|_| format!("not {} hexadecimal digits", 2 * $len))?;
                Ok(Self(bytes))
            }
        }
    };
}

identifier!(
    /// SHA-256: of a statement (its leaf hash), of sealed bytes, of the chain.
    Hash, 32
);
identifier!(
    /// A store: the hash of its genesis statement.
    StoreId, 32
);
identifier!(
    /// A token: random, never reused, kept through renames.
    TokenId, 16
);
identifier!(
    /// An enrolled device: random, never reused.
    DeviceId, 16
);
identifier!(
    /// A grant: random.
    GrantId, 16
);

impl Hash {
    /// "None yet": the `prev` of a first statement, the chain before genesis.
    pub const ZERO: Self = Self([0; 32]);

    /// Its first 12 hexadecimal digits: enough for people to name it by.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl StoreId {
    /// In the genesis statement, whose hash becomes the store's id.
    pub const ZERO: Self = Self([0; 32]);
}
