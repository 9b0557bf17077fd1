//! Whole processes, side by side. Each pair runs in turn, A B A B …, so that a machine that changes its speed changes both.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PAIRS: usize = 60;

/// The head of the table that [`pair`] prints.
pub fn head() {
    println!(
        "{:<52} {:>10} {:>10} {:>7}",
        "whole process, median of pairs, ms", "strongroom", "peer", "ratio"
    );
}

/// Runs both in turn and prints their medians and the median of the ratios. Above 1 the peer is slower.
pub fn pair(what: &str, ours: impl Fn() -> Command, peers: impl Fn() -> Command) -> (Duration, Duration) {
    pairs(PAIRS, what, ours, peers)
}

/// As [`pair`], with so many pairs.
pub fn pairs(
    count: usize,
    what: &str,
    ours: impl Fn() -> Command,
    peers: impl Fn() -> Command,
) -> (Duration, Duration) {
    let (mut ours_took, mut peers_took, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..count + 3 {
        let (a, b) = (timed(&mut ours()), timed(&mut peers()));
        if round >= 3 {
            ratios.push(b.as_secs_f64() / a.as_secs_f64());
            ours_took.push(a);
            peers_took.push(b);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let (a, b) = (median(ours_took), median(peers_took));
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("{what:<52} {:>10.2} {:>10.2} {:>7.2}", ms(a), ms(b), ratios[ratios.len() / 2]);
    (a, b)
}

/// How long a command takes that has to succeed.
pub fn timed(command: &mut Command) -> Duration {
    let started = Instant::now();
    quiet(command);
    started.elapsed()
}

/// Runs it, which has to succeed: what it printed.
pub fn quiet(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The middle one.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
