//! An oracle for the ledger's targets. What each target does is in `test_support::fuzz_targets`.

use dcbor::{CBOR, Error};

/// Panics when another implementation does not take these bytes for deterministic CBOR.
///
/// dCBOR asks for more than RFC 8949 §4.2.1 in one point: texts in Unicode's normal form C.
pub fn is_deterministic(bytes: &[u8]) {
    match CBOR::try_from_data(bytes) {
        Ok(item) => assert_eq!(item.to_cbor_data(), bytes),
        Err(Error::NonCanonicalString) => {}
        Err(error) => panic!("the oracle refuses it: {error}"),
    }
}
