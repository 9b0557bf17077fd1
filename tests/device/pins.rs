//! PINs: wrong, empty, locked, on their last try, typed on the device, and kept no longer than they may be.

use crate::shim::Shim;
use strongroom::device::{Algorithm, CreateOptions, Device, KeyRef, Purpose, connect};
use strongroom::error::Kind;
use strongroom::prompt::{BatchPrompter, TriesLeft};
use test_support::prompter::Scripted;
use test_support::softhsm::{LABEL, PIN, SoftHsm, isolated, isolated_with};

fn device(hsm: &SoftHsm) -> Box<dyn Device> {
    connect(&hsm.uri_without_pin(&format!("token={LABEL}")).parse().unwrap()).unwrap()
}

fn shimmed(shim: &Shim) -> Box<dyn Device> {
    connect(&shim.uri().parse().unwrap()).unwrap()
}

/// A device with a signing key, made in another process so that this one starts from nothing.
fn signing_key(hsm: &SoftHsm) -> KeyRef {
    let mut device = device(hsm);
    let provision = device.provisioning().unwrap();
    (&provision
        .create(Purpose::Sign, Algorithm::P256, &CreateOptions::default(), &mut Scripted::pin(PIN))
        .unwrap())
        .into()
}

#[test]
fn a_wrong_pin_is_never_tried_again() {
    isolated(|hsm| {
        let shim = Shim::new(hsm);
        let mut device = shimmed(&shim);
        let mut prompter = Scripted::pin("9999");
        let error = device.keys(&mut prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::PinWrong);
        assert_eq!(error.message(), "the PIN is wrong (CKR_PIN_INCORRECT from C_Login)");
        assert!(!error.to_string().contains("9999"));

        // Not by the same device, not by another one of this process, not with another PIN.
        assert_eq!(device.keys(&mut prompter).unwrap_err().kind(), Kind::PinWrong);
        let mut right = Scripted::pin(PIN);
        assert_eq!(shimmed(&shim).keys(&mut right).unwrap_err().kind(), Kind::PinWrong);
        drop(device);
        let mut device = shimmed(&shim);
        assert_eq!(device.keys(&mut right).unwrap_err().kind(), Kind::PinWrong);
        assert_eq!((shim.count("C_Login"), prompter.pins, right.pins), (1, 1, 0));

        // A person who locks it starts over, and is told that there was a wrong one.
        device.lock();
        device.keys(&mut right).unwrap();
        assert_eq!(right.tries, Some(TriesLeft::Low));
    });
}

#[test]
fn a_wrong_pin_file_costs_one_try() {
    isolated(|hsm| {
        let uri = hsm.uri_with_pin(&format!("token={LABEL}"), "9999");
        let mut device = connect(&uri.parse().unwrap()).unwrap();
        assert_eq!(device.keys(&mut BatchPrompter).unwrap_err().kind(), Kind::PinWrong);
        assert_eq!(device.keys(&mut BatchPrompter).unwrap_err().kind(), Kind::PinWrong);
    });
}

#[test]
fn a_pin_file_opens() {
    isolated(|hsm| {
        let mut device = connect(&hsm.uri().parse().unwrap()).unwrap();
        assert_eq!(device.keys(&mut BatchPrompter).unwrap(), []);
    });
}

#[test]
fn a_missing_or_empty_pin_file_is_not_no_pin() {
    isolated(|hsm| {
        let missing =
            format!("{}&pin-source=/nonexistent/pin", hsm.uri_without_pin(&format!("token={LABEL}")));
        let empty = hsm.uri_with_pin(&format!("token={LABEL}"), "");
        for uri in [missing, empty] {
            let mut device = connect(&uri.parse().unwrap()).unwrap();
            assert_eq!(device.keys(&mut BatchPrompter).unwrap_err().kind(), Kind::PinUnavailable);
        }
    });
}

#[test]
fn a_pin_that_cannot_be_right_is_not_sent() {
    isolated(|hsm| {
        let shim = Shim::new(hsm);
        for (pin, kind) in [("", Kind::PinUnavailable), ("123", Kind::PinWrong)] {
            let error = shimmed(&shim).keys(&mut Scripted::pin(pin)).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.message().contains("not sent"), "{error}");
        }
        assert_eq!(shim.count("C_Login"), 0);
    });
}

#[test]
fn a_locked_pin_is_not_asked_for() {
    isolated_with(&[("SHIM_FLAGS", "0x40000")], |hsm| {
        let shim = Shim::new(hsm);
        let mut prompter = Scripted::pin(PIN);
        let error = shimmed(&shim).keys(&mut prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::PinLocked);
        assert_eq!((prompter.pins, shim.count("C_Login")), (0, 0));
    });
}

#[test]
fn a_device_that_locks_says_so() {
    isolated_with(&[("SHIM_LOGIN", "0xa4")], |hsm| {
        let shim = Shim::new(hsm);
        let mut device = shimmed(&shim);
        for answer in [
            "the PIN is locked (CKR_PIN_LOCKED from C_Login)",
            "the device has refused the PIN, and it is not sent again",
        ] {
            let error = device.keys(&mut Scripted::pin(PIN)).unwrap_err();
            assert_eq!(error.message(), answer);
        }
        assert_eq!(shim.count("C_Login"), 1);
    });
}

#[test]
fn the_last_try_is_used_only_when_confirmed() {
    isolated_with(&[("SHIM_FLAGS", "0x20000")], |hsm| {
        let shim = Shim::new(hsm);
        let mut device = shimmed(&shim);
        let mut prompter = Scripted::pin(PIN);
        let error = device.keys(&mut prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::PinLocked);
        assert_eq!((prompter.confirmations, prompter.pins, shim.count("C_Login")), (1, 0, 0));

        prompter.confirm = true;
        device.keys(&mut prompter).unwrap();
        assert_eq!((prompter.confirmations, prompter.pins, shim.count("C_Login")), (2, 1, 1));
        assert_eq!(prompter.tries, Some(TriesLeft::Last));
    });
}

#[test]
fn a_pin_pad_gets_no_pin_from_us() {
    isolated_with(&[("SHIM_FLAGS", "0x100"), ("SHIM_LOGIN", "0x0")], |hsm| {
        let shim = Shim::new(hsm);
        let mut prompter = Scripted::default();
        let _ = shimmed(&shim).keys(&mut prompter);
        assert_eq!((prompter.touches, prompter.pins), (1, 0));
        assert_eq!((shim.count("C_Login without a PIN"), shim.count("C_Login")), (1, 0));
    });
}

#[test]
fn a_pin_pad_that_is_cancelled_is_asked_again_only_by_the_person() {
    isolated_with(&[("SHIM_FLAGS", "0x100"), ("SHIM_LOGIN", "0x50")], |hsm| {
        let shim = Shim::new(hsm);
        let error = shimmed(&shim).keys(&mut Scripted::default()).unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::Cancelled, "CKR_FUNCTION_CANCELED from C_Login"));
    });
}

#[test]
fn being_logged_in_already_says_nothing_about_the_pin() {
    // The module claims a login that never was: the PIN is not kept, so it is asked for again.
    isolated_with(&[("SHIM_LOGIN", "0x100")], |hsm| {
        let shim = Shim::new(hsm);
        let key = signing_key(hsm);
        let mut device = shimmed(&shim);
        let mut prompter = Scripted::pin("whatever");
        assert!(device.sign(&key, &[0; 32], &mut prompter).is_err());
        assert!(prompter.pins <= 2, "asked {} times", prompter.pins);
    });
}

#[test]
fn the_pin_is_forgotten_with_the_last_device() {
    isolated(|hsm| {
        let key = signing_key(hsm);
        let mut prompter = Scripted::pin(PIN);
        for round in 1..3 {
            let mut device = device(hsm);
            device.sign(&key, &[0; 32], &mut prompter).unwrap();
            assert_eq!(prompter.pins, round);
        }
    });
}
