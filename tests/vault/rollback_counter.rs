//! Anchors: a whole store that was set back, replica and pin included.

use crate::machines::{Place, enrol, name, opened, put, verifies};
use std::path::{Path, PathBuf};
use strongroom::Kind;
use strongroom::ledger::body::State;
use strongroom::vault::{InitOptions, Vault};
use test_support::soft_device::SoftDevice;
use test_support::subprocess::{FAILPOINTS, killed_at, rerun};

/// A store that is anchored to its first device from the start, and where the counters lie.
fn anchored() -> (Place, Vault, SoftDevice, tempfile::TempDir) {
    let tpm = tempfile::tempdir().unwrap();
    let device = SoftDevice::named("one").counting_in(tpm.path());
    let options = InitOptions { anti_rollback: true, ..InitOptions::default() };
    let (place, vault) = Place::with(&device, &options);
    (place, vault, device, tpm)
}

fn stands(tpm: &tempfile::TempDir) -> u64 {
    let text = std::fs::read_to_string(tpm.path().join(0x0180_0000.to_string())).unwrap();
    text.parse().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// A copy of everything: store, replica and pin.
fn snapshot(place: &Place) -> tempfile::TempDir {
    let copied = tempfile::tempdir().unwrap();
    copy(place.dir.path(), copied.path());
    copied
}

fn restore(place: &Place, snapshot: &tempfile::TempDir) {
    for entry in std::fs::read_dir(place.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }
    copy(snapshot.path(), place.dir.path());
}

#[test]
fn guarding_changes_are_counted_and_nothing_else_is() {
    let (place, mut vault, device, tpm) = anchored();
    assert_eq!(stands(&tpm), 41);
    put(&mut vault, "a", "first");
    put(&mut vault, "a", "second");
    assert_eq!(opened(&mut vault, "a"), Ok("second".into()));
    vault.rename(&name("a"), &name("b")).unwrap();
    assert_eq!(stands(&tpm), 41);
    vault.set_state(&name("b"), None, State::Suspended, "").unwrap();
    assert_eq!(stands(&tpm), 42);
    vault.set_state(&name("b"), None, State::Active, "").unwrap();
    assert_eq!(stands(&tpm), 42);
    vault.set_state(&name("b"), Some(1), State::Revoked, "").unwrap();
    enrol(&mut vault, &SoftDevice::named("two"), &["open"]);
    vault.reseal(&Default::default(), &mut |_, _| {}).unwrap();
    vault.destroy(&name("b"), None, "").unwrap();
    assert_eq!(stands(&tpm), 46);
    drop(vault);
    let mut vault = place.at("first", &[&device]);
    put(&mut vault, "c", "goes on");
    assert_eq!((opened(&mut vault, "c"), stands(&tpm)), (Ok("goes on".into()), 46));
    let row = &vault.replica().devices().unwrap()[0];
    assert_eq!(vault.replica().expected_count(&row.anchor.unwrap()), 46);
    verifies(&mut vault);
}

#[test]
fn a_store_that_was_set_back_whole_is_refused() {
    let (place, mut vault, device, tpm) = anchored();
    put(&mut vault, "a", "token");
    drop(vault);
    let before = snapshot(&place);
    let mut vault = place.at("first", &[&device]);
    vault.set_state(&name("a"), None, State::Revoked, "leaked").unwrap();
    drop(vault);
    restore(&place, &before);
    // Nothing but the counter knows.
    let mut vault = place.at("first", &[&device]);
    let error = vault.get(&name("a"), None).unwrap_err();
    assert_eq!(error.kind(), Kind::RolledBack);
    assert!(error.message().contains("one counted 1 change that it does not hold"), "{error}");
    assert!(error.hint().unwrap().contains("--accept-older"), "{error}");
    let error = vault.set_state(&name("a"), None, State::Suspended, "").unwrap_err();
    assert_eq!(error.kind(), Kind::RolledBack);
    assert!(vault.token(&name("a"), "list").is_ok());
    // Not even a fresh start helps.
    let mut fresh = place.meet(&vault, "fresh", &[&device]);
    assert_eq!(fresh.get(&name("a"), None).unwrap_err().kind(), Kind::RolledBack);
    // Without the device nobody can tell.
    assert!(
        opened(&mut place.at("first", &[&SoftDevice::named("one").counting_in(tpm.path())]), "a").is_err()
    );

    // The newest copy is lost for good, and an admin says so.
    assert_eq!(vault.anchor("one", false).unwrap_err().kind(), Kind::Conflict);
    let counter = vault.anchor("one", true).unwrap();
    assert_eq!((counter.index, counter.start), (0x0180_0000, 42));
    assert_eq!(opened(&mut vault, "a"), Ok("token".into()));
    vault.set_state(&name("a"), None, State::Revoked, "leaked").unwrap();
    assert_eq!(stands(&tpm), 43);
    verifies(&mut place.at("first", &[&device]));
}

/// The change was stored, and the machine died before it was counted: that is no rollback, and is made good.
#[test]
fn a_crash_between_the_change_and_the_count() {
    let (place, mut vault, device, tpm) = anchored();
    put(&mut vault, "a", "token");
    put(&mut vault, "b", "token");
    let stuck = tpm.path().join("stuck");
    std::fs::write(&stuck, "").unwrap();
    vault.set_state(&name("b"), None, State::Revoked, "").unwrap();
    let notices = vault.take_notices();
    assert!(notices.iter().any(|notice| notice.contains("not counted yet")), "{notices:?}");
    drop(vault);
    std::fs::remove_file(&stuck).unwrap();
    let mut vault = place.at("first", &[&device]);
    assert_eq!((opened(&mut vault, "a"), stands(&tpm)), (Ok("token".into()), 41));
    // Any change raises it to where it is due.
    put(&mut vault, "a", "next");
    assert_eq!(stands(&tpm), 42);
    vault.set_state(&name("a"), Some(1), State::Revoked, "").unwrap();
    assert_eq!(stands(&tpm), 43);
    drop(vault);
    assert_eq!(opened(&mut place.at("first", &[&device]), "a"), Ok("next".into()));
}

/// What a child of the test below is to do: the directories of the store and of the counters.
const CHILD: &str = "STRONGROOM_TEST_ANCHOR_CHILD";

/// No test of its own: it makes changes that are counted until it is killed.
#[test]
fn child() {
    let Ok(directories) = std::env::var(CHILD) else { return };
    let (dir, tpm) = directories.split_once('|').unwrap();
    let device = SoftDevice::named("one").counting_in(tpm);
    let setup = strongroom::vault::Setup {
        connected: vec![(device.uri(), Box::new(device) as _)],
        prompter: Box::new(strongroom::prompt::BatchPrompter),
        ..strongroom::vault::Setup::new(
            format!("sqlite://{dir}/store.sqlite"),
            Vec::new(),
            PathBuf::from(dir).join("first"),
        )
    };
    let mut vault = Vault::open(setup).unwrap();
    loop {
        vault.set_state(&name("a"), None, State::Suspended, "").unwrap();
        vault.set_state(&name("a"), None, State::Active, "").unwrap();
    }
}

/// Whenever the machine dies, the counter is right or one behind, and the store goes on.
#[test]
fn killed_between_any_two_steps() {
    let (place, mut vault, device, tpm) = anchored();
    put(&mut vault, "a", "token");
    drop(vault);
    let mut behind = 0;
    for point in FAILPOINTS {
        let directories = format!("{}|{}", place.dir.path().display(), tpm.path().display());
        killed_at(rerun("vault::rollback_counter::child").env(CHILD, directories), &format!("{point}:3"));
        let mut vault = place.at("first", &[&device]);
        let anchor = vault.replica().devices().unwrap()[0].anchor.unwrap();
        let due = vault.replica().expected_count(&anchor);
        assert!(stands(&tpm) == due || stands(&tpm) + 1 == due, "{point}: {} and {due}", stands(&tpm));
        behind += due - stands(&tpm);
        vault.set_state(&name("a"), None, State::Active, "").unwrap();
        assert_eq!((opened(&mut vault, "a"), stands(&tpm)), (Ok("token".into()), due), "{point}");
    }
    assert!(behind > 0);
}

/// What another machine changed is counted by the machine with the device when it next writes.
#[test]
fn changes_of_other_machines_are_caught_up_with() {
    let (place, mut vault, device, tpm) = anchored();
    let two = SoftDevice::named("two");
    enrol(&mut vault, &two, &["open", "write", "admin"]);
    put(&mut vault, "a", "token");
    let mut other = place.meet(&vault, "other", &[&two]);
    for _ in 0..3 {
        other.set_state(&name("a"), None, State::Suspended, "").unwrap();
        other.set_state(&name("a"), None, State::Active, "").unwrap();
    }
    assert_eq!(stands(&tpm), 42);
    let mut vault = place.at("first", &[&device]);
    assert_eq!((opened(&mut vault, "a"), stands(&tpm)), (Ok("token".into()), 42));
    put(&mut vault, "a", "next");
    assert_eq!(stands(&tpm), 45);
}

/// Two that count at once count each change once.
#[test]
fn several_processes_count_together() {
    let (place, vault, device, tpm) = anchored();
    drop(vault);
    let work = |i: u64| {
        let mut vault = place.at("first", &[&device]);
        for round in 0..10 {
            let token = format!("t/{i}/{round}");
            put(&mut vault, &token, "token");
            vault.set_state(&name(&token), None, State::Revoked, "").unwrap();
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|i| drop(scope.spawn(move || work(i)))));
    let mut vault = place.at("first", &[&device]);
    put(&mut vault, "a", "token");
    assert_eq!((opened(&mut vault, "a"), stands(&tpm)), (Ok("token".into()), 41 + 40));
}

#[test]
fn a_counter_that_is_gone_or_another() {
    let (place, mut vault, device, tpm) = anchored();
    put(&mut vault, "a", "token");
    let path = tpm.path().join(0x0180_0000.to_string());
    std::fs::write(&path, "40").unwrap();
    assert_eq!(place.at("first", &[&device]).get(&name("a"), None).unwrap_err().kind(), Kind::RolledBack);
    std::fs::remove_file(&path).unwrap();
    let mut vault = place.at("first", &[&device]);
    assert_eq!(vault.get(&name("a"), None).unwrap_err().kind(), Kind::KeyMissing);
    vault.anchor("one", true).unwrap();
    assert_eq!(opened(&mut vault, "a"), Ok("token".into()));
    assert!(vault.unanchor("one").unwrap());
    assert!(!path.exists());
    assert_eq!(opened(&mut vault, "a"), Ok("token".into()));
    assert_eq!(vault.unanchor("one").unwrap_err().kind(), Kind::NotFound);
}

/// A device that is not plugged in is said to be so, and the others serve.
#[test]
fn a_counter_that_cannot_be_reached() {
    let (place, mut vault, device, _tpm) = anchored();
    let two = SoftDevice::named("two");
    enrol(&mut vault, &two, &["open", "write"]);
    put(&mut vault, "a", "token");
    let first = vault.replica().devices().unwrap()[0].id;
    let gone = SoftDevice::named("one").uri().with("module-path", "/nonexistent.so").unwrap();
    let setup =
        strongroom::vault::Setup { devices: vec![(gone, Some(first))], ..place.setup("first", &[&two]) };
    let mut vault = Vault::open(setup).unwrap();
    assert_eq!(opened(&mut vault, "a"), Ok("token".into()));
    put(&mut vault, "a", "next");
    let notices = vault.take_notices();
    assert!(notices.iter().any(|notice| notice.contains("was not checked: one")), "{notices:?}");
    assert_eq!(opened(&mut place.at("first", &[&device]), "a"), Ok("next".into()));
}

/// What counts nothing any more does not stay in the device.
#[test]
fn a_retired_device_keeps_no_counter() {
    let (_place, mut vault, _device, tpm) = anchored();
    enrol(&mut vault, &SoftDevice::named("two"), &["open", "write", "admin"]);
    vault.retire("one", &Default::default(), &mut |_, _| {}).unwrap();
    assert_eq!(std::fs::read_dir(tpm.path()).unwrap().count(), 0);
    put(&mut vault, "a", "token");
}

#[test]
fn only_devices_with_counters_can_be_anchored_to() {
    let one = SoftDevice::named("one");
    let (place, mut vault) = Place::of(&one);
    assert_eq!(vault.anchor("one", false).unwrap_err().kind(), Kind::Unsupported);
    let options = InitOptions { anti_rollback: true, ..InitOptions::default() };
    let setup = strongroom::vault::Setup {
        store: format!("sqlite://{}", place.dir.path().join("other.sqlite").display()),
        ..place.setup("other", &[&one])
    };
    assert_eq!(Vault::init(setup, &options).err().unwrap().kind(), Kind::Unsupported);
    assert!(!place.dir.path().join("other.sqlite").exists());
}

/// Who may write a little cannot count up to what was lost: only what admins signed is counted.
#[test]
fn a_narrow_writer_does_not_pad_the_count() {
    let (place, mut vault, device, tpm) = anchored();
    let writer = SoftDevice::named("writer");
    enrol(&mut vault, &writer, &["open", "write:w"]);
    put(&mut vault, "a", "token");
    put(&mut vault, "w", "token");
    drop(vault);
    let before = snapshot(&place);
    let mut vault = place.at("first", &[&device]);
    vault.set_state(&name("a"), None, State::Revoked, "leaked").unwrap();
    let counted = stands(&tpm);
    drop(vault);
    restore(&place, &before);
    let vault = place.at("first", &[]);
    let mut insider = place.meet(&vault, "insider", &[&writer]);
    for _ in 0..3 {
        insider.set_state(&name("w"), None, State::Suspended, "").unwrap();
        insider.set_state(&name("w"), None, State::Active, "").unwrap();
    }
    let error = place.at("first", &[&device]).get(&name("a"), None).unwrap_err();
    assert_eq!(error.kind(), Kind::RolledBack);
    assert!(error.message().contains("1 change"), "{error}");
    assert_eq!(stands(&tpm), counted);
}

/// A device whose id is not known and that cannot be reached may be the one that counts.
#[test]
fn an_unknown_device_that_cannot_be_reached_is_told() {
    let (place, mut vault, _device, _tpm) = anchored();
    let two = SoftDevice::named("two");
    enrol(&mut vault, &two, &["open", "write"]);
    put(&mut vault, "a", "token");
    let gone = SoftDevice::named("one").uri().with("module-path", "/nonexistent.so").unwrap();
    let setup = strongroom::vault::Setup { devices: vec![(gone, None)], ..place.setup("first", &[&two]) };
    let mut vault = Vault::open(setup).unwrap();
    assert_eq!(opened(&mut vault, "a"), Ok("token".into()));
    let notices = vault.take_notices();
    assert!(notices.iter().any(|notice| notice.contains("was not checked")), "{notices:?}");
}
