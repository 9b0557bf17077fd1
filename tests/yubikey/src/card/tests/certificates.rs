//! What attestations say, and who signed them.

use super::{Authority, Bench, simulator_root};
use crate::key::Key;
use crate::tlv;
use p256::ecdsa::signature::Verifier;

/// Whether a certificate is signed by the holder of this point.
fn is_signed_by(certificate: &[u8], point: &[u8]) -> bool {
    let (_, inside, _) = tlv::take(certificate).unwrap();
    let (_, _, rest) = tlv::take(inside).unwrap();
    let to_be_signed = &inside[..inside.len() - rest.len()];
    let signature = p256::ecdsa::Signature::from_der(&tlv::find(inside, 3).unwrap()[1..]).unwrap();
    p256::ecdsa::VerifyingKey::from_sec1_bytes(point).unwrap().verify(to_be_signed, &signature).is_ok()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn attestation_key(bench: &mut Bench) -> (Vec<u8>, Vec<u8>) {
    let object = bench.ok([0xcb, 0x3f, 0xff], &[0x5c, 3, 0x5f, 0xff, 1]);
    let certificate = tlv::find(tlv::find(&object, 0x53).unwrap(), 0x70).unwrap().to_vec();
    (certificate, bench.card.memory().slot(0xf9).unwrap().key().unwrap().point())
}

#[test]
fn a_chain_leads_from_the_slot_to_the_simulators_root() {
    let mut bench = Bench::new([5, 4, 3]);
    bench.manage();
    let point = bench.generate(0x9d, 3, 2);
    let leaf = bench.ok([0xf9, 0x9d, 0], &[]);
    let (intermediate, attestation) = attestation_key(&mut bench);
    assert!(is_signed_by(&leaf, &attestation) && is_signed_by(&intermediate, &simulator_root().point()));
    assert!(!is_signed_by(&leaf, &point));

    assert!(contains(&leaf, &point) && contains(&leaf, b"YubiKey PIV Attestation 9d"));
    let arc = |number| [&[0x06, 0x0a, 0x2b, 6, 1, 4, 1, 0x82, 0xc4, 0x0a, 3, number][..], &[4]].concat();
    for (number, value) in
        [(3, &[3, 5, 4, 3][..]), (7, &[4, 2, 2, 0x27, 0x11]), (8, &[2, 3, 2]), (9, &[1, 1])]
    {
        assert!(contains(&leaf, &[&arc(number), value].concat()), "extension {number}");
    }
}

#[test]
fn imported_keys_are_not_attested() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    bench.ok([0xfe, 0x11, 0x9d], &tlv::encode(6, &[7; 32]));
    assert_eq!(bench.status([0xf9, 0x9d, 0], &[]), 0x6a80);
    assert_eq!(bench.status([0xf9, 0x9c, 0], &[]), 0x6a88);
    let metadata = bench.ok([0xf7, 0, 0x9d], &[]);
    assert_eq!(tlv::find(&metadata, 3), Some(&[2][..]));
}

#[test]
fn the_root_is_always_the_same_and_a_stranger_is_another() {
    let root = simulator_root();
    assert_eq!(root.certificate(), simulator_root().certificate());
    assert_eq!(root.pem(), include_str!("../../../root.pem"));
    let stranger = Authority::new("Yubico PIV Root CA Serial 263751", 2);
    assert!(!is_signed_by(&stranger.certificate(), &simulator_root().point()));
    assert!(is_signed_by(&root.certificate(), &simulator_root().point()));
}

#[test]
fn other_kinds_of_keys_are_attested_too() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    for (slot, algorithm) in [(0x82, 0x07), (0x83, 0x14)] {
        bench.ok([0x47, 0, slot], &tlv::encode(0xac, &[0x80, 1, algorithm]));
        let (leaf, (_, attestation)) = (bench.ok([0xf9, slot, 0], &[]), attestation_key(&mut bench));
        assert!(is_signed_by(&leaf, &attestation));
        let public = bench.card.memory().slot(slot).unwrap().key().unwrap();
        let inside = match &public {
            Key::Rsa(_) => tlv::find(&public.public(), 0x81).unwrap().to_vec(),
            _ => public.point(),
        };
        assert!(contains(&leaf, &inside));
    }
}
