//! What is missing, or is another than was meant.

use super::{device_at, not_connected};
use crate::yubikey::{Options, isolated};
use strongroom::error::Kind;

#[test]
fn no_service() {
    isolated(Options::default(), |yubikey| {
        yubikey.service().stop();
        let error = not_connected(&yubikey.uri());
        assert_eq!(error.kind(), Kind::DeviceGone);
        assert!(error.answer().starts_with("pcscd, the service for smart cards, does not answer"), "{error}");
        assert_eq!(error.what_now(), Some("sudo systemctl enable --now pcscd.socket"));
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
            assert_eq!((error.kind(), error.answer()), (Kind::DeviceGone, answer));
        }
        drop(yubikey.reader());
    });
}

#[test]
fn the_wrong_serial() {
    isolated(Options::default(), |yubikey| {
        let error = not_connected("piv:serial=1");
        assert_eq!(error.kind(), Kind::DeviceGone);
        assert_eq!(error.answer(), "YubiKey 1 is not plugged in; here is 12345678");
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
        let advice = error.what_now().unwrap();
        assert!(advice.contains("piv:serial=12345678") && advice.contains("piv:serial=222"), "{advice}");
    });
}

#[test]
fn attributes_that_mean_nothing_are_refused() {
    for uri in ["piv:serail=1", "piv:serial=1;pin-source=/pin", "piv:?slot=9d"] {
        assert_eq!(uri.parse::<strongroom::uri::DeviceUri>().unwrap_err().kind(), Kind::Usage, "{uri}");
    }
}
