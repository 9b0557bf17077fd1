//! A whole `get` with a YubiKey beside a bare program that selects the PIV application, verifies the PIN and agrees once, and
//! beside age with age-plugin-yubikey, where that is installed. On the virtual YubiKey, whose answers take next to no time: what
//! is left is Strongroom's own.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use base64::Engine;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::process::Command;
use test_support::process_pairs::{pair, quiet};
use test_support::yubikey::{MANAGEMENT_KEY, Options, PIN, VirtualYubiKey};

/// As the first argument: be the bare program.
const BARE: &str = "bare-program";

fn main() {
    if std::env::args().nth(1).as_deref() == Some(BARE) {
        return bare();
    }
    let card = VirtualYubiKey::start(Options::default());
    let get = |store: &str| strongroom(&card, store, &["get", "a"]);
    make_store(&card, "pin", &card.uri_with_pin(PIN), "once");
    card.forget_apdus();
    quiet(&mut get("pin"));
    println!("APDUs of a get: {}", card.apdus().len());

    test_support::process_pairs::head();
    let bare = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(BARE).envs(card.environment());
        command
    };
    pair("get, beside select, verify and one key agreement", || get("pin"), bare);
    if !["age", "age-plugin-yubikey", "ykman"].into_iter().all(is_installed) {
        return println!("age-plugin-yubikey, age or ykman is not installed");
    }
    // Without PIN: age would ask a terminal for it.
    make_store(&card, "no-pin", &format!("{};slot=83;sign-slot=84", card.uri()), "never");
    let sealed = AgeFile::make(&card);
    pair("get, beside age -d with age-plugin-yubikey", || get("no-pin"), || sealed.open(&card));
}

fn strongroom(card: &VirtualYubiKey, store: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(arguments).envs(card.environment()).env("STRONGROOM_AGENT", "");
    for variable in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
        command.env(variable, card.dir.join(store).join(variable));
    }
    command
}

fn make_store(card: &VirtualYubiKey, store: &str, uri: &str, pin_policy: &str) {
    let policies = ["--pin-policy", pin_policy, "--touch-policy", "never"];
    quiet(strongroom(card, store, &["init", "--device", uri]).args(policies));
    quiet(&mut strongroom(card, store, &["put", "a", "--generate"]));
}

fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
}

/// What cannot be done with less: nothing is looked up, nothing is asked but the operation itself.
fn bare() {
    let context = pcsc::Context::establish(pcsc::Scope::System).unwrap();
    let mut names = [0; 2048];
    let reader = context.list_readers(&mut names).unwrap().next().unwrap();
    let mut card = context.connect(reader, pcsc::ShareMode::Shared, pcsc::Protocols::T1).unwrap();
    let transaction = card.transaction().unwrap();
    let send = |command: &[u8]| {
        let mut answer = [0; 258];
        let answer = transaction.transmit(command, &mut answer).unwrap();
        assert!(answer.ends_with(&[0x90, 0x00]), "{answer:?}");
    };
    send(&[0, 0xa4, 4, 0, 5, 0xa0, 0, 0, 3, 8]);
    let mut pin = [0xff; 8];
    pin[..PIN.len()].copy_from_slice(PIN.as_bytes());
    send(&[&[0, 0x20, 0, 0x80, 8][..], &pin].concat());
    let peer = p256::SecretKey::random(&mut rand_core::OsRng).public_key().to_encoded_point(false);
    let question = [&[0x7c, 69, 0x82, 0, 0x85, 65][..], peer.as_bytes()].concat();
    send(&[&[0, 0x87, 0x11, 0x9d, question.len() as u8][..], &question].concat());
}

/// A file that age opens by means of age-plugin-yubikey.
struct AgeFile {
    sealed: PathBuf,
    identity: PathBuf,
}

impl AgeFile {
    /// With a key in slot 82, the plugin's first, and what the plugin would write down of it: recipient and identity are
    /// Bech32, the latter of serial, slot and the first bytes of the key's digest.
    fn make(card: &VirtualYubiKey) -> Self {
        let [public, plain, sealed, identity] =
            ["82.pem", "plain", "sealed", "identity"].map(|name| card.dir.join(name));
        let ykman = |arguments: &[&str]| {
            let mut command = Command::new("ykman");
            quiet(command.args(["piv"]).args(arguments).arg("82").arg(&public).envs(card.environment()));
        };
        let policies = ["--pin-policy", "NEVER", "--touch-policy", "NEVER"];
        let managed = ["--management-key", MANAGEMENT_KEY];
        let generate = [&["keys", "generate", "--algorithm", "ECCP256"][..], &policies, &managed].concat();
        ykman(&generate);
        let certify = ["certificates", "generate", "--subject", "CN=bench", "--pin", PIN];
        ykman(&[&certify[..], &managed].concat());

        let point = point(&std::fs::read_to_string(&public).unwrap());
        let text = |prefix: &str, bytes: &[u8]| {
            bech32::encode::<bech32::Bech32>(bech32::Hrp::parse(prefix).unwrap(), bytes).unwrap()
        };
        let serial = card.card().profile().serial.to_le_bytes();
        let known = [&serial[..], &[0x82], &Sha256::digest(point.as_bytes())[..4]].concat();
        std::fs::write(&identity, text("age-plugin-yubikey-", &known).to_uppercase()).unwrap();
        std::fs::write(&plain, "a token").unwrap();
        let mut seal = Command::new("age");
        seal.args(["-r", &text("age1yubikey", point.as_bytes()), "-o"]).arg(&sealed).arg(&plain);
        quiet(&mut seal);
        Self { sealed, identity }
    }

    fn open(&self, card: &VirtualYubiKey) -> Command {
        let mut command = Command::new("age");
        command.args(["-d", "-i"]).arg(&self.identity).arg(&self.sealed).envs(card.environment());
        command
    }
}

/// The point at the end of a PEM file with a public key.
fn point(pem: &str) -> p256::EncodedPoint {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let info = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    p256::PublicKey::from_sec1_bytes(&info[info.len() - 65..]).unwrap().to_encoded_point(true)
}
