use super::*;
use crate::device::Purpose;
use crate::device::tpm::signed_policy::Signer;

/// A public area with a point, which the templates leave open.
fn public(purpose: Purpose) -> Public {
    let mut public = templates::key(purpose, [3; 32], false).unwrap();
    if let Public::Ecc { unique, .. } = &mut public {
        let generator = p256::EncodedPoint::from(p256::PublicKey::from(
            p256::SecretKey::from_slice(&[1; 32]).unwrap().public_key(),
        ));
        let half = |bytes: &[u8]| tss_esapi::structures::EccParameter::try_from(bytes.to_vec()).unwrap();
        *unique =
            tss_esapi::structures::EccPoint::new(half(generator.x().unwrap()), half(generator.y().unwrap()));
    }
    public
}

fn blob(purpose: Purpose) -> WrappedKey {
    WrappedKey { public: public(purpose), private: Private::try_from(vec![7; 126]).unwrap() }
}

fn plain() -> KeyBlob {
    KeyBlob {
        key: blob(Purpose::Open),
        parent: ParentKey { handle: templates::SRK, name: [9; 34] },
        policy: Policy::default(),
        persistent: None,
    }
}

/// `[bank, [[index, value]]]`
fn pcrs() -> crate::device::tpm::pcr::Pcrs {
    let bytes = [&[0x82, 0x0b, 0x81, 0x82, 0x07, 0x58, 0x20][..], &[5; 32]].concat();
    crate::device::tpm::pcr::Pcrs::read(&mut Decoder::new(&bytes)).unwrap()
}

fn full() -> KeyBlob {
    let signer = Signer { public: public(Purpose::Sign), reference: b"release".to_vec() };
    KeyBlob {
        key: blob(Purpose::Sign),
        policy: Policy { pcrs: Some(pcrs()), signer: Some(signer), pin: true },
        persistent: Some(0x8101_0001),
        ..plain()
    }
}

#[test]
fn what_is_written_is_read() {
    for material in [plain(), full()] {
        let bytes = material.encode().unwrap();
        assert_eq!(KeyBlob::decode(&bytes).unwrap(), material);
        assert!(bytes.len() < 1024, "{} bytes", bytes.len());
    }
}

/// What was written once is read for ever.
#[test]
fn the_form_stays() {
    const WRITTEN: &str = include_str!("../../../../tests/vectors/material/tpm.hex");
    let mut lines = WRITTEN.lines();
    for material in [plain(), full()] {
        assert_eq!(lines.next(), Some(hex::encode(material.encode().unwrap()).as_str()));
    }
    for line in WRITTEN.lines() {
        KeyBlob::decode(&hex::decode(line).unwrap()).unwrap();
    }
}

#[test]
fn another_form_is_refused() {
    let bytes = full().encode().unwrap();
    for end in 0..bytes.len() {
        assert_eq!(KeyBlob::decode(&bytes[..end]).unwrap_err().kind(), Kind::KeyMissing, "{end}");
    }
    assert_eq!(KeyBlob::decode(&[&bytes[..], &[0]].concat()).unwrap_err().kind(), Kind::KeyMissing);
    // The version in two bytes where one would do.
    let long = [&[0x86, 0x18, 0x01], &bytes[2..]].concat();
    assert_eq!(KeyBlob::decode(&long).unwrap_err().kind(), Kind::KeyMissing);
    // A newer version, of whatever shape.
    for newer in [&[0x86, 0x02][..], &[0x81, 0x18, 0x63]] {
        assert_eq!(KeyBlob::decode(newer).unwrap_err().kind(), Kind::Unsupported);
    }
}

#[test]
fn material_belongs_to_its_key() {
    let material = plain();
    let point = templates::point(&material.key.public).unwrap();
    let mut key = KeyRef {
        purpose: Purpose::Open,
        public: PublicKey::P256(point),
        material: material.encode().unwrap(),
    };
    assert_eq!(KeyBlob::from_key_ref(&key).unwrap(), material);
    key.public = PublicKey::Aes256 { id: [0; 16] };
    assert_eq!(KeyBlob::from_key_ref(&key).unwrap_err().kind(), Kind::KeyMissing);
}

/// authPolicy, step by step, as `tpm2_policypcr`, `tpm2_policyauthvalue` and `tpm2_policycommandcode` compute it in a trial session.
#[test]
fn a_policy_has_the_tpms_digest() {
    let plain = Policy::default();
    // printf '%064d0000016c00000154' | xxd -r -p | sha256sum
    assert_eq!(
        hex::encode(plain.digest(Purpose::Open).unwrap()),
        "0c11363c71899119d72561c95521671ad0f022930115783265edf59bd864416c"
    );
    assert_ne!(plain.digest(Purpose::Open).unwrap(), plain.digest(Purpose::Sign).unwrap());
}
