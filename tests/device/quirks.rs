//! Modules that depart from the standard, or do less than SoftHSM: imitated by the shim.

use crate::shim::Shim;
use strongroom::device::{Algorithm, CreateOptions, Device, KeyInfo, Purpose, connect};
use strongroom::error::{Kind, Result};
use strongroom::vault::{InitOptions, Setup, Vault};
use test_support::device_conformance::{Bench, conforms, opens_once, signs_once};
use test_support::prompter::Scripted;
use test_support::softhsm::{LABEL, PIN, SoftHsm, isolated_with};

/// A module with a quirk, and the algorithms of keys in it.
pub struct Quirk<'a>(pub &'a Shim, pub Algorithm, pub Algorithm);

impl Bench for Quirk<'_> {
    fn device(&self) -> Box<dyn Device> {
        connect(&self.0.uri().parse().unwrap()).unwrap()
    }

    fn prompter(&self) -> Scripted {
        Scripted::pin(PIN)
    }

    fn algorithm(&self) -> Algorithm {
        self.1
    }

    fn signing(&self) -> Algorithm {
        self.2
    }

    fn asks(&self) -> bool {
        std::env::var_os("SHIM_KMS").is_none()
    }
}

pub fn create(device: &mut dyn Device, purpose: Purpose, algorithm: Algorithm) -> Result<KeyInfo> {
    let options = CreateOptions::default();
    device.provisioning().unwrap().create(purpose, algorithm, &options, &mut Scripted::pin(PIN))
}

pub fn shimmed(hsm: &SoftHsm) -> Box<dyn Device> {
    connect(&Shim::new(hsm).uri().parse().unwrap()).unwrap()
}

#[test]
fn a_malformed_time_does_not_matter() {
    isolated_with(&[("SHIM_TOKEN", "clock")], |hsm| {
        let shim = Shim::new(hsm);
        let tokens = strongroom::device::pkcs11::tokens_of(&shim.library).unwrap();
        let [own, _] = &tokens[..] else { panic!("{tokens:?}") };
        assert_eq!((own.described, own.identity.simulator), (false, true));
        let uri = format!("pkcs11:slot-id={}?module-path={}", own.slot_id, shim.library.display());
        let mut device = connect(&uri.parse().unwrap()).unwrap();
        let key = create(&mut *device, Purpose::Sign, Algorithm::P256).unwrap();
        assert_eq!(key.uri, format!("pkcs11:slot-id={};object=strongroom-sign", own.slot_id));
        device.sign(&(&key).into(), &[1; 32], &mut Scripted::pin(PIN)).unwrap();
    });
}

#[test]
fn a_token_that_fails_does_not_hide_its_neighbours() {
    isolated_with(&[("SHIM_MALFORMED", "second")], |hsm| {
        let shim = Shim::new(hsm);
        let tokens = strongroom::device::pkcs11::tokens_of(&shim.library).unwrap();
        assert_eq!(tokens.iter().map(|token| token.identity.label.as_str()).collect::<Vec<_>>(), [LABEL]);
        shimmed(hsm).keys(&mut Scripted::pin(PIN)).unwrap();
    });
}

#[test]
fn text_ends_at_a_nul() {
    isolated_with(&[("SHIM_TOKEN", "text")], |hsm| {
        let mut device = shimmed(hsm);
        let identity = device.identity();
        assert_eq!((identity.model.as_str(), identity.serial.as_str()), ("SW   TPM", "12[31m3"));
        let named = Shim::new(hsm).uri().replace('?', ";model=SW%20%20%20TPM?");
        connect(&named.parse().unwrap()).unwrap();
    });
}

#[test]
fn a_module_need_not_know_the_lengths_of_pins() {
    isolated_with(&[("SHIM_TOKEN", "lengths")], |hsm| {
        conforms(&Quirk(&Shim::new(hsm), Algorithm::P256, Algorithm::P256));
    });
}

#[test]
fn a_module_need_not_say_that_there_is_a_pin() {
    isolated_with(&[("SHIM_CLEARS", "0x8")], |hsm| {
        conforms(&Quirk(&Shim::new(hsm), Algorithm::P256, Algorithm::P256));
    });
}

#[test]
fn a_module_need_not_have_read_only_sessions() {
    isolated_with(&[("SHIM_SESSIONS", "rw")], |hsm| {
        conforms(&Quirk(&Shim::new(hsm), Algorithm::P256, Algorithm::P256));
    });
}

#[test]
fn a_module_may_want_points_in_der() {
    isolated_with(&[("SHIM_POINT", "der")], |hsm| {
        conforms(&Quirk(&Shim::new(hsm), Algorithm::P384, Algorithm::P256));
    });
}

#[test]
fn a_module_may_return_points_bare() {
    isolated_with(&[("SHIM_POINT", "bare")], |hsm| {
        conforms(&Quirk(&Shim::new(hsm), Algorithm::P256, Algorithm::P384));
    });
}

#[test]
fn a_module_may_leave_a_failed_decryption_active() {
    isolated_with(&[("SHIM_ACTIVE", "1")], |hsm| {
        conforms(&Quirk(&Shim::new(hsm), Algorithm::Rsa(2048), Algorithm::P256));
    });
}

#[test]
fn a_module_may_refuse_what_a_key_must_not_do() {
    // CKA_VERIFY, which is false in the template of an opening key.
    isolated_with(&[("SHIM_REFUSES", "0x10a")], |hsm| {
        let mut device = shimmed(hsm);
        for algorithm in [Algorithm::Rsa(2048), Algorithm::P256] {
            let key = create(&mut *device, Purpose::Open, algorithm).unwrap();
            device.provisioning().unwrap().destroy(&key, &mut Scripted::pin(PIN)).unwrap();
        }
    });
}

#[test]
fn what_a_module_decides_itself_is_checked() {
    // CKA_EXTRACTABLE. Without the attributes that go with it, SoftHSM makes keys that are not sensitive.
    isolated_with(&[("SHIM_REFUSES", "0x162")], |hsm| {
        let mut device = shimmed(hsm);
        for algorithm in [Algorithm::P256, Algorithm::Aes256] {
            let error = create(&mut *device, Purpose::Open, algorithm).unwrap_err();
            assert_eq!(error.message(), "CKA_SENSITIVE is false, and must be true");
            assert_eq!(device.keys(&mut Scripted::pin(PIN)).unwrap(), [], "a refused key is destroyed");
        }
    });
}

#[test]
fn a_module_that_refuses_what_makes_the_key_makes_none() {
    // CKA_TOKEN.
    isolated_with(&[("SHIM_REFUSES", "0x1")], |hsm| {
        let shim = Shim::new(hsm);
        let mut device = connect(&shim.uri().parse().unwrap()).unwrap();
        let error = create(&mut *device, Purpose::Open, Algorithm::P256).unwrap_err();
        assert_eq!(error.message(), "CKR_ATTRIBUTE_VALUE_INVALID from C_GenerateKeyPair");
        assert_eq!(shim.count("C_GenerateKeyPair"), 3);
    });
}

#[test]
fn a_device_without_elliptic_curves_opens_and_signs_with_rsa() {
    // CKM_EC_KEY_PAIR_GEN.
    isolated_with(&[("SHIM_LACKS", "0x1040")], |hsm| {
        let mut device = shimmed(hsm);
        let provision = device.provisioning().unwrap();
        let rsa = [3072, 4096, 2048].map(Algorithm::Rsa);
        assert_eq!(provision.algorithms(Purpose::Sign).unwrap(), rsa);
        assert_eq!(provision.algorithms(Purpose::Open).unwrap()[..3], rsa);
        drop(device);
        conforms(&Quirk(&Shim::new(hsm), Algorithm::Rsa(2048), Algorithm::Rsa(2048)));
    });
}

#[test]
fn a_device_that_cannot_sign_is_left_as_it_was() {
    // CKM_EC_KEY_PAIR_GEN and CKM_RSA_PKCS_PSS.
    isolated_with(&[("SHIM_LACKS", "0x1040,0xd")], |hsm| {
        let shim = Shim::new(hsm);
        let store = format!("sqlite://{}", hsm.dir.join("store.sqlite").display());
        let devices = vec![(shim.uri().parse().unwrap(), None)];
        let mut setup = Setup::new(store, devices, hsm.dir.join("state"));
        setup.prompter = Box::new(Scripted::pin(PIN));
        let error = Vault::init(setup, &InitOptions::default()).err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert_eq!(error.message(), "the device has neither ECDSA on P-256 or P-384 nor RSASSA-PSS");
        assert_eq!(shim.count("C_GenerateKeyPair") + shim.count("C_GenerateKey"), 0);
    });
}

#[test]
fn a_key_that_a_module_wraps_is_refused() {
    isolated_with(&[("SHIM_WRAPS", "1")], |hsm| {
        let mut device = shimmed(hsm);
        for algorithm in [Algorithm::P256, Algorithm::Rsa(2048), Algorithm::Aes256] {
            let error = create(&mut *device, Purpose::Open, algorithm).unwrap_err();
            assert_eq!(error.kind(), Kind::Evidence);
            assert!(error.message().contains("wrapping it works"), "{error}");
        }
        assert_eq!(device.keys(&mut Scripted::pin(PIN)).unwrap(), [], "a refused key is destroyed");
    });
}

#[test]
fn a_module_may_have_templates_of_its_own() {
    // Without CKM_ECDH1_DERIVE and CKM_AES_KEY_GEN, as Google Cloud KMS.
    isolated_with(&[("SHIM_KMS", "1"), ("SHIM_LACKS", "0x1050,0x1080")], |hsm| {
        let shim = Shim::new(hsm);
        conforms(&Quirk(&shim, Algorithm::Rsa(2048), Algorithm::P256));
        conforms(&Quirk(&shim, Algorithm::Rsa(2048), Algorithm::Rsa(2048)));
        assert_eq!(shim.count("C_Login"), 0, "it has no PIN");
    });
}

#[test]
fn objects_need_not_be_made_nor_changed() {
    isolated_with(&[("SHIM_READ_ONLY", "objects")], |hsm| {
        conforms(&Quirk(&Shim::new(hsm), Algorithm::P256, Algorithm::P256));
    });
}

#[test]
fn a_write_protected_token_opens_and_signs_with_the_keys_it_has() {
    isolated_with(&[("SHIM_READ_ONLY", "token")], |hsm| {
        let mut writable = connect(&hsm.uri().parse().unwrap()).unwrap();
        let made = [Purpose::Open, Purpose::Sign]
            .map(|purpose| create(&mut *writable, purpose, Algorithm::P256).unwrap());
        drop(writable);
        let shim = Shim::new(hsm);
        let quirk = Quirk(&shim, Algorithm::P256, Algorithm::P256);
        let mut device = quirk.device();
        assert_eq!(device.keys_judged_by(&CreateOptions::default(), &mut quirk.prompter()).unwrap(), made);
        opens_once(&mut *device, &quirk, &made[0]);
        signs_once(&mut *device, &(&made[1]).into(), 7, &mut quirk.prompter()).unwrap();

        let refused = device.provisioning().unwrap().destroy(&made[0], &mut quirk.prompter()).unwrap_err();
        assert_eq!(refused.message(), "CKR_TOKEN_WRITE_PROTECTED from C_OpenSession");
        let other = shim.uri().replace('?', ";object=other?");
        let refused = create(&mut *connect(&other.parse().unwrap()).unwrap(), Purpose::Open, Algorithm::P256);
        let refused = refused.unwrap_err();
        assert_eq!(refused.message(), "CKR_TOKEN_WRITE_PROTECTED from C_OpenSession");
        assert!(refused.hint().unwrap().contains("-open and <object>-sign"), "{refused:?}");
    });
}
