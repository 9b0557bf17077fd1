//! What every driver promises, whatever the device. A driver's tests instantiate it with one line per algorithm.

use crate::prompter::Scripted;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use rand_core::{OsRng, RngCore};
use strongroom::device::{
    Algorithm, CreateOptions, Device, EvidenceLevel, KeyInfo, KeyRef, PrivateOperation, PublicKey, Purpose,
};
use strongroom::error::Kind;

/// A device without keys, for one run of the suite, which leaves it without keys.
pub trait Bench {
    /// Connects to it. Several connections are to the same device.
    fn device(&self) -> Box<dyn Device>;
    /// A prompter that knows the PIN.
    fn prompter(&self) -> Scripted;
    /// The algorithm of the opening key.
    fn algorithm(&self) -> Algorithm;
    /// That of the signing key.
    fn signing(&self) -> Algorithm {
        Algorithm::P256
    }
    /// What its keys are made with.
    fn options(&self) -> CreateOptions {
        CreateOptions::default()
    }
    /// Whether its keys want a PIN.
    fn asks(&self) -> bool {
        true
    }
    /// Whether keys lie in the device. Else they lie in their enrolments, and the device knows them again.
    fn keeps_keys(&self) -> bool {
        true
    }
}

/// The whole suite.
pub fn conforms(bench: &dyn Bench) {
    has_an_identity(bench);
    starts_empty(bench);
    let (opens, signs) = creates(bench);
    lists_what_it_created(bench, &opens, &signs);
    opens_what_was_sealed(bench, &opens);
    signs_digests(bench, &signs);
    asks_for_the_pin_once(bench, &opens, &signs);
    refuses_garbage(bench, &opens);
    refuses_other_keys(bench, &opens, &signs);
    works_in_parallel(bench, &opens);
    destroys(bench, &opens, &signs);
}

fn has_an_identity(bench: &dyn Bench) {
    let mut device = bench.device();
    let identity = device.identity();
    assert!(!identity.maker.is_empty() && !identity.label.is_empty(), "{identity:?}");
    assert!(!device.name().contains("module-path") && !device.name().contains("pin-source"));
}

fn starts_empty(bench: &dyn Bench) {
    let mut device = bench.device();
    let mut prompter = bench.prompter();
    for _ in 0..2 {
        assert_eq!(device.keys(&mut prompter).unwrap(), []);
    }
}

fn creates(bench: &dyn Bench) -> (KeyInfo, KeyInfo) {
    let mut device = bench.device();
    let prompter = &mut bench.prompter();
    let provision = device.provisioning().expect("a device on the bench makes keys");
    assert!(provision.algorithms(Purpose::Open).unwrap().contains(&bench.algorithm()));
    assert!(provision.algorithms(Purpose::Sign).unwrap().contains(&bench.signing()));
    let opens = provision.create(Purpose::Open, bench.algorithm(), &bench.options(), prompter).unwrap();
    let signs = provision.create(Purpose::Sign, bench.signing(), &bench.options(), prompter).unwrap();
    assert_eq!((opens.purpose, signs.purpose), (Purpose::Open, Purpose::Sign));
    assert_eq!((opens.public.algorithm(), signs.public.algorithm()), (bench.algorithm(), bench.signing()));
    assert_ne!(opens.public, signs.public);
    for key in [&opens, &signs] {
        key.evidence.check(key).unwrap();
    }

    let again = provision.create(Purpose::Open, bench.algorithm(), &bench.options(), prompter);
    match bench.keeps_keys() {
        true => assert_eq!(again.unwrap_err().kind(), Kind::Conflict),
        false => assert_ne!(again.unwrap().public, opens.public),
    }
    let aes = provision.create(Purpose::Sign, Algorithm::Aes256, &CreateOptions::default(), prompter);
    assert_eq!(aes.unwrap_err().kind(), Kind::Unsupported);
    (opens, signs)
}

fn lists_what_it_created(bench: &dyn Bench, opens: &KeyInfo, signs: &KeyInfo) {
    let mut device = bench.device();
    let (keys, both) = (device.keys(&mut bench.prompter()).unwrap(), [opens.clone(), signs.clone()]);
    match bench.keeps_keys() {
        true => assert_eq!(keys, both),
        false => assert_eq!(keys, []),
    }
    for key in &both {
        let mut other = KeyRef::from(key);
        assert!(device.has_key(&other, &mut bench.prompter()).unwrap());
        other.public = stranger();
        assert!(!device.has_key(&other, &mut bench.prompter()).unwrap());
    }
    for key in both {
        let simulator = key.evidence.level == EvidenceLevel::Simulator;
        assert_eq!(simulator, device.identity().simulator);
        key.uri.parse::<strongroom::uri::DeviceUri>().unwrap();
    }
}

fn opens_what_was_sealed(bench: &dyn Bench, opens: &KeyInfo) {
    let mut device = bench.device();
    for _ in 0..3 {
        opens_once(&mut *device, bench, opens);
    }
    // One point in 256 looks like its own DER encoding: the byte after the 4 is the length of the rest.
    if let PublicKey::P256(_) = &opens.public {
        let looks_like_der = |(peer, _): &(Vec<u8>, Vec<u8>)| usize::from(peer[1]) == peer.len() - 2;
        let (peer, expected) =
            std::iter::repeat_with(|| exchange(&opens.public)).find(looks_like_der).unwrap();
        let challenge = PrivateOperation::Ecdh { peer: &peer };
        let shared = device.open_key(&KeyRef::from(opens), challenge, &mut bench.prompter()).unwrap();
        assert_eq!(shared[..], expected);
    }
}

/// One challenge with a known answer.
pub fn opens_once(device: &mut dyn Device, bench: &dyn Bench, opens: &KeyInfo) {
    let (key, prompter) = (&KeyRef::from(opens), &mut bench.prompter());
    let mut secret = [0; 16];
    OsRng.fill_bytes(&mut secret);
    match &opens.public {
        PublicKey::P256(_) | PublicKey::P384(_) => {
            let (peer, expected) = exchange(&opens.public);
            let shared = device.open_key(key, PrivateOperation::Ecdh { peer: &peer }, prompter).unwrap();
            assert_eq!(shared[..], expected);
        }
        PublicKey::Rsa { .. } => opens_rsa(device, opens, prompter).unwrap(),
        PublicKey::RsaPss { .. } => panic!("it opens nothing"),
        PublicKey::Aes256 { .. } => {
            let (iv, aad) = ([7; 12], b"context");
            let ciphertext = device.wrapping().unwrap().wrap(key, &iv, aad, &secret, prompter).unwrap();
            assert_eq!(ciphertext.len(), 32);
            let challenge = PrivateOperation::AesGcm { iv: &iv, aad, ciphertext: &ciphertext };
            assert_eq!(device.open_key(key, challenge, prompter).unwrap()[..], secret);
        }
    }
}

/// What was sealed to an RSA key comes out.
pub fn opens_rsa(device: &mut dyn Device, key: &KeyInfo, prompter: &mut Scripted) -> strongroom::Result<()> {
    let PublicKey::Rsa { n, e, oaep } = &key.public else { panic!("no RSA key") };
    let mut secret = [0; 16];
    OsRng.fill_bytes(&mut secret);
    let ciphertext = public_rsa(n, e).encrypt(&mut OsRng, oaep.padding(), &secret).unwrap();
    let challenge = PrivateOperation::Oaep { hash: *oaep, ciphertext: &ciphertext };
    assert_eq!(device.open_key(&key.into(), challenge, prompter)?[..], secret);
    Ok(())
}

fn public_rsa(n: &[u8], e: &[u8]) -> rsa::RsaPublicKey {
    rsa::RsaPublicKey::new(rsa::BigUint::from_bytes_be(n), rsa::BigUint::from_bytes_be(e)).unwrap()
}

/// A peer's point on the key's curve, and the x-coordinate that is agreed on with it.
pub fn exchange(key: &PublicKey) -> (Vec<u8>, Vec<u8>) {
    match key {
        PublicKey::P256(point) => {
            let ours = p256::ecdh::EphemeralSecret::random(&mut OsRng);
            let theirs = p256::PublicKey::from_sec1_bytes(point).unwrap();
            let peer = ours.public_key().to_encoded_point(false).as_bytes().to_vec();
            (peer, ours.diffie_hellman(&theirs).raw_secret_bytes().to_vec())
        }
        PublicKey::P384(point) => {
            let ours = p384::ecdh::EphemeralSecret::random(&mut OsRng);
            let theirs = p384::PublicKey::from_sec1_bytes(point).unwrap();
            let peer = ours.public_key().to_encoded_point(false).as_bytes().to_vec();
            (peer, ours.diffie_hellman(&theirs).raw_secret_bytes().to_vec())
        }
        other => panic!("{other:?} agrees on nothing"),
    }
}

fn signs_digests(bench: &dyn Bench, signs: &KeyInfo) {
    let mut device = bench.device();
    for byte in [0, 1, 0xff] {
        signs_once(&mut *device, &signs.into(), byte, &mut bench.prompter()).unwrap();
    }
}

/// A signature over a digest of this byte, which verifies.
pub fn signs_once(
    device: &mut dyn Device,
    key: &KeyRef,
    byte: u8,
    prompter: &mut Scripted,
) -> strongroom::Result<()> {
    match &key.public {
        PublicKey::P256(point) => {
            let signature = device.sign(key, &[byte; 32], prompter)?;
            let public = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).unwrap();
            let signature = p256::ecdsa::Signature::from_slice(&signature).unwrap();
            public.verify_prehash(&[byte; 32], &signature).unwrap();
        }
        PublicKey::P384(point) => {
            let signature = device.sign(key, &[byte; 48], prompter)?;
            let public = p384::ecdsa::VerifyingKey::from_sec1_bytes(point).unwrap();
            let signature = p384::ecdsa::Signature::from_slice(&signature).unwrap();
            public.verify_prehash(&[byte; 48], &signature).unwrap();
        }
        PublicKey::RsaPss { n, e } => {
            let signature = device.sign(key, &[byte; 32], prompter)?;
            assert_eq!(signature.len(), n.len());
            let padding = rsa::Pss::new_with_salt::<sha2::Sha256>(32);
            public_rsa(n, e).verify(padding, &[byte; 32], &signature).unwrap();
        }
        other => panic!("{other:?} signs nothing"),
    }
    Ok(())
}

fn asks_for_the_pin_once(bench: &dyn Bench, opens: &KeyInfo, signs: &KeyInfo) {
    let (mut device, mut other) = (bench.device(), bench.device());
    let mut prompter = bench.prompter();
    for device in [&mut device, &mut other] {
        signs_once(&mut **device, &signs.into(), 1, &mut prompter).unwrap();
        signs_once(&mut **device, &signs.into(), 2, &mut prompter).unwrap();
    }
    let once = usize::from(bench.asks());
    assert_eq!(prompter.pins, once);

    // Locked is locked for the whole process, and asks again.
    device.lock();
    let silent = signs_once(&mut *other, &signs.into(), 3, &mut Scripted::default());
    match bench.asks() {
        true => assert_eq!(silent.unwrap_err().kind(), Kind::PinUnavailable),
        false => silent.unwrap(),
    }
    signs_once(&mut *device, &signs.into(), 3, &mut prompter).unwrap();
    signs_once(&mut *other, &signs.into(), 3, &mut prompter).unwrap();
    assert_eq!(prompter.pins, 2 * once);
    opens_once(&mut *device, bench, opens);
}

fn refuses_garbage(bench: &dyn Bench, opens: &KeyInfo) {
    let mut device = bench.device();
    let (key, prompter) = (&KeyRef::from(opens), &mut bench.prompter());
    let zeroes = [0; 97];
    let challenge = match &opens.public {
        PublicKey::P256(_) => PrivateOperation::Ecdh { peer: &zeroes[..65] },
        PublicKey::P384(_) => PrivateOperation::Ecdh { peer: &zeroes },
        PublicKey::Rsa { n, oaep, .. } => {
            PrivateOperation::Oaep { hash: *oaep, ciphertext: &vec![1; n.len()] }
        }
        PublicKey::RsaPss { .. } => panic!("it opens nothing"),
        PublicKey::Aes256 { .. } => PrivateOperation::AesGcm { iv: &[0; 12], aad: b"", ciphertext: &[0; 32] },
    };
    for _ in 0..2 {
        let error = device.open_key(key, challenge, prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::Device, "{error}");
    }
    assert!(prompter.pins <= 1, "garbage is no reason to log in again");
    opens_once(&mut *device, bench, opens);
}

fn refuses_other_keys(bench: &dyn Bench, opens: &KeyInfo, signs: &KeyInfo) {
    let mut device = bench.device();
    for material in [Vec::new(), signs.material.clone()] {
        let other = KeyRef { purpose: Purpose::Sign, public: stranger(), material };
        let error = device.sign(&other, &[0; 32], &mut bench.prompter()).unwrap_err();
        assert_eq!(error.kind(), Kind::KeyMissing, "{error}");
    }
    signs_once(&mut *device, &signs.into(), 0, &mut bench.prompter()).unwrap();
    opens_once(&mut *device, bench, opens);
}

/// Some other key.
fn stranger() -> PublicKey {
    let point = p256::SecretKey::random(&mut OsRng).public_key().to_encoded_point(false);
    PublicKey::P256(point.as_bytes().try_into().unwrap())
}

fn works_in_parallel(bench: &dyn Bench, opens: &KeyInfo) {
    let mut device = bench.device();
    opens_once(&mut *device, bench, opens);
    let Some(parallel) = device.parallel() else { return };
    assert!((1..=64).contains(&parallel.max_sessions(&opens.into())));
    let lanes: Vec<_> = (0..3).map(|_| parallel.clone_session().unwrap()).collect();
    let threads: Vec<_> = lanes
        .into_iter()
        .map(|mut lane| {
            let opens = opens.clone();
            std::thread::spawn(move || {
                // Nobody answers: the login is shared.
                let silent = Silenced;
                (0..5).for_each(|_| opens_once(&mut *lane, &silent, &opens));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A bench whose prompter has no PIN.
struct Silenced;

impl Bench for Silenced {
    fn device(&self) -> Box<dyn Device> {
        unreachable!()
    }
    fn prompter(&self) -> Scripted {
        Scripted::default()
    }
    fn algorithm(&self) -> Algorithm {
        unreachable!()
    }
}

fn destroys(bench: &dyn Bench, opens: &KeyInfo, signs: &KeyInfo) {
    let mut device = bench.device();
    let prompter = &mut bench.prompter();
    if !bench.keeps_keys() {
        let error = device.provisioning().unwrap().destroy(opens, prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        return opens_once(&mut *device, bench, opens);
    }
    for key in [opens, signs] {
        device.provisioning().unwrap().destroy(key, prompter).unwrap();
    }
    assert_eq!(device.keys(prompter).unwrap(), []);
    let error = signs_once(&mut *device, &signs.into(), 0, prompter).unwrap_err();
    assert_eq!(error.kind(), Kind::KeyMissing);
    let anew = device
        .provisioning()
        .unwrap()
        .create(Purpose::Open, bench.algorithm(), &CreateOptions::default(), prompter)
        .unwrap();
    assert_ne!(anew.public, opens.public);
    opens_once(&mut *device, bench, &anew);
    device.provisioning().unwrap().destroy(&anew, prompter).unwrap();
}
