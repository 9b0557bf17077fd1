//! The card behind a real pcscd and vpcd, in namespaces of its own: no root, and nothing of the machine's own pcscd.

use crate::third_party::{self, Desk};
use crate::yubikey::{Options, Service, again, passes};
use crate::{library, sharing};
use std::cell::Cell;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use virtual_yubikey::vpcd::{self, Plugged};
use yubikey::{Serial, YubiKey};

/// Set inside the namespaces.
const INSIDE: &str = "STRONGROOM_TEST_NAMESPACE";
/// vpcd listens on this port, which is below the ephemeral ones, and the next.
const PORT: u16 = 31_488;
/// A user, and the names it may not share: mounts, network and processes.
const NAMESPACES: [&str; 8] =
    ["--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// In the namespaces: an empty /run for pcscd's socket, and a loopback that acknowledges at once. (vpcd sends each message in two
/// pieces, and waits for the first to be acknowledged before it sends the second.)
const PREPARE: &str = "mount -t tmpfs tmpfs /run && ip link set lo up && \
    { ip route replace local 127.0.0.1 dev lo table local src 127.0.0.1 quickack 1 || :; } && exec \"$0\" \"$@\"";

#[test]
fn other_peoples_programs_accept_the_card_behind_pcscd() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    if third_party::programs() && possible() {
        let test = again("clients::pcscd::other_peoples_programs_accept_the_card_behind_pcscd");
        let mut command = Command::new("unshare");
        command.args(NAMESPACES).args(["sh", "-c", PREPARE]).arg(test.get_program()).args(test.get_args());
        passes(command.env(INSIDE, "1"));
    }
}

/// Whether there are namespaces, pcscd and vpcd. Where `CI` is set there have to be.
fn possible() -> bool {
    let namespaces = Command::new("unshare").args(NAMESPACES).arg("true").stderr(Stdio::null()).status();
    let missing = if !namespaces.is_ok_and(|status| status.success()) {
        "user namespaces are forbidden here"
    } else if !third_party::is_installed("pcscd") || driver().is_none() {
        "pcscd or vpcd is missing: apt-get install pcscd vsmartcard-vpcd"
    } else if !third_party::is_installed("ip") {
        "ip is missing: apt-get install iproute2"
    } else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("SKIPPED: {missing}");
    false
}

fn driver() -> Option<&'static Path> {
    let candidates =
        ["/usr/lib/pcsc/drivers/serial/libifdvpcd.so", "/usr/local/lib/pcsc/drivers/serial/libifdvpcd.so"];
    candidates.into_iter().map(Path::new).find(|path| path.exists())
}

fn inside() {
    let directory = tempfile::tempdir().unwrap();
    let _pcscd = Pcscd::start(directory.path());
    let cards = tempfile::tempdir().unwrap();
    let service = Service::start(cards.path()).unwrap();
    let old = service.add(&Options { serial: 10_001, firmware: [5, 4, 3], ..Options::default() }).unwrap();
    let new = service.add(&Options { serial: 10_002, firmware: [5, 7, 1], ..Options::default() }).unwrap();
    let root = cards.path().join("root.pem");
    std::fs::write(&root, old.authority().pem()).unwrap();

    let place = Cell::new(Some(plug(&old, PORT)));
    sharing::resets();
    sharing::transactions();
    sharing::exclusive();
    sharing::removal(|| place.set(None), || place.set(Some(plug(&old, PORT))));

    let _second = plug(&new, PORT + 1);
    wait(|| YubiKey::open_by_serial(Serial(10_002)).is_ok());
    library::calls(10_001, (5, 4, 3));
    library::calls(10_002, (5, 7, 1));
    let desk = Desk { dir: cards.path().into(), environment: Vec::new(), old: 10_001, new: 10_002 };
    third_party::administration(&desk, &root);
    third_party::key_operations(&desk);
    third_party::as_a_token(&desk);
}

fn plug(card: &crate::yubikey::YubiKey, port: u16) -> Plugged {
    let mut plugged = None;
    wait(|| {
        plugged = vpcd::plug(card.body(), port).ok();
        plugged.is_some()
    });
    plugged.unwrap()
}

fn wait(mut until: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !until() {
        assert!(Instant::now() < end, "pcscd does not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A pcscd with vpcd's readers, in the foreground.
struct Pcscd(Child);

impl Pcscd {
    fn start(directory: &Path) -> Self {
        let readers = format!(
            "FRIENDLYNAME \"Yubico YubiKey OTP+FIDO+CCID\"\nDEVICENAME /dev/null:0x{PORT:X}\nLIBPATH {}\nCHANNELID 0x{PORT:X}\n",
            driver().unwrap().display()
        );
        std::fs::write(directory.join("vpcd"), readers).unwrap();
        let mut command = Command::new("pcscd");
        command.args(["--foreground", "--critical", "-c"]).arg(directory).env("PATH", path());
        let pcscd = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        wait(|| Path::new("/run/pcscd/pcscd.comm").exists());
        pcscd
    }
}

impl Drop for Pcscd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// With the directory in which Debian has pcscd, which is not on everybody's path.
fn path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}
