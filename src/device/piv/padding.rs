//! RSA paddings (RFC 8017 §7.1, §9.1). A YubiKey does only the raw operation (§5.1.2, §5.2.1).
//!
//! The `rsa` crate pads and unpads only as part of a private-key operation. So we give it a private key that is not secret, the
//! *unpadding key*. To remove OAEP, we encrypt the YubiKey's output to the unpadding key, and the crate decrypts it and removes the
//! padding in constant time. To add PSS, the crate signs with the unpadding key, and its public half recovers the padded digest.
//!
//! An unpadding key has as many bits as the YubiKey's key. Its primes are the largest possible, so that every output of the YubiKey
//! is less than its modulus.

use crate::device::OaepHash;
use rand_core::OsRng;
use rsa::hazmat::rsa_encrypt;
use rsa::{BigUint, Pss, RsaPrivateKey};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The bits of a prime, and by how much the two largest primes fall short of that power of two.
const PRIMES: [(usize, u32, u32); 3] = [(1024, 105, 179), (1536, 3453, 4977), (2048, 1557, 2543)];

const EXPONENT: u32 = 65_537;

/// The key of this many bytes; `None` for sizes that a YubiKey does not have.
fn unpadding_key(bytes: usize) -> Option<RsaPrivateKey> {
    let (bits, less, much_less) = PRIMES.into_iter().find(|(bits, ..)| bits / 4 == bytes)?;
    let prime = |less: u32| (BigUint::from(1_u32) << bits) - BigUint::from(less);
    RsaPrivateKey::from_p_q(prime(less), prime(much_less), BigUint::from(EXPONENT)).ok()
}

/// As many bytes as the key has.
fn bytes_of(number: &BigUint, bytes: usize) -> Option<Zeroizing<Vec<u8>>> {
    let short = Zeroizing::new(number.to_bytes_be());
    let mut whole = Zeroizing::new(vec![0; bytes]);
    whole.get_mut(bytes.checked_sub(short.len())?..)?.copy_from_slice(&short);
    Some(whole)
}

/// Removes OAEP from a decrypted block as long as the key's modulus; `None` for any padding error.
pub fn without_oaep(block: &[u8], hash: OaepHash) -> Option<Zeroizing<Vec<u8>>> {
    let unpadding_key = unpadding_key(block.len())?;
    let block_number = Zeroizing::new(BigUint::from_bytes_be(block));
    let carried = bytes_of(&rsa_encrypt(&unpadding_key, &block_number).ok()?, block.len())?;
    unpadding_key.decrypt_blinded(&mut OsRng, hash.padding(), &carried).map(Zeroizing::new).ok()
}

/// Pads a SHA-256 digest with PSS and a 32-byte salt. The modulus has this many bytes and no leading zero bit.
pub fn with_pss(digest: &[u8], bytes: usize) -> Option<Zeroizing<Vec<u8>>> {
    let unpadding_key = unpadding_key(bytes)?;
    let signed = unpadding_key.sign_with_rng(&mut OsRng, Pss::new::<Sha256>(), digest).ok()?;
    bytes_of(&rsa_encrypt(&unpadding_key, &BigUint::from_bytes_be(&signed)).ok()?, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsa::RsaPublicKey;
    use rsa::hazmat::rsa_decrypt;
    use rsa::traits::PublicKeyParts;

    const SIZES: [usize; 3] = [256, 384, 512];

    /// Bits of a prime, and how much more than three quarters of that power of two the next two primes are.
    const OTHER_PRIMES: [(usize, u32, u32); 3] = [(1024, 1037, 1697), (1536, 1837, 2617), (2048, 439, 469)];

    /// Takes the YubiKey's part: a key of so many bytes that is not the unpadding key.
    fn yubikeys_key(bytes: usize) -> RsaPrivateKey {
        let (bits, more, much_more) = OTHER_PRIMES.into_iter().find(|(bits, ..)| bits / 4 == bytes).unwrap();
        let prime = |more: u32| (BigUint::from(3_u32) << (bits - 2)) + BigUint::from(more);
        RsaPrivateKey::from_p_q(prime(more), prime(much_more), BigUint::from(EXPONENT)).unwrap()
    }

    #[test]
    fn an_unpadding_key_is_as_large_as_it_can_be() {
        for bytes in SIZES {
            let modulus = unpadding_key(bytes).unwrap().n().to_bytes_be();
            assert_eq!((modulus.len(), &modulus[..16]), (bytes, &[0xff; 16][..]));
        }
        assert!(unpadding_key(128).is_none() && unpadding_key(255).is_none());
    }

    #[test]
    fn what_was_encrypted_with_oaep_comes_out() {
        for (bytes, hash) in SIZES.into_iter().zip([OaepHash::Sha256, OaepHash::Sha1, OaepHash::Sha256]) {
            let yubikey = yubikeys_key(bytes);
            let sealed =
                RsaPublicKey::from(&yubikey).encrypt(&mut OsRng, hash.padding(), b"file key").unwrap();
            let block = rsa_decrypt(Some(&mut OsRng), &yubikey, &BigUint::from_bytes_be(&sealed)).unwrap();
            let block = bytes_of(&block, bytes).unwrap();
            assert_eq!(without_oaep(&block, hash).unwrap()[..], b"file key"[..]);

            let other = if hash == OaepHash::Sha1 { OaepHash::Sha256 } else { OaepHash::Sha1 };
            assert!(without_oaep(&block, other).is_none());
            for at in [0, 1, bytes / 2, bytes - 1] {
                let mut broken = block.clone();
                broken[at] ^= 1;
                assert!(without_oaep(&broken, hash).is_none(), "{at}");
            }
            assert!(without_oaep(&block[1..], hash).is_none());
        }
    }

    #[test]
    fn whatever_a_card_answers_is_refused_unless_it_is_padded() {
        for bytes in [0, 1, 128, 255, 256, 257, 384, 512, 513] {
            for byte in [0, 1, 0x7f, 0xff] {
                let block = vec![byte; bytes];
                for hash in [OaepHash::Sha256, OaepHash::Sha1] {
                    assert!(without_oaep(&block, hash).is_none(), "{bytes} times {byte}");
                }
            }
        }
    }

    #[test]
    fn what_is_padded_with_pss_verifies_once_it_is_signed() {
        for bytes in SIZES {
            let yubikey = yubikeys_key(bytes);
            let block = with_pss(&[7; 32], bytes).unwrap();
            assert!(block[0] < 0x80 && block[bytes - 1] == 0xbc, "RFC 8017 §9.1.1");
            let signed = rsa_decrypt(Some(&mut OsRng), &yubikey, &BigUint::from_bytes_be(&block)).unwrap();
            let signed = bytes_of(&signed, bytes).unwrap();
            RsaPublicKey::from(&yubikey).verify(Pss::new::<Sha256>(), &[7; 32], &signed).unwrap();
            assert_ne!(with_pss(&[7; 32], bytes).unwrap(), block, "the salt is another");
            assert!(with_pss(&[7; 31], bytes).is_none());
        }
    }
}
