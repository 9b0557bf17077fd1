//! Other users of the card, removal at every moment, and restarts of the service behind it.

use super::slots::occupy;
use super::{create, create_as, device, guarded_by, open};
use strongroom::device::{Device, KeyInfo, Purpose};
use strongroom::error::{Kind, Result};
use test_support::device_conformance::{opens_rsa, signs_once};
use test_support::prompter::Scripted;
use test_support::yubikey::{Lost, Options, PIN, VirtualYubiKey, isolated};
use yubikey::piv::AlgorithmId;
use yubikey::{Serial, YubiKey};

fn keys(yubikey: &VirtualYubiKey) -> [KeyInfo; 2] {
    let mut device = device(yubikey);
    [Purpose::Open, Purpose::Sign]
        .map(|purpose| create_as(&mut *device, purpose, &guarded_by("once", "never")).unwrap())
}

/// Another program uses the card: it selects, or resets when it ends.
fn meddle() {
    drop(YubiKey::open_by_serial(Serial(12_345_678)).unwrap());
}

#[test]
fn others_may_reset_the_card() {
    isolated(Options::default(), |yubikey| {
        let [opens, signs] = keys(yubikey);
        let mut device = device(yubikey);
        let mut prompter = Scripted::pin(PIN);
        for _ in 0..3 {
            open(&mut *device, &opens, &mut prompter).unwrap();
            meddle();
            device.sign(&(&signs).into(), &[1; 32], &mut prompter).unwrap();
            yubikey.power_cycle();
            open(&mut *device, &opens, &mut prompter).unwrap();
        }
        assert_eq!((prompter.pins, yubikey.tries().0), (1, 3));
    });
}

#[test]
fn many_processes_share_a_card() {
    isolated(Options::default(), |yubikey| {
        let [opens, _] = keys(yubikey);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (uri, opens) = (yubikey.uri(), opens.clone());
                std::thread::spawn(move || {
                    for _ in 0..10 {
                        let mut device = super::device_at(&uri);
                        open(&mut *device, &opens, &mut Scripted::pin(PIN)).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(yubikey.tries().0, 3);
    });
}

#[test]
fn a_yubikey_that_was_put_back_goes_on() {
    isolated(Options::default(), |yubikey| {
        let [opens, _] = keys(yubikey);
        let mut device = device(yubikey);
        let mut prompter = Scripted::pin(PIN);
        open(&mut *device, &opens, &mut prompter).unwrap();
        yubikey.remove();
        yubikey.insert();
        open(&mut *device, &opens, &mut prompter).unwrap();
        yubikey.restart_service();
        open(&mut *device, &opens, &mut prompter).unwrap();
        assert_eq!(prompter.pins, 1);

        yubikey.remove();
        let error = open(&mut *device, &opens, &mut prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::DeviceGone);
        assert!(error.message().contains("YubiKey 12345678 is not plugged in"), "{error}");
        yubikey.insert();
        open(&mut *device, &opens, &mut prompter).unwrap();
    });
}

/// Does something with a new device each time, and pulls the card out after one more APDU each time, until it is not reached.
fn at_every_apdu(yubikey: &VirtualYubiKey, work: impl Fn(&mut dyn Device) -> Result<()>) {
    at_every_apdu_of(yubikey, &yubikey.uri(), work);
}

/// As [`at_every_apdu`], with the slots of a URI.
fn at_every_apdu_of(yubikey: &VirtualYubiKey, uri: &str, work: impl Fn(&mut dyn Device) -> Result<()>) {
    for lost in [Lost::Command, Lost::Answer] {
        let mut cut = 0;
        loop {
            let mut device = super::device_at(uri);
            yubikey.forget_apdus();
            yubikey.remove_after(cut, lost);
            let outcome = work(&mut *device);
            let Err(error) = outcome else { break };
            assert_eq!(error.kind(), Kind::DeviceGone, "{lost:?} {cut}: {error}");
            assert!(error.to_string().contains("12345678"), "{error}");
            yubikey.insert();
            // The same device goes on, and so does another.
            work(&mut *device).unwrap();
            cut += 1;
        }
        assert!(cut >= 3, "only {cut} APDUs");
        // The plan that was not reached.
        yubikey.remove_after(usize::MAX, lost);
    }
    assert_eq!(yubikey.tries().0, 3);
}

#[test]
fn removal_at_every_apdu_of_open() {
    isolated(Options::default(), |yubikey| {
        let [opens, _] = keys(yubikey);
        at_every_apdu(yubikey, |device| open(device, &opens, &mut Scripted::pin(PIN)));
    });
}

#[test]
fn removal_at_every_apdu_of_sign() {
    isolated(Options::default(), |yubikey| {
        let [_, signs] = keys(yubikey);
        at_every_apdu(yubikey, |device| {
            device.sign(&(&signs).into(), &[7; 32], &mut Scripted::pin(PIN)).map(drop)
        });
    });
}

#[test]
fn removal_at_every_apdu_with_rsa_keys() {
    isolated(Options::default(), |yubikey| {
        for slot in ["82", "83"] {
            occupy(slot.parse().unwrap(), AlgorithmId::Rsa2048);
        }
        let uri = format!("{};slot=82;sign-slot=83", yubikey.uri());
        let [opens, signs] =
            super::device_at(&uri).keys(&mut Scripted::default()).unwrap().try_into().unwrap();
        at_every_apdu_of(yubikey, &uri, |device| opens_rsa(device, &opens, &mut Scripted::pin(PIN)));
        at_every_apdu_of(yubikey, &uri, |device| {
            signs_once(device, &(&signs).into(), 7, &mut Scripted::pin(PIN))
        });
    });
}

#[test]
fn removal_at_every_apdu_of_creation_leaves_a_slot_that_can_be_told() {
    isolated(Options::default(), |yubikey| {
        for cut in 0.. {
            let mut device = device(yubikey);
            yubikey.forget_apdus();
            yubikey.remove_after(cut, Lost::Answer);
            let made = create_as(&mut *device, Purpose::Open, &guarded_by("once", "never"));
            let Err(error) = made else { break };
            assert_eq!(error.kind(), Kind::DeviceGone);
            yubikey.insert();
            // Either nothing is there, or a key that can be used or overwritten, never one that is taken for ours unproved.
            let mut named = super::device_at(&format!("{};slot=9d", yubikey.uri()));
            let keys = named.keys(&mut Scripted::default()).unwrap();
            let ours = device.keys(&mut Scripted::default()).unwrap();
            assert!(ours.iter().all(|key| keys.contains(key)));
            for key in &keys {
                open(&mut *named, key, &mut Scripted::pin(PIN)).unwrap();
                key.evidence.check(key).unwrap();
                named.provisioning().unwrap().destroy(key, &mut Scripted::pin(PIN)).unwrap();
            }
        }
    });
}

#[test]
fn a_removal_while_it_blinks_is_a_removal() {
    isolated(Options { touch: test_support::yubikey::Touch::Refused, ..Options::default() }, |yubikey| {
        yubikey.touch(test_support::yubikey::Touch::Granted);
        let key = create_as(&mut *device(yubikey), Purpose::Open, &guarded_by("once", "always")).unwrap();
        yubikey.hand().set_patience(std::time::Duration::from_secs(60));
        yubikey.touch(test_support::yubikey::Touch::Refused);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                yubikey.wait_until_blinking();
                yubikey.remove();
            });
            let error = open(&mut *device(yubikey), &key, &mut Scripted::pin(PIN)).unwrap_err();
            assert_eq!(error.kind(), Kind::DeviceGone, "{error}");
        });
    });
}

#[test]
fn a_pin_that_was_changed_meanwhile_costs_one_try() {
    isolated(Options::default(), |yubikey| {
        let key = create(&mut *device(yubikey), Purpose::Open);
        let mut device = device(yubikey);
        let mut prompter = Scripted::pin(PIN);
        open(&mut *device, &key, &mut prompter).unwrap();
        YubiKey::open().unwrap().change_pin(PIN.as_bytes(), b"765432").unwrap();
        let error = open(&mut *device, &key, &mut prompter).unwrap_err();
        assert_eq!((error.kind(), prompter.pins, yubikey.tries().0), (Kind::PinWrong, 1, 2));
        device.lock();
        open(&mut *device, &key, &mut Scripted::pin("765432")).unwrap();
    });
}
