//! The programs people use, unmodified: they ask `strongroom` for their credentials, and are let in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod age;
mod aws;
mod cargo;
mod docker;
mod git;
mod kubectl;
mod netrc;
mod server;
mod terraform;

use std::io::Write;
use std::process::{Command, Output, Stdio};
use test_support::home::Home;

/// A home with a store, the links, and a program that is installed here.
fn home_with(program: &str, package: &str) -> Option<Home> {
    if !test_support::softhsm::installed(program) {
        test_support::skip::skip(&format!("{program} is missing: {package}"));
        return None;
    }
    let home = Home::with_store()?;
    std::fs::create_dir(home.dir.join("bin")).unwrap();
    home.ok(&["link", "bin"]);
    Some(home)
}

/// A program that finds the links.
fn command(home: &Home, program: &str) -> Command {
    let mut command = home.command(program);
    let path =
        command.get_envs().find(|(key, _)| *key == "PATH").and_then(|(_, value)| value).unwrap().to_owned();
    let mut bin = home.dir.join("bin").into_os_string();
    bin.push(":");
    bin.push(path);
    command.env("PATH", bin);
    command
}

/// Adds to config.toml.
fn configure(home: &Home, text: &str) {
    let path = home.dir.join("config/strongroom/config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    // A table of hosts may stand before the devices, which are an array of tables.
    std::fs::write(path, format!("{config}\n{text}\n")).unwrap();
}

/// Puts a token with a label.
fn put_with(home: &Home, name: &str, token: &str, label: &str) {
    given(&mut home.strongroom(&["put", "--quiet", name, "--label", label]), token);
}

/// Runs it with this input, and has it succeed.
fn given(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    output
}

/// Runs it, and has it succeed.
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
