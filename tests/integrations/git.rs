//! git, over HTTP with Basic authentication.

use crate::server::Server;
use crate::{command, configure, done, given, home_with, put_with, said};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::process::Command;
use test_support::home::Home;

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn git(home: &Home, arguments: &[&str]) -> Command {
    let mut command = command(home, "git");
    command.args(["-c", "credential.helper=", "-c", "credential.helper=strongroom"]).args(arguments);
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

/// A repository that is served to who shows this header.
fn served(home: &Home, authorization: &str) -> Server {
    let server = Server::start(home, authorization);
    let script = "git init -q -b main work && cd work && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first \
                  && git clone -q --bare . ../served/repo.git && cd ../served/repo.git && git update-server-info";
    done(command(home, "sh").args(["-c", script]));
    server
}

fn home() -> Option<Home> {
    home_with("git", "apt-get install git")
}

#[test]
fn a_repository_is_cloned_and_what_is_refused_is_closed() {
    let Some(home) = home() else { return };
    let server = served(&home, &basic("alice", "s3cret"));
    let url = format!("http://127.0.0.1:{}/repo.git", server.port);
    put_with(&home, "work/git", "s3cret", "username=alice");

    // Without TLS, nothing but what the configuration names.
    let refused = git(&home, &["clone", "-q", &url, "one"]).output().unwrap();
    assert!(
        !refused.status.success() && said(&refused).contains("terminal prompts disabled"),
        "{}",
        said(&refused)
    );

    configure(&home, &format!("[hosts.git]\n\"http://127.0.0.1:{}\" = \"work/git\"", server.port));
    done(&mut git(&home, &["clone", "-q", &url, "two"]));
    assert!(server.requests().contains(&basic("alice", "s3cret")));
    // What git says of it afterwards makes no new version.
    assert!(done(&mut home.strongroom(&["list"])).starts_with("work/git\t1\tactive"));

    // The server wants another one now.
    put_with(&home, "work/git", "wrong", "username=alice");
    let refused = git(&home, &["ls-remote", &url]).output().unwrap();
    assert!(!refused.status.success());
    assert!(done(&mut home.strongroom(&["list"])).starts_with("work/git\t2\tsuspended"));
    assert!(
        done(&mut home.strongroom(&["history", "work/git"])).contains("git: refused by http://127.0.0.1:")
    );
}

#[test]
fn approved_credentials_are_kept_once() {
    let Some(home) = home() else { return };
    let approve = |password: &str, more: &str| {
        let input = format!("protocol=https\nhost=example.org\nusername=bob\npassword={password}\n{more}\n");
        given(&mut git(&home, &["credential", "approve"]), &input);
    };
    approve("one", "");
    approve("one", "");
    approve("two", "password_expiry_utc=4102444800\n");
    let listed = done(&mut home.strongroom(&["list"]));
    assert_eq!(listed, "git/example.org\t2\tactive\t2100-01-01T00:00:00Z\tusername=bob\n");
    let filled = given(&mut git(&home, &["credential", "fill"]), "protocol=https\nhost=example.org\n\n");
    let filled = String::from_utf8(filled.stdout).unwrap();
    assert!(filled.contains("username=bob\n") && filled.contains("password=two\n"), "{filled}");
    assert!(filled.contains("password_expiry_utc=4102444800\n"), "{filled}");

    let reject = "protocol=https\nhost=example.org\nusername=bob\npassword=two\n\n";
    given(&mut git(&home, &["credential", "reject"]), reject);
    assert!(done(&mut home.strongroom(&["list"])).contains("\tsuspended\t"));
}

/// With `credential.useHttpPath`, what is typed for one repository is not for the others, unless theirs was refused.
#[test]
fn a_password_for_a_path_leaves_the_hosts_own_alone() {
    let Some(home) = home() else { return };
    put_with(&home, "git/example.org", "everybody's", "username=bob");
    let ask = |what: &str, path: &str, password: &str| {
        let credential = ["-c", "credential.useHttpPath=true", "credential", what];
        let input = format!("protocol=https\nhost=example.org\npath={path}\nusername=bob\n{password}\n");
        String::from_utf8(given(&mut git(&home, &credential), &input).stdout).unwrap()
    };
    ask("approve", "acme/x.git", "password=mine\n");
    let listed = done(&mut home.strongroom(&["list"]));
    assert!(listed.starts_with("git/example.org\t1\tactive"), "{listed}");
    assert!(listed.contains("git/example.org/acme/x\t1\tactive"), "{listed}");
    assert!(ask("fill", "acme/x.git", "").contains("password=mine\n"));
    assert!(ask("fill", "acme/y.git", "").contains("password=everybody's\n"));

    ask("reject", "acme/y.git", "password=everybody's\n");
    ask("approve", "acme/y.git", "password=everybody's new one\n");
    let listed = done(&mut home.strongroom(&["list"]));
    assert!(listed.starts_with("git/example.org\t2\tactive"), "{listed}");
    assert!(ask("fill", "acme/x.git", "").contains("password=mine\n"));
}

/// Hosts that look like another, and users that are another.
#[test]
fn nobody_else_gets_it() {
    let Some(home) = home() else { return };
    put_with(&home, "git/github.com", "s3cret", "username=alice");
    for request in [
        "host=github.com.evil.org",
        "host=evil.org",
        "host=github.com.",
        "host=github.com:8443",
        "host=x@github.com",
        "host=github.com/evil.org",
        "host=github.com\nusername=mallory",
        "host=g%69thub.com",
        "host=gıthub.com",
        "path=github.com\nhost=",
    ] {
        let output = given(
            command(&home, "git-credential-strongroom").arg("get"),
            &format!("protocol=https\n{request}\n\n"),
        );
        assert_eq!(said(&output), "", "{request}");
    }
    let insecure =
        given(command(&home, "git-credential-strongroom").arg("get"), "protocol=http\nhost=github.com\n\n");
    assert_eq!(said(&insecure), "");
    let upper =
        given(command(&home, "git-credential-strongroom").arg("get"), "protocol=https\nhost=GitHub.com\n\n");
    assert_eq!(said(&upper), "username=alice\npassword=s3cret\n");
    given(command(&home, "git-credential-strongroom").arg("capability"), "");
}

/// Without a PIN, and nobody to ask, git is told at once, and asks nobody else.
#[test]
fn a_device_that_nobody_unlocks_is_an_error_at_once() {
    let Some(home) = home() else { return };
    put_with(&home, "git/example.org", "s3cret", "username=alice");
    std::fs::remove_file(home.dir.join("pin")).unwrap();
    let mut fill = command(&home, "setsid");
    fill.args(["--wait", "git", "-c", "credential.helper=strongroom", "credential", "fill"]);
    let mut child =
        fill.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"protocol=https\nhost=example.org\n\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("cannot open git/example.org") && said.contains("told us to quit"), "{said}");
    let absent = given_fails(
        command(&home, "git-credential-strongroom").arg("get").env("STRONGROOM_AGENT", "/nonexistent"),
    );
    assert!(absent.contains("nobody listens there") && absent.contains("quit=1"), "{absent}");
}

fn given_fails(command: &mut Command) -> String {
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"protocol=https\nhost=example.org\n\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    said(&output)
}
