//! The command with a YubiKey: what is said, what is asked, and what is not.

use crate::secrets::{PIN as RARE_PIN, assert_clean, each_file};
use crate::terminal::at_terminal;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use test_support::eventually::eventually;
use test_support::executable::write_executable;
use test_support::home::Home;
use test_support::yubikey::{Lost, Options, PIN, Touch, VirtualYubiKey};

/// A home, and a YubiKey beside its SoftHSM.
struct Desk {
    home: Home,
    yubikey: VirtualYubiKey,
}

impl Desk {
    fn new() -> Option<Self> {
        Some(Self { home: Home::new()?, yubikey: VirtualYubiKey::start(Options::default()) })
    }

    /// With a store whose device is the YubiKey, and whose keys want a touch.
    fn with_store() -> Option<Self> {
        let desk = Self::new()?;
        desk.ok(&["init", "--quiet", "--device", &desk.yubikey.uri_with_pin(PIN)]);
        Some(desk)
    }

    fn strongroom(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.strongroom(arguments);
        command.envs(self.yubikey.environment());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.strongroom(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit code and what was said.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn put(&self, name: &str, token: &str) {
        let mut child = self.strongroom(&["put", "--quiet", name]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// A line for a terminal, which sees the YubiKey.
    fn at_terminal(&self, line: &str, dialogue: &[(&str, &str)]) -> String {
        let environment =
            self.yubikey.environment().map(|(name, value)| format!("{name}='{}'", value.to_str().unwrap()));
        at_terminal(&self.home, &format!("export {}; {line}", environment.join(" ")), dialogue)
    }
}

#[test]
fn a_store_lives_on_a_yubikey() {
    let Some(desk) = Desk::new() else { return };
    let said = desk.ok(&["init", "--device", &desk.yubikey.uri_with_pin(PIN)]);
    for line in [
        "p256, created: piv:serial=12345678;slot=9d (pin-once, touch-cached)",
        "p256, created: piv:serial=12345678;sign-slot=9c (pin-always, touch-cached)",
        "simulator",
    ] {
        assert!(said.contains(line), "{said}");
    }
    desk.put("prod/db", "s3cret");
    assert_eq!(desk.ok(&["get", "prod/db"]), "s3cret");
    let shown = desk.ok(&["device", "show", "YubiKey-12345678"]);
    for claim in
        ["generated=true", "attestation=true", "pin-once=true", "pin-always=true", "touch-cached=true"]
    {
        assert!(shown.contains(claim), "{shown}");
    }
    desk.ok(&["verify"]);

    desk.yubikey.remove();
    let (code, said) = desk.refused(&["get", "prod/db"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("YubiKey 12345678 is not plugged in"), "{said}");
    // What needs no device still works.
    assert!(desk.ok(&["list"]).contains("prod/db"));
    desk.yubikey.insert();
    assert_eq!(desk.ok(&["get", "prod/db"]), "s3cret");
}

#[test]
fn a_put_that_is_cut_off_leaves_nothing_half_written() {
    let Some(desk) = Desk::with_store() else { return };
    for cut in 0.. {
        desk.yubikey.remove_after(cut, Lost::Answer);
        let (code, said) = desk.refused(&["put", "a", "--generate"]);
        desk.yubikey.insert();
        if code == 0 {
            assert!(cut >= 5, "{cut}");
            break;
        }
        assert_eq!(code, 5, "{cut}: {said}");
        assert!(desk.ok(&["list"]).is_empty());
        desk.ok(&["verify"]);
    }
    desk.yubikey.remove_after(usize::MAX, Lost::Answer);
    assert!(!desk.ok(&["get", "a"]).is_empty());
    desk.ok(&["verify"]);
}

#[test]
fn a_slot_in_use_takes_the_serial_typed() {
    let Some(desk) = Desk::with_store() else { return };
    let elsewhere = format!("sqlite://{}/other.sqlite", desk.home.dir.display());
    let uri = desk.yubikey.uri_with_pin(PIN);
    let before = desk.yubikey.card().memory().slot(0x9d).unwrap().key().unwrap().public();
    let (code, said) =
        desk.refused(&["init", "--store", &elsewhere, "--device", &uri, "--force", "87654321"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("the serial number you typed is not that of YubiKey 12345678"), "{said}");
    assert_eq!(desk.yubikey.card().memory().slot(0x9d).unwrap().key().unwrap().public(), before);
    desk.ok(&["init", "--store", &elsewhere, "--device", &uri, "--force", "12345678"]);
    assert_ne!(desk.yubikey.card().memory().slot(0x9d).unwrap().key().unwrap().public(), before);
}

#[test]
fn an_opening_key_on_p384_is_made_or_taken_as_it_is() {
    let Some(desk) = Desk::new() else { return };
    let said = desk.ok(&["init", "--device", &desk.yubikey.uri_with_pin(PIN), "--algorithm", "p384"]);
    assert!(said.contains("opening key    p384, created: piv:serial=12345678;slot=9d"), "{said}");
    assert!(said.contains("signing key    p256, created"), "{said}");
    desk.put("prod/db", "s3cret");
    assert_eq!(desk.ok(&["get", "prod/db"]), "s3cret");

    // The keys that are there, in another store.
    let store = desk.home.dir.join("other.sqlite");
    let store = store.to_str().unwrap();
    let uri = desk.yubikey.uri_with_pin(PIN);
    let said = desk.ok(&["init", "--store", store, "--device", &uri]);
    assert!(said.contains("opening key    p384, found"), "{said}");
    let (code, said) =
        desk.refused(&["init", "--store", "x.sqlite", "--device", &uri, "--algorithm", "p256"]);
    assert!(code != 0 && said.contains("of another algorithm (p384)"), "{said}");
}

#[test]
fn doctor_tells_of_yubikeys_and_init_finds_them() {
    let Some(desk) = Desk::new() else { return };
    let said = desk.ok(&["doctor"]);
    for line in [
        "piv:serial=12345678 (firmware 5.7.1): PIN 3 tries, PUK 3; free for opening: 9d … 95 (21), for signing: 9c … 95 (21)",
        "piv:serial=12345678: its PIN is the factory's",
        "ykman piv access change-management-key --generate --protect",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let (_, said) = desk.refused(&["init"]);
    assert!(said.contains("--device 'piv:serial=12345678'"), "{said}");
}

#[test]
fn a_touch_and_the_tries_are_told_on_the_terminal() {
    let Some(desk) = Desk::with_store() else { return };
    desk.put("prod/db", "s3cret");
    let uri = desk.yubikey.uri();
    let asked = [("PIN of piv:serial=12345678 (3 tries left): ", PIN)];
    let shown = desk.at_terminal(&format!("strongroom get prod/db --device '{uri}'"), &asked);
    assert!(shown.contains("touch your YubiKey 12345678 to open prod/db\n"), "{shown}");
    assert!(shown.contains("s3cret") && !shown.contains("left): 1") && shown.ends_with("[0]\n"), "{shown}");

    desk.yubikey.touch(Touch::Refused);
    let shown = desk.at_terminal(&format!("strongroom get prod/db --device '{uri}'"), &asked);
    assert!(shown.contains("it was not touched") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_person_is_asked_to_plug_it_in_and_waited_for() {
    let Some(desk) = Desk::with_store() else { return };
    desk.put("prod/db", "s3cret");
    desk.yubikey.remove();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A hand that is slower than the words.
            std::thread::sleep(Duration::from_secs(2));
            desk.yubikey.insert();
        });
        let shown = desk.at_terminal("strongroom get prod/db", &[]);
        assert!(shown.contains("plug in your YubiKey 12345678 to open prod/db\n"), "{shown}");
        assert!(shown.contains("s3cret") && shown.ends_with("[0]\n"), "{shown}");
    });
}

#[test]
fn nobody_is_asked_where_another_device_opens() {
    let Some(desk) = Desk::with_store() else { return };
    desk.ok(&["device", "add", "--quiet", "--no-reseal", &desk.home.device()]);
    desk.put("prod/db", "s3cret");
    desk.yubikey.remove();
    let shown = desk.at_terminal("strongroom get prod/db", &[]);
    assert_eq!(shown, "s3cret\n[0]\n");
}

#[test]
fn pinentry_and_a_notification_reach_a_person_without_a_terminal() {
    let Some(desk) = Desk::with_store() else { return };
    desk.put("prod/db", "s3cret");
    let script = |name: &str, text: &str| {
        let path = desk.home.dir.join(name);
        write_executable(&path, &format!("#!/bin/sh\n{text}\n"));
        path.to_str().unwrap().to_owned()
    };
    let pinentry = script(
        "pinentry",
        &format!(
            "echo OK; while read -r line; do case $line in GETPIN) echo 'D {PIN}'; echo OK;; *) echo OK;; esac; done"
        ),
    );
    let said = desk.home.dir.join("said");
    let notify = script("notify", &format!("echo \"$1\" >>'{}'", said.display()));
    let config = desk.home.dir.join("config/strongroom/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        format!("{text}\n[prompt]\ncommand = [\"{notify}\"]\npinentry = \"{pinentry}\"\n"),
    )
    .unwrap();

    let mut command = desk.home.command("setsid");
    command.args([
        "--wait",
        test_support::home::strongroom(),
        "get",
        "prod/db",
        "--device",
        &desk.yubikey.uri(),
    ]);
    let output = command.envs(desk.yubikey.environment()).output().unwrap();
    assert_eq!(output.stdout, b"s3cret", "{}", String::from_utf8_lossy(&output.stderr));
    let notified = || {
        let said = std::fs::read_to_string(&said).unwrap_or_default();
        said == "touch your YubiKey 12345678 to open prod/db\n"
    };
    assert!(eventually(Duration::from_secs(20), notified), "{:?}", std::fs::read_to_string(&said));
}

#[test]
fn the_pin_is_nowhere_in_what_is_said() {
    let Some(desk) = Desk::new() else { return };
    let pin = &RARE_PIN[..8];
    change_pin(&desk.yubikey, pin);
    // Its name does not hold it either.
    let with_pin = |pin: &str| {
        let file = desk.home.dir.join("pin");
        std::fs::write(&file, pin).unwrap();
        format!("{}?pin-source=file:{}", desk.yubikey.uri(), file.display())
    };
    let uri = with_pin(pin);
    let loud = |arguments: &[&str]| {
        let mut command = desk.strongroom(arguments);
        command.env("STRONGROOM_LOG", "trace").env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
        let output = command.output().unwrap();
        for bytes in [&output.stdout, &output.stderr] {
            assert_clean(&format!("{arguments:?}"), bytes, pin);
        }
        output
    };
    // It does go to the card: what follows looks for something that was there.
    desk.yubikey.forget_apdus();
    let made = loud(&["init", "--device", &uri]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(String::from_utf8_lossy(&made.stderr).contains("yubikey"), "nothing was logged");
    let sent =
        desk.yubikey.apdus().iter().any(|it| it.command.windows(8).any(|window| window == pin.as_bytes()));
    assert!(sent, "the PIN was not sent");
    loud(&["put", "a", "--generate"]);
    assert!(loud(&["get", "a"]).status.success());
    loud(&["doctor"]);

    let wrong = pin.replace('8', "9");
    let refused = desk.run(&["get", "a", "--device", &with_pin(&wrong)]);
    assert_eq!(refused.status.code(), Some(6));
    assert_clean("a refusal", &refused.stderr, &wrong);
    each_file(&desk.home.dir, &mut |path, bytes| assert_clean(&path.display().to_string(), bytes, pin));
}

/// CHANGE REFERENCE DATA, as another program would.
fn change_pin(yubikey: &VirtualYubiKey, pin: &str) {
    let padded = |pin: &str| {
        let mut padded = [0xff; 8];
        padded[..pin.len()].copy_from_slice(pin.as_bytes());
        padded
    };
    let select: &[u8] = &[0, 0xa4, 4, 0, 5, 0xa0, 0, 0, 3, 8];
    let change = [&[0, 0x24, 0, 0x80, 16][..], &padded(PIN), &padded(pin)].concat();
    let mut hand = yubikey.hand();
    let mut card = yubikey.card();
    for command in [select, &change] {
        assert!(card.transmit(command, &mut hand).ends_with(&[0x90, 0x00]));
    }
    card.power_cycle();
}
