//! Authenticates with the card management key (SP 800-73-4 part 1 §3.3.4), as required to make or remove keys.

use super::error::{DriverError, from_call};
use super::transaction::Transaction;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use std::sync::Once;
use yubikey::piv::{self, ManagementSlotId, SlotAlgorithmId, SlotId};
use yubikey::{MgmAlgorithmId, MgmKey, MgmType, TouchPolicy};
use zeroize::Zeroizing;

/// The factory default, for every algorithm.
const FACTORY: [u8; 24] = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];

const OPERATION: &str = "use the management key";

impl Transaction<'_> {
    /// Authenticates with the factory default, the PIN-protected key, or a key that the person types.
    pub fn authenticate(&mut self) -> Result<(), DriverError> {
        let slot = SlotId::Management(ManagementSlotId::Management);
        let metadata = piv::metadata(self.card.yubikey(), slot).map_err(from_call("GET METADATA"))?;
        let SlotAlgorithmId::Management(algorithm) = metadata.algorithm else {
            return Err(from_call("GET METADATA")(yubikey::Error::InvalidObject));
        };
        let key = self.management_key(algorithm, metadata.default == Some(true))?;
        if metadata
            .policy
            .is_some_and(|(_, touch)| !matches!(touch, TouchPolicy::Never | TouchPolicy::Default))
        {
            self.ask_for_touch()?;
        }
        match self.card.yubikey().authenticate(&key) {
            Err(yubikey::Error::AuthenticationError) => Err(refused(self.name).into()),
            done => done.map_err(from_call("GENERAL AUTHENTICATE")),
        }
    }

    fn management_key(&mut self, algorithm: MgmAlgorithmId, factory: bool) -> Result<MgmKey, DriverError> {
        if factory {
            // Warn once: making two keys and their certificates authenticates four times.
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                log::warn!(
                    "{}: its management key is the factory default, so anyone who has the YubiKey can replace its keys. Change it: \
                     ykman piv access change-management-key --generate --protect",
                    self.name
                );
            });
            return MgmKey::from_bytes(FACTORY, Some(algorithm)).map_err(from_call("GENERAL AUTHENTICATE"));
        }
        let config = self.card.yubikey().config().map_err(from_call("GET DATA"))?;
        if config.mgm_type == MgmType::Protected {
            self.verify()?;
            return MgmKey::get_protected(self.card.yubikey()).map_err(from_call("GET DATA"));
        }
        let typed = self.prompter.secret(&format!("Management key of {}, in hexadecimal", self.name))?;
        Ok(parse(&typed, algorithm)
            .map_err(|message| Error::new(Kind::Usage, OPERATION, message).with_target(self.name))?)
    }
}

/// A typed management key.
fn parse(typed: &Secret, algorithm: MgmAlgorithmId) -> Result<MgmKey, String> {
    let length = match algorithm {
        MgmAlgorithmId::Aes128 => 16,
        MgmAlgorithmId::ThreeDes | MgmAlgorithmId::Aes192 => 24,
        MgmAlgorithmId::Aes256 => 32,
    };
    let mut bytes = Zeroizing::new(vec![0; length]);
    let hex = typed.expose().trim_ascii();
    hex::decode_to_slice(hex, &mut bytes)
        .map_err(|_| format!("a management key of this YubiKey is {} hexadecimal digits", 2 * length))?;
    MgmKey::from_bytes(&*bytes, Some(algorithm)).map_err(|_| "it is no management key".into())
}

fn refused(name: &str) -> Error {
    Error::new(Kind::PinWrong, OPERATION, "the YubiKey refused it")
        .with_target(name)
        .with_hint("check it, then run the command again; wrong management keys are not counted")
}
