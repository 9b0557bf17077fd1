//! The same beside others on a TPM that takes its time, as a discrete chip does.
//!
//! The times are assumptions, not measurements: of the order that is reported for such chips, which differ by a factor of two and
//! more. What counts is which commands each program sends.

use crate::Bench;
use std::time::Duration;
use test_support::swtpm::Swtpm;
use test_support::tpm_relay::{CREATE_PRIMARY, ECDH_ZGEN, LOAD, Relay, SIGN, START_AUTH_SESSION, code};

/// Fewer pairs than on a simulator: they take longer, and vary less.
const ROUNDS: usize = 7;

/// How long a command is assumed to take.
fn assumed_time(command: &[u8]) -> Duration {
    // TPM_RH_NULL: a session that is not salted takes no private key.
    let salted = command.get(10..14) != Some(&[0x40, 0, 0, 7]);
    Duration::from_millis(match code(command) {
        CREATE_PRIMARY => 180,
        LOAD => 70,
        START_AUTH_SESSION if salted => 90,
        ECDH_ZGEN => 110,
        SIGN => 90,
        _ => 8,
    })
}

/// Opens with keys of this kind, beside others.
pub fn assumed(what: &str, options: &[&str]) {
    let Some(tpm) = Swtpm::new() else { return };
    let relay = Relay::before(&tpm);
    let bench = Bench { tcti: relay.tcti(), tpm, rounds: ROUNDS };
    bench.init(options);
    println!(
        "\non an assumed chip (CreatePrimary 180 ms, Load 70, salted StartAuthSession 90, ECDH_ZGen 110, Sign 90, others 8): {what}"
    );
    relay.act(|command, forward| {
        std::thread::sleep(assumed_time(command));
        forward(command)
    });
    bench.beside_others();
}
