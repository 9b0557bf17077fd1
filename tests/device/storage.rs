//! SoftHSM's storage going away in mid-use, and coming back.

use strongroom::device::{Algorithm, CreateOptions, Device, KeyRef, PrivateOperation, Purpose, connect};
use strongroom::error::{Kind, Result};
use test_support::prompter::Scripted;
use test_support::softhsm::{LABEL, PIN, SoftHsm, isolated};

fn device(hsm: &SoftHsm) -> Box<dyn Device> {
    connect(&hsm.uri_without_pin(&format!("token={LABEL}")).parse().unwrap()).unwrap()
}

/// The generator of P-256: a peer's point that is on the curve.
const GENERATOR: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                         4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

fn open(device: &mut dyn Device, key: &KeyRef, prompter: &mut Scripted) -> Result<()> {
    let peer: [u8; 65] = hex::decode(GENERATOR).unwrap().try_into().unwrap();
    device.open_key(key, PrivateOperation::Ecdh { peer: &peer }, prompter).map(drop)
}

fn made(device: &mut dyn Device, purpose: Purpose, prompter: &mut Scripted) -> KeyRef {
    let provision = device.provisioning().unwrap();
    (&provision.create(purpose, Algorithm::P256, &CreateOptions::default(), prompter).unwrap()).into()
}

#[test]
fn the_directory_moves_away_and_back() {
    isolated(|hsm| {
        let mut device = device(hsm);
        let mut prompter = Scripted::pin(PIN);
        let opens = made(&mut *device, Purpose::Open, &mut prompter);
        let signs = made(&mut *device, Purpose::Sign, &mut prompter);
        let mut other = self::device(hsm);
        open(&mut *other, &opens, &mut prompter).unwrap();

        let (there, away) = (hsm.dir.join("tokens"), hsm.dir.join("away"));
        for _ in 0..2 {
            std::fs::rename(&there, &away).unwrap();
            for device in [&mut device, &mut other] {
                for error in [
                    open(&mut **device, &opens, &mut prompter).unwrap_err(),
                    device.sign(&signs, &[0; 32], &mut prompter).unwrap_err(),
                    device.keys(&mut prompter).unwrap_err(),
                ] {
                    assert_eq!(error.kind(), Kind::DeviceGone, "{error}");
                    assert!(error.hint().unwrap().contains("storage"), "{error}");
                }
            }
            std::fs::rename(&away, &there).unwrap();
            for device in [&mut device, &mut other] {
                open(&mut **device, &opens, &mut prompter).unwrap();
                device.sign(&signs, &[0; 32], &mut prompter).unwrap();
                assert_eq!(device.keys(&mut prompter).unwrap().len(), 2);
            }
        }
        assert_eq!(prompter.pins, 1, "the PIN of a login that lasts is not asked for again");
    });
}

#[test]
fn an_empty_directory_in_its_place_is_not_a_deleted_key() {
    isolated(|hsm| {
        let mut device = device(hsm);
        let mut prompter = Scripted::pin(PIN);
        let opens = made(&mut *device, Purpose::Open, &mut prompter);
        let (there, away) = (hsm.dir.join("tokens"), hsm.dir.join("away"));
        std::fs::rename(&there, &away).unwrap();
        std::fs::create_dir(&there).unwrap();
        let error = open(&mut *device, &opens, &mut prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::DeviceGone, "{error}");
        std::fs::remove_dir(&there).unwrap();
        std::fs::rename(&away, &there).unwrap();
        open(&mut *device, &opens, &mut prompter).unwrap();
        assert_eq!(prompter.pins, 1);
    });
}

#[test]
fn locking_while_the_storage_is_away_forgets_the_pin() {
    isolated(|hsm| {
        let mut device = device(hsm);
        let mut prompter = Scripted::pin(PIN);
        let opens = made(&mut *device, Purpose::Open, &mut prompter);
        let (there, away) = (hsm.dir.join("tokens"), hsm.dir.join("away"));
        std::fs::rename(&there, &away).unwrap();
        assert!(open(&mut *device, &opens, &mut prompter).is_err());
        device.lock();
        std::fs::rename(&away, &there).unwrap();
        open(&mut *device, &opens, &mut prompter).unwrap();
        assert_eq!(prompter.pins, 2);
    });
}

#[test]
fn threads_survive_each_others_restarts() {
    isolated(|hsm| {
        let mut device = device(hsm);
        let mut prompter = Scripted::pin(PIN);
        let opens = made(&mut *device, Purpose::Open, &mut prompter);
        let mut lanes: Vec<_> = (0..3).map(|_| device.parallel().unwrap().clone_session().unwrap()).collect();
        std::thread::scope(|scope| {
            for lane in &mut lanes {
                let opens = &opens;
                scope.spawn(move || {
                    // Nobody answers: the PIN that was given once has to do.
                    (0..300).for_each(|_| open(&mut **lane, opens, &mut Scripted::default()).unwrap());
                });
            }
            // A token that is not there is looked for with the module started anew.
            let missing = hsm.uri_without_pin("token=missing").parse().unwrap();
            (0..5).for_each(|_| assert!(connect(&missing).is_err()));
        });
        open(&mut *device, &opens, &mut prompter).unwrap();
        assert_eq!(prompter.pins, 1);
    });
}
