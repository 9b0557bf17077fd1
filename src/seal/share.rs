//! `strongroom/share <m> <x> <type> <arguments…>`: a share of the file key, sealed as a stanza of another type seals the
//! file key itself. Any m devices open the version together, and fewer learn nothing.
//!
//! Shamir's scheme over GF(2^8) with the polynomial 0x11b, byte by byte. The field and the interpolation are those of the
//! `vsss-rs` crate, which needs no tables and so takes the same time for all values. (`blahaj` and `sharks` use another
//! polynomial and look secrets up in tables; `bc-shamir` hides a checksum at a point of its own.) The polynomials are drawn
//! and wiped here: the crate's own splitting leaves them in freed memory.

use super::{cannot_seal, file_key, tampered};
use crate::error::{Kind, Result};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use rand_core::{OsRng, RngCore};
use sha2::{Digest, Sha256};
use std::fmt;
use vsss_rs::Gf256;
use zeroize::Zeroizing;

/// The stanza's type.
pub(super) const TYPE: &str = "strongroom/share";

/// What is sealed in place of the file key: a hash that says where the share belongs, and the share.
pub(super) const SEALED_BYTES: usize = HASH_BYTES + FILE_KEY_BYTES;

const HASH_BYTES: usize = 32;

/// How many shares open the file together, and which of them this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShareNumber {
    /// The threshold m: 2 to 254.
    pub(super) threshold: u64,
    /// The coordinate x: 1 to 255.
    pub(super) x: u8,
}

impl ShareNumber {
    /// The number, and the stanza that the share is sealed in. `None` unless both numbers have their canonical form.
    pub(super) fn from_stanza(stanza: &Stanza) -> Option<(Self, Stanza)> {
        let [threshold, x, tag, args @ ..] = stanza.args.as_slice() else { return None };
        let number = Self { threshold: threshold.parse().ok()?, x: x.parse().ok()? };
        let canonical =
            (number.threshold.to_string(), number.x.to_string()) == (threshold.clone(), x.clone());
        let valid = canonical && (2..=254).contains(&number.threshold) && number.x > 0;
        valid.then(|| (number, Stanza { tag: tag.clone(), args: args.into(), body: stanza.body.clone() }))
    }

    /// Puts a stanza that seals this share into one of this type.
    pub(super) fn to_stanza(self, sealed: Stanza) -> Stanza {
        let own = [self.threshold.to_string(), self.x.to_string(), sealed.tag];
        Stanza { tag: TYPE.into(), args: own.into_iter().chain(sealed.args).collect(), body: sealed.body }
    }

    /// Binds a share to its place: SHA-256(type ‖ 0 ‖ context line ‖ 0 ‖ m ‖ 0 ‖ x).
    fn hash(self, context_line: &str) -> [u8; HASH_BYTES] {
        let hashed = [TYPE, context_line, &self.threshold.to_string(), &self.x.to_string()].join("\0");
        Sha256::digest(hashed).into()
    }
}

/// A share of a file key. Wiped when dropped.
pub struct Share {
    number: ShareNumber,
    y: Zeroizing<[u8; FILE_KEY_BYTES]>,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} of any {})", self.number.x, self.number.threshold)
    }
}

impl Share {
    pub(super) fn number(&self) -> ShareNumber {
        self.number
    }

    /// What a stanza seals: the hash of its place and the share.
    pub(super) fn to_seal(&self, context_line: &str) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SEALED_BYTES));
        bytes.extend(self.number.hash(context_line));
        bytes.extend(*self.y);
        bytes
    }

    /// A share as a device opened it. Nothing of it is handed on unless it belongs here: it may be a file key, or another
    /// version's share, that somebody copied into this file in order to have it opened.
    pub(super) fn from_opened(number: ShareNumber, opened: &[u8], context_line: &str) -> Result<Self> {
        match opened.split_at_checked(HASH_BYTES) {
            Some((hash, y)) if hash == number.hash(context_line) && y.len() == FILE_KEY_BYTES => {
                let mut share = Self { number, y: Zeroizing::default() };
                share.y.copy_from_slice(y);
                Ok(share)
            }
            _ => Err(tampered("a share in it belongs elsewhere, or is none")),
        }
    }
}

/// Splits a file key into `count` shares with the coordinates from 1 on. Any `threshold` of them restore it.
pub(super) fn split(key: &[u8; FILE_KEY_BYTES], threshold: u64, count: usize) -> Result<Vec<Share>> {
    // Of full size from the start: a growing buffer would leave copies behind.
    let mut coefficients =
        Zeroizing::new(Vec::with_capacity(usize::try_from(threshold).unwrap_or(usize::MAX)));
    coefficients.push(*key);
    for _ in 1..threshold {
        let mut random = Zeroizing::new([0; FILE_KEY_BYTES]);
        OsRng.try_fill_bytes(&mut *random).map_err(|e| cannot_seal(Kind::Io, e.to_string()))?;
        coefficients.push(*random);
    }
    let coordinates = (1..=u8::MAX).take(count);
    Ok(coordinates
        .map(|x| {
            let mut share =
                Share { number: ShareNumber { threshold, x }, y: Zeroizing::new([0; FILE_KEY_BYTES]) };
            for (i, y) in share.y.iter_mut().enumerate() {
                // Horner's method, from the highest coefficient down.
                let terms = coefficients.iter().rev().map(|coefficient| Gf256(coefficient[i]));
                *y = terms.fold(Gf256(0), |sum, coefficient| sum * Gf256(x) + coefficient).0;
            }
            share
        })
        .collect())
}

/// The file key from as many shares as the threshold. With wrong ones it is another key, which the header MAC tells.
pub(super) fn combine(shares: &[&Share]) -> Result<FileKey> {
    let with_coordinate = |share: &&Share| [&[share.number.x], share.y.as_slice()].concat();
    let points = Zeroizing::new(shares.iter().map(with_coordinate).collect::<Vec<_>>());
    let key = Gf256::combine_bytes(&*points).map_err(|_| tampered("its shares do not fit together"))?;
    file_key(&Zeroizing::new(key))
}

/// The most sets of shares that are tried.
const MAX_TRIES: usize = 2000;

/// Every choice of `threshold` shares with the newest among them, the last: those without it were tried before it came.
pub(super) fn choices(shares: &[Share], threshold: usize) -> impl Iterator<Item = Vec<&Share>> {
    let (older, newest) = shares.split_at(shares.len().saturating_sub(1));
    let (n, k) = (older.len(), threshold.saturating_sub(1));
    let first = (k <= n).then(|| (0..k).collect::<Vec<usize>>());
    let indices = std::iter::successors(first, move |picked| {
        // The last index that has room moves on, and those after it follow.
        let at = (0..k).rev().find(|i| picked[*i] < n - k + i)?;
        let mut next = picked.clone();
        next[at..].iter_mut().zip(picked[at] + 1..).for_each(|(index, to)| *index = to);
        Some(next)
    });
    indices.take(MAX_TRIES).map(move |picked| picked.iter().map(|i| &older[*i]).chain(newest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use age_core::secrecy::ExposeSecret;
    use proptest::prelude::*;

    fn restored(shares: &[&Share]) -> [u8; 16] {
        *combine(shares).unwrap().expose_secret()
    }

    proptest! {
        #[test]
        fn any_m_of_n_restore_the_key_and_fewer_do_not(
            key: [u8; 16],
            (n, m) in (2..40usize).prop_flat_map(|n| (Just(n), 2..=n)),
            order in any::<prop::sample::Index>(),
        ) {
            let shares = split(&key, m as u64, n).unwrap();
            let start = order.index(n);
            let chosen: Vec<_> = shares.iter().cycle().skip(start).take(m).collect();
            prop_assert_eq!(restored(&chosen), key);
            // One fewer fits to every key alike: it is this one with a chance of 2^-128.
            if m > 2 {
                prop_assert_ne!(restored(&chosen[1..]), key);
            }
            prop_assert!(shares.iter().all(|share| *share.y != key));
        }
    }

    /// FIPS 197 §4.2: {57} · {13} = {fe} in the field of AES, the same polynomial.
    #[test]
    fn the_field_is_that_of_aes() {
        assert_eq!((Gf256(0x57) * Gf256(0x13)).0, 0xfe);
        assert_eq!((Gf256(0x57) * Gf256(0x83)).0, 0xc1);
    }

    /// With one share less, every value of the secret is as likely as any other: each is hit by exactly one further share.
    #[test]
    fn m_less_one_shares_say_nothing() {
        let shares = split(&[7; 16], 2, 2).unwrap();
        let mut met = [false; 256];
        for guess in 0..=255 {
            let other = Share { number: ShareNumber { threshold: 2, x: 2 }, y: Zeroizing::new([guess; 16]) };
            met[usize::from(restored(&[&shares[0], &other])[0])] = true;
        }
        assert!(met.iter().all(|met| *met));
    }

    #[test]
    fn every_choice_has_the_newest_and_comes_once() {
        let shares = split(&[1; 16], 3, 6).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let choices: Vec<_> = choices(&shares, 3).collect();
        for choice in &choices {
            let mut coordinates: Vec<u8> = choice.iter().map(|share| share.number.x).collect();
            coordinates.sort_unstable();
            assert_eq!((coordinates.len(), coordinates[2]), (3, 6));
            seen.insert(coordinates);
        }
        // 5 over 2.
        assert_eq!((choices.len(), seen.len()), (10, 10));
        let many = split(&[1; 16], 20, 60).unwrap();
        assert_eq!(super::choices(&many, 20).count(), MAX_TRIES);
        assert_eq!(super::choices(&many[..20], 20).count(), 1);
        assert_eq!(super::choices(&many[..19], 20).count(), 0);
    }

    #[test]
    fn a_share_belongs_to_one_place() {
        let shares = split(&[3; 16], 2, 2).unwrap();
        let sealed = shares[0].to_seal("context");
        let number = shares[0].number;
        assert_eq!(*Share::from_opened(number, &sealed, "context").unwrap().y, *shares[0].y);
        for (number, bytes, context) in [
            (ShareNumber { x: 2, ..number }, sealed.as_slice(), "context"),
            (ShareNumber { threshold: 3, ..number }, &sealed, "context"),
            (number, &sealed, "another context"),
            (number, &sealed[..47], "context"),
            (number, &[3; 16], "context"),
            (number, &[], "context"),
        ] {
            assert_eq!(Share::from_opened(number, bytes, context).unwrap_err().kind(), Kind::Tampered);
        }
        assert!(!format!("{:?}", shares[0]).contains(&format!("{:?}", *shares[0].y)));
    }

    #[test]
    fn numbers_have_one_spelling() {
        let number = |m: &str, x: &str| {
            let args = [m, x, "p256tag", "tag", "enc"].map(String::from).into();
            ShareNumber::from_stanza(&Stanza { tag: TYPE.into(), args, body: vec![1] })
        };
        let (read, inner) = number("2", "255").unwrap();
        assert_eq!((read, inner.args.len()), (ShareNumber { threshold: 2, x: 255 }, 2));
        assert_eq!(read.to_stanza(inner).args, ["2", "255", "p256tag", "tag", "enc"]);
        for (m, x) in [
            ("1", "1"),
            ("0", "1"),
            ("255", "1"),
            ("2", "0"),
            ("2", "256"),
            ("02", "1"),
            ("2", "+1"),
            ("2", ""),
        ] {
            assert!(number(m, x).is_none(), "{m} {x}");
        }
    }
}
