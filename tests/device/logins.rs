//! Logins that the standard leaves to the vendor or to the key: types of users, and keys that want the PIN at every use.

use crate::quirks::{Quirk, create, shimmed};
use crate::shim::Shim;
use strongroom::device::{Algorithm, Device, Purpose, connect};
use strongroom::error::Kind;
use test_support::device_conformance::{Bench, conforms, opens_rsa, signs_once};
use test_support::prompter::Scripted;
use test_support::softhsm::{PIN, isolated_with};

/// CKU_LIMITED_USER of Luna's header file.
const CRYPTO_USER: &str = "0x80000001";

/// A token whose user has a type of the vendor's own.
struct CryptoUser<'a>(Quirk<'a>);

impl Bench for CryptoUser<'_> {
    fn device(&self) -> Box<dyn Device> {
        connect(&format!("{}&user-type={CRYPTO_USER}", self.0.0.uri()).parse().unwrap()).unwrap()
    }

    fn prompter(&self) -> Scripted {
        self.0.prompter()
    }

    fn algorithm(&self) -> Algorithm {
        self.0.algorithm()
    }
}

#[test]
fn a_user_may_have_a_type_of_the_vendors_own() {
    isolated_with(&[("SHIM_USER", CRYPTO_USER)], |hsm| {
        let shim = Shim::new(hsm);
        conforms(&CryptoUser(Quirk(&shim, Algorithm::P256, Algorithm::P256)));

        let error = shimmed(hsm).keys(&mut Scripted::pin(PIN)).unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::Usage, "CKR_USER_TYPE_INVALID from C_Login"));
        assert!(error.hint().unwrap().contains("user-type="), "{error:?}");
    });
}

/// One user's PIN is never sent for another.
#[test]
fn two_types_of_user_share_no_pin() {
    isolated_with(&[], |hsm| {
        let shim = Shim::new(hsm);
        let mut own = connect(&shim.uri().parse().unwrap()).unwrap();
        own.keys(&mut Scripted::pin(PIN)).unwrap();
        let other = format!("{}&user-type={CRYPTO_USER}", shim.uri());
        let (mut other, mut prompter) = (connect(&other.parse().unwrap()).unwrap(), Scripted::default());
        assert_eq!(other.keys(&mut prompter).unwrap_err().kind(), Kind::PinUnavailable);
        assert_eq!(prompter.pins, 1);
    });
}

#[test]
fn a_key_that_wants_the_pin_at_every_use_gets_it() {
    isolated_with(&[("SHIM_ALWAYS", "parts")], |hsm| {
        let shim = Shim::new(hsm);
        conforms(&Quirk(&shim, Algorithm::Rsa(2048), Algorithm::P256));
        conforms(&Quirk(&shim, Algorithm::Rsa(2048), Algorithm::Rsa(2048)));
        assert!(shim.count("C_Login for an operation") > 20);
    });
}

#[test]
fn a_pin_refused_at_a_use_is_not_sent_again() {
    isolated_with(&[("SHIM_ALWAYS", "parts"), ("SHIM_OPERATION_LOGIN", "0xa0")], |hsm| {
        let shim = Shim::new(hsm);
        let mut device = shimmed(hsm);
        let key = create(&mut *device, Purpose::Sign, Algorithm::P256).unwrap();
        // Another session of the process.
        let mut lane = device.parallel().unwrap().clone_session().unwrap();
        let mut prompter = Scripted::pin(PIN);
        let error = signs_once(&mut *device, &(&key).into(), 1, &mut prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::PinWrong);
        assert_eq!(error.message(), "the PIN is wrong (CKR_PIN_INCORRECT from C_Login)");
        let logins = shim.count("C_Login");
        for device in [&mut device, &mut lane] {
            let error = signs_once(&mut **device, &(&key).into(), 1, &mut prompter).unwrap_err();
            assert_eq!(error.kind(), Kind::PinWrong);
        }
        assert_eq!((shim.count("C_Login for an operation"), shim.count("C_Login")), (1, logins));
        assert_eq!(prompter.pins, 0);
    });
}

#[test]
fn a_module_without_operations_in_parts_is_refused_for_such_keys() {
    isolated_with(&[("SHIM_ALWAYS", "whole")], |hsm| {
        let mut device = shimmed(hsm);
        let error = create(&mut *device, Purpose::Open, Algorithm::Rsa(2048)).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.message().contains("does no such operation in parts"), "{error}");
        assert_eq!(device.keys(&mut Scripted::pin(PIN)).unwrap(), [], "a refused key is destroyed");

        let key = create(&mut *device, Purpose::Sign, Algorithm::P256).unwrap();
        let error = signs_once(&mut *device, &(&key).into(), 1, &mut Scripted::pin(PIN)).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    });
}

#[test]
fn a_key_for_ecdh_cannot_want_the_pin_at_every_use() {
    isolated_with(&[("SHIM_ALWAYS", "parts")], |hsm| {
        let shim = Shim::new(hsm);
        let mut device = shimmed(hsm);
        let error = create(&mut *device, Purpose::Open, Algorithm::P256).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.message().contains("CKA_ALWAYS_AUTHENTICATE"), "{error}");
        assert_eq!(shim.count("C_DeriveKey"), 0);
        let rsa = create(&mut *device, Purpose::Open, Algorithm::Rsa(2048)).unwrap();
        opens_rsa(&mut *device, &rsa, &mut Scripted::pin(PIN)).unwrap();
    });
}
