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
struct HomeWithYubiKey {
    home: Home,
    yubikey: VirtualYubiKey,
}

impl HomeWithYubiKey {
    fn new() -> Option<Self> {
        Some(Self { home: Home::new()?, yubikey: VirtualYubiKey::start(Options::default()) })
    }

    /// With a store whose device is the YubiKey, and whose keys want a touch.
    fn with_store() -> Option<Self> {
        let home = Self::new()?;
        home.ok(&["init", "--quiet", "--device", &home.yubikey.uri_with_pin(PIN)]);
        Some(home)
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
    let Some(home) = HomeWithYubiKey::new() else { return };
    let said = home.ok(&["init", "--device", &home.yubikey.uri_with_pin(PIN)]);
    for line in [
        "p256, created: piv:serial=12345678;slot=9d (pin-once, touch-cached)",
        "p256, created: piv:serial=12345678;sign-slot=9c (pin-always, touch-cached)",
        "simulator",
    ] {
        assert!(said.contains(line), "{said}");
    }
    home.put("prod/db", "s3cret");
    assert_eq!(home.ok(&["get", "prod/db"]), "s3cret");
    let shown = home.ok(&["device", "show", "YubiKey-12345678"]);
    for claim in
        ["generated=true", "attestation=true", "pin-once=true", "pin-always=true", "touch-cached=true"]
    {
        assert!(shown.contains(claim), "{shown}");
    }
    home.ok(&["verify"]);

    home.yubikey.remove();
    let (code, said) = home.refused(&["get", "prod/db"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("YubiKey 12345678 is not plugged in"), "{said}");
    // What needs no device still works.
    assert!(home.ok(&["list"]).contains("prod/db"));
    home.yubikey.insert();
    assert_eq!(home.ok(&["get", "prod/db"]), "s3cret");
}

#[test]
fn a_put_that_is_cut_off_leaves_nothing_half_written() {
    let Some(home) = HomeWithYubiKey::with_store() else { return };
    for cut in 0.. {
        home.yubikey.remove_after(cut, Lost::Answer);
        let (code, said) = home.refused(&["put", "a", "--generate"]);
        home.yubikey.insert();
        if code == 0 {
            assert!(cut >= 5, "{cut}");
            break;
        }
        assert_eq!(code, 5, "{cut}: {said}");
        assert!(home.ok(&["list"]).is_empty());
        home.ok(&["verify"]);
    }
    home.yubikey.remove_after(usize::MAX, Lost::Answer);
    assert!(!home.ok(&["get", "a"]).is_empty());
    home.ok(&["verify"]);
}

#[test]
fn a_slot_in_use_takes_the_serial_typed() {
    let Some(home) = HomeWithYubiKey::with_store() else { return };
    let elsewhere = format!("sqlite://{}/other.sqlite", home.home.dir.display());
    let uri = home.yubikey.uri_with_pin(PIN);
    let before = home.yubikey.card().memory().slot(0x9d).unwrap().key().unwrap().public();
    let (code, said) =
        home.refused(&["init", "--store", &elsewhere, "--device", &uri, "--force", "87654321"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("the serial number you typed is not that of YubiKey 12345678"), "{said}");
    assert_eq!(home.yubikey.card().memory().slot(0x9d).unwrap().key().unwrap().public(), before);
    home.ok(&["init", "--store", &elsewhere, "--device", &uri, "--force", "12345678"]);
    assert_ne!(home.yubikey.card().memory().slot(0x9d).unwrap().key().unwrap().public(), before);
}

#[test]
fn an_opening_key_on_p384_is_made_or_taken_as_it_is() {
    let Some(home) = HomeWithYubiKey::new() else { return };
    let said = home.ok(&["init", "--device", &home.yubikey.uri_with_pin(PIN), "--algorithm", "p384"]);
    assert!(said.contains("opening key    p384, created: piv:serial=12345678;slot=9d"), "{said}");
    assert!(said.contains("signing key    p256, created"), "{said}");
    home.put("prod/db", "s3cret");
    assert_eq!(home.ok(&["get", "prod/db"]), "s3cret");

    // The keys that are there, in another store.
    let store = home.home.dir.join("other.sqlite");
    let store = store.to_str().unwrap();
    let uri = home.yubikey.uri_with_pin(PIN);
    let said = home.ok(&["init", "--store", store, "--device", &uri]);
    assert!(said.contains("opening key    p384, found"), "{said}");
    let (code, said) =
        home.refused(&["init", "--store", "x.sqlite", "--device", &uri, "--algorithm", "p256"]);
    assert!(code != 0 && said.contains("of another algorithm (p384)"), "{said}");
}

#[test]
fn doctor_tells_of_yubikeys_and_init_finds_them() {
    let Some(home) = HomeWithYubiKey::new() else { return };
    let said = home.ok(&["doctor"]);
    for line in [
        "piv:serial=12345678 (firmware 5.7.1): PIN 3 tries, PUK 3; free for opening: 9d … 95 (21), for signing: 9c … 95 (21)",
        "piv:serial=12345678: its PIN is the factory default",
        "ykman piv access change-management-key --generate --protect",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let (_, said) = home.refused(&["init"]);
    assert!(said.contains("--device 'piv:serial=12345678'"), "{said}");
}

#[test]
fn a_touch_and_the_tries_are_told_on_the_terminal() {
    let Some(home) = HomeWithYubiKey::with_store() else { return };
    home.put("prod/db", "s3cret");
    let uri = home.yubikey.uri();
    let asked = [("PIN of piv:serial=12345678 (3 tries left): ", PIN)];
    let shown = home.at_terminal(&format!("strongroom get prod/db --device '{uri}'"), &asked);
    assert!(shown.contains("touch your YubiKey 12345678 to open prod/db\n"), "{shown}");
    assert!(shown.contains("s3cret") && !shown.contains("left): 1") && shown.ends_with("[0]\n"), "{shown}");

    home.yubikey.touch(Touch::Refused);
    let shown = home.at_terminal(&format!("strongroom get prod/db --device '{uri}'"), &asked);
    assert!(shown.contains("it was not touched") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_person_is_asked_to_plug_it_in_and_waited_for() {
    let Some(home) = HomeWithYubiKey::with_store() else { return };
    home.put("prod/db", "s3cret");
    home.yubikey.remove();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A hand that is slower than the words.
            std::thread::sleep(Duration::from_secs(2));
            home.yubikey.insert();
        });
        let shown = home.at_terminal("strongroom get prod/db", &[]);
        assert!(shown.contains("plug in your YubiKey 12345678 to open prod/db\n"), "{shown}");
        assert!(shown.contains("s3cret") && shown.ends_with("[0]\n"), "{shown}");
    });
}

#[test]
fn nobody_is_asked_where_another_device_opens() {
    let Some(home) = HomeWithYubiKey::with_store() else { return };
    home.ok(&["device", "add", "--quiet", "--no-reseal", &home.home.device()]);
    home.put("prod/db", "s3cret");
    home.yubikey.remove();
    let shown = home.at_terminal("strongroom get prod/db", &[]);
    assert_eq!(shown, "s3cret\n[0]\n");
}

/// What docs/howto/lost-device.md tells, to the end.
#[test]
fn a_blocked_pin_is_unblocked_and_a_lost_yubikey_retired() {
    let Some(home) = HomeWithYubiKey::with_store() else { return };
    let safe = home.home.device();
    home.ok(&["device", "add", "--quiet", &safe, "--role", "open", "--role", "admin", "--no-reseal"]);
    home.put("prod/db", "s3cret");
    let yubikey = home.yubikey.uri_with_pin(PIN);

    let wrong = [&[0, 0x20, 0, 0x80, 8][..], b"000000\xff\xff"].concat();
    for _ in 0..3 {
        transmit(&home.yubikey, &wrong);
    }
    let (code, said) = home.refused(&["get", "prod/db", "--device", &yubikey]);
    assert!(code == 6 && said.contains("the PIN is blocked") && said.contains("unblock-pin"), "{said}");
    assert_eq!(home.ok(&["get", "prod/db", "--device", &safe]), "s3cret");
    // What `ykman piv access unblock-pin` sends: the factory's PUK, and the new PIN.
    let unblock = [&[0, 0x2c, 0, 0x80, 16][..], b"12345678", b"123456\xff\xff"].concat();
    assert!(transmit(&home.yubikey, &unblock).ends_with(&[0x90, 0x00]));
    assert_eq!(home.ok(&["get", "prod/db", "--device", &yubikey]), "s3cret");

    home.yubikey.remove();
    let (code, said) = home.refused(&["get", "prod/db", "--device", &yubikey]);
    assert!(code == 5 && said.contains("strongroom device retire NAME"), "{said}");
    let devices = home.ok(&["device", "list"]);
    let lost = devices.lines().find(|line| line.contains("YubiKey")).unwrap().split('\t').next().unwrap();
    home.ok(&["device", "retire", lost, "--compromised", "--reason", "lost", "--device", &safe]);
    assert_eq!(home.ok(&["get", "prod/db"]), "s3cret");
    assert!(home.ok(&["what-could", lost, "--ever"]).contains("prod/db"));
    home.ok(&["verify"]);
}

#[test]
fn pinentry_and_a_notification_reach_a_person_without_a_terminal() {
    let Some(home) = HomeWithYubiKey::with_store() else { return };
    home.put("prod/db", "s3cret");
    let script = |name: &str, text: &str| {
        let path = home.home.dir.join(name);
        write_executable(&path, &format!("#!/bin/sh\n{text}\n"));
        path.to_str().unwrap().to_owned()
    };
    let pinentry = script(
        "pinentry",
        &format!(
            "echo OK; while read -r line; do case $line in GETPIN) echo 'D {PIN}'; echo OK;; *) echo OK;; esac; done"
        ),
    );
    let said = home.home.dir.join("said");
    let notify = script("notify", &format!("echo \"$1\" >>'{}'", said.display()));
    let config = home.home.dir.join("config/strongroom/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        format!("{text}\n[prompt]\ncommand = [\"{notify}\"]\npinentry = \"{pinentry}\"\n"),
    )
    .unwrap();

    let mut command = home.home.command("setsid");
    command.args([
        "--wait",
        test_support::home::strongroom(),
        "get",
        "prod/db",
        "--device",
        &home.yubikey.uri(),
    ]);
    let output = command.envs(home.yubikey.environment()).output().unwrap();
    assert_eq!(output.stdout, b"s3cret", "{}", String::from_utf8_lossy(&output.stderr));
    let notified = || {
        let said = std::fs::read_to_string(&said).unwrap_or_default();
        said == "touch your YubiKey 12345678 to open prod/db\n"
    };
    assert!(eventually(Duration::from_secs(20), notified), "{:?}", std::fs::read_to_string(&said));
}

#[test]
fn the_pin_is_nowhere_in_what_is_said() {
    let Some(home) = HomeWithYubiKey::new() else { return };
    let pin = &RARE_PIN[..8];
    change_pin(&home.yubikey, pin);
    // Its name does not hold it either.
    let with_pin = |pin: &str| {
        let file = home.home.dir.join("pin");
        std::fs::write(&file, pin).unwrap();
        format!("{}?pin-source=file:{}", home.yubikey.uri(), file.display())
    };
    let uri = with_pin(pin);
    let loud = |arguments: &[&str]| {
        let mut command = home.strongroom(arguments);
        command.env("STRONGROOM_LOG", "trace").env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
        let output = command.output().unwrap();
        for bytes in [&output.stdout, &output.stderr] {
            assert_clean(&format!("{arguments:?}"), bytes, pin);
        }
        output
    };
    // It does go to the card: what follows looks for something that was there.
    home.yubikey.forget_apdus();
    let made = loud(&["init", "--device", &uri]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(String::from_utf8_lossy(&made.stderr).contains("yubikey"), "nothing was logged");
    let sent =
        home.yubikey.apdus().iter().any(|it| it.command.windows(8).any(|window| window == pin.as_bytes()));
    assert!(sent, "the PIN was not sent");
    loud(&["put", "a", "--generate"]);
    assert!(loud(&["get", "a"]).status.success());
    loud(&["doctor"]);

    let wrong = pin.replace('8', "9");
    let refused = home.run(&["get", "a", "--device", &with_pin(&wrong)]);
    assert_eq!(refused.status.code(), Some(6));
    assert_clean("a refusal", &refused.stderr, &wrong);
    each_file(&home.home.dir, &mut |path, bytes| assert_clean(&path.display().to_string(), bytes, pin));
}

/// CHANGE REFERENCE DATA, as another program would.
fn change_pin(yubikey: &VirtualYubiKey, pin: &str) {
    let padded = |pin: &str| {
        let mut padded = [0xff; 8];
        padded[..pin.len()].copy_from_slice(pin.as_bytes());
        padded
    };
    let change = [&[0, 0x24, 0, 0x80, 16][..], &padded(PIN), &padded(pin)].concat();
    assert!(transmit(yubikey, &change).ends_with(&[0x90, 0x00]));
}

/// What another program sends to the PIV application, and the answer.
fn transmit(yubikey: &VirtualYubiKey, command: &[u8]) -> Vec<u8> {
    let select: &[u8] = &[0, 0xa4, 4, 0, 5, 0xa0, 0, 0, 3, 8];
    let mut hand = yubikey.hand();
    let mut card = yubikey.card();
    assert!(card.transmit(select, &mut hand).ends_with(&[0x90, 0x00]));
    let answer = card.transmit(command, &mut hand);
    card.power_cycle();
    answer.to_vec()
}
