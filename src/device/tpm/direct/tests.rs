//! The same bytes as tpm2-tss sends for the same nonces, and responses that are refused.

use super::frame::{Command, Response, response_code};
use super::marshal::{Reader, Writer};
use super::messages::{ecdh_z_gen, list, pcr_values, sign, start};
use super::session;
use super::session::{CONTINUE, DECRYPT, ENCRYPT, Salt, Session};
use crate::device::tpm::kdf::SHA256;
use crate::device::tpm::key_blob::KeyBlob;
use crate::device::tpm::policy::{ECDH_ZGEN, SIGN};
use crate::device::tpm::templates::{self, name_of};
use crate::device::{
    Algorithm, CreateOptions, KeyInfo, KeyRef, PrivateOperation, PublicKey, Purpose, TpmOptions, connect,
};
use crate::prompt::BatchPrompter;
use p256::elliptic_curve::sec1::{FromEncodedPoint, ToEncodedPoint};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command as Process;
use std::sync::{Arc, Mutex};
use test_support::swtpm::{Swtpm, run};
use test_support::tpm_relay::{READ_PUBLIC, Relay, START_AUTH_SESSION, code};
use zeroize::Zeroizing;

const PIN: &str = "correct horse";

/// Commands and responses.
type Traffic = Vec<(Vec<u8>, Vec<u8>)>;

/// A swtpm behind an interposer, who puts a storage root key of his own in place of the TPM's, so that he knows the salt.
struct Interposed {
    tpm: Swtpm,
    relay: Relay,
    own: p256::SecretKey,
    traffic: Arc<Mutex<Traffic>>,
}

impl Interposed {
    fn new() -> Option<Self> {
        let tpm = Swtpm::new()?;
        std::fs::write(tpm.dir.join("pin"), PIN).unwrap();
        let (relay, own) = (Relay::before(&tpm), p256::SecretKey::random(&mut rand_core::OsRng));
        let this = Self { tpm, relay, own, traffic: Arc::default() };
        Some(this)
    }

    fn uri(&self, more: &str) -> crate::uri::DeviceUri {
        let pin = self.tpm.dir.join("pin");
        format!("{}&pin-source=file:{}{more}", self.relay.uri(), pin.display()).parse().unwrap()
    }

    fn make(&self, purpose: Purpose, options: &TpmOptions) -> KeyInfo {
        let options = CreateOptions { tpm: options.clone(), ..CreateOptions::default() };
        let mut device = connect(&self.uri("")).unwrap();
        let provision = device.provisioning().unwrap();
        provision.create(purpose, Algorithm::P256, &options, &mut BatchPrompter).unwrap()
    }

    /// The same key, enrolled under the interposer's storage root key.
    fn under_own(&self, key: &KeyInfo) -> KeyInfo {
        let read = Command::new("", READ_PUBLIC, Some(templates::SRK)).plain();
        let mut response = self.relay.send(&read);
        replace_point(&mut response, &self.own.public_key());
        let mut blob = KeyBlob::decode(&key.material).unwrap();
        blob.parent.name = name_of(Reader(&response[10..]).sized().unwrap());
        KeyInfo { material: blob.encode().unwrap(), ..key.clone() }
    }

    /// Uses the key, which fails in the end: the TPM derives another salt.
    fn record(&self, key: &KeyInfo, more: &str) -> Traffic {
        let (traffic, own) = (Arc::clone(&self.traffic), self.own.public_key());
        traffic.lock().unwrap().clear();
        self.relay.act(move |command, forward| {
            let mut response = forward(command);
            if code(command) == READ_PUBLIC && command.ends_with(&templates::SRK.to_be_bytes()) {
                replace_point(&mut response, &own);
            }
            traffic.lock().unwrap().push((command.to_vec(), response.clone()));
            response
        });
        let mut device = connect(&self.uri(more)).unwrap();
        let key_ref = KeyRef::from(key);
        let error = match key.purpose {
            Purpose::Open => {
                let peer = point(key);
                device.open_key(&key_ref, PrivateOperation::Ecdh { peer: &peer }, &mut BatchPrompter).err()
            }
            Purpose::Sign => device.sign(&key_ref, &[7; 32], &mut BatchPrompter).err(),
        };
        // TPM_RC_AUTH_FAIL, or TPM_RC_BAD_AUTH without a PIN.
        let error = error.unwrap();
        assert!(error.message().contains("_AUTH"), "{error}");
        drop(device);
        self.relay.pass();
        // TPM2_DictionaryAttackLockReset(TPM_RH_LOCKOUT): the PIN counted as a wrong one.
        self.relay.send(&Command::new("", 0x139, Some(0x4000_000a)).by_empty_password());
        std::mem::take(&mut self.traffic.lock().unwrap())
    }
}

fn point(key: &KeyInfo) -> [u8; 65] {
    match key.public {
        PublicKey::P256(point) => point,
        _ => panic!("{key:?}"),
    }
}

/// The point is the end of the public area: two coordinates with their sizes.
fn replace_point(response: &mut [u8], key: &p256::PublicKey) {
    let own = key.to_encoded_point(false);
    let end = 12 + Reader(&response[10..]).sized().unwrap().len();
    response[end - 32..end].copy_from_slice(own.y().unwrap());
    response[end - 66..end - 34].copy_from_slice(own.x().unwrap());
}

fn by_code(traffic: &Traffic) -> BTreeMap<u32, BTreeSet<&[u8]>> {
    let mut all = BTreeMap::<_, BTreeSet<_>>::new();
    for (command, _) in traffic {
        all.entry(code(command)).or_default().insert(&command[..]);
    }
    all
}

/// What both clients send, for a key of this kind.
fn compare(interposed: &Interposed, options: &TpmOptions, more: &str) {
    for purpose in [Purpose::Open, Purpose::Sign] {
        let key = interposed.under_own(&interposed.make(purpose, options));
        let theirs = interposed.record(&key, &format!("{more}&client=tpm2-tss"));
        let ours = interposed.record(&key, more);
        let use_of_key = if purpose == Purpose::Open { ECDH_ZGEN } else { SIGN };
        let (all, of_tss) = (by_code(&ours), by_code(&theirs));
        for fresh in [START_AUTH_SESSION, use_of_key] {
            assert!(all.contains_key(&fresh) && of_tss.contains_key(&fresh), "{fresh:#x}");
        }
        for (code, commands) in
            all.iter().filter(|(code, _)| ![START_AUTH_SESSION, use_of_key].contains(code))
        {
            assert_eq!(of_tss.get(code), Some(commands), "{code:#x}");
        }
        for traffic in [&theirs, &ours] {
            rebuilt(interposed, &key, options.pin.then_some(PIN), traffic);
        }
    }
}

/// The commands with fresh nonces, rebuilt from the nonces that were sent.
fn rebuilt(interposed: &Interposed, key: &KeyInfo, pin: Option<&str>, traffic: &Traffic) {
    let sent = |wanted| traffic.iter().find(|(command, _)| code(command) == wanted).unwrap();
    let (started, response) = sent(START_AUTH_SESSION);
    let mut reader = Reader(&started[18..]);
    let (nonce, encrypted) = (reader.sized().unwrap().try_into().unwrap(), reader.sized().unwrap());
    assert_eq!(&start(templates::SRK, &nonce, encrypted).plain(), started);

    let response = Response::parse(response, true, false).unwrap();
    let salt = Salt { encrypted: encrypted.into(), secret: salt(&interposed.own, encrypted) };
    let nonce_tpm = Reader(response.parameters).sized().unwrap();
    let session = Session::new(response.handle.unwrap(), &salt, &nonce, nonce_tpm);

    let opens = key.purpose == Purpose::Open;
    let (used, _) = sent(if opens { ECDH_ZGEN } else { SIGN });
    let (handle, nonce) = (u32::from_be_bytes(used[10..14].try_into().unwrap()), &used[24..56]);
    let attributes = CONTINUE | DECRYPT | if opens { ENCRYPT } else { 0 };
    let by = session.begin(pin.map(str::as_bytes), nonce.try_into().unwrap(), attributes);
    let command = if opens { ecdh_z_gen(handle, &point(key)) } else { sign(handle, &[7; 32]) };
    let name = templates::name(&KeyBlob::decode(&key.material).unwrap().key.public).unwrap();
    assert_eq!(hex::encode(command.by_session(&session, &by, &name).unwrap()), hex::encode(used));
}

/// The salt in an encrypted secret, as its key's owner derives it.
fn salt(own: &p256::SecretKey, encrypted: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut reader = Reader(encrypted);
    let (x, y) = (reader.sized().unwrap(), reader.sized().unwrap());
    let point = p256::EncodedPoint::from_affine_coordinates(x.into(), y.into(), false);
    let theirs = p256::PublicKey::from_encoded_point(&point).unwrap();
    let shared = p256::ecdh::diffie_hellman(own.to_nonzero_scalar(), theirs.as_affine());
    let own = own.public_key().to_encoded_point(false);
    SHA256.kdfe(shared.raw_secret_bytes(), "SECRET", x, own.x().unwrap())
}

#[test]
fn every_byte_is_what_tpm2_tss_sends() {
    let Some(interposed) = Interposed::new() else { return };
    compare(&interposed, &TpmOptions::default(), "");
    compare(&interposed, &TpmOptions { pcrs: Some("sha256:0,7".into()), ..TpmOptions::default() }, "");
    compare(&interposed, &TpmOptions { persistent: Some(0x8101_0040), ..TpmOptions::default() }, "");
    let pin = TpmOptions { pin: true, pcrs: Some("sha1:23".into()), ..TpmOptions::default() };
    compare(&interposed, &pin, "");
}

#[test]
fn every_byte_of_a_signed_policy_is_what_tpm2_tss_sends() {
    for algorithm in [["EC", "ec_paramgen_curve:P-256"], ["RSA", "rsa_keygen_bits:2048"]] {
        let Some(interposed) = Interposed::new() else { return };
        let path = |name: &str| interposed.tpm.dir.join(name);
        run(Process::new("openssl")
            .args(["genpkey", "-algorithm", algorithm[0], "-pkeyopt", algorithm[1], "-out"])
            .arg(path("key")));
        run(Process::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(path("key"))
            .arg("-out")
            .arg(path("pub")));
        let options = TpmOptions {
            pcrs: Some("sha256:7".into()),
            pcr_policy_key: Some(path("pub")),
            ..TpmOptions::default()
        };
        let key = interposed.make(Purpose::Open, &options);
        std::fs::write(path("signatures"), "{}").unwrap();
        let with_signatures = format!("&pcr-signature={}", path("signatures").display());
        let mut device = connect(&interposed.uri(&with_signatures)).unwrap();
        let measured = device.pcr_binding().unwrap().measure(&KeyRef::from(&key), &[]).unwrap().unwrap();
        drop(device);
        std::fs::write(path("pol"), measured.policy_digest).unwrap();
        run(Process::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(path("key"))
            .arg("-out")
            .arg(path("sig"))
            .arg(path("pol")));
        use base64::Engine;
        let signature = base64::prelude::BASE64_STANDARD.encode(std::fs::read(path("sig")).unwrap());
        let entry =
            serde_json::json!({"pcrs": [7], "pol": hex::encode(measured.policy_digest), "sig": signature});
        std::fs::write(path("signatures"), serde_json::json!({"sha256": [entry]}).to_string()).unwrap();
        compare(&interposed, &options, &with_signatures);
    }
}

/// A session, a command under it, and a sound response as a TPM makes it.
fn answered() -> (Session, session::Authorization, Vec<u8>, Vec<u8>) {
    let salt = Salt { encrypted: Vec::new(), secret: Zeroizing::new(vec![1; 32]) };
    let session = Session::new(0x0300_0000, &salt, &[2; 32], &[3; 32]);
    let by = session.begin(Some(b"pin"), [4; 32], CONTINUE | DECRYPT | ENCRYPT);
    let parameters = Writer::default().sized(&[5; 20]).0;
    let authorization = session.respond(&by, ECDH_ZGEN, &parameters, &[6; 32]);
    (session, by, parameters, authorization)
}

#[test]
fn a_response_that_is_wrong_by_a_bit_is_refused() {
    let (mut session, by, parameters, authorization) = answered();
    let mut all = [&parameters[..], &authorization].concat();
    let verify = |session: &mut Session, all: &[u8]| {
        let (parameters, authorization) = all.split_at(parameters.len());
        session.verify(&by, ECDH_ZGEN, parameters, authorization)
    };
    for bit in 0..all.len() * 8 {
        all[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify(&mut session, &all), None, "bit {bit}");
        all[bit / 8] ^= 1 << (bit % 8);
    }
    for cut in parameters.len()..all.len() {
        assert_eq!(verify(&mut session, &all[..cut]), None, "cut at {cut}");
    }
    assert_eq!(verify(&mut session, &[&all[..], &[0]].concat()), None);
    assert_eq!(session.verify(&by, SIGN, &parameters, &authorization), None, "to another command");
    assert_eq!(verify(&mut session, &all), Some(()));
    assert_eq!(verify(&mut session, &all), Some(()), "the nonces are the response's own");
}

#[test]
fn frames_that_are_none_are_refused() {
    let bytes = |text: &str| hex::decode(text.replace(' ', "")).unwrap();
    for (response, code) in [
        ("8001 0000000a 00000922", Some(0x922)),
        ("8001 0000000a 00000000", Some(0)),
        ("00c4 0000000a 0000001e", Some(0x1e)),
        ("8002 0000000a 00000922", None),
        ("8001 0000000b 00000000", None),
        ("8001 0000000b 00000922 00", None),
        ("8003 0000000a 00000000", None),
        ("8001 0000000a 0000", None),
        ("", None),
    ] {
        assert_eq!(response_code(&bytes(response)), code, "{response}");
    }
    for (response, handle, sessions) in [
        ("8001 0000000a 00000000", false, true),
        ("8002 0000000e 00000000 00000000", false, false),
        ("8001 0000000c 00000000 8000", true, false),
        ("8002 0000000e 00000000 80000000", true, true),
        ("8002 0000000f 00000000 00000002 00", false, true),
    ] {
        assert!(Response::parse(&bytes(response), handle, sessions).is_none(), "{response}");
    }
    let listed = bytes("00 00000001 00000002 80000000 80000001");
    assert_eq!(list(&listed, 1, |reader| reader.u32()), Some(vec![0x8000_0000, 0x8000_0001]));
    assert_eq!(list(&listed, 6, |reader| reader.u32()), None);
    assert_eq!(list(&listed[..16], 1, |reader| reader.u32()), None);
    assert_eq!(list(&[&listed[..], &[0]].concat(), 1, |reader| reader.u32()), None);
    assert_eq!(
        pcr_values(&bytes("00000001 00000001 000b 03 010000 00000001 0002 aabb")),
        Some(vec![vec![0xaa, 0xbb]])
    );
    assert_eq!(pcr_values(&bytes("00000001 00000001 000b 03 010000 ffffffff 0002 aabb")), None);
}

/// A key's name covers every bit of its public area, and only with SHA-256 is it one that an enrolment can have.
#[test]
fn a_public_area_of_another_hash_has_no_name() {
    assert_eq!(super::name_of(&[0, 0x23, 0, 0x0c]), templates::NO_NAME);
    assert_eq!(super::name_of(&[0]), templates::NO_NAME);
    assert_ne!(super::name_of(&[0, 0x23, 0, 0x0b]), templates::NO_NAME);
}
