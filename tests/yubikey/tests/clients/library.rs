//! The `yubikey` crate's own calls, which Strongroom's driver is one of the users of.

use p256::ecdsa::signature::hazmat::PrehashVerifier;
use test_support::yubikey::{Options, isolated};
use virtual_yubikey::key::{Algorithm, Key};
use yubikey::piv::{self, AlgorithmId, ManagementSlotId, RetiredSlotId, SlotId};
use yubikey::{Error, MgmKey, ObjectId, PinPolicy, Serial, TouchPolicy, YubiKey};

/// An evening with it, on a card that nobody changed yet.
pub fn calls(serial: u32, firmware: (u8, u8, u8)) {
    let mut card = YubiKey::open_by_serial(Serial(serial)).unwrap();
    let version = card.version();
    assert_eq!((version.major, version.minor, version.patch), firmware);
    pins(&mut card);
    management_key(&mut card);
    keys(&mut card);
    objects(&mut card);
}

fn pins(card: &mut YubiKey) {
    assert_eq!(card.get_pin_retries().unwrap(), 3);
    assert!(matches!(card.verify_pin(b"000000"), Err(Error::WrongPin { tries: 2 })));
    card.verify_pin(b"123456").unwrap();
    card.change_pin(b"123456", b"654321").unwrap();
    card.change_puk(b"12345678", b"87654321").unwrap();
    card.unblock_pin(b"87654321", b"123456").unwrap();
    card.change_puk(b"87654321", b"12345678").unwrap();
    card.verify_pin(b"123456").unwrap();
}

fn management_key(card: &mut YubiKey) {
    let factory = MgmKey::get_default(card).unwrap();
    card.authenticate(&factory).unwrap();
    let metadata = piv::metadata(card, SlotId::Management(ManagementSlotId::Management)).unwrap();
    assert_eq!(metadata.default, Some(true));
    let bytes: Vec<u8> = (1..=24).map(|byte| byte * 3).collect();
    let own = MgmKey::from_bytes(bytes, Some(factory.algorithm_id())).unwrap();
    own.set_protected(card).unwrap();
    assert!(card.authenticate(&factory).is_err());
    let protected = MgmKey::get_protected(card).unwrap();
    card.authenticate(&protected).unwrap();
    factory.set_manual(card, false).unwrap();
    card.authenticate(&factory).unwrap();
}

fn keys(card: &mut YubiKey) {
    let (slot, algorithm) = (SlotId::Retired(RetiredSlotId::R1), AlgorithmId::EccP256);
    let made = piv::generate(card, slot, algorithm, PinPolicy::Once, TouchPolicy::Always).unwrap();
    let metadata = piv::metadata(card, slot).unwrap();
    assert_eq!(metadata.policy, Some((PinPolicy::Once, TouchPolicy::Always)));
    assert_eq!(metadata.public.as_ref(), Some(&made));
    let point = made.subject_public_key.raw_bytes();
    let signature = piv::sign_data(card, &[7; 32], algorithm, slot).unwrap();
    let verifier = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).unwrap();
    verifier.verify_prehash(&[7; 32], &p256::ecdsa::Signature::from_der(&signature).unwrap()).unwrap();

    let peer = Key::import(Algorithm::P256, &virtual_yubikey::tlv::encode(6, &[9; 32])).unwrap();
    let shared = piv::decrypt_data(card, &peer.point(), algorithm, slot).unwrap();
    assert_eq!(shared.to_vec(), peer.agree(point).unwrap());
    let attestation = piv::attest(card, slot).unwrap();
    assert!(attestation.windows(point.len()).any(|window| window == point));
}

fn objects(card: &mut YubiKey) {
    let name: ObjectId = 0x5f_c10b;
    card.save_object(name, &mut [7; 2500]).unwrap();
    assert_eq!(card.fetch_object(name).unwrap().to_vec(), [7; 2500]);
    assert!(matches!(card.fetch_object(0x5f_c10c), Err(Error::NotFound)));
}

#[test]
fn the_crate_has_its_way_with_an_old_card() {
    let options = Options { firmware: [5, 4, 3], ..Options::default() };
    isolated(options, |_| calls(12_345_678, (5, 4, 3)));
}

#[test]
fn the_crate_has_its_way_with_a_new_card() {
    isolated(Options::default(), |_| calls(12_345_678, (5, 7, 1)));
}
