//! A store with a past, built once, and copies of it to tamper with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use strongroom::ledger::body::{Grant, Retire, Role, Roles, State, Target};
use strongroom::ledger::name::Name;
use strongroom::ledger::{Body, GrantId};
use strongroom::replica::{ListFilter, StorePin, TrustAnchor};
use strongroom::vault::{ImportItem, LogOrder, PutOptions, Vault};
use strongroom::{Error, Result};
use tempfile::TempDir;
use test_support::forged_batch::Draft;
use test_support::test_store::{Actor, NOW, TestStore, all_roles, directory, name, secret, setup};

/// Who met the store before it was tampered with.
/// The slow one only a part of it.
const CLIENTS: [&str; 2] = ["reader", "slow"];

/// The store as it should be, and what was copied on the way.
pub struct History {
    test_store: TestStore,
    pub head: TrustAnchor,
    /// Older copies of the file.
    pub yesterdays: Vec<PathBuf>,
    /// What each question is answered.
    pub answers: BTreeMap<String, String>,
}

/// A copy of the store with its clients, for one case.
pub struct Copy {
    pub dir: TempDir,
    pub history: Arc<History>,
}

/// Shared by the tests that run at the same time, and gone with the last of them.
pub fn history() -> Arc<History> {
    static HISTORY: Mutex<Weak<History>> = Mutex::new(Weak::new());
    let mut shared = HISTORY.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let built = Arc::new(History::build());
        *shared = Arc::downgrade(&built);
        built
    })
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

impl History {
    fn build() -> Self {
        let test_store = TestStore::populated();
        let mut yesterdays = Vec::new();
        let mut keep_copy = |test_store: &TestStore| {
            test_store.checkpoint();
            let copy = test_store.dir.path().join(format!("yesterday-{}", yesterdays.len()));
            fs::copy(test_store.path(), &copy).unwrap();
            yesterdays.push(copy);
        };
        keep_copy(&test_store);
        changes_of_tokens(&test_store);
        test_store.client("slow", &[]).unwrap();
        keep_copy(&test_store);
        changes_of_devices(&test_store);
        keep_copy(&test_store);
        last_changes(&test_store);
        let head = test_store.client("admin", &[]).unwrap().head();
        let answers =
            asked(&mut test_store.client("reader", &[&test_store.admin, &test_store.opener]).unwrap(), true);
        let answers = answers.into_iter().map(|(question, answer)| (question, answer.unwrap())).collect();
        test_store.checkpoint();
        Self { test_store, head, yesterdays, answers }
    }

    pub fn copy(self: &Arc<Self>) -> Copy {
        let copy = Copy { dir: directory(), history: self.clone() };
        fs::copy(self.test_store.path(), copy.path()).unwrap();
        for client in CLIENTS {
            copy_tree(&self.test_store.dir.path().join(client), &copy.dir.path().join(client));
            // What is known of a store is known by its place.
            let pin = StorePin::load(&copy.dir.path().join(client), &self.test_store.url()).unwrap().unwrap();
            pin.keep(&copy.dir.path().join(client), &copy.url()).unwrap();
        }
        copy
    }

    pub fn openers(&self) -> [&Actor; 2] {
        [&self.test_store.admin, &self.test_store.opener]
    }
}

fn changes_of_tokens(test_store: &TestStore) {
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let item = |i| {
        let options =
            PutOptions { labels: Some(vec![("team".into(), format!("{i}"))]), ..Default::default() };
        Ok(ImportItem { name: name(&format!("many/{i}")), token: secret(&format!("token {i}")), options })
    };
    vault.import((0..8).map(item), &mut |_| {}).unwrap();
    vault.set_state(&name("prod/key"), None, State::Revoked, "leaked").unwrap();
    vault.set_state(&name("prod/db"), Some(1), State::Suspended, "held").unwrap();
    vault.put(&name("prod/key"), &secret("key 2"), &PutOptions::default()).unwrap();
    vault.set_state(&name("many/1"), None, State::Suspended, "all of it").unwrap();
    vault.rename(&name("many/2"), &name("moved/2")).unwrap();
    vault.destroy(&name("many/3"), None, "unused").unwrap();
    vault.put(&name("many/3"), &secret("a new one"), &PutOptions::default()).unwrap();
    let pruning = PutOptions { keep: Some(1), expiry: Some(NOW + 1), ..PutOptions::default() };
    vault.put(&name("many/4"), &secret("pruning"), &pruning).unwrap();
    vault
        .put(&name("many/5"), &secret("staged"), &PutOptions { staged: true, ..Default::default() })
        .unwrap();
    vault.destroy(&name("many/4"), Some(1), "tidy").unwrap();
}

fn changes_of_devices(test_store: &TestStore) {
    let second = Actor::named("second");
    let grants = |number, target| {
        let (to, ops) = ("user:web".into(), vec!["get".into()]);
        Body::Grant(Grant { grant: GrantId([number; 16]), target, to, ops, until: None, alias: None })
    };
    let vault = test_store.client("admin", &[]).unwrap();
    let db = vault.replica().find("prod/db").unwrap().unwrap().id;
    let steps = [
        (&test_store.admin, second.enrolment(vec![Role::Open(String::new()), Role::Write("s".into())])),
        (&test_store.admin, grants(1, Target::Token(db))),
        (&test_store.admin, grants(2, Target::Prefix("many".into()))),
        // Without effect.
        (&test_store.opener, grants(3, Target::Prefix(String::new()))),
        (&test_store.writer, second.enrolment(all_roles())),
        (&test_store.admin, Body::Roles(Roles { device: test_store.writer.id, roles: vec![] })),
        (
            &test_store.admin,
            Body::Retire(Retire { device: second.id, compromised: true, reason: "lost".into() }),
        ),
    ];
    for (author, body) in steps {
        let vault = test_store.client("admin", &[]).unwrap();
        test_store.append(&Draft::on(&vault, author, [body]), &[]);
    }
}

fn last_changes(test_store: &TestStore) {
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    vault.put(&name("last/token"), &secret("last"), &PutOptions::default()).unwrap();
    vault.put(&name("last/token"), &secret("very last"), &PutOptions::default()).unwrap();
    vault.set_state(&name("last/token"), None, State::Revoked, "revoked at the end").unwrap();
}

impl Copy {
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("store.sqlite")
    }

    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    /// Opens it as one who knows it.
    pub fn open(&self, client: &str) -> Result<Vault> {
        Vault::open(setup(self.url(), self.dir.path().join(client), &self.history.openers()))
    }

    /// Opens it as one who was handed this.
    pub fn meet(&self, client: &str, anchor: &TrustAnchor) -> Result<Vault> {
        let setup = setup(self.url(), self.dir.path().join(client), &self.history.openers());
        Vault::trust(setup, anchor, false, &mut |_, _| {})
    }
}

/// Every question there is, each with its answer.
pub fn asked(vault: &mut Vault, opening: bool) -> BTreeMap<String, Result<String>> {
    let mut answers = BTreeMap::new();
    let mut tokens = Vec::new();
    for destroyed in [false, true] {
        let filter = ListFilter { destroyed, ..ListFilter::default() };
        let mut rows = String::new();
        let listed = vault.replica().list(&filter, |token, newest| {
            rows += &format!("{token:?} {newest:?}\n");
            tokens.push(token);
            Ok(true)
        });
        answers.insert(format!("list {destroyed}"), listed.map(|()| rows));
    }
    for token in tokens {
        let replica = vault.replica();
        let versions = replica.versions(&token);
        let show = versions.as_ref().map(|versions| format!("{token:?} {versions:?}"));
        answers.insert(format!("show {}", token.id), show.map_err(again));
        answers.insert(format!("grants {}", token.id), replica.grants(&token.id).map(|g| format!("{g:?}")));
        if token.destroyed {
            continue;
        }
        // A damaged replica may say a name that is none: its questions stay without an answer.
        let Ok(spoken) = Name::parse(&token.name) else { continue };
        let numbers = versions.unwrap_or_default().into_iter().map(|row| Some(row.version));
        for version in numbers.chain([None]).filter(|_| opening) {
            let opened = refusals_are_answers(vault.get(&spoken, version).map(|token| token.value));
            answers.insert(format!("get {}@{version:?}", token.name), opened);
        }
        let past = vault.history(&spoken);
        let past =
            past.map(|past| past.iter().map(|entry| format!("{} {}\n", entry.n, entry.hash)).collect());
        answers.insert(format!("history {}", token.name), past);
    }
    answers.insert("devices".into(), vault.replica().devices().map(|devices| format!("{devices:?}")));
    for (order, question) in [(LogOrder::OldestFirst, "log"), (LogOrder::NewestFirst, "log backwards")] {
        let mut lines = String::new();
        let walked = vault.log(order, None, |_, entry| {
            lines += &format!("{} {} {:?}\n", entry.n, entry.hash, entry.ineffective);
            Ok(true)
        });
        answers.insert(question.into(), walked.map(|()| lines));
    }
    answers
}

fn refusals_are_answers(opened: Result<strongroom::Secret>) -> Result<String> {
    match opened {
        Ok(token) => Ok(format!("{:?}", String::from_utf8_lossy(token.expose()))),
        Err(error) if error.kind() == strongroom::Kind::Refused => {
            Ok(format!("refused: {}", error.message()))
        }
        Err(error) => Err(error),
    }
}

fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.operation(), error.message())
}
