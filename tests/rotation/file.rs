//! The hook `file`.

use crate::machine::{Machines, NOW, RESUME, words};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use strongroom::rotation::Outcome;
use test_support::executable::write_executable;

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
