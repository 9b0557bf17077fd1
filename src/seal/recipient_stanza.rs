//! The stanzas for devices: each seals the file key, or a share of it, to one key.

use super::ec_tag::{Curve, EcTag, P256, P384};
use super::hsm_aes_gcm::{self, HsmAesGcm};
use super::rsa_oaep::{self, RsaOaep};
use super::share::{self, ShareNumber};
use super::tampered;
use crate::device::{PrivateOperation, PublicKey};
use crate::error::{Error, Result};
use age_core::format::{FILE_KEY_BYTES, Stanza};
use std::collections::HashSet;
use zeroize::Zeroizing;

/// A stanza for a device.
pub(super) struct RecipientStanza {
    sealed: SealedSecret,
    /// Which share of the file key it seals; `None` for the file key itself.
    pub(super) share: Option<ShareNumber>,
}

enum SealedSecret {
    P256Tag(EcTag<P256>),
    P384Tag(EcTag<P384>),
    RsaOaep(RsaOaep),
    HsmAesGcm(HsmAesGcm),
}

impl RecipientStanza {
    /// `None` for unknown types, such as age's random stanza.
    pub(super) fn from_stanza(stanza: &Stanza) -> Result<Option<Self>> {
        if stanza.tag != share::TYPE {
            let sealed = SealedSecret::from_stanza(stanza, FILE_KEY_BYTES)?;
            return Ok(sealed.map(|sealed| Self { sealed, share: None }));
        }
        let (number, inner) = ShareNumber::from_stanza(stanza).ok_or_else(|| malformed(stanza))?;
        let sealed =
            SealedSecret::from_stanza(&inner, share::SEALED_BYTES)?.ok_or_else(|| malformed(stanza))?;
        Ok(Some(Self { sealed, share: Some(number) }))
    }

    /// `None` unless the stanza is of the key's type and carries its tag.
    pub(super) fn lock<'s>(
        &'s self,
        key: &'s PublicKey,
        aad: &'s str,
    ) -> Result<Option<StanzaChallenge<'s>>> {
        let (challenge, exchange) = match (&self.sealed, key) {
            (SealedSecret::P256Tag(stanza), PublicKey::P256(point)) if stanza.is_for(point) => {
                (stanza.challenge()?, Exchange::P256(stanza, point))
            }
            (SealedSecret::P384Tag(stanza), PublicKey::P384(point)) if stanza.is_for(point) => {
                (stanza.challenge()?, Exchange::P384(stanza, point))
            }
            (SealedSecret::RsaOaep(stanza), PublicKey::Rsa { n, e, oaep }) if stanza.is_for(n, e) => {
                (stanza.challenge(n, *oaep)?, Exchange::None)
            }
            (SealedSecret::HsmAesGcm(stanza), PublicKey::Aes256 { id }) if stanza.is_for(id) => {
                (stanza.challenge(aad), Exchange::None)
            }
            _ => return Ok(None),
        };
        Ok(Some(StanzaChallenge { challenge, exchange, share: self.share }))
    }
}

impl SealedSecret {
    /// A stanza that seals so many bytes; `None` for unknown types.
    fn from_stanza(stanza: &Stanza, bytes: usize) -> Result<Option<Self>> {
        let parsed = match stanza.tag.as_str() {
            P256::TYPE => EcTag::from_stanza(stanza, bytes).map(Self::P256Tag),
            P384::TYPE => EcTag::from_stanza(stanza, bytes).map(Self::P384Tag),
            rsa_oaep::TYPE => RsaOaep::from_stanza(stanza).map(Self::RsaOaep),
            hsm_aes_gcm::TYPE => HsmAesGcm::from_stanza(stanza, bytes).map(Self::HsmAesGcm),
            _ => return Ok(None),
        };
        parsed.map(Some).ok_or_else(|| malformed(stanza))
    }
}

/// Either no stanza is a share, or all are, of one threshold, enough for it, and none twice.
pub(super) fn check_shares(stanzas: &[RecipientStanza]) -> Result<()> {
    let shares: Vec<ShareNumber> = stanzas.iter().filter_map(|stanza| stanza.share).collect();
    let Some(first) = shares.first() else { return Ok(()) };
    let mut coordinates = HashSet::new();
    match () {
        () if shares.len() < stanzas.len() => {
            Err(tampered("some of its stanzas are shares, and some are not"))
        }
        () if shares.iter().any(|share| share.threshold != first.threshold) => {
            Err(tampered("its shares have different thresholds"))
        }
        () if (shares.len() as u64) < first.threshold => {
            Err(tampered("it has fewer shares than its threshold"))
        }
        () if !shares.iter().all(|share| coordinates.insert(share.x)) => {
            Err(tampered("it has a share twice"))
        }
        () => Ok(()),
    }
}

/// A stanza that may hold the file key or a share of it, as a challenge for the device.
pub struct StanzaChallenge<'s> {
    challenge: PrivateOperation<'s>,
    exchange: Exchange<'s>,
    pub(super) share: Option<ShareNumber>,
}

/// How to turn the device's answer into what is sealed.
enum Exchange<'s> {
    /// Nothing: it is that.
    None,
    /// The rest of HPKE, for this point.
    P256(&'s EcTag<P256>, &'s [u8]),
    /// The rest of HPKE, for this point.
    P384(&'s EcTag<P384>, &'s [u8]),
}

impl<'s> StanzaChallenge<'s> {
    /// What to ask the device.
    pub fn challenge(&self) -> PrivateOperation<'s> {
        self.challenge
    }

    /// What is sealed, from the device's answer.
    ///
    /// # Errors
    /// `Tampered` when the stanza does not open with it; `Device` when the answer has the wrong length for the operation.
    pub fn unlock(&self, answer: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        match self.exchange {
            Exchange::P256(stanza, public) => stanza.unlock(public, answer),
            Exchange::P384(stanza, public) => stanza.unlock(public, answer),
            Exchange::None => Ok(Zeroizing::new(answer.to_vec())),
        }
    }
}

pub(super) fn malformed(stanza: &Stanza) -> Error {
    tampered(format!("its {} stanza is malformed", stanza.tag))
}
