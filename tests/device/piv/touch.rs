//! Touch, and plugging in.

use super::{create_as, device, guarded_by, open};
use std::time::Duration;
use strongroom::device::{KeyInfo, Purpose, connect_attended};
use strongroom::error::Kind;
use strongroom::prompt::{PinRequest, Prompter, PurposePrompter};
use strongroom::secret::Secret;
use test_support::prompter::Scripted;
use test_support::yubikey::{Options, PIN, Touch, VirtualYubiKey, isolated};

fn touched(yubikey: &VirtualYubiKey, pin: &str, touch: &str) -> KeyInfo {
    create_as(&mut *device(yubikey), Purpose::Open, &guarded_by(pin, touch)).unwrap()
}

#[test]
fn a_touch_is_asked_for_with_the_serial_and_the_purpose() {
    isolated(Options::default(), |yubikey| {
        let key = touched(yubikey, "once", "always");
        let mut prompter = Scripted::pin(PIN);
        let mut device = device(yubikey);
        open(&mut *device, &key, &mut prompter).unwrap();
        assert_eq!(prompter.told, ["touch your YubiKey 12345678"]);

        let mut purposeful = PurposePrompter { inner: &mut prompter, purpose: "open prod/db", pin_for: None };
        purposeful.touch("touch your YubiKey 12345678").unwrap();
        assert_eq!(prompter.told[1], "touch your YubiKey 12345678 to open prod/db");
    });
}

#[test]
fn a_key_without_touch_asks_for_none() {
    isolated(Options::default(), |yubikey| {
        let key = touched(yubikey, "once", "never");
        let mut prompter = Scripted::pin(PIN);
        open(&mut *device(yubikey), &key, &mut prompter).unwrap();
        assert_eq!((prompter.touches, yubikey.hand().asked()), (0, 0));
    });
}

#[test]
fn a_touch_that_is_missing_is_no_missing_pin() {
    isolated(Options::default(), |yubikey| {
        for (pin, touch) in [("once", "always"), ("always", "cached"), ("never", "always")] {
            let key = touched(yubikey, pin, touch);
            let mut device = device(yubikey);
            // Refused, and later than the card waits for.
            for late in [Touch::Refused, Touch::Late(Duration::from_secs(3600))] {
                yubikey.touch(late);
                let mut prompter = Scripted::pin(PIN);
                let error = open(&mut *device, &key, &mut prompter).unwrap_err();
                assert_eq!(error.kind(), Kind::Cancelled, "{pin} {touch}: {error}");
                assert!(error.message().starts_with("it was not touched"), "{error}");
                assert_eq!(prompter.touches, 1, "the person is not asked twice");
            }
            yubikey.touch(Touch::Late(Duration::from_millis(50)));
            open(&mut *device, &key, &mut Scripted::pin(PIN)).unwrap();
            yubikey.touch(Touch::Granted);
            device.provisioning().unwrap().destroy(&key, &mut Scripted::pin(PIN)).unwrap();
        }
        assert_eq!(yubikey.tries().0, 3);
    });
}

/// Somebody who does what they are told: plugs the YubiKey in.
struct Obedient<'a>(&'a VirtualYubiKey, Scripted);

impl Prompter for Obedient<'_> {
    fn pin(&mut self, request: &PinRequest<'_>) -> strongroom::Result<Secret> {
        self.1.pin(request)
    }

    fn touch(&mut self, why: &str) -> strongroom::Result<()> {
        if why.starts_with("plug in") {
            self.0.insert();
        }
        self.1.touch(why)
    }

    fn confirm(&mut self, question: &str) -> strongroom::Result<bool> {
        self.1.confirm(question)
    }

    fn is_attended(&self) -> bool {
        true
    }
}

#[test]
fn a_person_is_asked_to_plug_it_in() {
    isolated(Options { inserted: false, ..Options::default() }, |yubikey| {
        let uri = yubikey.uri().parse().unwrap();
        let mut nobody = Scripted::pin(PIN);
        let error = connect_attended(&uri, &mut nobody).err().unwrap();
        assert_eq!((error.kind(), nobody.touches), (Kind::DeviceGone, 0));

        let mut person = Obedient(yubikey, Scripted::pin(PIN));
        let mut device = connect_attended(&uri, &mut person).unwrap();
        assert_eq!(device.identity().serial, "12345678");
        assert_eq!(person.1.told, ["plug in your YubiKey 12345678"]);
    });
}

#[test]
fn a_person_is_asked_to_put_it_back() {
    isolated(Options::default(), |yubikey| {
        let key = touched(yubikey, "once", "never");
        let mut device = device(yubikey);
        open(&mut *device, &key, &mut Scripted::pin(PIN)).unwrap();
        yubikey.remove();
        let mut person = Obedient(yubikey, Scripted::pin(PIN));
        open(&mut *device, &key, &mut person).unwrap();
        assert_eq!(person.1.told, ["plug in your YubiKey 12345678"]);
    });
}
