//! The TPM's key derivation functions (part 1 §11.4.10), each for one block of output, composed of ring's.

use ring::{digest, hmac};
use zeroize::Zeroizing;

/// A name algorithm, and the key size of the symmetric cipher that goes with it.
pub struct Suite {
    /// The hash.
    pub digest: &'static digest::Algorithm,
    /// HMAC with it.
    pub hmac: hmac::Algorithm,
    /// The key size of the cipher.
    pub aes_bits: u32,
}

/// For keys with name algorithm SHA-256.
pub static SHA256: Suite = Suite { digest: &digest::SHA256, hmac: hmac::HMAC_SHA256, aes_bits: 128 };
/// For the P-384 key.
pub static SHA384: Suite = Suite { digest: &digest::SHA384, hmac: hmac::HMAC_SHA384, aes_bits: 256 };

impl Suite {
    /// KDFa (part 1 §11.4.10.2; NIST SP 800-108 in counter mode), of at most one block.
    pub fn kdfa(&self, key: &[u8], label: &str, context: &[u8], bits: u32) -> Zeroizing<Vec<u8>> {
        let mut mac = hmac::Context::with_key(&hmac::Key::new(self.hmac, key));
        for part in [&1u32.to_be_bytes(), label.as_bytes(), &[0], context, &bits.to_be_bytes()] {
            mac.update(part);
        }
        Zeroizing::new(mac.sign().as_ref().iter().copied().take(bits as usize / 8).collect())
    }

    /// KDFe (part 1 §11.4.10.3; NIST SP 800-56A), of exactly one block.
    pub fn kdfe(&self, z: &[u8], label: &str, own_x: &[u8], peer_x: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut hash = digest::Context::new(self.digest);
        for part in [&1u32.to_be_bytes(), z, label.as_bytes(), &[0], own_x, peer_x] {
            hash.update(part);
        }
        Zeroizing::new(hash.finish().as_ref().to_vec())
    }
}
