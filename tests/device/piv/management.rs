//! The management key: the factory's, of each algorithm, guarded by the PIN, or typed.

use super::{create, create_as, device, older};
use strongroom::device::{Algorithm, CreateOptions, Device, KeyInfo, Purpose};
use strongroom::error::{Kind, Result};
use test_support::prompter::Scripted;
use test_support::yubikey::{Options, PIN, VirtualYubiKey, isolated};
use yubikey::{MgmAlgorithmId, MgmKey, YubiKey};

/// Another program changes the management key; guarded by the PIN or not.
fn change(bytes: &[u8], algorithm: MgmAlgorithmId, protect: bool) {
    let mut card = YubiKey::open().unwrap();
    if protect {
        card.verify_pin(PIN.as_bytes()).unwrap();
    }
    card.authenticate(&MgmKey::get_default(&card).unwrap()).unwrap();
    let key = MgmKey::from_bytes(bytes, Some(algorithm)).unwrap();
    match protect {
        true => key.set_protected(&mut card).unwrap(),
        false => key.set_manual(&mut card, false).unwrap(),
    }
}

fn made_by(device: &mut dyn Device, prompter: &mut Scripted) -> Result<KeyInfo> {
    device.provisioning().unwrap().create(Purpose::Open, Algorithm::P256, &CreateOptions::default(), prompter)
}

#[test]
fn the_factorys_key_of_aes_is_known() {
    isolated(Options::default(), |yubikey| drop(create(&mut *device(yubikey), Purpose::Open)));
}

#[test]
fn the_factorys_key_of_3des_is_known() {
    isolated(older(), |yubikey| drop(create(&mut *device(yubikey), Purpose::Open)));
}

#[test]
fn a_key_is_typed_in_hexadecimal() {
    let algorithms = [
        (MgmAlgorithmId::ThreeDes, 24),
        (MgmAlgorithmId::Aes128, 16),
        (MgmAlgorithmId::Aes192, 24),
        (MgmAlgorithmId::Aes256, 32),
    ];
    isolated(Options::default(), |yubikey| {
        for (algorithm, length) in algorithms {
            let bytes: Vec<u8> = (10..10 + length).collect();
            change(&bytes, algorithm, false);
            let mut device = device(yubikey);
            // Nobody there; a slip; a wrong one; the right one.
            let error = made_by(&mut *device, &mut Scripted::pin(PIN)).unwrap_err();
            assert_eq!(error.kind(), Kind::PinUnavailable);
            let typed = |secret: String| Scripted { secret: Some(secret.leak()), ..Scripted::pin(PIN) };
            let error = made_by(&mut *device, &mut typed("0102".into())).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            let error = made_by(&mut *device, &mut typed("ab".repeat(length.into()))).unwrap_err();
            assert_eq!((error.kind(), error.message()), (Kind::PinWrong, "the YubiKey refused it"));
            let key = made_by(&mut *device, &mut typed(hex::encode(&bytes))).unwrap();
            device.provisioning().unwrap().destroy(&key, &mut typed(hex::encode(&bytes))).unwrap();
            back_to_the_factorys(&bytes, algorithm);
        }
    });
}

fn back_to_the_factorys(bytes: &[u8], algorithm: MgmAlgorithmId) {
    let mut card = YubiKey::open().unwrap();
    card.authenticate(&MgmKey::from_bytes(bytes, Some(algorithm)).unwrap()).unwrap();
    MgmKey::set_default(&mut card).unwrap();
}

fn guarded(yubikey: &VirtualYubiKey, algorithm: MgmAlgorithmId) {
    change(&[0x0b; 24], algorithm, true);
    let mut prompter = Scripted::pin(PIN);
    made_by(&mut *device(yubikey), &mut prompter).unwrap();
    assert_eq!(prompter.pins, 1);
}

#[test]
fn a_key_that_the_pin_guards_is_not_asked_for() {
    isolated(Options::default(), |yubikey| guarded(yubikey, MgmAlgorithmId::Aes192));
}

#[test]
fn an_older_key_that_the_pin_guards_is_not_asked_for() {
    isolated(older(), |yubikey| guarded(yubikey, MgmAlgorithmId::ThreeDes));
}

#[test]
fn a_wrong_pin_makes_no_key() {
    isolated(Options::default(), |yubikey| {
        change(&[9; 24], MgmAlgorithmId::Aes192, true);
        let mut device = device(yubikey);
        let error = made_by(&mut *device, &mut Scripted::pin("654321")).unwrap_err();
        assert_eq!(error.kind(), Kind::PinWrong);
        assert!(yubikey.card().memory().slot(0x9d).is_none());
        device.lock();
        create_as(&mut *device, Purpose::Open, &CreateOptions::default()).unwrap();
    });
}
