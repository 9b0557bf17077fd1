//! What is missing, or is another than was meant.

use super::{create, device_at, not_connected, open};
use std::time::Duration;
use strongroom::device::DeviceWorker;
use strongroom::device::Purpose;
use strongroom::error::Kind;
use test_support::eventually::eventually;
use test_support::prompter::Scripted;
use test_support::yubikey::{Options, PIN, isolated};

#[test]
fn no_service() {
    isolated(Options::default(), |yubikey| {
        yubikey.service().stop();
        let error = not_connected(&yubikey.uri());
        assert_eq!(error.kind(), Kind::DeviceGone);
        assert!(
            error.message().starts_with("pcscd, the service for smart cards, does not answer"),
            "{error}"
        );
        assert_eq!(error.hint(), Some("sudo systemctl enable --now pcscd.socket"));
    });
}

#[test]
fn no_card() {
    isolated(Options { inserted: false, ..Options::default() }, |yubikey| {
        for (uri, answer) in [
            ("piv:", "no YubiKey is plugged in"),
            ("piv:serial=12345678", "YubiKey 12345678 is not plugged in, nor any other"),
        ] {
            let error = not_connected(uri);
            assert_eq!((error.kind(), error.message()), (Kind::DeviceGone, answer));
        }
        drop(yubikey.reader());
    });
}

#[test]
fn the_wrong_serial() {
    isolated(Options::default(), |yubikey| {
        let error = not_connected("piv:serial=1");
        assert_eq!(error.kind(), Kind::DeviceGone);
        assert_eq!(error.message(), "YubiKey 1 is not plugged in; here is 12345678");
        for serial in ["abc", "+1", "99999999999"] {
            assert_eq!(not_connected(&format!("piv:serial={serial}")).kind(), Kind::Usage);
        }
        assert_eq!(device_at("piv:").name(), "piv:serial=12345678");
        drop(yubikey.reader());
    });
}

#[test]
fn several_are_told_apart_by_serial() {
    isolated(Options::default(), |yubikey| {
        yubikey.add(&Options { serial: 222, ..Options::default() });
        for serial in ["12345678", "222"] {
            assert_eq!(device_at(&format!("piv:serial={serial}")).identity().serial, serial);
        }
        let error = not_connected("piv:");
        assert_eq!(error.kind(), Kind::Usage);
        let advice = error.hint().unwrap();
        assert!(advice.contains("piv:serial=12345678") && advice.contains("piv:serial=222"), "{advice}");
    });
}

#[test]
fn attributes_that_mean_nothing_are_refused() {
    for uri in ["piv:serail=1", "piv:serial=1;pin-source=/pin", "piv:?slot=9d"] {
        assert_eq!(uri.parse::<strongroom::uri::DeviceUri>().unwrap_err().kind(), Kind::Usage, "{uri}");
    }
}

/// Not even a card that never answers keeps its caller for ever.
#[test]
fn a_card_that_hangs() {
    const PATIENCE: Duration = Duration::from_secs(2);
    isolated(Options::default(), |yubikey| {
        let key = create(&mut *device_at(&yubikey.uri()), Purpose::Open);
        let uri = yubikey.uri().parse().unwrap();
        let worker = DeviceWorker::connect(&uri, PATIENCE).unwrap();
        let try_opening = || {
            let key = key.clone();
            worker.call("open", &mut Scripted::pin(PIN), move |device, prompter| open(device, &key, prompter))
        };
        let hung = yubikey.card();
        let error = try_opening().unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::Device, "the device has not answered for 2s"));
        assert_eq!(error.target(), Some("piv:serial=12345678"));
        assert!(error.hint().unwrap().starts_with("unplug it"), "{error}");
        assert_eq!(DeviceWorker::connect(&uri, PATIENCE).err().unwrap().kind(), Kind::Device);
        drop(hung);
        // It has come to itself: nothing was lost, and no try.
        assert!(eventually(Duration::from_secs(60), || try_opening().is_ok()));
        assert_eq!(yubikey.tries(), (3, 3));
    });
}

/// A person who is waited for is no card that hangs.
#[test]
fn a_person_may_take_longer_than_a_card() {
    const PATIENCE: Duration = Duration::from_millis(1500);
    isolated(Options { inserted: false, ..Options::default() }, |yubikey| {
        let uri = yubikey.uri().parse().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(PATIENCE * 2);
                yubikey.insert();
            });
            let mut person = Scripted { attended: true, ..Scripted::pin(PIN) };
            let device = DeviceWorker::connect_attended(&uri, PATIENCE, &mut person).unwrap();
            assert_eq!(device.name(), "piv:serial=12345678");
        });
    });
}
