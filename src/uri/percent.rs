//! Percent-encoding (RFC 3986 §2.1) with RFC 7512's character sets.

use std::fmt;

/// Decodes `%XX`; everything else stands for itself. `None` when a `%` lacks its two digits.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            other => other,
        });
    }
    Some(decoded)
}

/// Encodes what RFC 7512 §2.3 does not allow as it is: `pk11-pchar` before the `?`, `pk11-qchar` after it.
pub fn write(f: &mut fmt::Formatter<'_>, value: &[u8], query: bool) -> fmt::Result {
    for &byte in value {
        let plain = match byte {
            b'-' | b'.' | b'_' | b'~' => true,
            b':' | b'[' | b']' | b'@' | b'!' | b'$' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' => true,
            b'&' => !query,
            b'/' | b'?' | b'|' => query,
            other => other.is_ascii_alphanumeric(),
        };
        if plain { write!(f, "{}", char::from(byte))? } else { write!(f, "%{byte:02X}")? }
    }
    Ok(())
}

/// Encodes every byte, as RFC 7512 §2.3 recommends for `id`.
pub fn write_all(f: &mut fmt::Formatter<'_>, value: &[u8]) -> fmt::Result {
    value.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}
