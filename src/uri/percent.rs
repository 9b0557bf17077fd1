//! Percent-encoding (RFC 3986 §2.1) with RFC 7512's character sets.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_decode_str, percent_encode};

/// What RFC 7512 §2.3 does not allow as it is on either side of the `?`.
const RESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'[')
    .remove(b']')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=');

/// What is not a `pk11-pchar`.
const PATH: AsciiSet = RESERVED.remove(b'&');

/// What is not a `pk11-qchar`.
const QUERY: AsciiSet = RESERVED.remove(b'/').remove(b'?').remove(b'|');

/// Every byte is encoded, as RFC 7512 §2.3 recommends for `id`.
const ALL: AsciiSet = AsciiSet::EMPTY.complement();

/// Decodes `%XX`; everything else stands for itself. `None` when a `%` lacks its two digits.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    text.split('%').skip(1).all(digits).then(|| percent_decode_str(text).collect())
}

/// Encodes a value for before the `?`, or after it.
pub fn encode(value: &[u8], query: bool) -> PercentEncode<'_> {
    percent_encode(value, if query { &QUERY } else { &PATH })
}

/// Encodes every byte.
pub fn encode_all(value: &[u8]) -> PercentEncode<'_> {
    percent_encode(value, &ALL)
}
