//! The stanzas of a header: what one device, or several together, make of them.

use super::recipient_stanza::{RecipientStanza, StanzaChallenge, check_shares, malformed};
use super::sealed::PrivateOperationFn;
use super::share::{self, Share};
use super::{Context, cannot_open, context, file_key, tampered};
use crate::device::PublicKey;
use crate::error::{Error, Kind, Result};
use age_core::format::{FileKey, Stanza};

/// The secret of one stanza.
pub enum Unsealed {
    /// Any device opens the file.
    FileKey(FileKey),
    /// Several devices open it together.
    Share(Share),
}

/// The stanzas of an age file that are known here. Nothing in them is authenticated before the header's MAC is checked.
pub struct Stanzas {
    context: Option<Context>,
    context_line: String,
    recipients: Vec<RecipientStanza>,
}

impl Stanzas {
    /// Reads those that are known here. Stanzas of other types are ignored.
    ///
    /// # Errors
    /// `Tampered` for a stanza of a known type that is malformed, for two contexts, and unless either no stanza is a share, or
    /// all are, enough of them for their one threshold, and none twice.
    pub fn read(stanzas: &[Stanza]) -> Result<Self> {
        let (mut belongs, mut recipients) = (None, Vec::new());
        for stanza in stanzas {
            if stanza.tag != context::TYPE {
                recipients.extend(RecipientStanza::from_stanza(stanza)?);
            } else if belongs
                .replace(Context::from_stanza(stanza).ok_or_else(|| malformed(stanza))?)
                .is_some()
            {
                return Err(tampered("it has more than one context stanza"));
            }
        }
        check_shares(&recipients)?;
        let context_line = belongs.map(|context| context.to_string()).unwrap_or_default();
        Ok(Self { context: belongs, context_line, recipients })
    }

    /// What the file claims to belong to; `None` for a file that is no sealed token.
    pub fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// The challenges for the stanzas with the tag of `key`, in the file's order. Tags have four bytes, so several may
    /// match. A stanza that no device should be asked about yields an error.
    pub fn locks<'s>(&'s self, key: &'s PublicKey) -> impl Iterator<Item = Result<StanzaChallenge<'s>>> {
        self.recipients.iter().filter_map(|stanza| stanza.lock(key, &self.context_line).transpose())
    }

    /// How many devices open it together, as the file says; 1 where any does.
    pub fn threshold(&self) -> u64 {
        self.recipients.iter().find_map(|stanza| stanza.share).map_or(1, |share| share.threshold)
    }

    /// Tries the challenges for `key` in turn until one opens.
    ///
    /// Tries the next stanza only if the device refused this one: after any other error, such as a wrong PIN, it does not ask
    /// again.
    ///
    /// # Errors
    /// `SealedElsewhere` when no stanza is for this key; `Tampered`, also for a share that belongs elsewhere; any error of `ask`,
    /// unchanged.
    pub fn unseal(&self, key: &PublicKey, ask: &mut PrivateOperationFn<'_>) -> Result<Unsealed> {
        let mut failure: Option<Error> = None;
        for lock in self.locks(key) {
            let unsealed = lock.and_then(|lock| {
                let secret = lock.unlock(&ask(lock.challenge())?)?;
                match lock.share {
                    None => file_key(&secret).map(Unsealed::FileKey),
                    Some(n) => Share::from_opened(n, &secret, &self.context_line).map(Unsealed::Share),
                }
            });
            match unsealed {
                Ok(unsealed) => return Ok(unsealed),
                Err(e) if !matches!(e.kind(), Kind::Device | Kind::Tampered) => return Err(e),
                // A device's error matters more than a stanza that merely shares the tag.
                Err(e) if failure.is_none() || e.kind() == Kind::Device => failure = Some(e),
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(|| {
            cannot_open(Kind::SealedElsewhere, "it is not sealed to this device")
                .with_hint("open it with another device, or have it sealed again to this one")
        }))
    }

    /// The file key from as many shares as the threshold. With wrong ones it is another key, which the header MAC tells.
    ///
    /// # Errors
    /// `Tampered` for shares that do not fit together.
    pub fn combine(shares: &[Share]) -> Result<FileKey> {
        share::combine(&shares.iter().collect::<Vec<_>>())
    }
}
