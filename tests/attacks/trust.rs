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
    world: TestStore,
    honest: PathBuf,
    /// What the fork's clients say at the position of the revocation, and at the next one.
    lines: [TrustAnchor; 2],
}

impl Fork {
    fn new() -> Self {
        let world = TestStore::populated();
        world.client("forger", &[]).unwrap();
        world.checkpoint();
        let honest = world.path().with_extension("honest");
        let fork = world.path().with_extension("fork");
        fs::copy(world.path(), &fork).unwrap();
        let mut admin = world.client("admin", &[&world.admin]).unwrap();
        admin.set_state(&name("prod/db"), None, State::Revoked, "leaked").unwrap();
        drop(admin);
        world.client("reader", &[]).unwrap();
        world.checkpoint();
        fs::rename(world.path(), &honest).unwrap();
        fs::rename(fork, world.path()).unwrap();
        let mut forger = world.client("forger", &[&world.admin]).unwrap();
        let lines = ["one", "more"].map(|bytes| {
            forger.put(&name("w/forged"), &secret(bytes), &PutOptions::default()).unwrap();
            forger.head()
        });
        drop(forger);
        world.checkpoint();
        Self { world, honest, lines }
    }

    /// With the fork's end after its first put only.
    fn cut(self) -> Self {
        self.world.unplant(self.lines[1].position.n);
        self.world.checkpoint();
        self
    }

    fn reader(&self) -> PathBuf {
        self.world.dir.path().join("reader")
    }

    fn replica(&self) -> PathBuf {
        self.reader().join(self.world.id.to_string())
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
        let setup = self.world.setup("reader", &[&self.world.opener]);
        Vault::trust(setup, line, replace, &mut |_, _| {})
    }

    /// Neither the line nor the store changes what the reader knows.
    fn is_refused(&self, line: &TrustAnchor) {
        for _ in 0..2 {
            let error = self.trust(line, false).err().expect("the fork is believed");
            assert!(matches!(error.kind(), Kind::Tampered | Kind::RolledBack), "{error}");
        }
        if let Ok(mut vault) = self.world.client("reader", &[&self.world.opener]) {
            let error = vault.get(&name("prod/db"), None).unwrap_err();
            panic!("the fork opens: {error}");
        }
        // The right store is still believed, and what was verified in it still holds.
        fs::rename(&self.honest, self.world.path()).unwrap();
        let mut vault = self.trust(&StorePin::from_store(self.world.id), false).unwrap();
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
    let sound = fs::read(fork.world.path()).unwrap();
    let pin = StorePin::load(&fork.reader(), &fork.world.url()).unwrap();
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
    fork.world.db().execute(sql, [fork.lines[0].position.n]).unwrap();
    for line in &fork.lines {
        assert_eq!(fork.trust(line, true).err().unwrap().kind(), Kind::Tampered);
    }
    assert_eq!(StorePin::load(&fork.reader(), &fork.world.url()).unwrap(), pin);
    fork.world.checkpoint();
    fs::rename(&fork.honest, fork.world.path()).unwrap();
    let mut vault = fork.world.client("reader", &[&fork.world.opener]).unwrap();
    assert_eq!(vault.get(&name("prod/db"), None).unwrap_err().kind(), Kind::Refused);
    drop(vault);
    // With a store that leads through the line, it is forgotten.
    fork.world.checkpoint();
    fs::write(fork.world.path(), sound).unwrap();
    let mut vault = fork.trust(&fork.lines[0], true).unwrap();
    assert_eq!(vault.get(&name("prod/db"), None).unwrap().expose(), b"two");
    let there = answers(&mut vault);
    drop(vault);
    assert_eq!(answers(&mut fork.world.client("reader", &[&fork.world.opener]).unwrap()), there);
    let pin = StorePin::load(&fork.reader(), &fork.world.url()).unwrap().unwrap();
    assert_eq!(pin, fork.lines[1]);
}
