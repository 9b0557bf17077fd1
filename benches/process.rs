//! Whole processes, side by side: what a user waits for.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::fmt::Write as _;
use std::process::Command;
use test_support::process_pairs::{pair, quiet, timed};
use test_support::softhsm::{LABEL, PIN, SoftHsm};

const IMPORTED: usize = 100_000;

fn main() {
    let Some(hsm) = SoftHsm::new() else { return };
    let p256 = Store::new(&hsm, "p256");
    let rsa = Store::new(&hsm, "rsa2048");
    test_support::process_pairs::head();
    let [ec_key, rsa_key] = ["p256-open", "rsa2048-open"].map(|label| key_id(&hsm, label));
    pair("get, P-256, beside pkcs11-tool --derive", || p256.get("token/0"), || derive(&hsm, &ec_key));
    pair("get, RSA-2048, beside pkcs11-tool --decrypt", || rsa.get("token/0"), || decrypt(&hsm, &rsa_key));
    let (ten, one) = pair("run with 10 tokens, beside run with 1", || p256.run(10), || p256.run(1));
    println!(
        "{:<52} {:>10.3}",
        "each further token of run, ms",
        (ten.as_secs_f64() - one.as_secs_f64()) * 1e3 / 9.0
    );
    import(&hsm);
}

struct Store<'a> {
    hsm: &'a SoftHsm,
    algorithm: &'static str,
}

impl<'a> Store<'a> {
    fn new(hsm: &'a SoftHsm, algorithm: &'static str) -> Self {
        let store = Self { hsm, algorithm };
        let uri = hsm.uri_with_pin(&format!("token={LABEL};object={algorithm}"), PIN);
        quiet(store.strongroom().args(["init", "--device", &uri, "--algorithm", algorithm]));
        for i in 0..10 {
            quiet(store.strongroom().args(["put", &format!("token/{i}"), "--generate"]));
        }
        store
    }

    /// The command, with everything it reads and writes below the benchmark's directory.
    fn strongroom(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.envs(self.hsm.environment());
        for variable in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
            command.env(variable, self.hsm.dir.join(self.algorithm).join(variable));
        }
        command
    }

    fn get(&self, name: &str) -> Command {
        let mut command = self.strongroom();
        command.args(["get", name]);
        command
    }

    fn run(&self, tokens: usize) -> Command {
        let mut command = self.strongroom();
        command.arg("run");
        for i in 0..tokens {
            command.args(["--env", &format!("T{i}=token/{i}")]);
        }
        command.args(["--", "true"]);
        command
    }
}

fn pkcs11_tool(hsm: &SoftHsm) -> Command {
    let mut command = Command::new("pkcs11-tool");
    command.envs(hsm.environment()).arg("--module").arg(test_support::softhsm::module().unwrap());
    command.args(["--token-label", LABEL, "--login", "--pin", PIN]);
    command
}

/// `pkcs11-tool` takes the first private key it meets, unless it is told an id.
fn key_id(hsm: &SoftHsm, label: &str) -> String {
    let listed = hsm.pkcs11_tool(&["--list-objects", "--type", "privkey"]);
    let mut lines = listed.lines().skip_while(|line| !line.trim_end().ends_with(label));
    lines.find_map(|line| line.trim().strip_prefix("ID:")).unwrap().trim().to_owned()
}

/// The peer's point: the module's own public key.
fn derive(hsm: &SoftHsm, id: &str) -> Command {
    let (point, out) = (hsm.dir.join("point.der"), hsm.dir.join("derived"));
    if !point.exists() {
        hsm.pkcs11_tool(&[
            "--read-object",
            "--type",
            "pubkey",
            "--label",
            "p256-open",
            "-o",
            point.to_str().unwrap(),
        ]);
    }
    let mut command = pkcs11_tool(hsm);
    command.args(["--derive", "-m", "ECDH1-DERIVE", "--id", id, "-i"]).arg(point).arg("-o").arg(out);
    command
}

fn decrypt(hsm: &SoftHsm, id: &str) -> Command {
    let (sealed, out) = (hsm.dir.join("rsa.bin"), hsm.dir.join("rsa.out"));
    if !sealed.exists() {
        let (public, plain) = (hsm.dir.join("rsa.der"), hsm.dir.join("plain"));
        std::fs::write(&plain, [7; 16]).unwrap();
        hsm.pkcs11_tool(&[
            "--read-object",
            "--type",
            "pubkey",
            "--label",
            "rsa2048-open",
            "-o",
            public.to_str().unwrap(),
        ]);
        let mut openssl = Command::new("openssl");
        openssl.args([
            "pkeyutl",
            "-encrypt",
            "-pubin",
            "-keyform",
            "DER",
            "-pkeyopt",
            "rsa_padding_mode:oaep",
            "-inkey",
        ]);
        quiet(openssl.arg(public).arg("-in").arg(plain).arg("-out").arg(&sealed));
    }
    let mut command = pkcs11_tool(hsm);
    command.args(["--decrypt", "-m", "RSA-PKCS-OAEP", "--hash-algorithm", "SHA-1", "--mgf", "MGF1-SHA1"]);
    command.args(["--id", id, "-i"]).arg(sealed).arg("-o").arg(out);
    command
}

fn import(hsm: &SoftHsm) {
    let mut lines = String::new();
    for i in 0..IMPORTED {
        writeln!(lines, "{{\"name\":\"import/{}/{i}\",\"value\":\"secret-{i}\"}}", i % 100).unwrap();
    }
    let file = hsm.dir.join("import.jsonl");
    std::fs::write(&file, lines).unwrap();
    let store = Store { hsm, algorithm: "p256" };
    let mut command = store.strongroom();
    let took = timed(command.arg("import").arg(file));
    println!("{:<52} {:>10.0}", format!("import of {IMPORTED} tokens, ms"), took.as_secs_f64() * 1e3);
}
