//! Signing keys on P-384 and of RSA, beside such on P-256.

use test_support::home::Home;
use test_support::softhsm::installed;

#[test]
fn a_signing_key_on_p384_is_taken_as_it_is() {
    is_taken_as_it_is("EC:secp384r1", "p384");
}

#[test]
fn a_signing_key_of_rsa_is_taken_as_it_is() {
    is_taken_as_it_is("rsa:2048", "rsa2048");
}

fn is_taken_as_it_is(kind: &str, shown: &str) {
    if !installed("pkcs11-tool") {
        return test_support::skip::skip("pkcs11-tool is missing: apt-get install opensc");
    }
    let Some(home) = Home::new() else { return };
    let new_key = ["--keypairgen", "--key-type", kind, "--label", "strongroom-sign"];
    home.hsm.pkcs11_tool(&[&new_key[..], &["--id", "01", "--usage-sign", "--sensitive"]].concat());
    let text = |arguments: &[&str]| String::from_utf8(home.ok(arguments).stdout).unwrap();

    let said = text(&["init", "--device", &home.device()]);
    assert!(said.contains(&format!("signing key    {shown}, found")), "{said}");
    home.put("prod/db", b"the token");

    home.hsm.add_token("backup");
    let backup = home.device().replacen("token=demo", "token=backup", 1);
    text(&["device", "add", &backup, "--role", "admin", "--role", "write", "--role", "open"]);
    text(&["rename", "prod/db", "prod/database", "--device", &backup]);
    text(&["suspend", "prod/database", "--reason", "a look"]);
    text(&["resume", "prod/database", "--device", &backup]);
    text(&["reseal"]);
    for device in [&home.device(), &backup] {
        assert_eq!(text(&["get", "prod/database", "--device", device]), "the token");
    }
    text(&["verify"]);

    text(&["device", "retire", "demo", "--device", &backup, "--reason", "its curve"]);
    assert_eq!(text(&["get", "prod/database", "--device", &backup]), "the token");
    let refused =
        home.strongroom(&["suspend", "prod/database", "--device", &home.device()]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("no device here has the role `write`"), "{said}");
    text(&["verify", "--device", &backup]);
}
