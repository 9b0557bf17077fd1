//! Whoever sits on the wire between CPU and TPM: what they see, and what becomes of it when they meddle.

use crate::on_swtpm::{OnSwtpm, PIN, open, with_swtpm};
use age_core::format::FileKey;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use rand_core::OsRng;
use std::sync::{Arc, Mutex};
use strongroom::device::{Algorithm, KeyInfo, KeyRef, PrivateOperation, PublicKey, Purpose, TpmOptions};
use strongroom::error::Kind;
use strongroom::seal::{self, Context, Recipient, Sealed};
use strongroom::secret::Secret;
use test_support::device_conformance::Bench;
use test_support::swtpm::Swtpm;
use test_support::tpm_relay::{
    Act, CREATE_PRIMARY, ECDH_ZGEN, LOAD, READ_PUBLIC, Relay, START_AUTH_SESSION, code, contains,
};

fn point(key: &KeyInfo) -> [u8; 65] {
    match key.public {
        PublicKey::P256(point) => point,
        _ => panic!("{key:?}"),
    }
}

#[test]
fn the_wire_shows_neither_pin_nor_secret() {
    with_swtpm(TpmOptions { pin: true, ..TpmOptions::default() }, |bench| {
        let relay = Relay::before(bench.tpm);
        let mut device = bench.through(&relay);
        let mut prompter = bench.prompter();
        let mut make = |purpose| {
            let create = device.provisioning().unwrap();
            create.create(purpose, Algorithm::P256, &bench.options(), &mut prompter).unwrap()
        };
        let (opens, signs) = (make(Purpose::Open), make(Purpose::Sign));
        device.sign(&KeyRef::from(&signs), &[1; 32], &mut prompter).unwrap();

        // A token sealed and opened as the vault does it, with every secret on the way written down.
        let (token, context) = (
            Secret::new(b"the token itself".to_vec()),
            Context { store: [1; 32], token: [2; 16], version: 3 },
        );
        let recipient = Recipient { public: &opens.public, name: "tpm" };
        let sealed =
            seal::seal(&token, &context, &[recipient], 1, &mut |request| seal::without_device(request))
                .unwrap();
        let mut secrets = Vec::new();
        let mut ask = |challenge: PrivateOperation<'_>| {
            let secret = device.open_key(&KeyRef::from(&opens), challenge, &mut prompter);
            secrets.push(secret.as_ref().unwrap().to_vec());
            secret
        };
        let parsed = Sealed::parse(&sealed).unwrap();
        let lock = parsed.locks(&opens.public).next().unwrap().unwrap();
        let file_key = lock.unlock(&ask(lock.challenge()).unwrap()).unwrap();
        secrets.push(file_key.to_vec());
        let file_key = FileKey::init_with_mut(|key| key.copy_from_slice(&file_key));
        assert_eq!(parsed.finish(file_key, &context).unwrap(), token);
        secrets.push(PIN.into());
        secrets.push(token.expose().into());

        let seen = relay.seen();
        assert!(contains(&seen, &point(&opens)[1..33]), "the recorder hears what is in the clear");
        assert_eq!(secrets.len(), 4);
        for secret in &secrets {
            assert!(!contains(&seen, secret), "{} bytes of secret are on the wire", secret.len());
        }
        drop(device);
        assert_eq!(relay.loaded(), (0, 0));
    });
}

#[test]
fn another_storage_root_key_is_refused() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, signs) = bench.keys();
        let Some(other) = Swtpm::new() else { return };
        let interposer = OnSwtpm { tpm: &other, options: TpmOptions::default(), client: bench.client };
        // It has a storage root key of its own at the same handle, or none at all.
        for _ in 0..2 {
            let mut device = interposer.device();
            let error = open(&mut *device, &opens, &mut interposer.prompter()).unwrap_err();
            assert_eq!(error.kind(), Kind::KeyMissing, "{error}");
            assert!(error.message().contains("not this TPM's"), "{error}");
            let error = device.sign(&KeyRef::from(&signs), &[0; 32], &mut interposer.prompter()).unwrap_err();
            assert_eq!(error.kind(), Kind::KeyMissing, "{error}");
            assert!(!device.has_key(&KeyRef::from(&opens), &mut interposer.prompter()).unwrap());
            drop(device);
            assert_eq!(other.loaded(), (0, 0));
            interposer.keys();
        }
    });
}

/// Nobody signs the answer to TPM2_ReadPublic: an interposer tells the pinned name, and a public key of its own.
#[test]
fn the_right_name_on_a_wrong_key_is_refused() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, signs) = bench.keys();
        let relay = Relay::before(bench.tpm);
        let salted = Arc::new(Mutex::new(0));
        relay.act(interposer(Arc::clone(&salted), &[(READ_PUBLIC, 10)]));
        // The storage root key is made anew then, and its name computed from what the salt would be encrypted to.
        let mut device = bench.through(&relay);
        bench.opens(&mut *device, &opens);
        device.sign(&KeyRef::from(&signs), &[0; 32], &mut bench.prompter()).unwrap();
        assert_eq!(*salted.lock().unwrap(), 1);
        drop(device);

        // Where that is answered with another key too, nothing is salted to it. A handle and a size go before it there.
        relay.act(interposer(Arc::clone(&salted), &[(READ_PUBLIC, 10), (CREATE_PRIMARY, 18)]));
        let mut device = bench.through(&relay);
        open(&mut *device, &opens, &mut bench.prompter()).unwrap_err();
        assert_eq!(*salted.lock().unwrap(), 1, "a session was salted to the interposer's key");
        relay.pass();
        bench.opens(&mut *device, &opens);
        drop(device);
    });
}

/// Puts a point of its own into the public areas that these commands answer, at this place. Counts the sessions.
fn interposer(salted: Arc<Mutex<usize>>, replaces: &[(u32, usize)]) -> Box<Act> {
    let own = p256::SecretKey::random(&mut OsRng).public_key().to_encoded_point(false);
    let replaces = replaces.to_vec();
    Box::new(move |command, forward| {
        let mut response = forward(command);
        let place = replaces.iter().find(|(replaced, _)| *replaced == code(command));
        if let (Some((_, at)), [0, 0, 0, 0]) = (place, &response[6..10]) {
            // The point is the end of the public area: two coordinates with their sizes.
            let end = at + 2 + usize::from(u16::from_be_bytes([response[*at], response[at + 1]]));
            response[end - 32..end].copy_from_slice(own.y().unwrap());
            response[end - 66..end - 34].copy_from_slice(own.x().unwrap());
        }
        *salted.lock().unwrap() += usize::from(code(command) == START_AUTH_SESSION);
        response
    })
}

#[test]
fn another_key_in_place_of_the_enrolled_one_is_refused() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, _) = bench.keys();
        let relay = Relay::before(bench.tpm);
        relay.act(|command, forward| {
            let mut response = forward(command);
            if code(command) == LOAD {
                // The name that the TPM computed.
                let last = response.len() - 10;
                response[last] ^= 1;
            }
            response
        });
        let mut device = bench.through(&relay);
        let error = open(&mut *device, &opens, &mut bench.prompter()).unwrap_err();
        assert_eq!(error.kind(), Kind::Device, "{error}");
        assert!(error.hint().unwrap().contains("something between this program and the TPM"), "{error}");
        relay.pass();
        bench.opens(&mut *device, &opens);
        drop(device);
        assert_eq!(relay.loaded(), (0, 0));
    });
}

#[test]
fn a_changed_answer_is_refused() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, _) = bench.keys();
        let relay = Relay::before(bench.tpm);
        for (changed, at) in [(ECDH_ZGEN, 20), (START_AUTH_SESSION, 20)] {
            relay.act(move |command, forward| {
                let mut response = forward(command);
                if code(command) == changed {
                    response[at] ^= 1;
                }
                response
            });
            let mut device = bench.through(&relay);
            let error = open(&mut *device, &opens, &mut bench.prompter()).unwrap_err();
            assert_eq!(error.kind(), Kind::Device, "{error}");
            relay.pass();
            bench.opens(&mut *device, &opens);
            drop(device);
            assert_eq!(relay.loaded(), (0, 0), "{changed:#x}");
        }
    });
}
