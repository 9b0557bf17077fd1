//! Slots (SP 800-73-4 part 1 §3.3): their purpose and contents.

use super::error::{DriverError, from_call};
use crate::device::{Algorithm, PublicKey, Purpose};
use crate::error::{Error, Kind, Result};
use crate::uri::DeviceUri;
use std::str::FromStr;
use yubikey::piv::{self, AlgorithmId, Origin, RetiredSlotId, SlotAlgorithmId, SlotId, SlotMetadata};
use yubikey::{ObjectId, PinPolicy, TouchPolicy, YubiKey};

/// A slot, and whether the URI named it or it is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectedSlot {
    pub slot: SlotId,
    pub named: bool,
}

/// The slots of the two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    pub opening: SelectedSlot,
    pub signing: SelectedSlot,
}

impl Slots {
    /// `slot=` and `sign-slot=`, or 9d and 9c.
    ///
    /// # Errors
    /// `Usage` for a slot that cannot hold such a key, or the same slot for both keys.
    pub fn from_uri(uri: &DeviceUri) -> Result<Self> {
        let wrong = |message: String| {
            Error::new(Kind::Usage, "choose the slots", message)
                .with_target(uri.display_name())
                .with_hint("write slot=9d or slot=82 … slot=95, and sign-slot=9c or another of 82 … 95")
        };
        let chosen = |attribute: &str, usual: SlotId| match uri.attribute(attribute) {
            None => Ok(SelectedSlot { slot: usual, named: false }),
            Some(name) => match SlotId::from_str(name) {
                Ok(slot) if slot == usual || matches!(slot, SlotId::Retired(_)) => {
                    Ok(SelectedSlot { slot, named: true })
                }
                _ => Err(wrong(format!("the attribute `{attribute}` names no slot for such a key"))),
            },
        };
        let slots = Self {
            opening: chosen("slot", SlotId::KeyManagement)?,
            signing: chosen("sign-slot", SlotId::Signature)?,
        };
        match slots.opening.slot == slots.signing.slot {
            true => Err(wrong("the opening key and the signing key need different slots".into())),
            false => Ok(slots),
        }
    }

    /// The slot of the key for a purpose.
    pub fn for_purpose(&self, purpose: Purpose) -> SelectedSlot {
        match purpose {
            Purpose::Open => self.opening,
            Purpose::Sign => self.signing,
        }
    }
}

/// The attribute of a URI that names the slot.
pub fn attribute(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Open => "slot",
        Purpose::Sign => "sign-slot",
    }
}

/// `9d`.
pub fn name(slot: SlotId) -> String {
    format!("{:02x}", u8::from(slot))
}

/// The data object with a slot's certificate (SP 800-73-4 part 1 table 3).
pub fn certificate_object(slot: SlotId) -> ObjectId {
    match slot {
        SlotId::Signature => 0x005f_c10a,
        SlotId::Attestation => 0x005f_ff01,
        SlotId::Retired(_) => 0x005f_c10d + ObjectId::from(u8::from(slot) - 0x82),
        _ => 0x005f_c10b,
    }
}

/// The slots that may hold a key for this purpose, the default first.
pub fn fit_for(purpose: Purpose) -> impl Iterator<Item = SlotId> {
    let usual = match purpose {
        Purpose::Open => SlotId::KeyManagement,
        Purpose::Sign => SlotId::Signature,
    };
    let retired = (0x82..=0x95).filter_map(|number| RetiredSlotId::try_from(number).ok());
    std::iter::once(usual).chain(retired.map(SlotId::Retired))
}

/// What the card reports on an occupied slot (GET METADATA).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    pub algorithm: AlgorithmId,
    /// For EC keys on P-256 or P-384, and RSA keys of at least 2048 bits. RSA keys are given as opening keys.
    pub public: Option<PublicKey>,
    pub pin: PinPolicy,
    pub touch: TouchPolicy,
    /// Made in the YubiKey, not imported.
    pub generated: bool,
}

impl SlotInfo {
    /// `None` for an empty slot.
    pub fn read(yubikey: &mut YubiKey, slot: SlotId) -> Result<Option<Self>, DriverError> {
        let Some(metadata) = metadata(yubikey, slot)? else { return Ok(None) };
        let SlotAlgorithmId::Asymmetric(algorithm) = metadata.algorithm else {
            return Err(from_call("GET METADATA")(yubikey::Error::InvalidObject));
        };
        let (pin, touch) = metadata.policy.unwrap_or((PinPolicy::Default, TouchPolicy::Default));
        let ec = matches!(algorithm, AlgorithmId::EccP256 | AlgorithmId::EccP384);
        let public = metadata.public.and_then(|spki| match spki.subject_public_key.raw_bytes() {
            point if ec => PublicKey::from_point(point),
            der => PublicKey::from_pkcs1(der, Purpose::Open),
        });
        let public = public.filter(|public| id_of(public.algorithm()) == Some(algorithm));
        Ok(Some(Self {
            algorithm,
            public,
            pin,
            touch,
            generated: metadata.origin == Some(Origin::Generated),
        }))
    }

    /// The public key, in the form for this purpose.
    pub fn public_for(&self, purpose: Purpose) -> Option<PublicKey> {
        match (self.public.clone()?, purpose) {
            (PublicKey::Rsa { n, e, .. }, Purpose::Sign) => Some(PublicKey::RsaPss { n, e }),
            (public, _) => Some(public),
        }
    }

    /// Whether this key is in the slot.
    pub fn is_of(&self, key: &PublicKey) -> bool {
        self.public.as_ref().is_some_and(|public| public.is_same_key(key))
    }

    /// Whether the key may require a touch.
    pub fn wants_touch(&self) -> bool {
        self.touch != TouchPolicy::Never
    }
}

/// The card's name for an algorithm.
pub fn id_of(algorithm: Algorithm) -> Option<AlgorithmId> {
    match algorithm {
        Algorithm::P256 => Some(AlgorithmId::EccP256),
        Algorithm::P384 => Some(AlgorithmId::EccP384),
        Algorithm::Rsa(2048) => Some(AlgorithmId::Rsa2048),
        Algorithm::Rsa(3072) => Some(AlgorithmId::Rsa3072),
        Algorithm::Rsa(4096) => Some(AlgorithmId::Rsa4096),
        Algorithm::Rsa(_) | Algorithm::Aes256 => None,
    }
}

/// GET METADATA; `None` where there is nothing.
pub fn metadata(yubikey: &mut YubiKey, slot: SlotId) -> Result<Option<SlotMetadata>, DriverError> {
    match piv::metadata(yubikey, slot) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(yubikey::Error::NotFound) => Ok(None),
        // The firmware has this command, so another program must have selected another application.
        Err(yubikey::Error::NotSupported | yubikey::Error::GenericError) => Err(DriverError::Forgotten),
        Err(error) => Err(from_call("GET METADATA")(error)),
    }
}

/// `a p256 key`: an algorithm by Strongroom's name.
pub fn a_key_of(algorithm: AlgorithmId) -> &'static str {
    match algorithm {
        AlgorithmId::Rsa1024 => "an rsa1024 key",
        AlgorithmId::Rsa2048 => "an rsa2048 key",
        AlgorithmId::Rsa3072 => "an rsa3072 key",
        AlgorithmId::Rsa4096 => "an rsa4096 key",
        AlgorithmId::EccP256 => "a p256 key",
        AlgorithmId::EccP384 => "a p384 key",
        AlgorithmId::Ed25519 => "an ed25519 key",
        AlgorithmId::X25519 => "an x25519 key",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> Result<Slots> {
        Slots::from_uri(&uri.parse().unwrap())
    }

    #[test]
    fn slots_have_usual_places() {
        let slots = of("piv:serial=1").unwrap();
        assert_eq!((name(slots.opening.slot), slots.opening.named), ("9d".into(), false));
        assert_eq!((name(slots.signing.slot), slots.signing.named), ("9c".into(), false));
        let slots = of("piv:serial=1;slot=82;sign-slot=95").unwrap();
        assert_eq!((name(slots.opening.slot), name(slots.signing.slot)), ("82".into(), "95".into()));
        assert!(slots.opening.named && slots.signing.named);
    }

    #[test]
    fn other_slots_are_refused() {
        for slots in [
            "slot=9c",
            "slot=9a",
            "slot=9e",
            "slot=f9",
            "slot=80",
            "slot=96",
            "slot=9D",
            "slot=82;sign-slot=82",
        ] {
            assert_eq!(of(&format!("piv:{slots}")).unwrap_err().kind(), Kind::Usage, "{slots}");
        }
        assert_eq!(of("piv:sign-slot=9d").unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn certificates_lie_where_the_standard_says() {
        let objects: Vec<_> = fit_for(Purpose::Open).map(certificate_object).collect();
        assert_eq!((objects.len(), objects[0], objects[1], objects[20]), (21, 0x5fc10b, 0x5fc10d, 0x5fc120));
        assert_eq!(fit_for(Purpose::Sign).map(certificate_object).next(), Some(0x5fc10a));
    }
}
