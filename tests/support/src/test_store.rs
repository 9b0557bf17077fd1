//! A store, devices in software that are enrolled in it, and clients that have verified it.

use crate::forged_batch::{Draft, Signed};
use crate::soft_device::SoftDevice;
use rusqlite::{Connection, params};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use strongroom::device::{PublicKey, Purpose};
use strongroom::ledger::body::{Enrol, EnrolledKey, Genesis, Role};
use strongroom::ledger::verify::Chain;
use strongroom::ledger::{
    Body, DeviceId, Hash, LogPosition, Name, Statement, StoreId, Subject, leaf, sorted_roles,
};
use strongroom::prompt::BatchPrompter;
use strongroom::replica::{ListFilter, StorePin, TrustAnchor};
use strongroom::store::Append;
use strongroom::vault::{Accessor, PutOptions, Setup, Vault};
use strongroom::{Kind, Result, Secret};
use tempfile::TempDir;

/// What every clock here shows.
pub const NOW: u64 = 2_000_000_000_000;

/// An enrolled device, or one that would like to be.
#[derive(Clone)]
pub struct Actor {
    /// Follows from its name.
    pub id: DeviceId,
    /// What it is called in the store.
    pub name: String,
    /// Its keys.
    pub device: SoftDevice,
}

impl Actor {
    /// The actor of this name: always the same keys and id.
    pub fn named(name: &str) -> Self {
        let id = strongroom::ledger::sha256(format!("id of {name}").as_bytes()).0;
        let id = DeviceId::from_slice(&id[..16]).unwrap();
        Self { id, name: name.into(), device: SoftDevice::named(name) }
    }

    /// The statement that enrols it.
    pub fn enrolment(&self, roles: Vec<Role>) -> Body {
        let [opening, signing] = self.device.key_infos().map(|key| {
            assert!(matches!(key.purpose, Purpose::Open | Purpose::Sign));
            EnrolledKey { key: key.public, uri: key.uri, evidence: key.evidence, material: key.material }
        });
        Body::Enrol(Box::new(Enrol {
            device: self.id,
            name: self.name.clone(),
            model: "Tests software".into(),
            serial: format!("serial of {}", self.name),
            opening,
            signing,
            roles: sorted_roles(roles),
            replaces: None,
        }))
    }
}

/// The first statement of a store of `admin`'s, with a nonce that tells it from others.
pub fn genesis(admin: &Actor, nonce: u8) -> Statement {
    let body = Genesis {
        nonce: [nonce; 16],
        device: admin.id,
        signing: PublicKey::P256(admin.device.signing_point()),
    };
    Statement {
        store: StoreId::ZERO,
        author: admin.id,
        time: NOW,
        advances: vec![(Subject::Store, Hash::ZERO)],
        body: Body::Genesis(body),
    }
}

/// Open, write and admin, without a prefix.
pub fn all_roles() -> Vec<Role> {
    vec![Role::Open(String::new()), Role::Write(String::new()), Role::Admin]
}

/// A valid name.
pub fn name(s: &str) -> Name {
    Name::parse(s).unwrap()
}

/// A token's bytes.
pub fn secret(s: &str) -> Secret {
    Secret::new(s.as_bytes().to_vec())
}

/// A store in a directory of its own, and the devices enrolled in it.
pub struct TestStore {
    /// Holds the store, and a directory for each client.
    pub dir: TempDir,
    /// The hash of its genesis.
    pub id: StoreId,
    /// Enrolled by genesis, with all roles.
    pub admin: Actor,
    /// Writes below `w`.
    pub writer: Actor,
    /// Opens.
    pub opener: Actor,
}

/// A directory in memory, where there is one: nothing here is about the disk.
pub fn directory() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

impl TestStore {
    /// A store with its genesis only.
    pub fn bare(nonce: u8) -> Self {
        let [admin, writer, opener] = ["admin", "writer", "opener"].map(Actor::named);
        let genesis = genesis(&admin, nonce);
        let head = genesis.hash();
        let (dir, id) = (directory(), StoreId(head.0));
        let test_store = Self { dir, id, admin, writer, opener };
        drop(strongroom::store::create(&test_store.url()).unwrap());
        let enrol = Statement {
            store: id,
            author: test_store.admin.id,
            time: NOW,
            advances: vec![(Subject::Store, head)],
            body: test_store.admin.enrolment(all_roles()),
        };
        let draft = Draft {
            signer: test_store.admin.clone(),
            kid: test_store.admin.id,
            store: id,
            statements: vec![genesis, enrol],
            seen: LogPosition::START,
            admin_head: Hash::ZERO,
        };
        test_store.plant(&draft.sign());
        test_store
    }

    /// A store with three devices and some tokens.
    pub fn populated() -> Self {
        let test_store = Self::bare(0);
        test_store.by_admin(|test_store, vault| {
            let enrol = |actor: &Actor, roles| {
                test_store.plant(&Draft::on(vault, &test_store.admin, [actor.enrolment(roles)]).sign());
            };
            enrol(&test_store.writer, vec![Role::Write("w".into())]);
        });
        test_store.by_admin(|test_store, vault| {
            let body = test_store.opener.enrolment(vec![Role::Open(String::new())]);
            test_store.plant(&Draft::on(vault, &test_store.admin, [body]).sign());
        });
        let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
        for (token, plaintext) in [("prod/db", "one"), ("prod/db", "two"), ("prod/key", "key")] {
            vault.put(&name(token), &secret(plaintext), &PutOptions::default()).unwrap();
        }
        let mut vault = test_store.client("writer", &[&test_store.writer]).unwrap();
        vault.put(&name("w/own"), &secret("own"), &PutOptions::default()).unwrap();
        test_store.client("reader", &[&test_store.opener]).unwrap();
        test_store
    }

    fn by_admin(&self, work: impl FnOnce(&Self, &Vault)) {
        let vault = self.client("admin", &[&self.admin]).unwrap();
        work(self, &vault);
    }

    /// The store's file.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("store.sqlite")
    }

    /// The store's URL.
    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    /// What a client of this name opens the store with.
    pub fn setup(&self, client: &str, devices: &[&Actor]) -> Setup {
        setup(self.url(), self.dir.path().join(client), devices)
    }

    /// A vault of the client that keeps its state under this name. On its first call it is told the store's id.
    pub fn client(&self, client: &str, devices: &[&Actor]) -> Result<Vault> {
        client_in(self.dir.path(), self.id, client, devices)
    }

    /// A first contact with this hand-over.
    pub fn contact(&self, client: &str, anchor: &TrustAnchor, devices: &[&Actor]) -> Result<Vault> {
        Vault::trust(self.setup(client, devices), anchor, false, &mut |_, _| {})
    }

    /// The file as somebody sees it who can write to it.
    pub fn db(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    /// Where the store says that it ends.
    pub fn tail(&self) -> LogPosition {
        strongroom::store::open(&self.url()).unwrap().tail().unwrap()
    }

    /// Puts a batch at the end, as somebody who can write to the file. Answers its first position.
    pub fn plant(&self, signed: &Signed) -> u64 {
        let first = self.tail().n + 1;
        self.plant_at(first, signed);
        first
    }

    /// Appends a batch as a client of the attacker's own making would: with every place it takes, and no regard for others.
    /// What the store refuses is planted instead.
    pub fn append(&self, draft: &Draft, sealed: &[&[u8]]) -> u64 {
        let signed = sealed.iter().fold(draft.sign(), |signed, bytes| signed.with(bytes));
        let advances = draft.statements.iter().flat_map(|statement| &statement.advances);
        let advances: Vec<_> = advances.map(|(subject, prev)| (subject.encode(), *prev)).collect();
        let appended = strongroom::store::open(&self.url()).unwrap().append(&Append {
            sign1: &signed.sign1,
            statements: &signed.statements,
            advances: &advances,
            admin: (b"none".to_vec(), Hash::ZERO),
            seen: draft.seen,
            directly: false,
            sealed: &signed.sealed,
            destroyed: &[],
        });
        appended.map_or_else(|_| self.plant(&signed), |end| end.n + 1 - signed.statements.len() as u64)
    }

    /// Puts a batch where no other is, with the right chain value of what lies before it.
    pub fn plant_at(&self, first: u64, signed: &Signed) {
        let db = self.db();
        let before = "SELECT chain FROM batches WHERE last = ?1";
        let chain = db.query_row(before, [first - 1], |row| row.get::<_, Vec<u8>>(0));
        let chain = chain.map_or(Hash::ZERO, |chain| Hash::from_slice(&chain).unwrap());
        let mut end = LogPosition { n: first - 1, chain };
        for bytes in &signed.statements {
            end = end.after(leaf(bytes));
            db.execute("INSERT INTO statements VALUES (?1, ?2)", params![end.n, bytes]).unwrap();
        }
        let row = params![first, end.n, end.chain.0, signed.sign1];
        db.execute("INSERT INTO batches VALUES (?1, ?2, ?3, ?4)", row).unwrap();
        for (digest, bytes) in &signed.sealed {
            let sql = "INSERT OR IGNORE INTO sealed (digest, destroyed, bytes) VALUES (?1, 0, ?2)";
            db.execute(sql, params![digest.0, bytes]).unwrap();
        }
    }

    /// All that was written is in the file, and no log beside it.
    pub fn checkpoint(&self) {
        self.db().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.path().display()));
        }
    }

    /// Takes away everything after `n`, and lets every client forget it.
    pub fn reset_to(&self, db: &Connection, n: u64) {
        for client in ["admin", "reader", "newcomer"] {
            let _ = std::fs::remove_dir_all(self.dir.path().join(client));
        }
        db.execute("DELETE FROM heads WHERE batch > ?1", [n]).unwrap();
        self.unplant(n + 1);
        self.client("admin", &[]).unwrap();
    }

    /// Takes away everything from `first` on.
    pub fn unplant(&self, first: u64) {
        self.db().execute("DELETE FROM batches WHERE first >= ?1", [first]).unwrap();
        self.db().execute("DELETE FROM statements WHERE n >= ?1", [first]).unwrap();
        // A newcomer that met it begins again.
        let _ = std::fs::remove_dir_all(self.dir.path().join("newcomer"));
        let _ = std::fs::remove_dir_all(self.dir.path().join("loose"));
    }

    /// Everything that a client of this name is answered, tokens in plain text included.
    pub fn answers(&self, client: &str) -> String {
        answers(&mut self.client(client, &[&self.admin, &self.opener]).unwrap())
    }

    /// Asserts that the store is refused, with these words, by one who knows it and by one who meets it.
    pub fn refused(&self, words: &str) {
        for client in ["admin", "reader", "newcomer"] {
            let error = self.client(client, &[]).err().unwrap_or_else(|| panic!("{client} goes on: {words}"));
            assert_eq!(error.kind(), Kind::Tampered, "{client}: {error}");
            assert!(error.message().contains(words), "{client}: {error}");
        }
        // What comes after it does not count, though it is honest.
        let loose = self.dir.path().join("loose");
        std::fs::create_dir_all(&loose).unwrap();
        let mut replica = strongroom::replica::Replica::open(&loose.join("replica"), self.id).unwrap();
        let mut store = strongroom::store::open(&self.url()).unwrap();
        replica.sync(&mut *store, &StorePin::from_store(self.id), NOW, &mut |_, _| {}).unwrap_err();
        assert!(replica.position().n < self.tail().n);
    }

    /// Asserts that what was planted from `first` on is recorded for these reasons, that it changed no answer, and that
    /// everybody goes on.
    pub fn ineffective(&self, before: &str, first: u64, reasons: &[&str]) {
        for client in ["admin", "reader", "newcomer"] {
            assert_eq!(self.answers(client), before, "{client}");
            let vault = self.client(client, &[]).unwrap();
            for (n, words) in (first..).zip(reasons) {
                let why = vault.replica().ineffective(n).unwrap();
                let why = why.unwrap_or_else(|| panic!("{client}: statement {n} has an effect: {words}"));
                assert!(why.contains(words), "{client}: {n}: {why}");
            }
        }
        self.goes_on();
    }

    /// Has each change signed on top of what is true, one after the other, and asserts that none changes anything, for the
    /// reason given.
    pub fn each_is_ineffective(&self, attempts: Vec<(&Actor, Body, &str)>) {
        let before = self.answers("admin");
        let (mut first, mut reasons) = (None, Vec::new());
        for (author, body, reason) in attempts {
            let vault = self.client("admin", &[]).unwrap();
            first.get_or_insert(self.append(&Draft::on(&vault, author, [body]), &[]));
            reasons.push(reason);
        }
        self.ineffective(&before, first.unwrap(), &reasons);
    }

    /// Asserts that honest clients write and read, also what was there, and that nothing else is wrong.
    pub fn goes_on(&self) {
        let mut vault = self.client("admin", &[&self.admin]).unwrap();
        for token in ["prod/db", "w/own", "after/all"] {
            vault.put(&name(token), &secret("later"), &PutOptions::default()).unwrap();
        }
        vault.destroy(&name("after/all"), None, "tidy").unwrap();
        let mut vault = self.client("writer", &[&self.writer]).unwrap();
        vault.put(&name("w/own"), &secret("latest"), &PutOptions::default()).unwrap();
        let mut vault = self.client("reader", &[&self.opener]).unwrap();
        assert_eq!(vault.get(&name("w/own"), None).unwrap().expose(), b"latest");
        assert_eq!(vault.get(&name("prod/db"), None).unwrap().expose(), b"later");
        // An admin change, too.
        let vault = self.client("admin", &[&self.admin]).unwrap();
        let guest = Actor::named(&format!("guest-{}", self.tail().n));
        let n = self.plant(&Draft::on(&vault, &self.admin, [guest.enrolment(vec![])]).sign());
        let mut vault = self.client("admin", &[]).unwrap();
        assert_eq!(vault.replica().ineffective(n).unwrap(), None);
        let report = vault.verify(&mut |_, _, _| {}).unwrap();
        assert_eq!(report.problems, []);
    }
}

/// As [`TestStore::client`], for a process that has no more than the directory.
pub fn client_in(dir: &Path, id: StoreId, client: &str, devices: &[&Actor]) -> Result<Vault> {
    let url = format!("sqlite://{}", dir.join("store.sqlite").display());
    let state = dir.join(client);
    match StorePin::load(&state, &url)? {
        Some(_) => Vault::open(setup(url, state, devices)),
        None => Vault::trust(setup(url, state, devices), &StorePin::from_store(id), false, &mut |_, _| {}),
    }
}

/// What a vault is opened with here: devices in software, nobody to ask, a clock that stands.
pub fn setup(store: String, state: PathBuf, devices: &[&Actor]) -> Setup {
    let connected =
        devices.iter().map(|actor| (actor.device.uri(), Box::new(actor.device.clone()) as _)).collect();
    Setup {
        connected,
        prompter: Box::new(BatchPrompter),
        clock: || NOW,
        reader: Accessor { uid: 0, pid: 1, exe: "test".into() },
        ..Setup::new(store, Vec::new(), state)
    }
}

/// Everything that a vault answers, tokens in plain text included.
pub fn answers(vault: &mut Vault) -> String {
    let mut out = String::new();
    let mut tokens = Vec::new();
    for destroyed in [false, true] {
        let filter = ListFilter { destroyed, ..ListFilter::default() };
        vault
            .replica()
            .list(&filter, |token, newest| {
                writeln!(out, "{token:?} {newest:?}").unwrap();
                tokens.push(token);
                Ok(true)
            })
            .unwrap();
    }
    for token in &tokens {
        writeln!(out, "{:?}", vault.replica().grants(&token.id).unwrap()).unwrap();
        for version in vault.replica().versions(token).unwrap() {
            let opened = vault.get(&name(&token.name), Some(version.version));
            let opened = opened.map(|token| String::from_utf8_lossy(token.expose()).into_owned());
            writeln!(out, "{version:?}: {opened:?}").unwrap();
        }
        let newest = vault.get(&name(&token.name), None);
        writeln!(out, "{:?}", newest.map(|token| token.expose().to_vec())).unwrap();
    }
    writeln!(out, "{:#?}", vault.replica().devices().unwrap()).unwrap();
    out
}
