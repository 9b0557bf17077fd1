//! The command with a YubiKey behind a real pcscd, which its users have, in place of the drop-in libpcsclite.

use std::path::Path;
use test_support::home::Home;
use test_support::pcscd::{PORT, Pcscd, in_namespaces, plug, wait};
use test_support::yubikey::{Options, PIN, Service};

#[test]
fn a_yubikey_is_found_used_pulled_out_and_found_again() {
    in_namespaces(|| {
        let Some(home) = Home::new() else { return };
        let said = |arguments: &[&str]| {
            let output = home.strongroom(arguments).output().unwrap();
            let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
            (output.status.code().unwrap(), said)
        };
        let (_, doctor) = said(&["doctor"]);
        assert!(doctor.contains("pcscd") && doctor.contains("systemctl"), "{doctor}");

        let (service, directory) = (Service::start(&home.dir).unwrap(), tempfile::tempdir().unwrap());
        let mut pcscd = Pcscd::start(directory.path());
        let card = service.add(&Options { serial: 10_001, ..Options::default() }).unwrap();
        let mut place = Some(plug(&card, PORT));
        wait(|| said(&["doctor"]).1.contains("piv:serial=10001 (firmware 5.7.1): PIN 3 tries"));

        let pin = home.dir.join("yubikey-pin");
        std::fs::write(&pin, PIN).unwrap();
        let uri = format!("piv:serial=10001?pin-source=file:{}", pin.display());
        home.ok(&["init", "--quiet", "--device", &uri]);
        home.put("prod/db", b"s3cret");
        assert_eq!(home.ok(&["get", "prod/db"]).stdout, b"s3cret");

        drop(place.take());
        let (code, gone) = said(&["get", "prod/db"]);
        assert!(code != 0 && gone.contains("10001"), "{gone}");
        place = Some(plug(&card, PORT));
        wait(|| said(&["get", "prod/db"]).1.starts_with("s3cret"));

        drop(place.take());
        pcscd.restart();
        let _again = plug(&card, PORT);
        wait(|| said(&["get", "prod/db"]).1.starts_with("s3cret"));
        // Nothing of all this cost a try.
        assert_eq!(card.card().memory().pin.left, 3);
    });
}

#[test]
fn processes_that_reset_the_card_for_each_other_all_open() {
    in_namespaces(|| {
        let Some(home) = Home::new() else { return };
        let (service, directory) = (Service::start(&home.dir).unwrap(), tempfile::tempdir().unwrap());
        let _pcscd = Pcscd::start(directory.path());
        let card = service.add(&Options { serial: 20_002, ..Options::default() }).unwrap();
        let _place = plug(&card, PORT);
        let doctor = || home.strongroom(&["doctor"]).output().unwrap().stdout;
        wait(|| String::from_utf8_lossy(&doctor()).contains("piv:serial=20002"));
        let pin = home.dir.join("yubikey-pin");
        std::fs::write(&pin, PIN).unwrap();
        home.ok(&["init", "--quiet", "--device", &format!("piv:?pin-source=file:{}", pin.display())]);
        home.put("prod/db", b"s3cret");

        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        assert_eq!(home.ok(&["get", "prod/db"]).stdout, b"s3cret");
                    }
                });
            }
        });
        assert_eq!(card.card().memory().pin.left, 3);
    });
}

/// Resets by others are met by every driver: SCARD_W_RESET_CARD, and SCARD_E_PROTO_MISMATCH to who comes in the midst of one.
#[test]
fn processes_with_other_peoples_modules_share_the_card() {
    in_namespaces(|| {
        let Some(home) = Home::new() else { return };
        let (service, directory) = (Service::start(&home.dir).unwrap(), tempfile::tempdir().unwrap());
        let _pcscd = Pcscd::start(directory.path());
        let card = service.add(&Options { serial: 20_003, ..Options::default() }).unwrap();
        let _place = plug(&card, PORT);
        let doctor = || home.strongroom(&["doctor"]).output().unwrap().stdout;
        wait(|| String::from_utf8_lossy(&doctor()).contains("piv:serial=20003"));
        let pin = home.dir.join("yubikey-pin");
        std::fs::write(&pin, PIN).unwrap();
        let piv = format!("piv:?pin-source=file:{}", pin.display());
        home.ok(&["init", "--quiet", "--device", &piv]);
        home.put("prod/db", b"s3cret");

        let libraries = Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
        let modules = ["libykcs11.so.2", "opensc-pkcs11.so"].map(|name| libraries.join(name));
        let installed = modules.iter().filter(|module| module.exists());
        let behind = |module: &Path| {
            format!("pkcs11:?module-path={}&pin-source=file:{}", module.display(), pin.display())
        };
        let devices: Vec<_> = installed.map(|module| behind(module)).chain([piv]).collect();
        // A device that is named is the only one.
        let missing = ["get", "--device", "pkcs11:?module-path=/nonexistent", "prod/db"];
        assert!(!home.strongroom(&missing).output().unwrap().status.success());
        let home = &home;
        std::thread::scope(|scope| {
            for device in &devices {
                scope.spawn(move || {
                    for _ in 0..6 {
                        let opened = home.ok(&["get", "--device", device, "prod/db"]).stdout;
                        assert_eq!(opened, b"s3cret", "{device}");
                    }
                });
            }
        });
        assert_eq!(card.card().memory().pin.left, 3);
    });
}
