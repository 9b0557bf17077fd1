//! A line from a forged history, handed to a client that has verified another one.

use std::fs;
use std::path::PathBuf;
use strongroom::Kind;
use strongroom::ledger::body::State;
use strongroom::replica::{StorePin, TrustAnchor};
use strongroom::vault::{PutOptions, Vault};
use test_support::test_store::{TestStore, answers, name, secret};

/// A store whose client `reader` verified that `prod/db` is revoked. In the file lies a fork that lacks the revocation.
struct Fork {
    test_store: TestStore,
    honest: PathBuf,
    /// What the fork's clients say at the position of the revocation, and at the next one.
    lines: [TrustAnchor; 2],
}

impl Fork {
    fn new() -> Self {
        let test_store = TestStore::populated();
        test_store.client("forger", &[]).unwrap();
        test_store.checkpoint();
        let honest = test_store.path().with_extension("honest");
        let fork = test_store.path().with_extension("fork");
        fs::copy(test_store.path(), &fork).unwrap();
        let mut admin = test_store.client("admin", &[&test_store.admin]).unwrap();
        admin.set_state(&name("prod/db"), None, State::Revoked, "leaked").unwrap();
        drop(admin);
        test_store.client("reader", &[]).unwrap();
        test_store.checkpoint();
        fs::rename(test_store.path(), &honest).unwrap();
        fs::rename(fork, test_store.path()).unwrap();
        let mut forger = test_store.client("forger", &[&test_store.admin]).unwrap();
        let lines = ["one", "more"].map(|bytes| {
            forger.put(&name("w/forged"), &secret(bytes), &PutOptions::default()).unwrap();
            forger.head()
        });
        drop(forger);
        test_store.checkpoint();
        Self { test_store, honest, lines }
    }

    /// With the fork's end after its first put only.
    fn cut(self) -> Self {
        self.test_store.unplant(self.lines[1].position.n);
        self.test_store.checkpoint();
        self
    }

    fn reader(&self) -> PathBuf {
        self.test_store.dir.path().join("reader")
    }

    fn replica(&self) -> PathBuf {
        self.reader().join(self.test_store.id.to_string())
    }

    fn lose_pin(&self) {
        for entry in fs::read_dir(self.reader()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "pin") {
                fs::remove_file(path).unwrap();
            }
        }
    }

    fn trust(&self, line: &TrustAnchor, replace: bool) -> strongroom::Result<Vault> {
        let setup = self.test_store.setup("reader", &[&self.test_store.opener]);
        Vault::trust(setup, line, replace, &mut |_, _| {})
    }

    /// Neither the line nor the store changes what the reader knows.
    fn is_refused(&self, line: &TrustAnchor) {
        for _ in 0..2 {
            let error = self.trust(line, false).err().expect("the fork is believed");
            assert!(matches!(error.kind(), Kind::Tampered | Kind::RolledBack), "{error}");
        }
        if let Ok(mut vault) = self.test_store.client("reader", &[&self.test_store.opener]) {
            let error = vault.get(&name("prod/db"), None).unwrap_err();
            panic!("the fork opens: {error}");
        }
        // The right store is still believed, and what was verified in it still holds.
        fs::rename(&self.honest, self.test_store.path()).unwrap();
        let mut vault = self.trust(&StorePin::from_store(self.test_store.id), false).unwrap();
        assert_eq!(vault.get(&name("prod/db"), None).unwrap_err().kind(), Kind::Refused);
        let error = self.trust(line, false).err().unwrap();
        assert!(matches!(error.kind(), Kind::Tampered | Kind::RolledBack), "{error}");
    }
}

#[test]
fn a_forks_line_for_the_verified_position() {
    let fork = Fork::new().cut();
    fork.is_refused(&fork.lines[0]);
    let fork = Fork::new();
    fork.is_refused(&fork.lines[0]);
}

#[test]
fn a_forks_line_for_a_later_position() {
    let fork = Fork::new();
    fork.is_refused(&fork.lines[1]);
}

#[test]
fn a_forks_line_where_the_replica_was_lost() {
    for line in 0..2 {
        let fork = Fork::new();
        fs::remove_dir_all(fork.replica()).unwrap();
        fork.is_refused(&fork.lines[line]);
    }
}

#[test]
fn a_forks_line_where_the_pin_was_lost() {
    for line in 0..2 {
        let fork = Fork::new();
        fork.lose_pin();
        fork.is_refused(&fork.lines[line]);
    }
}

/// `--replace` forgets what was known only once there is something to put in its place.
#[test]
fn a_failed_replacement_forgets_nothing() {
    let fork = Fork::new();
    let sound = fs::read(fork.test_store.path()).unwrap();
    let pin = StorePin::load(&fork.reader(), &fork.test_store.url()).unwrap();
    let mut wrong = fork.lines[1].clone();
    wrong.position.n -= 1;
    let mut beyond = fork.lines[1].clone();
    beyond.position.n += 9;
    let other = StorePin::from_store(TestStore::bare(4).id);
    for line in [&wrong, &beyond, &other] {
        let error = fork.trust(line, true).err().unwrap();
        assert!(matches!(error.kind(), Kind::Tampered | Kind::RolledBack), "{error}");
    }
    let sql = "UPDATE statements SET bytes = x'80' WHERE n = ?1";
    fork.test_store.db().execute(sql, [fork.lines[0].position.n]).unwrap();
    for line in &fork.lines {
        assert_eq!(fork.trust(line, true).err().unwrap().kind(), Kind::Tampered);
    }
    assert_eq!(StorePin::load(&fork.reader(), &fork.test_store.url()).unwrap(), pin);
    fork.test_store.checkpoint();
    fs::rename(&fork.honest, fork.test_store.path()).unwrap();
    let mut vault = fork.test_store.client("reader", &[&fork.test_store.opener]).unwrap();
    assert_eq!(vault.get(&name("prod/db"), None).unwrap_err().kind(), Kind::Refused);
    drop(vault);
    // With a store that leads through the line, it is forgotten.
    fork.test_store.checkpoint();
    fs::write(fork.test_store.path(), sound).unwrap();
    let mut vault = fork.trust(&fork.lines[0], true).unwrap();
    assert_eq!(vault.get(&name("prod/db"), None).unwrap().expose(), b"two");
    let there = answers(&mut vault);
    drop(vault);
    assert_eq!(answers(&mut fork.test_store.client("reader", &[&fork.test_store.opener]).unwrap()), there);
    let pin = StorePin::load(&fork.reader(), &fork.test_store.url()).unwrap().unwrap();
    assert_eq!(pin, fork.lines[1]);
}
