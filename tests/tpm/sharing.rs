//! Many processes at once.

use crate::bench::{OnSwtpm, open, with_swtpm};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;
use strongroom::device::{KeyInfo, PublicKey, Purpose, TpmOptions, connect};
use strongroom::prompt::BatchPrompter;
use test_support::eventually::eventually;
use test_support::swtpm::{Swtpm, installed};
use tss_esapi::tcti_ldr::{TctiInfo, TctiNameConf};

/// Tells a process which device it is to use, and with what key.
const URI: &str = "STRONGROOM_TEST_TPM";
const KEY: &str = "STRONGROOM_TEST_KEY";

/// How many processes; a machine's boot starts as many services.
const CROWD: usize = 16;

/// Not a test by itself: what each process of a crowd does.
#[test]
fn one_of_the_crowd() {
    let (Ok(uri), Ok(key)) = (std::env::var(URI), std::env::var(KEY)) else { return };
    let parts: Vec<_> = key.split(':').map(|part| hex::decode(part).unwrap()).collect();
    let key = KeyInfo {
        uri: "tpm:".into(),
        purpose: Purpose::Open,
        public: PublicKey::P256(parts[0].as_slice().try_into().unwrap()),
        evidence: strongroom::device::Evidence {
            level: strongroom::device::EvidenceLevel::Simulator,
            claims: Vec::new(),
        },
        material: parts[1].clone(),
    };
    let mut device = connect(&uri.parse().unwrap()).unwrap();
    for _ in 0..3 {
        open(&mut *device, &key, &mut BatchPrompter).unwrap();
    }
}

/// All at once: each is this test binary again, for that one test.
fn crowd(uri: &str, key: &KeyInfo, environment: &[(&str, &str)]) {
    let PublicKey::P256(point) = &key.public else { panic!("{key:?}") };
    let key = format!("{}:{}", hex::encode(point), hex::encode(&key.material));
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["sharing::one_of_the_crowd", "--exact", "--test-threads=1"])
            .env(URI, uri)
            .env(KEY, &key)
            .env("TSS2_LOG", "all+NONE")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let all: Vec<Child> = (0..CROWD).map(|_| start()).collect();
    for child in all {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("1 passed"), "{said}");
    }
}

#[test]
fn sixteen_processes_share_a_bare_tpm() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, _) = bench.keys();
        crowd(&bench.tpm.uri(), &opens, &[]);
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

/// tpm2-abrmd before a swtpm, on a session bus of its own.
struct Manager {
    bus: Child,
    manager: Child,
    address: String,
}

impl Manager {
    fn before(tpm: &Swtpm) -> Option<Self> {
        let transport = TctiNameConf::from_str("tabrmd").and_then(TctiInfo::get_info);
        if !["tpm2-abrmd", "dbus-daemon", "dbus-send"].map(installed).iter().all(|is| *is)
            || transport.is_err()
        {
            let missing = "missing: apt-get install tpm2-abrmd libtss2-tcti-tabrmd0 dbus";
            test_support::skip::skip(missing);
            return None;
        }
        let address = format!("unix:path={}", tpm.dir.join("bus").display());
        let quiet = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let bus = quiet(
            Command::new("dbus-daemon")
                .args(["--session", "--nofork", "--nopidfile"])
                .arg(format!("--address={address}")),
        );
        wait_for(&tpm.dir.join("bus"));
        let manager = quiet(
            Command::new("tpm2-abrmd")
                .args([&format!("--tcti={}", tpm.tcti()), "--session", "--allow-root"])
                .env("DBUS_SESSION_BUS_ADDRESS", &address),
        );
        let manager = Self { bus, manager, address };
        manager.wait_until_named();
        Some(manager)
    }

    fn wait_until_named(&self) {
        let named = || {
            let output = Command::new("dbus-send")
                .args(["--session", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"])
                .args(["org.freedesktop.DBus.NameHasOwner", "string:com.intel.tss2.Tabrmd"])
                .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).contains("true")
        };
        assert!(eventually(Duration::from_secs(20), named), "tpm2-abrmd does not start");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        for child in [&mut self.manager, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
            let mut said = String::new();
            let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
            if std::thread::panicking() {
                eprintln!("{said}");
            }
        }
    }
}

fn wait_for(path: &Path) {
    assert!(eventually(Duration::from_secs(20), || path.exists()), "{} does not appear", path.display());
}

#[test]
fn sixteen_processes_share_a_resource_manager() {
    let Some(tpm) = Swtpm::new() else { return };
    let bench = OnSwtpm { tpm: &tpm, options: TpmOptions::default() };
    let (opens, _) = bench.keys();
    let Some(manager) = Manager::before(&tpm) else { return };
    let bus = [("DBUS_SESSION_BUS_ADDRESS", manager.address.as_str())];
    crowd("tpm:?tcti=tabrmd:bus_type=session", &opens, &bus);
    drop(manager);
}
