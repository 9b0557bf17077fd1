//! Attestation: whom it is traced to, and that it is for this key of this card.

use super::{create, create_as, device, device_at, guarded_by, not_connected, open};
use strongroom::device::{CreateOptions, Device, EvidenceLevel, KeyInfo, PublicKey, Purpose};
use strongroom::error::{Kind, Result};
use test_support::authority;
use test_support::prompter::Scripted;
use test_support::yubikey::{Authority, Options, PIN, VirtualYubiKey, isolated};
use yubikey::piv::{self, AlgorithmId, SlotId};
use yubikey::{MgmKey, PinPolicy, TouchPolicy, YubiKey};

fn stranger() -> Options {
    Options { stranger: Some("Somebody's Root CA".into()), ..Options::default() }
}

/// Options that trust the root of this YubiKey.
fn trusting(yubikey: &VirtualYubiKey) -> CreateOptions {
    CreateOptions { roots: Some(yubikey.roots()), ..CreateOptions::default() }
}

fn on_trust() -> CreateOptions {
    let mut options = CreateOptions::default();
    options.piv.allow_unattested = true;
    options
}

fn judged(device: &mut dyn Device, options: &CreateOptions) -> Result<Vec<KeyInfo>> {
    device.keys_judged_by(options, &mut Scripted::default())
}

/// Another program imports a key, which may be elsewhere as well.
fn import(slot: SlotId) {
    let mut card = YubiKey::open().unwrap();
    card.authenticate(&MgmKey::get_default(&card).unwrap()).unwrap();
    let key = p256::SecretKey::random(&mut rand_core::OsRng).to_bytes();
    piv::import_ecc_key(&mut card, slot, AlgorithmId::EccP256, &key, TouchPolicy::Never, PinPolicy::Once)
        .unwrap();
}

/// Another program writes what it likes into a slot's certificate.
fn write(slot: SlotId, der: &[u8]) {
    let mut card = YubiKey::open().unwrap();
    card.authenticate(&MgmKey::get_default(&card).unwrap()).unwrap();
    let mut object = vec![0x70, 0x82, (der.len() >> 8) as u8, der.len() as u8];
    object.extend(der);
    object.extend([0x71, 1, 0, 0xfe, 0]);
    let id = match slot {
        SlotId::Attestation => 0x5fff01,
        SlotId::KeyManagement => 0x5fc10b,
        _ => 0x5fc10a,
    };
    card.save_object(id, &mut object).unwrap();
}

#[test]
fn the_simulators_root_is_the_simulators() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/device/piv/roots/simulator.pem");
    assert_eq!(std::fs::read_to_string(path).unwrap(), test_support::yubikey::simulator_root().pem());
}

#[test]
fn a_simulator_is_a_simulator_whatever_the_options() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        assert!(device.identity().simulator);
        let key = create_as(&mut *device, Purpose::Open, &trusting(yubikey)).unwrap();
        assert_eq!(key.evidence.level, EvidenceLevel::Simulator);
        for options in [trusting(yubikey), on_trust(), CreateOptions::default()] {
            let key = &judged(&mut *device, &options).unwrap()[0];
            assert_eq!(key.evidence.level, EvidenceLevel::Simulator);
        }
        // Nor when the card's own attestation key is called a root.
        let roots = yubikey.dir.join("itself");
        std::fs::create_dir(&roots).unwrap();
        std::fs::write(roots.join("f9.pem"), authority::pem(&issuer_certificate(&key))).unwrap();
        let options = CreateOptions { roots: Some(roots), ..CreateOptions::default() };
        assert_eq!(judged(&mut *device, &options).unwrap()[0].evidence.level, EvidenceLevel::Simulator);
    });
}

#[test]
fn a_simulator_that_did_not_answer_is_asked_again() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        yubikey.remove();
        device.identity();
        yubikey.insert();
        // Connects anew.
        device.keys(&mut Scripted::default()).unwrap();
        assert!(device.identity().simulator);
    });
}

#[test]
fn a_chain_to_a_stranger_is_refused_unless_the_user_trusts_it() {
    isolated(stranger(), |yubikey| {
        let mut device = device(yubikey);
        assert!(!device.identity().simulator);
        let error = create_as(&mut *device, Purpose::Open, &CreateOptions::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Evidence);
        assert!(error.message().contains("none of the trusted certificates issued it"), "{error}");
        assert!(error.hint().unwrap().contains("--attestation-roots"));
        // A key that is refused does not stay.
        assert!(yubikey.card().memory().slot(0x9d).is_none());

        let key = create_as(&mut *device, Purpose::Open, &trusting(yubikey)).unwrap();
        assert_eq!(key.evidence.level, EvidenceLevel::Attested);
        key.evidence.check(&key).unwrap();
        assert_eq!(judged(&mut *device, &trusting(yubikey)).unwrap(), std::slice::from_ref(&key));
        // Without the root it is no evidence, and is still the key that it is.
        assert_eq!(judged(&mut *device, &CreateOptions::default()).unwrap_err().kind(), Kind::Evidence);
        let listed = device.keys(&mut Scripted::default()).unwrap();
        assert_eq!(listed[0].public, key.public);
        assert_eq!(listed[0].evidence.check(&listed[0]).unwrap_err().kind(), Kind::Evidence);
        open(&mut *device, &key, &mut Scripted::pin(PIN)).unwrap();
    });
}

#[test]
fn another_strangers_root_does_not_help() {
    isolated(stranger(), |yubikey| {
        let roots = yubikey.dir.join("others");
        std::fs::create_dir(&roots).unwrap();
        std::fs::write(roots.join("root.pem"), Authority::new("Somebody's Root CA", 3).pem()).unwrap();
        let options = CreateOptions { roots: Some(roots), ..CreateOptions::default() };
        let error = create_as(&mut *device(yubikey), Purpose::Open, &options).unwrap_err();
        assert_eq!(error.kind(), Kind::Evidence);
    });
}

#[test]
fn an_imported_key_is_refused_unless_taken_on_trust() {
    isolated(Options::default(), |yubikey| {
        import(SlotId::KeyManagement);
        let mut device = device_at(&format!("{};slot=9d", yubikey.uri()));
        let error = judged(&mut *device, &CreateOptions::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Evidence);
        assert!(error.message().starts_with("the key was imported"), "{error}");
        let listed = device.keys(&mut Scripted::default()).unwrap();
        assert_eq!(listed[0].evidence.check(&listed[0]).unwrap_err().kind(), Kind::Evidence);

        let key = judged(&mut *device, &on_trust()).unwrap().remove(0);
        assert_eq!(key.evidence.level, EvidenceLevel::Reported);
        key.evidence.check(&key).unwrap();
        assert!(key.evidence.claims.contains(&("generated".into(), false)));
        assert!(key.evidence.claims.contains(&("allow-unattested".into(), true)));
        open(&mut *device, &key, &mut Scripted::pin(PIN)).unwrap();
    });
}

#[test]
fn the_certificate_of_another_slot_is_no_evidence() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let [opens, signs] = [Purpose::Open, Purpose::Sign].map(|purpose| create(&mut *device, purpose));
        // It is not even a mark: the key is no longer known as ours, and its own attestation is asked for.
        let other = slot_certificate(&signs);
        write(SlotId::KeyManagement, &other);
        assert_eq!(device.keys(&mut Scripted::default()).unwrap(), [signs]);
        let named = device_at(&format!("{};slot=9d", yubikey.uri())).keys(&mut Scripted::default()).unwrap();
        assert_eq!(named[0].public, opens.public);
        named[0].evidence.check(&named[0]).unwrap();
    });
}

#[test]
fn the_certificate_of_another_card_is_no_evidence() {
    isolated(Options::default(), |yubikey| {
        // A card that shows another one's attestation certificate: what its own key signs does not chain to it.
        let other = yubikey.add(&Options { serial: 222, ..Options::default() });
        let mut second = device_at("piv:serial=222");
        let issuer = issuer_certificate(&create(&mut *second, Purpose::Open));
        drop(second);
        other.remove();
        write(SlotId::Attestation, &issuer);
        let error = create_as(&mut *device(yubikey), Purpose::Open, &CreateOptions::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Evidence, "{error}");
        assert_eq!(not_connected("piv:serial=222").kind(), Kind::DeviceGone);
    });
}

#[test]
fn a_slot_certificate_that_was_tampered_with_is_no_evidence() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create_as(&mut *device, Purpose::Open, &guarded_by("once", "never")).unwrap();
        let mut der = slot_certificate(&key);
        // The touch policy in it, from never to always: the last byte of Yubico's extension 8.
        let policies = [0x82, 0xc4, 0x0a, 0x03, 0x08, 0x04, 0x02, 0x02, 0x01];
        let at = der.windows(policies.len()).position(|window| window == policies).unwrap();
        der[at + policies.len() - 1] = 2;
        write(SlotId::KeyManagement, &der);
        let error = judged(&mut *device, &CreateOptions::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Evidence, "{error}");
    });
}

/// Yubico's extensions, by number: firmware, serial number, policies.
type Said = [(u8, Vec<u8>); 3];

#[test]
fn what_the_certificate_says_is_what_the_card_says() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create_as(&mut *device, Purpose::Open, &guarded_by("once", "never")).unwrap();
        // Somebody else's authority in place of the attestation key: what it says is well signed, and its root is trusted.
        let root = authority::Authority::root("Somebody's Root CA");
        let issuer = root.below("Yubico PIV Attestation", vec![authority::ca(true, Some(0))]);
        write(SlotId::Attestation, &issuer.certificate);
        let roots = yubikey.dir.join("somebodys");
        std::fs::create_dir(&roots).unwrap();
        std::fs::write(roots.join("root.pem"), authority::pem(&root.certificate)).unwrap();
        let options = CreateOptions { roots: Some(roots), ..CreateOptions::default() };

        let PublicKey::P256(point) = key.public else { panic!("{key:?}") };
        let judged_as = |point: &[u8], said: &Said| {
            let extensions = said.iter().map(|(number, value)| {
                (vec![0x2b, 6, 1, 4, 1, 0x82, 0xc4, 0x0a, 3, *number], false, value.clone())
            });
            let key = authority::ec_spki(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], point);
            let wish =
                authority::Wish { key, extensions: extensions.collect(), ..authority::Wish::default() };
            write(SlotId::KeyManagement, &issuer.issue(wish));
            let mut named = device_at(&format!("{};slot=9d", yubikey.uri()));
            judged(&mut *named, &options)
                .map(|keys| keys[0].evidence.level)
                .map_err(|error| error.message().to_owned())
        };
        let right: Said = [(3, vec![5, 7, 1]), (7, vec![2, 4, 0, 0xbc, 0x61, 0x4e]), (8, vec![2, 1])];
        assert_eq!(judged_as(&point, &right), Ok(EvidenceLevel::Attested));
        for (i, value, what) in [
            (0, vec![5, 7, 0], "firmware"),
            (0, vec![5, 7], "firmware"),
            (1, vec![2, 4, 0, 0xbc, 0x61, 0x4f], "serial number"),
            (1, vec![2, 5, 1, 0, 0xbc, 0x61, 0x4e], "serial number"),
            (1, vec![], "serial number"),
            (2, vec![2, 2], "PIN policy or touch policy"),
            (2, vec![1, 1], "PIN policy or touch policy"),
            (2, vec![2, 1, 1], "PIN policy or touch policy"),
        ] {
            let mut said = right.clone();
            said[i].1 = value;
            assert_eq!(judged_as(&point, &said), Err(format!("its attestation is for another {what}")));
        }
    });
}

/// The two certificates in a key's material: CBOR of three items, a version and two byte strings.
fn certificates(key: &KeyInfo) -> [Vec<u8>; 2] {
    let mut decoder = minicbor::Decoder::new(&key.material);
    assert_eq!((decoder.array().unwrap(), decoder.u8().unwrap()), (Some(3), 1));
    let certificates = [decoder.bytes().unwrap().to_vec(), decoder.bytes().unwrap().to_vec()];
    assert_eq!(decoder.position(), key.material.len());
    certificates
}

fn slot_certificate(key: &KeyInfo) -> Vec<u8> {
    let [slot, _] = certificates(key);
    slot
}

fn issuer_certificate(key: &KeyInfo) -> Vec<u8> {
    let [_, issuer] = certificates(key);
    issuer
}
