//! A whole `get` with a YubiKey beside a bare program that selects the PIV application, verifies the PIN and agrees once. On the
//! virtual YubiKey, whose answers take next to no time: what is left is Strongroom's own. Pairs run in turn, A B A B …
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/common/yubikey.rs"]
mod yubikey;

use self::yubikey::{Options, PIN, VirtualYubiKey};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PAIRS: usize = 60;

/// As the first argument: be the bare program.
const BARE: &str = "bare-program";

fn main() {
    if std::env::args().nth(1).as_deref() == Some(BARE) {
        return bare();
    }
    let card = VirtualYubiKey::start(Options::default());
    let home = card.dir.join("home");
    let strongroom = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(arguments).envs(card.environment());
        for variable in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
            command.env(variable, home.join(variable));
        }
        command
    };
    let uri = card.uri_with_pin(PIN);
    let policies = ["--pin-policy", "once", "--touch-policy", "never"];
    timed(strongroom(&["init", "--device", &uri]).args(policies));
    timed(&mut strongroom(&["put", "a", "--generate"]));

    card.forget_apdus();
    timed(&mut strongroom(&["get", "a"]));
    println!("APDUs of a get: {}", card.apdus().len());
    let bare = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(BARE).envs(card.environment());
        command
    };
    println!(
        "{:<52} {:>10} {:>10} {:>7}",
        "whole process, median of pairs, ms", "strongroom", "bare", "ratio"
    );
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..PAIRS + 3 {
        let (a, b) = (timed(&mut strongroom(&["get", "a"])), timed(&mut bare()));
        if round >= 3 {
            ratios.push(a / b);
            ours.push(a);
            theirs.push(b);
        }
    }
    let [a, b, ratio] = [ours, theirs, ratios].map(median);
    println!("{:<52} {a:>10.2} {b:>10.2} {ratio:>7.2}", "get, beside select, verify and one key agreement");
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

/// Milliseconds.
fn timed(command: &mut Command) -> f64 {
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let took: Duration = started.elapsed();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    took.as_secs_f64() * 1e3
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
