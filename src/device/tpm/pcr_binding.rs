//! Measured boot: compares the PCR values that a key is bound to with the current ones.

use super::connection_pool::lock;
use super::device::TpmDevice;
use super::key_blob::KeyBlob;
use super::pcr::{Bank, Pcrs, meaning};
use super::policy::Policy;
use super::policy_digest;
use super::signed_policy;
use crate::device::{CreateOptions, KeyRef, Measurement, PcrBinding, PcrState, Prediction, TpmOptions};
use crate::error::{Error, Kind, Result};

impl PcrBinding for TpmDevice {
    fn measure(&mut self, key: &KeyRef, predicted: &[Prediction]) -> Result<Option<Measurement>> {
        let material = KeyBlob::from_key_ref(key).map_err(|e| e.with_target(self.name.clone()))?;
        let Some(enrolled) = &material.policy.pcrs else { return Ok(None) };
        let mut now = lock(&self.shared).work("read the PCRs", &self.name, |connection| {
            Pcrs::read_from(&mut connection.tpm, enrolled.bank(), &enrolled.indices())
        })?;
        let of_bank = |prediction: &&Prediction| Bank::named(&prediction.bank) == Some(enrolled.bank());
        let predicted: Vec<_> = predicted.iter().filter(of_bank).collect();
        predicted.iter().for_each(|prediction| now.set(prediction.index, &prediction.value));
        let signature = match &material.policy.signer {
            Some(_) => {
                let (path, signed) = signed_policy::has_signature(self.signatures.as_deref(), &now)?;
                Some((path.display().to_string(), signed))
            }
            None => None,
        };
        let pcrs = enrolled.values().iter().zip(now.values()).map(|((index, enrolled), (_, now))| PcrState {
            index: *index,
            meaning: meaning(*index),
            enrolled: enrolled.clone(),
            now: now.clone(),
            predicted: predicted.iter().any(|prediction| prediction.index == *index),
        });
        Ok(Some(Measurement {
            bank: enrolled.bank().name().into(),
            pcrs: pcrs.collect(),
            policy_digest: policy_digest::pcr_digest(&now),
            signature,
        }))
    }

    fn bound_alike(&mut self, key: &KeyRef) -> Result<CreateOptions> {
        let material = KeyBlob::from_key_ref(key).map_err(|e| e.with_target(self.name.clone()))?;
        let tpm = bound_alike(&material.policy).map_err(|e| e.with_target(self.name.clone()))?;
        Ok(CreateOptions { tpm, ..CreateOptions::default() })
    }
}

/// The options that bind new keys to the same conditions.
fn bound_alike(policy: &Policy) -> Result<TpmOptions> {
    if let (Some(pcrs), Some(_)) = (&policy.pcrs, &policy.signer) {
        let message = "they are bound to a signer, and only the name of its key is stored";
        return Err(Error::new(Kind::Usage, "bind new keys like the old ones", message).with_hint(format!(
            "name the signer's key again: --pcrs {} --pcr-policy-key FILE{}",
            pcrs.shown(),
            if policy.pin { " --pin" } else { "" }
        )));
    }
    let pcrs = policy.pcrs.as_ref().map(Pcrs::shown);
    Ok(TpmOptions { pin: policy.pin, pcrs, ..TpmOptions::default() })
}
