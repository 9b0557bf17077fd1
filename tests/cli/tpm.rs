//! A TPM beside the HSM: tokens that either opens, a counter that tells of old copies, keys that an update takes away.

use std::path::Path;
use std::process::Command;
use test_support::home::Home;
use test_support::swtpm::Swtpm;

/// A store on the HSM, with one token and the TPM as its second device.
fn with_server(options: &[&str]) -> Option<(Home, Swtpm)> {
    let (home, tpm) = (Home::with_store()?, Swtpm::new()?);
    home.put("prod/db", b"token");
    let uri = tpm.uri();
    let add = ["device", "add", &uri, "--name", "server", "--reseal", "--quiet"];
    home.ok(&[&add[..], options].concat());
    Some((home, tpm))
}

fn fails(home: &Home, arguments: &[&str], code: i32) -> String {
    let output = home.strongroom(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn get(home: &Home, device: &str) -> Vec<u8> {
    home.ok(&["get", "prod/db", "--device", device]).stdout
}

fn copy(from: &Path, to: &Path) {
    test_support::swtpm::run(Command::new("cp").arg("-a").arg(from).arg(to));
}

#[test]
fn a_token_opens_with_the_tpm_as_with_the_hsm() {
    let Some((home, tpm)) = with_server(&["--role", "open", "--role", "write:prod"]) else { return };
    assert_eq!(get(&home, &tpm.uri()), b"token");
    assert_eq!(get(&home, &home.device()), b"token");
    // Without the HSM: the TPM signs what it may.
    fails(&home, &["destroy", "--yes", "prod/db", "--device", &tpm.uri()], 4);
    home.ok(&["put", "prod/db", "--generate", "--quiet", "--device", &tpm.uri()]);
    assert_eq!(get(&home, &home.device()), get(&home, &tpm.uri()));
    home.ok(&["device", "retire", "server", "--quiet"]);
    fails(&home, &["get", "prod/db", "--device", &tpm.uri()], 5);
    home.ok(&["verify", "--quiet"]);
}

#[test]
fn an_old_copy_of_everything_is_refused() {
    let Some((home, tpm)) = with_server(&[]) else { return };
    home.ok(&["device", "anchor", "server", "--quiet"]);
    let copied = home.dir.join("copied");
    std::fs::create_dir(&copied).unwrap();
    for directory in ["data", "state"] {
        copy(&home.dir.join(directory), &copied);
    }
    home.ok(&["revoke", "prod/db", "--reason", "leaked", "--quiet"]);
    for directory in ["data", "state"] {
        std::fs::remove_dir_all(home.dir.join(directory)).unwrap();
        copy(&copied.join(directory), &home.dir);
    }
    // The HSM alone has nothing to compare with.
    assert_eq!(get(&home, &home.device()), b"token");
    let said = fails(&home, &["get", "prod/db"], 7);
    assert!(said.contains("the store was set back: server counted 1 change that it does not hold"), "{said}");
    fails(&home, &["get", "prod/db", "--device", &tpm.uri()], 7);
    fails(&home, &["put", "prod/db", "--generate"], 7);
    home.ok(&["device", "anchor", "server", "--accept-older", "--quiet"]);
    assert_eq!(home.ok(&["get", "prod/db"]).stdout, b"token");
    home.ok(&["device", "anchor", "server", "--remove", "--quiet"]);
    assert_eq!(tpm.tool("tpm2_getcap", &["handles-nv-index"]).matches("0x").count(), 0);
}

/// The machine got a new mainboard: its TPM is another one.
#[test]
fn a_store_anchored_to_a_lost_tpm_goes_on_with_the_backup() {
    let Some((home, mut tpm)) = with_server(&[]) else { return };
    home.ok(&["device", "anchor", "server", "--quiet"]);
    tpm.kill();
    for file in std::fs::read_dir(tpm.dir.join("state")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    tpm.start();

    let output = home.strongroom(&["get", "prod/db"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"token", "{said}");
    assert!(said.contains("was not checked: server: this is not the TPM that was enrolled"), "{said}");
    assert!(said.contains("strongroom device retire server"), "{said}");
    let said = fails(&home, &["get", "prod/db", "--device", &tpm.uri()], 5);
    assert!(said.contains("its storage root key is not this TPM's"), "{said}");

    home.ok(&["device", "retire", "server", "--quiet"]);
    let output = home.ok(&["get", "prod/db"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("not checked"));
    // The new TPM takes the place.
    home.ok(&["device", "add", &tpm.uri(), "--name", "server-2", "--reseal", "--quiet"]);
    home.ok(&["device", "anchor", "server-2", "--quiet"]);
    assert_eq!(get(&home, &tpm.uri()), b"token");
}

#[test]
fn a_configured_device_that_does_not_answer_is_not_here() {
    let Some((home, mut tpm)) = with_server(&[]) else { return };
    let here = || {
        let listed = String::from_utf8(home.ok(&["device", "list"]).stdout).unwrap();
        let row = listed.lines().find(|line| line.contains("server")).unwrap().to_owned();
        row.split_whitespace().find(|cell| ["yes", "no"].contains(cell)).unwrap().to_owned()
    };
    assert_eq!(here(), "yes");
    tpm.kill();
    assert_eq!(here(), "no");
}

/// Somebody removed the counter: that is no lost TPM.
#[test]
fn a_counter_that_was_removed_stops_everything_and_the_way_out_is_named() {
    let Some((home, tpm)) = with_server(&[]) else { return };
    home.ok(&["device", "anchor", "server", "--quiet"]);
    let index = tpm.tool("tpm2_getcap", &["handles-nv-index"]);
    tpm.tool("tpm2_nvundefine", &["-C", "o", index.trim().trim_start_matches("- ")]);
    let said = fails(&home, &["get", "prod/db"], 5);
    assert!(said.contains("strongroom device anchor server --accept-older"), "{said}");
    home.ok(&["device", "anchor", "server", "--accept-older", "--quiet"]);
    assert_eq!(home.ok(&["get", "prod/db"]).stdout, b"token");
}

#[test]
fn an_update_takes_the_keys_away_and_renewing_brings_them_back() {
    let Some((home, tpm)) = with_server(&["--pcrs", "sha256:16"]) else { return };
    tpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "ab".repeat(32))]);
    fails(&home, &["get", "prod/db", "--device", &tpm.uri()], 4);
    assert_eq!(home.ok(&["get", "prod/db"]).stdout, b"token");
    // The new keys are bound to the same, said or not.
    for options in [&["--pcrs", "sha256:16"][..], &[]] {
        home.ok(&[&["device", "renew", "server", "--quiet"], options].concat());
        assert_eq!(get(&home, &tpm.uri()), b"token");
        tpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "cd".repeat(32))]);
        let said = fails(&home, &["get", "prod/db", "--device", &tpm.uri()], 4);
        assert!(said.contains("PCR 16 (debug) has changed since the key was made"), "{said}");
    }
    home.ok(&["verify", "--quiet"]);
}

/// A PKCS#11 module that never comes back does not keep the next device from opening: it is given up after 30 seconds.
#[test]
fn a_hung_module_leaves_it_to_the_next_device() {
    let Some((home, _tpm)) = with_server(&[]) else { return };
    let library = home.dir.join("libsofthsm-hung.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/device/shim.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    compiler.arg(format!("-DMODULE=\"{}\"", test_support::softhsm::module().unwrap().display()));
    compiler.arg(format!("-DCALLS=\"{}\"", home.dir.join("calls").display()));
    test_support::swtpm::run(&mut compiler);
    let config = home.dir.join("config/strongroom/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let module = test_support::softhsm::module().unwrap().display().to_string();
    std::fs::write(&config, text.replace(&module, &library.display().to_string())).unwrap();
    let mut get = home.strongroom(&["get", "prod/db"]);
    let output = get.env("SHIM_HANG", "C_Login").output().unwrap();
    assert_eq!(output.stdout, b"token", "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read_to_string(home.dir.join("calls")).unwrap().contains("C_Login"));
}
