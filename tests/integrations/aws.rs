//! The AWS command line, which shows the ends of what credential_process gave it.

use crate::{command, done, home_with, put_with, said};
use test_support::home::Home;

fn shown(home: &Home, profile: &str) -> std::process::Output {
    let mut aws = command(home, "aws");
    // Where it is installed for the user, it is found by the user's home.
    if let Some(user) = std::env::home_dir() {
        aws.env("HOME", user);
    }
    aws.env("AWS_CONFIG_FILE", home.dir.join("aws")).env("AWS_EC2_METADATA_DISABLED", "true");
    aws.args(["configure", "list", "--profile", profile]).output().unwrap()
}

#[test]
fn keys_reach_the_command_line() {
    let Some(home) = home_with("aws", "apt-get install awscli") else { return };
    let profile = |name: &str| {
        format!("[profile {name}]\ncredential_process = strongroom credential aws work/{name}\n")
    };
    std::fs::write(home.dir.join("aws"), ["key", "json", "bad"].map(profile).concat()).unwrap();
    put_with(&home, "work/key", "s3cret", "username=AKIAEXAMPLE");
    home.put("work/json", br#"{"AccessKeyId":"KEYOFASIA","SecretAccessKey":"longenough","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}"#);
    home.put("work/bad", b"s3cret");
    let key = shown(&home, "key");
    assert!(key.status.success(), "{}", said(&key));
    let key = said(&key);
    assert!(key.contains("MPLE") && key.contains("cret") && key.contains("custom-process"), "{key}");
    let session = said(&shown(&home, "json"));
    assert!(session.contains("ASIA") && session.contains("custom-process"), "{session}");
    let bad = shown(&home, "bad");
    assert!(!bad.status.success() && said(&bad).contains("it has no access key id"), "{}", said(&bad));
    assert!(!said(&bad).contains("s3cret"));
    done(&mut home.strongroom(&["verify"]));
}
