//! What is plugged in, and PINs and PUKs at their end.

use super::{create, device, older, open};
use strongroom::device::Purpose;
use strongroom::device::piv::{PivInfo, ReferenceInfo, discover};
use strongroom::error::Kind;
use test_support::prompter::Scripted;
use test_support::yubikey::{Options, PIN, isolated};
use yubikey::YubiKey;

fn facts() -> PivInfo {
    let readers = discover().unwrap();
    assert_eq!(readers.len(), 1);
    readers[0].yubikey.clone().unwrap().piv.unwrap()
}

/// Wrong PINs until there is no try left.
fn block_pin() {
    let mut card = YubiKey::open().unwrap();
    (0..3).for_each(|_| assert!(card.verify_pin(b"654321").is_err()));
}

#[test]
fn a_new_yubikey_is_all_free_and_the_factorys() {
    isolated(older(), |yubikey| {
        let factory = ReferenceInfo { tries: 3, factory: true };
        let new = facts();
        assert_eq!((new.pin, new.puk, new.factory_management_key), (factory, factory, true));
        assert_eq!((new.free_for_opening.len(), new.free_for_signing.len()), (21, 21));
        create(&mut *device(yubikey), Purpose::Open);
        assert_eq!(facts().free_for_opening[0], "82");
        assert_eq!(facts().free_for_signing[0], "9c");
    });
}

#[test]
fn a_blocked_puk_makes_a_blocked_pin_final() {
    isolated(Options::default(), |yubikey| {
        let key = create(&mut *device(yubikey), Purpose::Open);
        block_pin();
        assert_eq!((facts().pin.tries, facts().puk.tries), (0, 3));
        let error = open(&mut *device(yubikey), &key, &mut Scripted::pin(PIN)).unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::PinLocked, "the PIN is blocked"));
        assert!(error.hint().unwrap().contains("ykman piv access unblock-pin"));

        YubiKey::open().unwrap().block_puk().unwrap();
        assert_eq!((facts().pin.tries, facts().puk.tries), (0, 0));
        let error = open(&mut *device(yubikey), &key, &mut Scripted::pin(PIN)).unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (Kind::PinLocked, "the PIN is blocked, and so is the PUK")
        );
        assert!(error.hint().unwrap().contains("its keys are lost"));
    });
}

#[test]
fn a_reader_without_a_yubikey_is_told_with_its_reason() {
    let options =
        Options { removal: test_support::yubikey::Removal::Withdrawn, inserted: false, ..Options::default() };
    isolated(options, |_| {
        let readers = discover().unwrap();
        assert!(readers[0].yubikey.is_err(), "{readers:?}");
    });
}
