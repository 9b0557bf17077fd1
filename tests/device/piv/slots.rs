//! Slots: found, free, in use, named, and of other algorithms.

use super::{create, create_as, device, device_at, guarded_by, not_connected, older, open};
use strongroom::device::{
    Algorithm, CreateOptions, Device, KeyInfo, KeyRef, OaepHash, PrivateOperation, PublicKey, Purpose,
};
use strongroom::error::Kind;
use test_support::device_conformance::{opens_rsa, signs_once};
use test_support::prompter::Scripted;
use test_support::yubikey::{Options, PIN, VirtualYubiKey, isolated};
use yubikey::piv::{self, AlgorithmId, SlotId};
use yubikey::{MgmKey, PinPolicy, TouchPolicy, YubiKey};

/// Another program puts a key into a slot.
pub fn occupy(slot: SlotId, algorithm: AlgorithmId) {
    let mut card = YubiKey::open().unwrap();
    card.authenticate(&MgmKey::get_default(&card).unwrap()).unwrap();
    piv::generate(&mut card, slot, algorithm, PinPolicy::Once, TouchPolicy::Never).unwrap();
}

/// What the card holds in a slot.
fn public(yubikey: &VirtualYubiKey, slot: u8) -> Option<Vec<u8>> {
    yubikey.card().memory().slot(slot).map(|slot| slot.key().unwrap().public())
}

#[test]
fn keys_lie_where_the_uri_says() {
    isolated(Options::default(), |yubikey| {
        let mut usual = device(yubikey);
        let [opens, signs] = [Purpose::Open, Purpose::Sign].map(|purpose| create(&mut *usual, purpose));
        assert_eq!(
            (&*opens.uri, &*signs.uri),
            ("piv:serial=12345678;slot=9d", "piv:serial=12345678;sign-slot=9c")
        );

        let uri = format!("{};slot=82;sign-slot=95", yubikey.uri());
        let mut retired = device_at(&uri);
        assert_eq!(retired.keys(&mut Scripted::default()).unwrap(), []);
        let [other, other_signs] =
            [Purpose::Open, Purpose::Sign].map(|purpose| create(&mut *retired, purpose));
        assert_eq!(
            (&*other.uri, &*other_signs.uri),
            ("piv:serial=12345678;slot=82", "piv:serial=12345678;sign-slot=95")
        );
        open(&mut *retired, &other, &mut Scripted::pin(PIN)).unwrap();
        assert_eq!(retired.keys(&mut Scripted::default()).unwrap(), [other, other_signs]);
        assert_eq!(usual.keys(&mut Scripted::default()).unwrap(), [opens, signs]);
    });
}

#[test]
fn a_slot_in_use_is_not_overwritten() {
    isolated(Options::default(), |yubikey| {
        for (slot, algorithm) in
            [(SlotId::KeyManagement, AlgorithmId::EccP256), (SlotId::Signature, AlgorithmId::EccP384)]
        {
            occupy(slot, algorithm);
        }
        occupy("82".parse().unwrap(), AlgorithmId::EccP256);
        let before = [0x9c, 0x9d, 0x82].map(|slot| public(yubikey, slot));
        let mut device = device(yubikey);
        // They are not ours, and nobody said that they should be.
        assert_eq!(device.keys(&mut Scripted::default()).unwrap(), []);

        let error = create_as(&mut *device, Purpose::Open, &CreateOptions::default()).unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (Kind::Conflict, "slot 9d is in use: it holds a p256 key")
        );
        let advice = error.hint().unwrap();
        assert!(advice.starts_with("free are 83, 84, 85") && advice.contains("slot=83"), "{advice}");
        let error = create_as(&mut *device, Purpose::Sign, &CreateOptions::default()).unwrap_err();
        assert_eq!(error.message(), "slot 9c is in use: it holds a p384 key");
        assert!(error.hint().unwrap().contains("sign-slot=83"));

        let mut mistyped = CreateOptions::default();
        mistyped.piv.overwrite = Some("1234567".into());
        let error = create_as(&mut *device, Purpose::Open, &mistyped).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert_eq!([0x9c, 0x9d, 0x82].map(|slot| public(yubikey, slot)), before);

        let mut typed = CreateOptions::default();
        typed.piv.overwrite = Some("12345678".into());
        let key = create_as(&mut *device, Purpose::Open, &typed).unwrap();
        assert_ne!(public(yubikey, 0x9d), before[1]);
        open(&mut *device, &key, &mut Scripted::pin(PIN)).unwrap();
    });
}

#[test]
fn a_key_that_is_there_is_used_when_its_slot_is_named() {
    isolated(Options::default(), |yubikey| {
        for (slot, algorithm) in [("9d", AlgorithmId::EccP256), ("82", AlgorithmId::EccP384)] {
            occupy(slot.parse().unwrap(), algorithm);
            let mut device = device_at(&format!("{};slot={slot}", yubikey.uri()));
            let keys = device.keys(&mut Scripted::default()).unwrap();
            assert_eq!(keys.len(), 1);
            keys[0].evidence.check(&keys[0]).unwrap();
            open(&mut *device, &keys[0], &mut Scripted::pin(PIN)).unwrap();
        }
    });
}

#[test]
fn rsa_keys_that_are_there_open_and_sign() {
    isolated(older(), |yubikey| {
        for slot in ["9d", "9c", "82", "83"] {
            occupy(slot.parse().unwrap(), AlgorithmId::Rsa2048);
        }
        assert_eq!(device(yubikey).keys(&mut Scripted::default()).unwrap(), [], "nobody named them");
        for slots in ["slot=9d;sign-slot=9c", "slot=82;sign-slot=83"] {
            uses_rsa(&mut *device_at(&format!("{};{slots}", yubikey.uri())), Algorithm::Rsa(2048));
        }
    });
}

#[test]
fn larger_rsa_keys_are_used_as_well() {
    isolated(Options::default(), |yubikey| {
        for slot in ["82", "83"] {
            occupy(slot.parse().unwrap(), AlgorithmId::Rsa3072);
        }
        uses_rsa(&mut *device_at(&format!("{};slot=82;sign-slot=83", yubikey.uri())), Algorithm::Rsa(3072));
    });
}

fn uses_rsa(device: &mut dyn Device, algorithm: Algorithm) {
    let keys = device.keys(&mut Scripted::default()).unwrap();
    let [opens, signs] = &keys[..] else { panic!("{keys:?}") };
    for key in [opens, signs] {
        key.evidence.check(key).unwrap();
        assert_eq!(key.public.algorithm(), algorithm);
        assert!(key.evidence.claims.contains(&("attestation".into(), true)), "{:?}", key.evidence);
        assert!(device.has_key(&key.into(), &mut Scripted::default()).unwrap());
    }
    assert!(matches!(opens.public, PublicKey::Rsa { oaep: OaepHash::Sha256, .. }));
    let prompter = &mut Scripted::pin(PIN);
    for byte in 0..3 {
        opens_rsa(device, opens, prompter).unwrap();
        signs_once(device, &signs.into(), byte, prompter).unwrap();
    }
    for ciphertext in [vec![1; opens.public.rsa().unwrap().0.len()], vec![0; 256], vec![1; 255]] {
        let challenge = PrivateOperation::Oaep { hash: OaepHash::Sha256, ciphertext: &ciphertext };
        let error = device.open_key(&opens.into(), challenge, prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::Device, "{error}");
    }
    // An enrolment by a module that knows no other hash.
    let PublicKey::Rsa { n, e, .. } = &opens.public else { panic!() };
    let public = PublicKey::Rsa { n: n.clone(), e: e.clone(), oaep: OaepHash::Sha1 };
    opens_rsa(device, &KeyInfo { public, ..opens.clone() }, prompter).unwrap();
    let wrong = KeyRef { purpose: Purpose::Open, ..KeyRef::from(signs) };
    let error = device.sign(&wrong, &[0; 32], prompter).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
}

#[test]
fn other_algorithms_are_refused_with_words() {
    isolated(Options::default(), |yubikey| {
        occupy("83".parse().unwrap(), AlgorithmId::Rsa1024);
        for attribute in ["slot", "sign-slot"] {
            let mut device = device_at(&format!("{};{attribute}=83", yubikey.uri()));
            let error = device.keys(&mut Scripted::default()).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
            assert!(error.message().starts_with("slot 83 holds an rsa1024 key"), "{error}");
        }
        let mut device = device(yubikey);
        let provision = device.provisioning().unwrap();
        for algorithm in [Algorithm::Rsa(2048), Algorithm::Aes256] {
            let error = provision
                .create(Purpose::Open, algorithm, &CreateOptions::default(), &mut Scripted::default())
                .unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
        }
    });
}

#[test]
fn an_empty_or_exchanged_slot_is_told() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create(&mut *device, Purpose::Open);
        let mut elsewhere = device_at(&format!("{};slot=90", yubikey.uri()));
        let error = open(&mut *elsewhere, &key, &mut Scripted::pin(PIN)).unwrap_err();
        assert_eq!(error.kind(), Kind::KeyMissing);
        assert_eq!(error.message(), "slot 90, where the opening key should be, is empty");

        occupy(SlotId::KeyManagement, AlgorithmId::EccP256);
        let error = open(&mut *device, &key, &mut Scripted::pin(PIN)).unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (Kind::KeyMissing, "the key in slot 9d is not the opening key that was enrolled")
        );
        occupy(SlotId::KeyManagement, AlgorithmId::EccP384);
        let error = open(&mut *device, &key, &mut Scripted::pin(PIN)).unwrap_err();
        assert_eq!(error.message(), "slot 9d holds a p384 key, and the enrolled one is p256");
    });
}

#[test]
fn policies_are_chosen_and_shown() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create_as(&mut *device, Purpose::Open, &guarded_by("always", "always")).unwrap();
        let slot = yubikey.card().memory().slot(0x9d).unwrap().clone();
        assert_eq!((slot.pin_policy, slot.touch_policy), (3, 2));
        for claim in ["generated", "attestation", "pin-always", "touch-always"] {
            assert!(key.evidence.claims.contains(&(claim.into(), true)), "{claim}: {:?}", key.evidence);
        }
        for options in [guarded_by("sometimes", "never"), guarded_by("once", "gently")] {
            let error = create_as(&mut *device, Purpose::Sign, &options).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
        }
    });
}

#[test]
fn what_an_older_yubikey_cannot_remove_it_overwrites() {
    isolated(older(), |yubikey| {
        let mut device = device(yubikey);
        let key = create(&mut *device, Purpose::Open);
        open(&mut *device, &key, &mut Scripted::pin(PIN)).unwrap();
        let before = public(yubikey, 0x9d);
        device.provisioning().unwrap().destroy(&key, &mut Scripted::pin(PIN)).unwrap();
        assert_ne!(public(yubikey, 0x9d), before);
        assert_eq!(device.keys(&mut Scripted::default()).unwrap(), []);
        let error = open(&mut *device, &key, &mut Scripted::pin(PIN)).unwrap_err();
        assert_eq!(error.kind(), Kind::KeyMissing);
        // The slot stays taken, and a new key takes a yes.
        assert_eq!(
            create_as(&mut *device, Purpose::Open, &CreateOptions::default()).unwrap_err().kind(),
            Kind::Conflict
        );
        let mut typed = CreateOptions::default();
        typed.piv.overwrite = Some("12345678".into());
        create_as(&mut *device, Purpose::Open, &typed).unwrap();
    });
}

#[test]
fn an_old_firmware_is_refused() {
    isolated(Options { firmware: [5, 2, 7], ..Options::default() }, |yubikey| {
        let error = not_connected(&yubikey.uri());
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.message().contains("5.2.7"), "{error}");
    });
}
