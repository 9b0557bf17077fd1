//! Keys that are not what they should be: imported, extractable, doubled, replaced.

use strongroom::device::{Algorithm, CreateOptions, Device, KeyInfo, Purpose, connect};
use strongroom::error::Kind;
use test_support::device_conformance::signs_once;
use test_support::prompter::Scripted;
use test_support::softhsm::{LABEL, PIN, SoftHsm, installed, isolated};

fn device(hsm: &SoftHsm) -> Box<dyn Device> {
    connect(&hsm.uri_without_pin(&format!("token={LABEL}")).parse().unwrap()).unwrap()
}

fn create(device: &mut dyn Device, purpose: Purpose) -> KeyInfo {
    device
        .provisioning()
        .unwrap()
        .create(purpose, Algorithm::P256, &CreateOptions::default(), &mut Scripted::pin(PIN))
        .unwrap()
}

/// `pkcs11-tool` makes the keys that Strongroom would not.
fn with_tools(test: impl FnOnce(&SoftHsm)) -> impl FnOnce(&SoftHsm) {
    |hsm| {
        if installed("pkcs11-tool") && installed("openssl") {
            return test(hsm);
        }
        test_support::skip::skip("tools are missing: apt-get install opensc openssl");
    }
}

#[test]
fn an_imported_key_is_listed_and_refused() {
    isolated(|hsm| {
        with_tools(|hsm| {
            let (pem, der, public) =
                (hsm.dir.join("key.pem"), hsm.dir.join("key.der"), hsm.dir.join("public.der"));
            let [pem, der, public] = [&pem, &der, &public].map(|path| path.to_str().unwrap());
            hsm.run("openssl", &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", pem]);
            hsm.run("openssl", &["pkey", "-in", pem, "-outform", "DER", "-out", der]);
            hsm.run("openssl", &["pkey", "-in", pem, "-pubout", "-outform", "DER", "-out", public]);
            for (file, kind) in [(der, "privkey"), (public, "pubkey")] {
                hsm.pkcs11_tool(&[
                    "--write-object",
                    file,
                    "--type",
                    kind,
                    "--label",
                    "strongroom-sign",
                    "--id",
                    "01",
                    "--usage-sign",
                    "--sensitive",
                ]);
            }

            let mut device = device(hsm);
            let keys = device.keys(&mut Scripted::pin(PIN)).unwrap();
            assert_eq!(keys.len(), 1);
            let error = keys[0].evidence.check(&keys[0]).unwrap_err();
            assert_eq!(error.kind(), Kind::Evidence);
            assert_eq!(error.message(), "CKA_LOCAL is false, and must be true");
            // It works, though: refusing it is up to enrolment.
            device.sign(&(&keys[0]).into(), &[0; 32], &mut Scripted::pin(PIN)).unwrap();
        })(hsm);
    });
}

#[test]
fn an_extractable_key_is_listed_and_refused() {
    isolated(|hsm| {
        with_tools(|hsm| {
            hsm.pkcs11_tool(&[
                "--keypairgen",
                "--key-type",
                "EC:prime256v1",
                "--label",
                "strongroom-open",
                "--usage-derive",
                "--sensitive",
                "--extractable",
            ]);
            let keys = device(hsm).keys(&mut Scripted::pin(PIN)).unwrap();
            let error = keys[0].evidence.check(&keys[0]).unwrap_err();
            assert_eq!(error.message(), "CKA_EXTRACTABLE is true, and must be false");
        })(hsm);
    });
}

#[test]
fn two_objects_of_one_label_are_refused() {
    isolated(|hsm| {
        with_tools(|hsm| {
            let mut device = device(hsm);
            let opens = create(&mut *device, Purpose::Open);
            hsm.pkcs11_tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "strongroom-open"]);
            drop(device);

            let mut device = self::device(hsm);
            let prompter = &mut Scripted::pin(PIN);
            let challenge = strongroom::device::PrivateOperation::Ecdh { peer: &[4; 65] };
            for error in [
                device.keys(prompter).unwrap_err(),
                device.open_key(&(&opens).into(), challenge, prompter).unwrap_err(),
            ] {
                assert_eq!(error.kind(), Kind::KeyMissing);
                assert!(error.message().starts_with("2 keys are labelled `strongroom-open`"), "{error}");
            }
            let error = device
                .provisioning()
                .unwrap()
                .create(Purpose::Open, Algorithm::P256, &CreateOptions::default(), prompter)
                .unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict);
        })(hsm);
    });
}

#[test]
fn keys_of_another_curve_or_kind_are_refused() {
    isolated(|hsm| {
        with_tools(|hsm| {
            hsm.pkcs11_tool(&["--keypairgen", "--key-type", "EC:secp521r1", "--label", "curve-sign"]);
            hsm.pkcs11_tool(&["--keypairgen", "--key-type", "EC:secp521r1", "--label", "large-open"]);
            hsm.pkcs11_tool(&["--keypairgen", "--key-type", "rsa:1024", "--label", "kind-sign"]);
            hsm.pkcs11_tool(&["--keypairgen", "--key-type", "rsa:1024", "--label", "short-open"]);
            for (object, answer) in [
                ("curve", "neither P-256 nor P-384"),
                ("large", "neither P-256 nor P-384"),
                ("kind", "1024 bits"),
                ("short", "1024 bits"),
            ] {
                let uri = hsm.uri_without_pin(&format!("token={LABEL};object={object}"));
                let error =
                    connect(&uri.parse().unwrap()).unwrap().keys(&mut Scripted::pin(PIN)).unwrap_err();
                assert_eq!(error.kind(), Kind::Unsupported);
                assert!(error.message().contains(answer), "{error}");
            }
        })(hsm);
    });
}

#[test]
fn an_rsa_key_that_is_there_signs() {
    isolated(|hsm| {
        with_tools(|hsm| {
            let new_key = ["--keypairgen", "--key-type", "rsa:2048", "--label", "strongroom-sign"];
            hsm.pkcs11_tool(&[&new_key[..], &["--id", "01", "--usage-sign", "--sensitive"]].concat());
            let (mut device, prompter) = (device(hsm), &mut Scripted::pin(PIN));
            let keys = device.keys(prompter).unwrap();
            let [key] = &keys[..] else { panic!("{keys:?}") };
            assert_eq!((key.purpose, key.public.algorithm()), (Purpose::Sign, Algorithm::Rsa(2048)));
            key.evidence.check(key).unwrap();
            for byte in 0..3 {
                signs_once(&mut *device, &key.into(), byte, prompter).unwrap();
            }
        })(hsm);
    });
}

#[test]
fn objects_of_several_names_live_side_by_side() {
    isolated(|hsm| {
        let mut made = Vec::new();
        for object in ["one", "two"] {
            let uri = hsm.uri_without_pin(&format!("token={LABEL};object={object}"));
            let mut device = connect(&uri.parse().unwrap()).unwrap();
            let key = create(&mut *device, Purpose::Sign);
            assert_eq!(key.uri, format!("pkcs11:token={LABEL};object={object}-sign"));
            assert_eq!(device.keys(&mut Scripted::pin(PIN)).unwrap(), std::slice::from_ref(&key));
            made.push(key.public);
        }
        assert_ne!(made[0], made[1]);
    });
}

#[test]
fn a_key_deleted_in_the_module_is_missed_not_mourned() {
    isolated(|hsm| {
        with_tools(|hsm| {
            let mut device = device(hsm);
            let prompter = &mut Scripted::pin(PIN);
            let key = create(&mut *device, Purpose::Sign);
            device.sign(&(&key).into(), &[0; 32], prompter).unwrap();
            hsm.pkcs11_tool(&["--delete-object", "--type", "privkey", "--label", "strongroom-sign"]);
            for _ in 0..2 {
                let error = device.sign(&(&key).into(), &[0; 32], prompter).unwrap_err();
                assert_eq!(error.kind(), Kind::KeyMissing, "{error}");
                assert!(error.hint().unwrap().contains("storage"), "{error}");
            }
            assert_eq!(prompter.pins, 0, "the PIN of a login that lasts is not asked for again");
        })(hsm);
    });
}

#[test]
fn a_key_replaced_in_the_module_is_another_key() {
    isolated(|hsm| {
        let mut device = device(hsm);
        let prompter = &mut Scripted::pin(PIN);
        let key = create(&mut *device, Purpose::Sign);
        device.provisioning().unwrap().destroy(&key, prompter).unwrap();
        create(&mut *device, Purpose::Sign);
        let error = device.sign(&(&key).into(), &[0; 32], prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::KeyMissing);
        assert!(error.message().contains("not the one that was enrolled"), "{error}");
    });
}
