//! Many processes at once.

use crate::on_swtpm::{Client, OnSwtpm, open, with_swtpm};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use strongroom::device::{KeyInfo, PublicKey, Purpose, TpmOptions, connect};
use strongroom::prompt::BatchPrompter;
use test_support::device_conformance::Bench;
use test_support::resource_manager::ResourceManager;
use test_support::swtpm::Swtpm;

/// Tells a process which device it is to use, and with what key.
const URI: &str = "STRONGROOM_TEST_TPM";
const KEY: &str = "STRONGROOM_TEST_KEY";

/// How often it opens; three times if nothing is said.
const ROUNDS: &str = "STRONGROOM_TEST_ROUNDS";

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
    let rounds = std::env::var(ROUNDS).map_or(3, |rounds| rounds.parse().unwrap());
    for _ in 0..rounds {
        let mut device = connect(&uri.parse().unwrap()).unwrap();
        open(&mut *device, &key, &mut BatchPrompter).unwrap();
    }
}

/// One process: this test binary again, for that one test.
fn one(uri: &str, key: &KeyInfo, environment: &[(&str, &str)]) -> Child {
    let PublicKey::P256(point) = &key.public else { panic!("{key:?}") };
    Command::new(std::env::current_exe().unwrap())
        .args(["sharing::one_of_the_crowd", "--exact", "--test-threads=1"])
        .env(URI, uri)
        .env(KEY, format!("{}:{}", hex::encode(point), hex::encode(&key.material)))
        .env("TSS2_LOG", "all+NONE")
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// All at once.
fn crowd(uri: &str, key: &KeyInfo, environment: &[(&str, &str)]) {
    let all: Vec<Child> = (0..CROWD).map(|_| one(uri, key, environment)).collect();
    for child in all {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("1 passed"), "{said}");
    }
}

/// What killed processes have loaded is flushed, and nothing of others.
#[test]
fn thirty_killed_processes_leave_a_bare_tpm_usable() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, _) = bench.keys();
        bench.tpm.tool("tpm2_createprimary", &["-C", "o", "-c", "foreign.ctx"]);
        assert_eq!(bench.tpm.loaded(), (1, 0));
        for round in 0..30_u64 {
            let mut child = one(&bench.uri(), &opens, &[(ROUNDS, "1000000")]);
            // It takes some milliseconds to start, and a few for each opening: each is killed at another point.
            std::thread::sleep(Duration::from_micros(40_000 + 1_370 * round));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        bench.opens(&mut *bench.device(), &opens);
        assert_eq!(bench.tpm.loaded(), (1, 0), "the foreign object is still there, and nothing else");
    });
}

#[test]
fn sixteen_processes_share_a_bare_tpm() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, _) = bench.keys();
        crowd(&bench.uri(), &opens, &[]);
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

#[test]
fn sixteen_processes_share_a_resource_manager() {
    let Some(tpm) = Swtpm::new() else { return };
    let bench = OnSwtpm { tpm: &tpm, options: TpmOptions::default(), client: Client::Direct };
    let (opens, _) = bench.keys();
    let Some(manager) = ResourceManager::before(&tpm) else { return };
    let bus = [("DBUS_SESSION_BUS_ADDRESS", manager.address.as_str())];
    crowd("tpm:?tcti=tabrmd:bus_type=session", &opens, &bus);
    drop(manager);
}
