//! The hook `file`.

use crate::machine::{Machines, NOW, RESUME, TOKEN, words};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use strongroom::rotation::{Outcome, revoke_at_issuer};
use strongroom::vault::{PutOptions, Vault};
use test_support::executable::write_executable;
use test_support::test_store::secret;

#[test]
fn a_file_is_replaced_whole_and_its_service_told() {
    let dir = tempfile::tempdir().unwrap();
    let (file, told) = (dir.path().join("password"), dir.path().join("told"));
    std::fs::write(&file, "first").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let reload = dir.path().join("reload");
    write_executable(&reload, &format!("#!/bin/sh\ncat {file:?} >>{told:?}; echo >>{told:?}\n"));
    let hook = format!("kind = \"file\"\npath = {file:?}\ncommand = [{reload:?}]\n");
    let machines = Machines::new(&hook, "first", &[]);
    let before = std::fs::metadata(&file).unwrap().ino();
    assert_eq!(machines.rotate("one", NOW).unwrap(), Outcome::Rotated(2));
    let metadata = std::fs::metadata(&file).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_ne!(metadata.ino(), before);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), machines.value());
    assert_eq!(std::fs::read_to_string(&told).unwrap(), format!("{}\n", machines.value()));
    machines.is_tidy();
    // It was written, and the service not told: the one who goes on does that.
    write_executable(&reload, "#!/bin/sh\necho 'no such unit' >&2; exit 1\n");
    let error = machines.rotate("one", NOW).unwrap_err();
    assert!(words(&error).contains("no such unit"), "{error}");
    write_executable(&reload, &format!("#!/bin/sh\ncat {file:?} >{told:?}\n"));
    assert_eq!(machines.rotate("one", RESUME).unwrap(), Outcome::Rotated(3));
    assert_eq!(std::fs::read_to_string(&told).unwrap(), machines.value());
}

/// The directory may be another user's, who puts something else in the file's place: no link is followed, and no pipe is
/// waited for.
#[test]
fn what_somebody_puts_in_its_place_leads_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (file, other) = (dir.path().join("password"), dir.path().join("other"));
    std::fs::write(&other, "precious").unwrap();
    std::os::unix::fs::symlink(&other, &file).unwrap();
    let machines = Machines::new(&format!("kind = \"file\"\npath = {file:?}\n"), "first", &[]);
    assert_eq!(machines.rotate("one", NOW).unwrap(), Outcome::Rotated(2));
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
    assert!(std::fs::symlink_metadata(&file).unwrap().is_file());
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let error = machines.rotate("one", NOW).unwrap_err();
    assert!(words(&error).contains("no regular file"), "{error}");
}

/// What the file still holds was not revoked, and what two versions hold is not revoked for one of them.
#[test]
fn a_value_that_is_in_use_is_not_revoked_at_the_issuer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "first").unwrap();
    let machines = Machines::new(&format!("kind = \"file\"\npath = {file:?}\n"), "first", &[]);
    let (hook, mut vault, token) = (machines.hook(), machines.vault("one"), TOKEN.parse().unwrap());
    let put = |vault: &mut Vault, value: &str| {
        vault.put(&token, &secret(value), &PutOptions::default()).unwrap();
    };
    put(&mut vault, "second");
    let mut revoke = |version| revoke_at_issuer(&mut vault, &*hook, &token, Some(version), "leaked");
    let error = words(&revoke(1).unwrap_err());
    assert!(error.contains("password holds it; rotate the token first"), "{error}");
    std::fs::write(&file, "second").unwrap();
    assert_eq!(revoke(1).unwrap(), [1]);
    put(&mut vault, "second");
    let error = words(&revoke_at_issuer(&mut vault, &*hook, &token, Some(2), "leaked").unwrap_err());
    assert!(error.contains("version 2 is the value of version 3"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "second");
}

#[test]
fn a_command_that_quotes_the_file_does_not_spread_it() {
    let dir = tempfile::tempdir().unwrap();
    let (file, check) = (dir.path().join("password"), dir.path().join("check"));
    write_executable(&check, &format!("#!/bin/sh\necho \"bad line: $(cat {file:?})\" >&2; exit 1\n"));
    let hook = format!("kind = \"file\"\npath = {file:?}\ncommand = [{check:?}]\n");
    let machines = Machines::new(&hook, "first", &[]);
    let error = words(&machines.rotate("one", NOW).unwrap_err());
    assert!(error.contains("bad line: ***"), "{error}");
    assert!(!error.contains(&std::fs::read_to_string(&file).unwrap()), "{error}");
}
