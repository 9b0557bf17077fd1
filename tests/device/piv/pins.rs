//! PINs: asked once, never tried again, never on their last try without a yes.

use super::{create, create_as, device, device_at, guarded_by, open};
use strongroom::device::{CreateOptions, Purpose};
use strongroom::error::Kind;
use strongroom::prompt::{BatchPrompter, TriesLeft};
use test_support::prompter::Scripted;
use test_support::yubikey::{Lost, Options, PIN, VirtualYubiKey, isolated};

const VERIFY: u8 = 0x20;

/// How often a PIN was sent: a VERIFY without one only asks.
fn sent(yubikey: &VirtualYubiKey) -> usize {
    yubikey.apdus().iter().filter(|it| it.instruction() == VERIFY && it.command.len() > 5).count()
}

#[test]
fn a_wrong_pin_is_never_tried_again() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create(&mut *device, Purpose::Open);
        yubikey.forget_apdus();
        let mut wrong = Scripted::pin("654321");
        let error = open(&mut *device, &key, &mut wrong).unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::PinWrong, "the PIN is wrong; 2 tries are left"));
        assert_eq!(wrong.tries, Some(TriesLeft::Count(3)));
        assert!(!format!("{error} {error:?}").contains("654321"));

        // Not by the same device, not by another one of this process, not with another PIN.
        let mut right = Scripted::pin(PIN);
        assert_eq!(open(&mut *device, &key, &mut right).unwrap_err().kind(), Kind::PinWrong);
        let mut other = super::device(yubikey);
        assert_eq!(open(&mut *other, &key, &mut right).unwrap_err().kind(), Kind::PinWrong);
        assert_eq!((sent(yubikey), wrong.pins, right.pins, yubikey.tries().0), (1, 1, 0, 2));

        // A person who locks it starts over, and is told how many tries there are.
        device.lock();
        open(&mut *device, &key, &mut right).unwrap();
        assert_eq!(right.tries, Some(TriesLeft::Count(2)));
        assert_eq!(yubikey.tries().0, 3);
    });
}

#[test]
fn the_last_try_is_used_only_when_confirmed() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create(&mut *device, Purpose::Open);
        for _ in 0..2 {
            open(&mut *device, &key, &mut Scripted::pin("654321")).unwrap_err();
            device.lock();
        }
        yubikey.forget_apdus();
        let mut prompter = Scripted::pin(PIN);
        let error = open(&mut *device, &key, &mut prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::PinLocked);
        assert_eq!((prompter.confirmations, prompter.pins, sent(yubikey)), (1, 0, 0));
        assert!(error.hint().unwrap().contains("unblock-pin"));

        prompter.confirm = true;
        open(&mut *device, &key, &mut prompter).unwrap();
        assert_eq!((prompter.confirmations, prompter.pins, sent(yubikey)), (2, 1, 1));
        assert_eq!(prompter.tries, Some(TriesLeft::Count(1)));
    });
}

#[test]
fn a_blocked_pin_is_not_asked_for() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create(&mut *device, Purpose::Open);
        for tries in [2, 1, 0] {
            let mut wrong = Scripted { confirm: true, ..Scripted::pin("654321") };
            let error = open(&mut *device, &key, &mut wrong).unwrap_err();
            assert_eq!(error.kind(), if tries == 0 { Kind::PinLocked } else { Kind::PinWrong });
            device.lock();
        }
        yubikey.forget_apdus();
        let mut prompter = Scripted::pin(PIN);
        let error = open(&mut *device, &key, &mut prompter).unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::PinLocked, "the PIN is blocked"));
        assert!(error.hint().unwrap().contains("ykman piv access unblock-pin"));
        assert_eq!((prompter.pins, sent(yubikey)), (0, 0));
    });
}

#[test]
fn a_pin_that_cannot_be_right_is_not_sent() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create(&mut *device, Purpose::Open);
        yubikey.forget_apdus();
        for (pin, kind) in
            [("", Kind::PinUnavailable), ("12345", Kind::PinWrong), ("123456789", Kind::PinWrong)]
        {
            let error = open(&mut *device, &key, &mut Scripted::pin(pin)).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.message().contains("not sent"), "{error}");
        }
        assert_eq!((sent(yubikey), yubikey.tries().0), (0, 3));
    });
}

#[test]
fn a_pin_file_opens_and_a_wrong_one_costs_one_try() {
    isolated(Options::default(), |yubikey| {
        let mut right = device_at(&yubikey.uri_with_pin(PIN));
        let signs = create_as(&mut *right, Purpose::Sign, &guarded_by("once", "never")).unwrap();
        right.sign(&(&signs).into(), &[0; 32], &mut BatchPrompter).unwrap();
        drop(right);

        let mut wrong = device_at(&yubikey.uri_with_pin("654321"));
        for _ in 0..2 {
            let error = wrong.sign(&(&signs).into(), &[0; 32], &mut BatchPrompter).unwrap_err();
            assert_eq!(error.kind(), Kind::PinWrong);
        }
        assert_eq!(yubikey.tries().0, 2);
    });
}

#[test]
fn a_key_without_a_pin_asks_for_none() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create_as(&mut *device, Purpose::Open, &guarded_by("never", "never")).unwrap();
        assert!(key.evidence.claims.contains(&("pin-never".into(), true)));
        yubikey.forget_apdus();
        open(&mut *device, &key, &mut Scripted::default()).unwrap();
        assert_eq!(yubikey.count(VERIFY), 0);
    });
}

#[test]
fn a_pin_for_each_signature_is_sent_each_time_and_asked_for_once() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create_as(&mut *device, Purpose::Sign, &CreateOptions::default()).unwrap();
        assert!(key.evidence.claims.contains(&("pin-always".into(), true)));
        yubikey.forget_apdus();
        let mut prompter = Scripted::pin(PIN);
        for byte in 0..3 {
            device.sign(&(&key).into(), &[byte; 32], &mut prompter).unwrap();
        }
        assert_eq!((sent(yubikey), prompter.pins), (3, 1));
    });
}

#[test]
fn a_card_that_is_let_go_has_forgotten_the_pin() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create_as(&mut *device, Purpose::Open, &guarded_by("once", "never")).unwrap();
        open(&mut *device, &key, &mut Scripted::pin(PIN)).unwrap();
        drop(device);
        // Another program, which has no PIN, asks the card without selecting anything.
        let context = pcsc::Context::establish(pcsc::Scope::System).unwrap();
        let reader = std::ffi::CString::new(yubikey.reader()).unwrap();
        let card = context.connect(&reader, pcsc::ShareMode::Shared, pcsc::Protocols::T1).unwrap();
        let mut answer = [0; 2];
        assert_ne!(card.transmit(&[0, VERIFY, 0, 0x80], &mut answer).unwrap(), [0x90, 0x00]);
    });
}

#[test]
fn the_pin_is_forgotten_with_the_last_device() {
    isolated(Options::default(), |yubikey| {
        let key = create(&mut *device(yubikey), Purpose::Open);
        let mut prompter = Scripted::pin(PIN);
        for round in 1..3 {
            open(&mut *device(yubikey), &key, &mut prompter).unwrap();
            assert_eq!(prompter.pins, round);
        }
    });
}

#[test]
fn a_wrong_pin_whose_verdict_was_lost_costs_one_try() {
    isolated(Options::default(), |yubikey| {
        let mut device = device(yubikey);
        let key = create(&mut *device, Purpose::Open);
        let mut taken = 0;
        for cut in 0.. {
            device.lock();
            open(&mut *device, &key, &mut Scripted::pin(PIN)).unwrap();
            device.lock();
            yubikey.remove_after(cut, Lost::Answer);
            let mut wrong = Scripted::pin("654321");
            let error = open(&mut *device, &key, &mut wrong).unwrap_err();
            if error.kind() != Kind::DeviceGone {
                break;
            }
            taken += usize::from(yubikey.tries().0 == 2);
            yubikey.insert();
            let error = open(&mut *device, &key, &mut wrong).unwrap_err();
            assert_eq!((error.kind(), yubikey.tries().0), (Kind::PinWrong, 2), "{cut}: {error}");
            assert_eq!(open(&mut *device, &key, &mut wrong).unwrap_err().kind(), Kind::PinWrong);
            assert_eq!(yubikey.tries().0, 2, "{cut}");
        }
        assert!(taken >= 1, "no verdict was lost");
    });
}
