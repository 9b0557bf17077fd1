//! Opening with a TPM, all on the same simulated one: whole processes beside other tools and beside a bare program, and, in one
//! process, openings beside the TPM's own operation. Then on one that is as slow as a chip is assumed to be.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod bare;
mod chip;

use bare::Bare;
use std::process::Command;
use std::time::{Duration, Instant};
use strongroom::ledger::Name;
use strongroom::uri::DeviceUri;
use strongroom::vault::{Setup, Vault};
use test_support::process_pairs::{pairs, quiet};
use test_support::swtpm::{self, Swtpm};

/// In one process: how often ours and theirs take turns, and how long a turn lasts.
const TURNS: usize = 8;
const TURN: Duration = Duration::from_millis(750);

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, mode, tcti, directory] = arguments.as_slice()
        && mode == "bare"
    {
        let mut bare = Bare::load(tcti, directory.as_ref());
        return bare.agree();
    }
    let Some(tpm) = Swtpm::new() else { return };
    let bench = Bench { tcti: tpm.tcti(), tpm, rounds: 60 };
    bench.init(&[]);
    test_support::process_pairs::head();
    bench.beside_others();
    in_one_process(&bench);
    for (what, options) in
        [("keys that are loaded", &[][..]), ("keys that stay in the TPM", &["--persistent", "0x81010040"])]
    {
        chip::assumed(what, options);
    }
}

struct Bench {
    tpm: Swtpm,
    /// The transport to it.
    tcti: String,
    /// How many pairs.
    rounds: usize,
}

impl Bench {
    /// A store with a token, and a bare program's key.
    fn init(&self, options: &[&str]) {
        let device = format!("tpm:?tcti={}", self.tcti);
        quiet(self.strongroom().args(["init", "--device", &device]).args(options));
        quiet(self.strongroom().args(["put", "token/0", "--generate"]));
        bare::make(&self.tcti, &self.tpm.dir);
    }

    fn beside_others(&self) {
        self.pair("get, beside a bare program", || self.bare());
        self.systemd_creds();
        self.pair("get, beside tpm2_load and tpm2_unseal", self.tpm2_tools());
        self.clevis();
    }

    fn pair(&self, what: &str, peer: impl Fn() -> Command) {
        pairs(self.rounds, what, || self.get(), peer);
    }

    /// The command, with everything it reads and writes below the benchmark's directory.
    fn strongroom(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        for variable in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
            command.env(variable, self.tpm.dir.join(variable));
        }
        command
    }

    /// Without a resource manager the peers leave objects and sessions behind, and there are three slots. Not measured.
    fn clear(&self) {
        for what in ["--transient-object", "--loaded-session"] {
            quiet(self.tool("tpm2_flushcontext").arg(what));
        }
    }

    fn get(&self) -> Command {
        self.clear();
        let mut command = self.strongroom();
        command.args(["get", "token/0"]);
        command
    }

    /// This very program, in another role.
    fn bare(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["bare", &self.tcti]).arg(&self.tpm.dir).env("TSS2_LOG", "all+NONE");
        command
    }

    /// One of tpm2-tools, or of what is built upon them.
    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.tpm.dir).env("TPM2TOOLS_TCTI", &self.tcti);
        command
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = self.tool("sh");
        command.args(["-c", script]);
        command
    }

    /// A credential that is sealed to the TPM alone, and to PCR 7, which version 252 does not do without.
    fn systemd_creds(&self) {
        if !swtpm::installed("systemd-creds") {
            return println!("systemd-creds is not installed");
        }
        let device = format!("--tpm2-device={}", &self.tcti);
        let with = |arguments: &[&str]| {
            let mut command = self.tool("systemd-creds");
            command.args([&device, "--name=token"]).args(arguments);
            command
        };
        std::fs::write(self.tpm.dir.join("plain"), [b'x'; 40]).unwrap();
        quiet(&mut with(&["--with-key=tpm2", "encrypt", "plain", "credential"]));
        self.pair("get, beside systemd-creds decrypt", || {
            self.clear();
            with(&["decrypt", "credential", "-"])
        });
    }

    /// Sealed under the storage root key that strongroom uses too.
    fn tpm2_tools(&self) -> impl Fn() -> Command {
        std::fs::write(self.tpm.dir.join("plain"), [b'x'; 40]).unwrap();
        quiet(&mut self.shell("tpm2_create -Q -C 0x81000001 -i plain -u seal.pub -r seal.priv"));
        || {
            let load = "tpm2_load -Q -C 0x81000001 -u seal.pub -r seal.priv -c seal.ctx";
            self.shell(&format!("{load} && tpm2_unseal -c seal.ctx"))
        }
    }

    fn clevis(&self) {
        if !swtpm::installed("clevis-decrypt-tpm2") {
            return println!("clevis with its TPM pin is not installed");
        }
        quiet(&mut self.shell("clevis encrypt tpm2 '{}' <plain >plain.jwe"));
        self.pair("get, beside clevis decrypt", || self.shell("clevis decrypt <plain.jwe"));
    }
}

/// The TPM serves one connection at a time, so the two take turns.
fn in_one_process(bench: &Bench) {
    let name = Name::parse("token/0").unwrap();
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    // The last peer's objects.
    bench.clear();
    for _ in 0..TURNS {
        let raw = {
            let mut bare = Bare::load(&bench.tcti, &bench.tpm.dir);
            rate(|| bare.agree())
        };
        let ours = {
            let mut vault = Vault::open(bench.setup()).unwrap();
            rate(|| drop(vault.get(&name, None).unwrap()))
        };
        ratios.push(ours / raw);
        rates.push((ours, raw));
    }
    ratios.sort_by(f64::total_cmp);
    rates.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ours, raw) = rates[TURNS / 2];
    println!(
        "{:<52} {:>10} {:>10} {:>7}",
        "in one process, median of turns, per second", "openings", "raw", "ratio"
    );
    println!("{:<52} {ours:>10.0} {raw:>10.0} {:>7.2}", "get, beside TPM2_ECDH_ZGen", ratios[TURNS / 2]);
}

impl Bench {
    fn setup(&self) -> Setup {
        let store =
            format!("sqlite://{}", self.tpm.dir.join("XDG_DATA_HOME/strongroom/store.sqlite").display());
        let uri = DeviceUri::parse(&self.tpm.uri()).unwrap();
        Setup::new(store, vec![(uri, None)], self.tpm.dir.join("XDG_STATE_HOME/strongroom"))
    }
}

fn rate(mut operation: impl FnMut()) -> f64 {
    // What is loaded and opened once is loaded and opened.
    operation();
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < TURN {
        operation();
        count += 1;
    }
    f64::from(count) / started.elapsed().as_secs_f64()
}
