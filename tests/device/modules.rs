//! Modules that are missing or no modules, and slots that are missing or ambiguous.

use crate::shim::Shim;
use std::process::Command;
use strongroom::device::pkcs11::{tokens_of, well_known_modules};
use strongroom::device::{Algorithm, CreateOptions, Device, Purpose, connect};
use strongroom::error::{Error, Kind};
use test_support::prompter::Scripted;
use test_support::softhsm::{LABEL, PIN, SoftHsm, isolated, isolated_with, module};

fn refused(uri: &str) -> Error {
    match connect(&uri.parse().unwrap()) {
        Ok(device) => panic!("connected to {}", device.name()),
        Err(error) => error,
    }
}

fn connected(uri: &str) -> Box<dyn Device> {
    connect(&uri.parse().unwrap()).unwrap()
}

/// A file with this content as the module.
fn refused_file(content: &[u8]) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("module.so");
    std::fs::write(&path, content).unwrap();
    refused(&format!("pkcs11:token=x?module-path={}", path.display()))
}

#[test]
fn a_missing_module() {
    let error = refused("pkcs11:token=x?module-path=/nonexistent/module.so");
    assert_eq!(error.kind(), Kind::DeviceGone);
    assert_eq!(
        error.to_string(),
        "cannot load the PKCS#11 module: /nonexistent/module.so: there is no such file"
    );
}

#[test]
fn a_relative_module_path() {
    assert_eq!(refused("pkcs11:token=x?module-path=module.so").kind(), Kind::Usage);
}

#[test]
fn a_file_that_is_no_library() {
    for content in [&b""[..], b"#!/bin/sh\necho this is no library\n"] {
        let error = refused_file(content);
        assert_eq!((error.kind(), error.message()), (Kind::Usage, "the file is not a shared library"));
    }
    assert_eq!(refused("pkcs11:token=x?module-path=/").kind(), Kind::Usage);
}

#[test]
fn a_library_of_another_architecture() {
    let mut s390x = b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x03\0\x16".to_vec();
    s390x.resize(4096, 0);
    let error = refused_file(&s390x);
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("s390x") && error.message().contains(std::env::consts::ARCH), "{error}");
}

#[test]
fn a_library_that_does_not_link() {
    let dir = tempfile::tempdir().unwrap();
    let (source, library) = (dir.path().join("broken.c"), dir.path().join("broken.so"));
    std::fs::write(&source, "int missing(void); int C_GetFunctionList(void) { return missing(); }").unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-Wl,-z,now", "-o"]).args([&library, &source]);
    assert!(compiler.status().unwrap().success());
    let error = refused(&format!("pkcs11:token=x?module-path={}", library.display()));
    assert!(error.message().starts_with("the dynamic linker refused it: "), "{error}");
}

#[test]
fn a_library_that_is_no_module() {
    let library = std::fs::read("/proc/self/maps").unwrap();
    let library = String::from_utf8_lossy(&library);
    let library = library
        .lines()
        .find_map(|line| line.split_whitespace().last().filter(|p| p.contains("/libc.so")))
        .unwrap();
    let error = refused(&format!("pkcs11:token=x?module-path={library}"));
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.message().contains("C_GetFunctionList"), "{error}");
}

#[test]
fn no_such_slot() {
    isolated(|hsm| {
        let error = refused(&hsm.uri_without_pin("slot-id=4242"));
        assert_eq!(error.kind(), Kind::DeviceGone);
        assert!(error.message().starts_with("there is no slot 4242; there are token=\"demo\""), "{error}");

        let error = refused(&hsm.uri_without_pin("token=other"));
        assert!(error.message().starts_with("no token matches; there are token=\"demo\""), "{error}");
        for attribute in ["serial=0", "model=other", "manufacturer=other"] {
            assert_eq!(
                refused(&hsm.uri_without_pin(&format!("token={LABEL};{attribute}"))).kind(),
                Kind::DeviceGone
            );
        }
    });
}

#[test]
fn two_slots_that_match() {
    isolated(|hsm| {
        hsm.add_token(LABEL);
        let error = refused(&hsm.uri_without_pin(&format!("token={LABEL}")));
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.message().starts_with("2 tokens match: "), "{error}");

        // What the error lists narrows the URI down.
        for token in tokens_of(&module().unwrap()).unwrap().iter().filter(|token| token.initialised) {
            assert!(error.message().contains(&format!("slot-id={}", token.slot_id)));
            let mut by_slot = connected(&hsm.uri_without_pin(&format!("slot-id={}", token.slot_id)));
            let mut by_serial = connected(&hsm.uri_without_pin(&format!("serial={}", token.identity.serial)));
            assert_eq!(by_slot.identity(), by_serial.identity());
        }
    });
}

#[test]
fn no_initialised_token() {
    isolated(|hsm| {
        std::fs::remove_dir_all(hsm.dir.join("tokens")).unwrap();
        std::fs::create_dir(hsm.dir.join("tokens")).unwrap();
        let error = refused(&hsm.uri_without_pin(""));
        assert_eq!(
            (error.kind(), error.message()),
            (Kind::DeviceGone, "the module has no initialised token")
        );
    });
}

#[test]
fn the_storage_is_missing_from_the_start() {
    isolated(|hsm| {
        std::fs::remove_dir_all(hsm.dir.join("tokens")).unwrap();
        let error = refused(&hsm.uri_without_pin(&format!("token={LABEL}")));
        assert_eq!(error.kind(), Kind::DeviceGone);
        assert!(error.hint().unwrap().contains("SOFTHSM2_CONF"), "{error}");
    });
}

#[test]
fn modules_are_found_and_surveyed() {
    isolated(|hsm: &SoftHsm| {
        let modules = well_known_modules();
        assert!(modules.contains(&module().unwrap().canonicalize().unwrap()), "{modules:?}");
        let tokens = tokens_of(&module().unwrap()).unwrap();
        let demo = tokens.iter().find(|token| token.identity.label == LABEL).unwrap();
        assert!(demo.initialised && demo.identity.simulator && demo.pin.set && !demo.pin.locked);
        assert!(tokens.iter().any(|token| !token.initialised), "SoftHSM always has a free slot");

        // Without a module path: by name, or the only one that has the token.
        for uri in [format!("pkcs11:token={LABEL}?module-name=softhsm2"), format!("pkcs11:token={LABEL}")] {
            let mut device = connected(&uri);
            device.keys(&mut Scripted::pin(PIN)).unwrap();
        }
        assert!(refused("pkcs11:token=x?module-name=nosuch").message().contains("softhsm"));
        assert!(refused("pkcs11:token=nosuch").message().contains("softhsm"));
        assert!(hsm.dir.exists());
    });
}

#[test]
fn the_environment_names_the_module() {
    isolated_with(&[("STRONGROOM_PKCS11_MODULE", "/nonexistent/module.so")], |_| {
        let error = refused(&format!("pkcs11:token={LABEL}"));
        assert_eq!(error.target(), Some("/nonexistent/module.so"));
    });
}

/// Signing keys need ECDSA alone, so a device that opens with RSA is none the worse.
#[test]
fn a_module_without_ecdh_makes_signing_keys() {
    const CKM_ECDH1_DERIVE: &str = "0x1050";
    isolated_with(&[("SHIM_LACKS", CKM_ECDH1_DERIVE)], |hsm| {
        let (mut device, prompter) = (connected(&Shim::new(hsm).uri()), &mut Scripted::pin(PIN));
        let provision = device.provisioning().unwrap();
        assert!(!provision.algorithms(Purpose::Open).unwrap().contains(&Algorithm::P256));
        let error = provision
            .create(Purpose::Open, Algorithm::P256, &CreateOptions::default(), prompter)
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        provision.create(Purpose::Open, Algorithm::Rsa(2048), &CreateOptions::default(), prompter).unwrap();
        provision.create(Purpose::Sign, Algorithm::P256, &CreateOptions::default(), prompter).unwrap();
    });
}

#[test]
fn a_module_without_ecdsa_names_what_it_signs_with() {
    const CKM_ECDSA: &str = "0x1041";
    isolated_with(&[("SHIM_LACKS", CKM_ECDSA)], |hsm| {
        let mut device = connected(&Shim::new(hsm).uri());
        let provision = device.provisioning().unwrap();
        let error = provision
            .create(Purpose::Sign, Algorithm::P256, &CreateOptions::default(), &mut Scripted::pin(PIN))
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert_eq!(error.hint(), Some("it makes: rsa3072, rsa4096, rsa2048"));
    });
}
