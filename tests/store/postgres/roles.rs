//! The rights of the database's users: what a machine's user may not do, its machine cannot be made to do either.

use crate::change::{access, first_of, set_aside};
use crate::store_factory::{Postgres, StoreFactory};
use strongroom::error::Kind;
use strongroom::ledger::{DeviceId, sha256};
use strongroom::store::postgres::{DatabaseRole, grant_sql};
use strongroom::store::{Access, Lease, Store, open};

const OWN: DeviceId = DeviceId([0xab; 16]);
const OTHER: DeviceId = DeviceId([0xcd; 16]);

struct Users {
    factory: Postgres,
    names: Vec<String>,
}

impl Users {
    /// A store with a batch in it.
    fn new() -> Option<Self> {
        if !Postgres::available() {
            return None;
        }
        let factory = Postgres::new();
        first_of([1]).sealing(b"sealed").append(&mut *factory.open()).unwrap();
        Some(Self { factory, names: Vec::new() })
    }

    /// The store as a user sees it who has this role.
    fn connect(&mut self, role: DatabaseRole) -> (String, Box<dyn Store>) {
        let name = format!("{role:?}_{}", self.factory.database.name);
        let database = &self.factory.database;
        database.sql(&format!("CREATE ROLE \"{name}\" LOGIN PASSWORD 'right'"));
        self.names.push(name.clone());
        // Twice: it may be run again.
        database.sql(&grant_sql(role, &name, &[OTHER]));
        database.sql(&grant_sql(role, &name, &[OWN]));
        let file = database.server().dir.join(format!("password-{name}"));
        std::fs::write(&file, "right\n").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let store = open(&format!("{}?password-source={}", database.url_for(&name), file.display())).unwrap();
        (name, store)
    }

    /// What the user's `psql` is refused.
    fn is_refused(&self, user: &str, sql: &str) {
        let database = &self.factory.database;
        let output = database.server().psql_in(&database.name, user, Some("right"), sql);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("permission denied"), "{user}: {sql}: {said}");
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        for name in &self.names {
            self.factory.database.sql(&format!("DROP OWNED BY \"{name}\"; DROP ROLE \"{name}\""));
        }
    }
}

fn line(device: &str) -> Access {
    Access { device: device.into(), ..access() }
}

/// Reads all, adds to the access log, and does nothing else.
#[test]
fn a_reader() {
    let Some(mut users) = Users::new() else { return };
    let (name, mut store) = users.connect(DatabaseRole::Reader);
    assert_eq!(store.tail().unwrap().n, 1);
    assert_eq!(store.batches_after(0, usize::MAX).unwrap().len(), 1);
    assert_eq!(store.sealed(&sha256(b"sealed")).unwrap().unwrap(), b"sealed");
    store.check_heads().unwrap();
    store.record(&[line(&OWN.to_string()), line("")]).unwrap();
    store.put_checkpoint(&OWN, b"own").unwrap();
    store.put_checkpoint(&OWN, b"own, again").unwrap();
    assert_eq!(store.checkpoint(&OWN).unwrap().unwrap(), b"own, again");
    assert_eq!(store.check_accesses().unwrap().kept, 2);
    let lease = Lease { token: [1; 16], holder: "web1".into(), until: 9 };
    let tail = store.tail().unwrap();
    for refused in [
        first_of([2]).append(&mut *store).map(drop),
        store.release(&[], tail),
        set_aside(&mut *store, 0).map(drop),
        store.record(&[line(&OTHER.to_string())]),
        store.put_checkpoint(&OTHER, b"forged"),
        store.take_lease(&lease, 1).map(drop),
        store.drop_accesses(1, &line("")).map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{error}");
        assert!(error.message().contains("42501") && error.hint().unwrap().contains("grant-sql"), "{error}");
    }
    for table in [
        "batches",
        "statements",
        "heads",
        "sealed",
        "access",
        "access_dropped",
        "checkpoints",
        "changes",
        "format",
        "leases",
    ] {
        users.is_refused(&name, &format!("DELETE FROM strongroom.{table}"));
        users.is_refused(&name, &format!("TRUNCATE strongroom.{table}"));
        let column = users.factory.database.sql(&format!(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'strongroom' AND table_name = '{table}' LIMIT 1"
        ));
        users.is_refused(&name, &format!("UPDATE strongroom.{table} SET {0} = {0}", column.trim()));
        users.is_refused(&name, &format!("INSERT INTO strongroom.{table} SELECT * FROM strongroom.{table}"));
    }
    users.is_refused(&name, "SELECT * FROM strongroom.clients");
    users.is_refused(&name, &format!("INSERT INTO strongroom.clients VALUES ('{name}', 'cd')"));
    users.is_refused(&name, "SELECT strongroom.append(0, 1, '{}', '', '', '{}', '{}', '{}', '{}', '{}')");
    assert_eq!(users.factory.open().tail().unwrap().n, 1);
    assert_eq!(users.factory.open().check_accesses().unwrap().kept, 2);
}

/// Appends through the function alone.
#[test]
fn a_writer() {
    let Some(mut users) = Users::new() else { return };
    let (name, mut store) = users.connect(DatabaseRole::Writer);
    assert_eq!(first_of([2]).sealing(b"new").destroying(b"sealed").append(&mut *store).unwrap().n, 2);
    assert_eq!(store.sealed(&sha256(b"sealed")).unwrap(), None);
    let error = first_of([2]).append(&mut *store).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    let lease = Lease { token: [1; 16], holder: "web1".into(), until: 9 };
    assert_eq!(store.take_lease(&lease, 1).unwrap(), None);
    store.end_lease(&[1; 16], "web1").unwrap();
    let tail = store.tail().unwrap();
    store.release(&[], tail).unwrap();
    store.record(&[line(&OWN.to_string())]).unwrap();
    for refused in [
        set_aside(&mut *store, 0).map(drop),
        store.record(&[line(&OTHER.to_string())]),
        store.put_checkpoint(&OTHER, b"forged"),
        store.drop_accesses(1, &line("")).map(drop),
    ] {
        assert_eq!(refused.unwrap_err().kind(), Kind::Refused);
    }
    for table in
        ["batches", "statements", "heads", "sealed", "access", "access_dropped", "checkpoints", "changes"]
    {
        users.is_refused(&name, &format!("DELETE FROM strongroom.{table}"));
        users.is_refused(&name, &format!("INSERT INTO strongroom.{table} SELECT * FROM strongroom.{table}"));
    }
}

#[test]
fn an_owner() {
    let Some(mut users) = Users::new() else { return };
    let (_, mut store) = users.connect(DatabaseRole::Owner);
    first_of([2]).append(&mut *store).unwrap();
    store.record(&vec![line(&OWN.to_string()); 10]).unwrap();
    assert_eq!(store.drop_accesses(5, &line("")).unwrap(), 6);
    assert_eq!(set_aside(&mut *store, 1).unwrap(), 1);
    assert_eq!(store.tail().unwrap().n, 2);
    assert_eq!(store.put_checkpoint(&OTHER, b"another's").unwrap_err().kind(), Kind::Refused);
}
