//! Many processes that start on one token at the same moment: SoftHSM loses its token then, unless they take turns.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use strongroom::device::{Algorithm, CreateOptions, Purpose, connect};
use strongroom::uri::DeviceUri;
use test_support::prompter::Scripted;
use test_support::softhsm::{LABEL, PIN, SoftHsm, isolated, isolated_with};
use test_support::subprocess::rerun;

const ROUNDS: usize = 200;

/// Names another module than SoftHSM's own for the starters.
const MODULE: &str = "STRONGROOM_TEST_START_MODULE";

/// What a starter says when it is about to start, and when it is done.
const READY: &str = "starter: ready";
const DONE: &str = "starter: done";

#[test]
fn two_processes_start_at_once() {
    isolated(|hsm| start_at_once(hsm, 2, ROUNDS));
}

#[test]
fn eight_processes_start_at_once() {
    isolated(|hsm| start_at_once(hsm, 8, ROUNDS));
}

/// p11-kit's proxy hides which module is behind it.
#[test]
fn eight_processes_start_at_once_behind_a_proxy() {
    let candidates =
        ["/usr/lib/x86_64-linux-gnu/p11-kit-proxy.so", "/usr/lib/aarch64-linux-gnu/p11-kit-proxy.so"];
    let Some(proxy) = candidates.into_iter().find(|path| Path::new(path).exists()) else {
        return test_support::skip::skip("p11-kit-proxy.so is missing: apt-get install p11-kit-modules");
    };
    // The proxy starts all modules of the machine: tpm2-pkcs11 is not to make a store in somebody's home.
    isolated_with(&[(MODULE, proxy), ("TPM2_PKCS11_STORE", "/nonexistent")], |hsm| start_at_once(hsm, 8, 20));
}

/// The device's URI, by the module that the environment names.
fn uri(hsm: &SoftHsm) -> DeviceUri {
    let uri = match std::env::var(MODULE) {
        Ok(module) => format!("pkcs11:token={LABEL}?module-path={module}"),
        Err(_) => hsm.uri_without_pin(&format!("token={LABEL}")),
    };
    uri.parse().unwrap()
}

fn start_at_once(hsm: &SoftHsm, processes: usize, rounds: usize) {
    let mut device = connect(&uri(hsm)).unwrap();
    let provision = device.provisioning().unwrap();
    provision
        .create(Purpose::Sign, Algorithm::P256, &CreateOptions::default(), &mut Scripted::pin(PIN))
        .unwrap();
    drop(device);

    let mut failures = Vec::new();
    for round in 0..rounds {
        let mut starters: Vec<_> = (0..processes).map(|_| Starter::spawn()).collect();
        starters.iter_mut().for_each(Starter::wait_until_ready);
        starters.iter_mut().for_each(Starter::go);
        failures.extend(
            starters.into_iter().filter_map(Starter::failure).map(|said| format!("round {round}: {said}")),
        );
    }
    assert!(failures.is_empty(), "{} of {}: {}", failures.len(), rounds * processes, failures.join("\n"));
}

/// A process that waits for its signal, then starts the module, logs in and signs.
struct Starter {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Starter {
    fn spawn() -> Self {
        let mut command = rerun("::start_lock::starter");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        Self { output: BufReader::new(process.stdout.take().unwrap()), process }
    }

    fn wait_until_ready(&mut self) {
        let lines = self.output.by_ref().lines();
        let ready = lines.map_while(Result::ok).any(|line| line.contains(READY));
        assert!(ready, "a starter did not come up");
    }

    fn go(&mut self) {
        drop(self.process.stdin.take());
    }

    fn failure(mut self) -> Option<String> {
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let well = self.process.wait().unwrap().success() && said.contains(DONE);
        (!well).then_some(said)
    }
}

#[test]
#[ignore = "a part of the tests above"]
fn starter() {
    println!("\n{READY}");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let hsm = SoftHsm::of_this_process().expect("started by the tests above");
    let mut device = connect(&uri(&hsm)).unwrap();
    let mut prompter = Scripted::pin(PIN);
    let keys = device.keys(&mut prompter).unwrap();
    device.sign(&(&keys[0]).into(), &[1; 32], &mut prompter).unwrap();
    println!("{DONE}");
}
