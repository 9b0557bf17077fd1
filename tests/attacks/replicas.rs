//! What a client keeps for itself is lost, damaged, old, too new, or somebody else's.

use crate::history::{Copy, asked, history};
use crate::processes::acknowledged_by;
use rand_core::{OsRng, RngCore};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use strongroom::Kind;
use strongroom::ledger::verify::Chain;
use strongroom::ledger::{Body, Hash, TokenId};
use strongroom::replica::StorePin;
use strongroom::vault::{PutOptions, Vault};
use test_support::forged_batch::{Draft, put};
use test_support::test_store::{TestStore, name, secret};

fn replica_of(client: &Path) -> PathBuf {
    let mut entries = fs::read_dir(client).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.is_dir()).unwrap().join("replica.sqlite")
}

fn pin_of(client: &Path) -> PathBuf {
    let mut entries = fs::read_dir(client).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.extension().is_some_and(|e| e == "pin")).unwrap()
}

impl Copy {
    fn client(&self, client: &str) -> PathBuf {
        self.dir.path().join(client)
    }

    /// The replica as one file.
    fn replica(&self, client: &str) -> PathBuf {
        let path = replica_of(&self.client(client));
        if let Ok(db) = Connection::open(&path) {
            db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).ok();
        }
        for suffix in ["-wal", "-shm"] {
            fs::remove_file(format!("{}{suffix}", path.display())).ok();
        }
        path
    }

    fn answers(&self, client: &str) -> (BTreeMap<String, String>, Vec<String>) {
        told(self.open(client).unwrap_or_else(|e| panic!("{client}: {e}")))
    }
}

fn told(mut vault: Vault) -> (BTreeMap<String, String>, Vec<String>) {
    let answers = asked(&mut vault, false).into_iter().map(|(question, answer)| (question, answer.unwrap()));
    (answers.collect(), vault.take_notices())
}

/// Every answer but those that open tokens.
fn expected() -> BTreeMap<String, String> {
    history().answers.clone().into_iter().filter(|(question, _)| !question.starts_with("get ")).collect()
}

#[test]
fn lost() {
    let copy = history().copy();
    let replica = copy.replica("reader");
    fs::remove_file(&replica).unwrap();
    assert_eq!(copy.answers("reader"), (expected(), vec![]));
    // Its directory with it.
    fs::remove_dir_all(replica.parent().unwrap()).unwrap();
    assert_eq!(copy.answers("reader").0, expected());
    // Lost over an older store: the pin remembers.
    fs::remove_file(copy.replica("reader")).unwrap();
    fs::copy(&history().yesterdays[1], copy.path()).unwrap();
    let error = copy.open("reader").err().unwrap();
    assert_eq!(error.kind(), Kind::RolledBack, "{error}");
}

#[test]
fn older() {
    let copy = history().copy();
    let replica = copy.replica("reader");
    fs::copy(copy.replica("slow"), &replica).unwrap();
    assert_eq!(copy.answers("reader"), (expected(), vec![]));
    // Older than a pin over an older store.
    fs::copy(copy.replica("slow"), &replica).unwrap();
    fs::copy(&history().yesterdays[1], copy.path()).unwrap();
    assert_eq!(copy.open("reader").err().unwrap().kind(), Kind::RolledBack);
}

#[test]
fn newer_than_the_store() {
    for yesterday in &history().yesterdays {
        let copy = history().copy();
        fs::copy(yesterday, copy.path()).unwrap();
        // Even where the pin was set back too.
        let pin = pin_of(&copy.client("reader"));
        for text in [fs::read_to_string(&pin).unwrap(), format!("{}\n", history().head.store)] {
            fs::write(&pin, text).unwrap();
            let error = copy.open("reader").err().unwrap();
            assert_eq!(error.kind(), Kind::RolledBack);
            assert!(error.message().contains(&format!("statement {}", history().head.position.n)), "{error}");
            assert!(error.message().contains("older copy"), "{error}");
        }
    }
}

#[test]
fn of_another_store() {
    let other = TestStore::bare(4);
    other.client("reader", &[]).unwrap();
    let theirs = replica_of(&other.dir.path().join("reader"));
    Connection::open(&theirs).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let copy = history().copy();
    let replica = copy.replica("reader");
    fs::copy(theirs, &replica).unwrap();
    let (answers, notices) = copy.answers("reader");
    assert_eq!(answers, expected());
    assert!(notices[0].contains("belongs to another store") && notices[0].contains("rebuilt"), "{notices:?}");
    assert!(replica.with_extension("damaged").exists());
}

#[test]
fn of_another_format() {
    let history = history();
    type Make<'a> = &'a dyn Fn(&Path);
    let foreign: [(&str, Make<'_>); 6] = [
        ("another format", &|path| {
            Connection::open(path).unwrap().pragma_update(None, "user_version", 99).unwrap()
        }),
        ("another format", &|path| {
            Connection::open(path).unwrap().pragma_update(None, "application_id", 7).unwrap()
        }),
        ("another format", &|path| fs::write(path, "").unwrap()),
        ("not a database", &|path| {
            fs::write(path, "no SQLite at all, but long enough to be looked at".repeat(99)).unwrap()
        }),
        ("no such table", &|path| {
            Connection::open(path).unwrap().execute_batch("DROP TABLE position").unwrap()
        }),
        ("no position", &|path| {
            Connection::open(path).unwrap().execute_batch("DELETE FROM position").unwrap()
        }),
    ];
    for (words, make) in foreign {
        let copy = history.copy();
        make(&copy.replica("reader"));
        let (answers, notices) = copy.answers("reader");
        assert_eq!(answers, expected(), "{words}");
        let notice = notices.first().unwrap_or_else(|| panic!("nothing is said of {words}"));
        assert!(notice.contains(words) && notice.contains("rebuilt"), "{notice}");
    }
}

/// A process that was killed while it rebuilt a replica leaves a file, which goes in time.
#[test]
fn left_over() {
    let copy = history().copy();
    let replica = copy.replica("reader");
    let [old, fresh, other] = ["new-00", "verify-11", "other"].map(|end| replica.with_extension(end));
    for path in [&old, &fresh, &other] {
        fs::write(path, "x").unwrap();
    }
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
    for path in [&old, &other] {
        fs::File::options().write(true).open(path).unwrap().set_modified(yesterday).unwrap();
    }
    copy.open("reader").unwrap().verify(&mut |_, _, _| {}).unwrap();
    assert_eq!([old, fresh, other].map(|path| path.exists()), [false, true, true]);
}

/// One byte, anywhere: it does no harm, or the file is rebuilt and that is said, or the command says that the replica is
/// damaged and what to do. What SQLite cannot see, `verify` sees.
#[test]
fn corrupt() {
    let copy = history().copy();
    let replica = copy.replica("reader");
    let sound = fs::read(&replica).unwrap();
    let expected = expected();
    let mut outcomes = BTreeMap::<&str, u32>::new();
    let bit = || 1 << (OsRng.next_u32() % 8);
    // The first pages are the ones with structure.
    let first = (0..50).map(|i| (i * 25, bit()));
    let anywhere = (0..30).map(|_| (OsRng.next_u64() as usize % sound.len(), bit()));
    // Each time that the file says this name: from an s to a brace, which no name has.
    let name = b"last/token";
    let names = sound.windows(name.len()).enumerate().filter(|(_, bytes)| bytes == name);
    let names: Vec<_> = names.map(|(at, _)| (at + 2, b's' ^ b'{')).collect();
    // The length before each device's name in its enrolment: what follows is no enrolment any more.
    let enrolled = b"\x66opener";
    let enrolments = sound.windows(enrolled.len()).enumerate().filter(|(_, bytes)| bytes == enrolled);
    let enrolments: Vec<_> = enrolments.map(|(at, _)| (at, 0x80)).collect();
    // Each time that it says the id of a token with grants: in tables, and in the indexes on them.
    let granted = expected.iter().filter(|(_, answer)| *answer != "[]");
    let granted = granted.filter_map(|(question, _)| question.strip_prefix("grants "));
    let ids: Vec<_> = granted.map(|id| hex::decode(id).unwrap()).collect();
    let said = sound.windows(16).enumerate().filter(|(_, bytes)| ids.iter().any(|id| id == bytes));
    let said: Vec<_> = said.map(|(at, _)| (at + 15, 1)).collect();
    assert!(!names.is_empty() && !enrolments.is_empty() && said.len() > 3 * ids.len() && !ids.is_empty());
    for (at, flipped) in first.chain(anywhere).chain(names).chain(enrolments).chain(said) {
        let mut bytes = sound.clone();
        bytes[at] ^= flipped;
        for suffix in ["-wal", "-shm"] {
            fs::remove_file(format!("{}{suffix}", replica.display())).ok();
        }
        fs::write(&replica, &bytes).unwrap();
        let outcome = match copy.open("reader") {
            Ok(mut vault) => {
                let notices = vault.take_notices();
                let mut answers = asked(&mut vault, false);
                let wrong = expected.iter().find(|(question, answer)| {
                    !matches!(answers.remove(*question), Some(Ok(given)) if given == **answer)
                });
                match (notices.is_empty(), wrong) {
                    (_, Some((question, _))) => {
                        let report = vault.verify(&mut |_, _, _| {}).unwrap();
                        let found = report.problems.iter().any(|problem| problem.place.contains("replica"));
                        assert!(found, "byte {at}: {question} is wrong, and verify does not find it");
                        "found by verify"
                    }
                    (false, None) => "rebuilt",
                    (true, None) => "harmless",
                }
            }
            Err(error) => {
                let words = format!("{error} {:?}", error.hint());
                assert!(words.contains("replica"), "byte {at}: {words}");
                "refused"
            }
        };
        *outcomes.entry(outcome).or_default() += 1;
        let mut vault = copy.open_rebuilt("reader");
        let report = vault.verify(&mut |_, _, _| {}).unwrap();
        assert_eq!(report.problems, [], "byte {at}, {outcome}, anew");
    }
    eprintln!("{outcomes:?}");
    assert_eq!(told(copy.open_rebuilt("reader")).0, expected);
}

impl Copy {
    fn open_rebuilt(&self, client: &str) -> Vault {
        let setup = test_support::test_store::setup(self.url(), self.client(client), &self.history.openers());
        Vault::open_rebuilt(setup, &mut |_, _| {}).unwrap()
    }
}

/// Somebody un-revokes, renames or grants with a tool, in the client's own file.
#[test]
fn edited() {
    let history = history();
    let edits = [
        ("versions", "UPDATE versions SET state = 1 WHERE state = 3"),
        ("versions", "UPDATE versions SET expiry = NULL"),
        ("versions", "UPDATE versions SET reason = 'x' WHERE reason <> ''"),
        ("versions", "DELETE FROM versions WHERE version = 2"),
        ("tokens", "UPDATE tokens SET suspended = 0"),
        ("tokens", "UPDATE tokens SET latest = 1"),
        ("tokens", "UPDATE tokens SET head = zeroblob(32) WHERE row = 2"),
        (
            "names",
            "UPDATE names SET token = (SELECT token FROM names WHERE name = 'prod/key') WHERE name = 'prod/db'",
        ),
        ("devices", "UPDATE devices SET roles = 'admin' WHERE name = 'opener'"),
        ("devices", "UPDATE devices SET retired = 0"),
        ("grants", "UPDATE grants SET grantee = 'user:mallory'"),
        ("grants", "DELETE FROM grants"),
        ("prefixes", "DELETE FROM prefixes"),
        ("history", "DELETE FROM history WHERE n = (SELECT max(n) FROM history)"),
        ("recipients", "UPDATE recipients SET devices = zeroblob(16)"),
        ("boundaries", "DELETE FROM boundaries WHERE n = 3"),
        ("boundaries", "UPDATE boundaries SET root = chain WHERE n = 3"),
        ("position", "UPDATE position SET frontier = zeroblob(length(frontier))"),
        ("boundaries", "INSERT INTO boundaries VALUES (1, zeroblob(32), zeroblob(32))"),
        ("ineffective", "DELETE FROM ineffective"),
        ("position", "UPDATE position SET admin_head = zeroblob(32)"),
    ];
    for (table, sql) in edits {
        let copy = history.copy();
        let replica = copy.replica("reader");
        assert!(Connection::open(&replica).unwrap().execute(sql, []).unwrap() > 0, "{sql}");
        let mut vault = copy.open("reader").unwrap();
        let report = vault.verify(&mut |_, _, _| {}).unwrap();
        let named =
            report.problems.iter().any(|problem| problem.place == format!("replica, table `{table}`"));
        assert!(named, "{sql}: {:?}", report.problems);
        drop(vault);
        let mut vault = copy.open_rebuilt("reader");
        assert_eq!(vault.verify(&mut |_, _, _| {}).unwrap().problems, [], "{sql}");
        drop(vault);
        assert_eq!(copy.answers("reader").0, expected(), "{sql}");
    }
}

/// Where it says it stands: it is not the store that is blamed for it.
#[test]
fn standing_elsewhere() {
    let history = history();
    for sql in [
        "UPDATE position SET n = n + 1000",
        "UPDATE position SET n = n - 1",
        "UPDATE position SET n = 0",
        "UPDATE position SET chain = zeroblob(32)",
        "UPDATE position SET n = -1",
        "DELETE FROM boundaries WHERE n > 30",
    ] {
        let copy = history.copy();
        Connection::open(copy.replica("reader")).unwrap().execute(sql, []).unwrap();
        let (answers, notices) = copy.answers("reader");
        assert_eq!(answers, expected(), "{sql}");
        assert!(notices.iter().any(|notice| notice.contains("rebuilt")), "{sql}: {notices:?}");
    }
}

#[test]
fn the_pin_is_lost_or_damaged() {
    let copy = history().copy();
    let pin = pin_of(&copy.client("reader"));
    let text = fs::read_to_string(&pin).unwrap();
    fs::remove_file(&pin).unwrap();
    let error = copy.open("reader").err().unwrap();
    assert_eq!(error.kind(), Kind::Untrusted);
    assert!(
        error.message().contains("has never verified this store")
            && error.message().contains(&history().head.store.to_string())
    );
    assert!(error.hint().unwrap().contains("strongroom trust"), "{error}");
    let long = "0".repeat(64);
    for broken in [
        "",
        "\n",
        "garbage",
        &text[..40],
        &text.replacen(':', ":x", 1),
        &text.replacen(':', ":-", 1),
        &long[..63],
    ] {
        fs::write(&pin, broken).unwrap();
        let error = copy.open("reader").err().unwrap();
        assert_eq!(error.kind(), Kind::Untrusted, "{broken:?}: {error}");
        assert!(error.to_string().contains("cannot read the pin"), "{broken:?}: {error}");
    }
    fs::write(&pin, [0xff, 0xfe, 0]).unwrap();
    assert!(copy.open("reader").is_err());
    // Told again whom to trust, it goes on.
    fs::remove_file(&pin).unwrap();
    assert_eq!(told(copy.meet("reader", &StorePin::from_store(history().head.store)).unwrap()).0, expected());
    assert_eq!(StorePin::load(&copy.client("reader"), &copy.url()).unwrap(), Some(history().head.clone()));
}

#[test]
fn the_pin_is_older_or_elsewhere() {
    let copy = history().copy();
    let pin = pin_of(&copy.client("reader"));
    // Older: the replica knows more, and the pin is not needed.
    fs::copy(pin_of(&copy.client("slow")), &pin).unwrap();
    assert_eq!(copy.answers("reader"), (expected(), vec![]));
    // On another chain, behind the replica or before it: nobody knows which of the two is right, the store decides.
    let head = history().head.clone();
    let slow = StorePin::load(&copy.client("slow"), &copy.url()).unwrap().unwrap();
    for (n, chain) in [
        (slow.position.n, Hash([1; 32])),
        (head.position.n, Hash([1; 32])),
        (slow.position.n - 1, Hash([2; 32])),
    ] {
        fs::write(&pin, format!("{}:{n}:{chain}\n", head.store)).unwrap();
        let error = copy.open("reader").err().unwrap();
        assert_eq!(error.kind(), Kind::Tampered, "{error}");
        fs::write(&pin, format!("{head}\n")).unwrap();
        copy.open("reader").unwrap();
    }
    fs::write(&pin, format!("{}:{}:{}\n", head.store, head.position.n + 1, Hash([1; 32]))).unwrap();
    assert_eq!(copy.open("reader").err().unwrap().kind(), Kind::RolledBack);
    // Of another store.
    let other = TestStore::bare(4);
    fs::write(&pin, format!("{}\n", other.id)).unwrap();
    let error = copy.open("reader").err().unwrap();
    assert!(matches!(error.kind(), Kind::Tampered | Kind::Untrusted), "{error}");
}

/// The store's history was rewritten up to a chain value that only pretends; later the right store is back.
#[test]
fn fooled_for_a_while() {
    let copy = history().copy();
    fs::remove_file(copy.replica("reader")).unwrap();
    let right = fs::read(copy.path()).unwrap();
    // The same store with another put after yesterday's end, and the pinned chain value written over it.
    fs::copy(&history().yesterdays[2], copy.path()).unwrap();
    let mut writer = copy.meet("forger", &StorePin::from_store(history().head.store)).unwrap();
    while writer.replica().position().n < history().head.position.n {
        writer.put(&name("last/token"), &secret("another"), &PutOptions::default()).unwrap();
    }
    drop(writer);
    let head = history().head.position;
    let db = Connection::open(copy.path()).unwrap();
    db.execute("UPDATE batches SET chain = ?2 WHERE last = ?1", rusqlite::params![head.n, head.chain.0])
        .unwrap();
    drop(db);
    let error = copy.open("reader").err().unwrap();
    assert_eq!(error.kind(), Kind::Tampered, "{error}");
    assert!(error.message().contains("which was verified before"), "{error}");
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", copy.path().display())).ok();
    }
    fs::write(copy.path(), right).unwrap();
    assert_eq!(copy.answers("reader").0, expected());
}

#[test]
fn trust_does_not_forget_what_was_verified() {
    let copy = history().copy();
    fs::copy(&history().yesterdays[1], copy.path()).unwrap();
    fs::remove_file(copy.replica("reader")).unwrap();
    let slow = StorePin::load(&copy.client("slow"), &copy.url()).unwrap().unwrap();
    for anchor in [StorePin::from_store(history().head.store), slow] {
        let error = copy.meet("reader", &anchor).err().unwrap();
        assert_eq!(error.kind(), Kind::RolledBack, "{error}");
    }
    // And what is handed over counts, though more was verified.
    let copy = history().copy();
    let mut wrong = history().head.clone();
    (wrong.position.n, wrong.position.chain) = (4, Hash([7; 32]));
    assert_eq!(copy.meet("reader", &wrong).err().unwrap().kind(), Kind::Tampered);
    let other = TestStore::bare(4);
    let error = copy.meet("reader", &StorePin::from_store(other.id)).err().unwrap();
    assert_eq!(error.kind(), Kind::Untrusted, "{error}");
    assert_eq!(copy.answers("reader").0, expected());
}

/// Many processes of one user meet a store at the same moment: a small one, and one that is loaded in bulk.
#[test]
fn a_first_contact_of_many_processes() {
    for (tokens, rounds) in [(15, 8), (1500, 2)] {
        let test_store = TestStore::populated();
        let vault = test_store.client("admin", &[]).unwrap();
        let puts = (0..tokens).map(|i: u16| {
            let mut id = [9; 16];
            id[..2].copy_from_slice(&i.to_be_bytes());
            let bytes = format!("sealed {i}");
            let body = put(TokenId(id), &format!("many/{i}"), 1, bytes.as_bytes(), &[&test_store.opener]);
            Body::Put(Box::new(body))
        });
        test_store.append(&Draft::on(&vault, &test_store.admin, puts), &[]);
        let expected = u64::from(tokens) + 3;
        for round in 0..rounds {
            let counts = acknowledged_by(&test_store, "contact", &format!("crowd-{round}"), 8);
            assert!(counts.iter().all(|lines| lines == &[[expected.to_string()]]), "{counts:?}");
            let vault = test_store.client(&format!("crowd-{round}"), &[]).unwrap();
            assert_eq!(vault.replica().count().unwrap(), expected);
        }
    }
}
