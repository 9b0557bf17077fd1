//! Keys that are bound to what was measured at boot.

use super::{CreateOptions, KeyRef};
use crate::error::Result;

/// Comparing what was measured with what a key is bound to, for devices that can bind keys so.
pub trait PcrBinding {
    /// What `key` is bound to, as enrolled and as it is now; `None` when it is bound to nothing. Predicted values take the
    /// place of those of now: so it is known before an update whether the key will still open.
    ///
    /// # Errors
    /// As [`super::Device::open_key`].
    fn measure(&mut self, key: &KeyRef, predicted: &[Prediction]) -> Result<Option<Measurement>>;

    /// The options that `key` was made with, as far as they bind it: to the same PCRs, with the values of now, and to a PIN.
    ///
    /// # Errors
    /// `Usage` when it is bound to a signer, whose key has to be named again; as [`super::Device::open_key`].
    fn bound_alike(&mut self, key: &KeyRef) -> Result<CreateOptions>;
}

/// A value that a PCR is expected to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The bank: `sha256`.
    pub bank: String,
    /// The PCR.
    pub index: u8,
    /// Its value.
    pub value: Vec<u8>,
}

/// What a key is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// The bank: `sha256`.
    pub bank: String,
    /// The PCRs, by index.
    pub pcrs: Vec<PcrState>,
    /// The digest of PolicyPCR over these values: what a signer of PCR policies signs.
    pub policy_digest: [u8; 32],
    /// `None` when the key is bound to the values of enrolment; else where signatures were looked for, and whether there is
    /// one over these values.
    pub signature: Option<(String, bool)>,
}

/// One PCR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrState {
    /// Which.
    pub index: u8,
    /// What is measured into it.
    pub meaning: &'static str,
    /// Its value at enrolment.
    pub enrolled: Vec<u8>,
    /// Its value now, or the predicted one.
    pub now: Vec<u8>,
    /// Whether `now` is a prediction.
    pub predicted: bool,
}

impl Measurement {
    /// Whether the key opens with these values.
    pub fn opens(&self) -> bool {
        match &self.signature {
            Some((_, signed)) => *signed,
            None => self.changed().is_empty(),
        }
    }

    /// The PCRs whose value is not that of enrolment.
    pub fn changed(&self) -> Vec<u8> {
        self.pcrs.iter().filter(|pcr| pcr.now != pcr.enrolled).map(|pcr| pcr.index).collect()
    }
}
