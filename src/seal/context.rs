//! `strongroom/context <store id> <token id> <version>`: what a sealed file belongs to.
//!
//! The stanza opens nothing. The header MAC covers it, so an author of one token cannot point it at the sealed bytes of
//! another, or at an older version.

use age_core::format::Stanza;
use std::fmt;

/// The stanza's type.
pub(super) const TYPE: &str = "strongroom/context";

/// The one token version that a sealed file belongs to.
///
/// Displays as the stanza's line without its arrow. This is also the additional authenticated data of the
/// `strongroom/hsm-aes-gcm` stanzas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// The store's id.
    pub store: [u8; 32],
    /// The token's id.
    pub token: [u8; 16],
    /// The token's version.
    pub version: u64,
}

impl Context {
    pub(super) fn to_stanza(self) -> Stanza {
        Stanza { tag: TYPE.into(), args: self.args().into(), body: Vec::new() }
    }

    /// Accepts the canonical form only. It encodes the parsed value again and compares, which refuses upper-case
    /// digits, leading zeroes, signs and bodies.
    pub(super) fn from_stanza(stanza: &Stanza) -> Option<Self> {
        let [store, token, version] = stanza.args.as_slice() else { return None };
        let mut context = Self { store: [0; 32], token: [0; 16], version: version.parse().ok()? };
        hex::decode_to_slice(store, &mut context.store).ok()?;
        hex::decode_to_slice(token, &mut context.token).ok()?;
        (context.to_stanza() == *stanza).then_some(context)
    }

    fn args(&self) -> [String; 3] {
        [hex::encode(self.store), hex::encode(self.token), self.version.to_string()]
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TYPE} {}", self.args().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context = Context { store: [0xab; 32], token: [0x0c; 16], version: 17 };

    #[test]
    fn reads_what_it_writes() {
        for version in [0, 1, 17, u64::MAX] {
            let context = Context { version, ..CONTEXT };
            assert_eq!(Context::from_stanza(&context.to_stanza()), Some(context));
        }
        let line = format!("strongroom/context {} {} 17", "ab".repeat(32), "0c".repeat(16));
        assert_eq!(CONTEXT.to_string(), line);
    }

    #[test]
    fn refuses_every_other_spelling() {
        let spelled = |index: usize, text: &str| {
            let mut stanza = CONTEXT.to_stanza();
            stanza.args[index] = text.into();
            Context::from_stanza(&stanza)
        };
        for version in ["017", "+17", "-1", "17 ", "0x11", "", "18446744073709551616"] {
            assert_eq!(spelled(2, version), None, "{version:?}");
        }
        assert_eq!(spelled(0, &"AB".repeat(32)), None);
        assert_eq!(spelled(0, &"ab".repeat(31)), None);
        assert_eq!(spelled(1, &"0c".repeat(17)), None);
        assert_eq!(spelled(1, &"0g".repeat(16)), None);

        let mut with_body = CONTEXT.to_stanza();
        with_body.body.push(0);
        assert_eq!(Context::from_stanza(&with_body), None);
        let mut with_more = CONTEXT.to_stanza();
        with_more.args.push("more".into());
        assert_eq!(Context::from_stanza(&with_more), None);
    }
}
