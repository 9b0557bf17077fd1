//! Backups while others write, and where there is no room for them.

use strongroom::vault::{PutOptions, Setup, Vault, check_backup, line_file};
use strongroom::{Kind, vault};
use test_support::subprocess::in_namespaces;
use test_support::test_store::{TestStore, name, secret, setup};

fn backed_up(vault: &mut Vault, file: &std::path::Path) -> strongroom::Result<vault::CheckedCopy> {
    vault.backup(file, false, &mut |_, _, _| {})
}

fn reader(test_store: &TestStore) -> Setup {
    setup(test_store.url(), test_store.dir.path().join("reader"), &[])
}

#[test]
fn a_backup_is_one_moment_of_a_store_that_others_write_to() {
    let test_store = TestStore::populated();
    let dir = test_store.dir.path();
    let mut writer = test_store.client("writer", &[&test_store.writer]).unwrap();
    let mut vault = test_store.client("reader", &[]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..30 {
                writer.put(&name("w/own"), &secret(&n.to_string()), &PutOptions::default()).unwrap();
            }
        });
        let mut ends = Vec::new();
        for n in 0..10 {
            let file = dir.join(format!("backup-{n}"));
            let made = backed_up(&mut vault, &file).unwrap();
            assert_eq!(made.report.problems, vec![]);
            let line = std::fs::read_to_string(line_file(&file)).unwrap();
            assert_eq!(line.trim(), made.head.to_string());
            let checked = check_backup(&reader(&test_store), &file, None, &mut |_, _, _| {}).unwrap();
            assert_eq!((checked.copy.head.clone(), checked.line), (made.head.clone(), Some(made.head)));
            ends.push(checked.copy.head.position.n);
        }
        assert!(ends.is_sorted(), "{ends:?}");
    });
    // What is in the write-ahead log belongs to the store.
    let last = backed_up(&mut vault, &dir.join("last")).unwrap();
    assert_eq!(last.head.position, test_store.tail());
}

#[test]
fn a_full_disk_leaves_nothing_that_looks_like_a_backup() {
    let disk = "mount -t tmpfs -o size=16k none /mnt";
    in_namespaces(&["--user", "--map-root-user", "--mount"], disk, || {
        let test_store = TestStore::populated();
        let mut vault = test_store.client("reader", &[]).unwrap();
        let error = backed_up(&mut vault, "/mnt/backup".as_ref()).unwrap_err();
        assert!(matches!(error.kind(), Kind::Store | Kind::Io), "{error:?}");
        assert!(error.to_string().contains("full"), "{error}");
        assert_eq!(std::fs::read_dir("/mnt").unwrap().count(), 0, "{error}");
        backed_up(&mut vault, &test_store.dir.path().join("backup")).unwrap();
    });
}
