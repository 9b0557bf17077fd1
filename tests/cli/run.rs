//! `run` is its program: process id, signals, input, limits.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::Duration;
use test_support::eventually::eventually;
use test_support::home::Home;

fn home() -> Option<Home> {
    let home = Home::with_store()?;
    home.put("a", b"s3cret");
    Some(home)
}

fn start(home: &Home, program: &[&str]) -> Child {
    let arguments = [&["run", "--env", "A=a", "--"], program].concat();
    home.strongroom(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn the_process_is_the_program() {
    let Some(home) = home() else { return };
    let mut child = start(&home, &["sh", "-c", "echo $$"]);
    assert_eq!(first_line(&mut child), child.id().to_string());
    assert!(child.wait().unwrap().success());
}

#[test]
fn signals_reach_it() {
    let Some(home) = home() else { return };
    let trap = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    let mut child = start(&home, &["sh", "-c", trap]);
    assert_eq!(first_line(&mut child), "ready");
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(7));

    let mut child = start(&home, &["sh", "-c", "echo ready; exec sleep 60"]);
    assert_eq!(first_line(&mut child), "ready");
    signal(&child, Signal::KILL);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn a_closed_pipe_ends_it_as_ever() {
    let Some(home) = home() else { return };
    let mut child = start(&home, &["yes"]);
    assert_eq!(first_line(&mut child), "y");
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().signal(), Some(13), "SIGPIPE");
}

/// The first process of a daemon ends; the file is still there for the one that stays.
#[test]
fn a_daemon_that_forks_keeps_its_files() {
    let Some(home) = home() else { return };
    let script = "(sleep 0.1; while kill -0 $$ 2>/dev/null; do sleep 0.01; done; cat \"$A\" >later; mv later read) >/dev/null 2>&1 &";
    home.ok(&["run", "--file", "A=a", "--", "sh", "-c", script]);
    let read = home.dir.join("read");
    assert!(eventually(Duration::from_secs(20), || read.exists()), "it never read its file");
    assert_eq!(std::fs::read(read).unwrap(), b"s3cret");
}

#[test]
fn input_is_its_own() {
    let Some(home) = home() else { return };
    let mut child = start(&home, &["sh", "-c", "cat; printf %s \"$A\""]);
    child.stdin.take().unwrap().write_all(b"in ").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "in s3cret");
    assert!(child.wait().unwrap().success());
}

#[test]
fn limits_and_descriptors_are_as_they_were() {
    let Some(home) = home() else { return };
    let script = "ulimit -c; exec ls /proc/self/fd";
    let plain = home.command("sh").args(["-c", script]).output().unwrap();
    let ours = home.ok(&["run", "--env", "A=a", "--", "sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&ours.stdout), String::from_utf8_lossy(&plain.stdout));
}

/// The program is a child then: signals are passed on, and its exit code is the command's.
#[test]
fn masked_programs_get_signals_too() {
    let Some(home) = home() else { return };
    let trap = "trap 'echo $A; exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run = home.strongroom(&["run", "--mask", "--env", "A=a", "--", "sh", "-c", trap]);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    signal(&child, Signal::TERM);
    line.clear();
    out.read_to_string(&mut line).unwrap();
    assert_eq!(line, "***\n");
    assert_eq!(child.wait().unwrap().code(), Some(7));
}
