//! One YubiKey through two drivers: `piv`, and `pkcs11` with Yubico's module. What is sealed by one opens with the other.

use crate::other_modules::library;
use crate::piv::slots::occupy;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use strongroom::device::{
    Algorithm, CreateOptions, Device, KeyRef, PivOptions, PrivateOperation, PublicKey, Purpose, connect,
};
use strongroom::error::Kind;
use test_support::device_conformance::{exchange, opens_rsa, signs_once};
use test_support::prompter::Scripted;
use test_support::yubikey::{Options, PIN, VirtualYubiKey, isolated};
use yubikey::piv::AlgorithmId;

/// ykcs11 on this machine. Where `CI` is set it has to be there.
fn module() -> Option<PathBuf> {
    let candidates = [
        "/usr/lib/x86_64-linux-gnu/libykcs11.so.2",
        "/usr/lib/aarch64-linux-gnu/libykcs11.so.2",
        "/usr/lib64/libykcs11.so.2",
        "/usr/local/lib/libykcs11.so.2",
    ];
    let found = candidates.iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        test_support::skip::skip("ykcs11 is missing: apt-get install ykcs11");
    }
    found
}

/// The YubiKey as a PKCS#11 token, its PIN in a file.
fn token(yubikey: &VirtualYubiKey, module: &Path) -> String {
    let pin = yubikey.dir.join("token-pin");
    std::fs::write(&pin, PIN).unwrap();
    let serial = yubikey.card().profile().serial;
    format!("pkcs11:serial={serial}?module-path={}&pin-source=file:{}", module.display(), pin.display())
}

/// Keys that want the PIN once: PKCS#11 has no word for "again" that this module and the driver share.
pub fn once() -> CreateOptions {
    let piv = PivOptions { pin_policy: Some("once".into()), ..PivOptions::default() };
    CreateOptions { piv, ..CreateOptions::default() }
}

#[test]
fn both_drivers_answer_alike() {
    let Some(module) = module() else { return };
    isolated(Options::default(), |yubikey| alike(yubikey, &module, Algorithm::P256));
}

#[test]
fn both_drivers_answer_alike_on_p384() {
    let Some(module) = module() else { return };
    isolated(Options::default(), |yubikey| alike(yubikey, &module, Algorithm::P384));
}

#[test]
fn both_drivers_answer_alike_with_rsa() {
    let Some(module) = module() else { return };
    isolated(Options::default(), |yubikey| {
        for slot in ["82", "83"] {
            occupy(slot.parse().unwrap(), AlgorithmId::Rsa2048);
        }
        let prompter = &mut Scripted::pin(PIN);
        let uri = yubikey.uri_with_pin(PIN).replacen('?', ";slot=82;sign-slot=83?", 1);
        let mut piv = connect(&uri.parse().unwrap()).unwrap();
        let keys = piv.keys(prompter).unwrap();
        let [opening, signing] = &keys[..] else { panic!("{keys:?}") };
        let answer = |device: &mut dyn Device, prompter: &mut Scripted| {
            for key in [opening, signing] {
                assert!(device.has_key(&key.into(), prompter).unwrap());
            }
            opens_rsa(device, opening, prompter).unwrap();
            signs_once(device, &signing.into(), 7, prompter).unwrap();
        };
        answer(&mut *piv, prompter);
        drop(piv);
        answer(&mut *connect(&token(yubikey, &module).parse().unwrap()).unwrap(), prompter);
    });
}

fn alike(yubikey: &VirtualYubiKey, module: &Path, algorithm: Algorithm) {
    let mut piv = connect(&yubikey.uri_with_pin(PIN).parse().unwrap()).unwrap();
    let mut prompter = Scripted::pin(PIN);
    let made = [(Purpose::Open, algorithm), (Purpose::Sign, algorithm)].map(|(purpose, algorithm)| {
        let made = piv.provisioning().unwrap().create(purpose, algorithm, &once(), &mut prompter);
        KeyRef::from(&made.unwrap())
    });
    let [opening, signing] = made;
    let (peer, expected) = exchange(&opening.public);
    let shared = piv.open_key(&opening, PrivateOperation::Ecdh { peer: &peer }, &mut prompter).unwrap();
    assert_eq!(shared[..], expected);
    drop(piv);

    let mut pkcs11 = connect(&token(yubikey, module).parse().unwrap()).unwrap();
    assert_eq!(pkcs11.identity().serial, "12345678");
    assert!(
        pkcs11.has_key(&opening, &mut prompter).unwrap() && pkcs11.has_key(&signing, &mut prompter).unwrap()
    );
    assert_eq!(
        pkcs11.open_key(&opening, PrivateOperation::Ecdh { peer: &peer }, &mut prompter).unwrap(),
        shared
    );
    assert!(pkcs11.keys(&mut prompter).unwrap().is_empty(), "its labels are not Strongroom's");
    signs_once(&mut *pkcs11, &signing, 7, &mut prompter).unwrap();

    let mut stranger = opening;
    stranger.public = PublicKey::from_point(&peer).unwrap();
    assert!(!pkcs11.has_key(&stranger, &mut prompter).unwrap());
    let refused = pkcs11.open_key(&stranger, PrivateOperation::Ecdh { peer: &peer }, &mut prompter);
    assert_eq!(refused.unwrap_err().kind(), Kind::KeyMissing);
}

#[test]
fn a_token_sealed_by_one_driver_opens_with_the_other() {
    let Some(module) = module() else { return };
    let yubikey = VirtualYubiKey::start(Options::default());
    let (piv, pkcs11) = (yubikey.uri_with_pin(PIN), token(&yubikey, &module));
    let init = ["init", "--quiet", "--device", &piv, "--pin-policy", "once"];
    run(&yubikey, &piv, &init, b"");
    share(&yubikey, &piv, &pkcs11);
}

#[test]
fn a_token_sealed_to_an_rsa_key_by_one_driver_opens_with_the_other() {
    let Some(module) = module() else { return };
    // Another program's keys, which knows no management key but one for 3DES.
    let yubikey = VirtualYubiKey::start(Options { firmware: [5, 4, 3], ..Options::default() });
    for slot in ["82", "83"] {
        let mut tool = Command::new("yubico-piv-tool");
        tool.envs(yubikey.environment()).args(["-a", "generate", "-A", "RSA2048", "-s", slot]);
        let made = tool.args(["--pin-policy", "once", "--touch-policy", "never"]).output();
        let made = made.expect("apt-get install yubico-piv-tool");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let piv = yubikey.uri_with_pin(PIN).replacen('?', ";slot=82;sign-slot=83?", 1);
    let said = run(&yubikey, &piv, &["init", "--device", &piv], b"");
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("rsa2048, found"), "{said}");
    share(&yubikey, &piv, &token(&yubikey, &module));
}

/// What one of two devices seals and signs, the other opens and verifies.
fn share(yubikey: &VirtualYubiKey, piv: &str, pkcs11: &str) {
    // From here on only the device that a command names.
    std::fs::remove_dir_all(yubikey.dir.join("config")).unwrap();
    run(yubikey, piv, &["put", "--quiet", "by/piv"], b"sealed by the one");
    run(yubikey, pkcs11, &["put", "--quiet", "by/pkcs11"], b"sealed by the other");
    for device in [piv, pkcs11] {
        assert_eq!(run(yubikey, device, &["get", "by/piv"], b""), b"sealed by the one");
        assert_eq!(run(yubikey, device, &["get", "by/pkcs11"], b""), b"sealed by the other");
    }
    run(yubikey, pkcs11, &["verify", "--quiet"], b"");
}

/// `strongroom` with one device; its standard output.
fn run(yubikey: &VirtualYubiKey, device: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(arguments).env_clear().envs(yubikey.environment()).env("HOME", &yubikey.dir);
    command.env("STRONGROOM_DEVICE", device).env("STRONGROOM_AGENT", "");
    for (variable, directory) in [("CONFIG", "config"), ("STATE", "state"), ("DATA", "data")] {
        command.env(format!("XDG_{variable}_HOME"), yubikey.dir.join(directory));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// So do the signing keys that Strongroom makes in YubiKeys.
#[test]
fn a_key_that_wants_the_pin_at_every_use_signs() {
    let Some(ykcs11) = module() else { return };
    isolated(Options::default(), |yubikey| signs_behind(yubikey, &ykcs11));
}

#[test]
fn a_key_that_wants_the_pin_at_every_use_signs_behind_opensc() {
    let Some(opensc) = library("opensc-pkcs11.so", "opensc-pkcs11") else { return };
    isolated(Options::default(), |yubikey| signs_behind(yubikey, &opensc));
}

/// VERIFY (NIST SP 800-73-4 part 2, §3.2.1).
const VERIFY: u8 = 0x20;

fn signs_behind(yubikey: &VirtualYubiKey, module: &Path) {
    let prompter = &mut Scripted::pin(PIN);
    let mut piv = connect(&yubikey.uri_with_pin(PIN).parse().unwrap()).unwrap();
    let made = piv.provisioning().unwrap().create(
        Purpose::Sign,
        Algorithm::P256,
        &CreateOptions::default(),
        prompter,
    );
    let key = KeyRef::from(&made.unwrap());
    drop(piv);
    let uri = format!("pkcs11:?module-path={}", module.display());
    let mut device = connect(&uri.parse().unwrap()).unwrap();
    device.has_key(&key, prompter).unwrap();
    for byte in 1..4 {
        let verified = yubikey.count(VERIFY);
        signs_once(&mut *device, &key, byte, prompter).unwrap();
        assert!(yubikey.count(VERIFY) > verified, "the card got the PIN for this signature");
    }
    assert_eq!((prompter.pins, yubikey.tries().0), (1, 3));
}
