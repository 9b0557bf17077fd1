//! Checkpoints as honest machines sign and read them.

use crate::machines::{NOW, Place, enrol, name, secret};
use std::path::PathBuf;
use strongroom::Kind;
use strongroom::ledger::Prefix;
use strongroom::ledger::body::{Settings, Witnesses};
use strongroom::ledger::verify::Chain;
use strongroom::vault::{PutOptions, RetireOptions, Setup, Standing, Vault};
use test_support::soft_device::SoftDevice;
use test_support::subprocess::{killed_at, rerun};

fn asking(vault: &mut Vault, count: u64) {
    let witnesses = Some(Witnesses { count, max_age: 60_000 });
    vault.set_settings(&Settings { witnesses, ..vault.settings().unwrap() }).unwrap();
}

/// A store that asks for one witness, and the two machines that are.
fn witnessed() -> (Place, [SoftDevice; 2], [Vault; 2]) {
    let devices = ["one", "two"].map(SoftDevice::named);
    let (place, mut first) = Place::of(&devices[0]);
    enrol(&mut first, &devices[1], &["open", "write", "witness"]);
    first.set_roles("one", &["open", "write", "admin", "witness"].map(|role| role.parse().unwrap())).unwrap();
    first.put(&name("a"), &secret("token"), &PutOptions::default()).unwrap();
    asking(&mut first, 1);
    let second = place.meet(&first, "second", &[&devices[1]]);
    // The machine that enrolled them had both devices.
    drop(first);
    let first = place.at("first", &[&devices[0]]);
    (place, devices, [first, second])
}

#[test]
fn a_machines_own_word_does_not_count() {
    let (_place, _, [mut first, mut second]) = witnessed();
    let own = first.checkpoint().unwrap();
    assert_eq!((own.time, own.position, own.root), (NOW, first.replica().position(), first.replica().root()));
    assert_eq!(first.get(&name("a"), None).unwrap_err().kind(), Kind::Stale);
    // Nor is anything opened for a hook, or an issuer asked.
    assert_eq!(first.rotation_state(&name("a"), "rotate a").unwrap_err().kind(), Kind::Stale);
    assert_eq!(first.open_to_rotate(&name("a"), 1).unwrap_err().kind(), Kind::Stale);
    assert_eq!(second.get(&name("a"), None).unwrap().expose(), b"token");
    second.checkpoint().unwrap();
    assert_eq!(first.get(&name("a"), None).unwrap().expose(), b"token");
    let standings: Vec<_> = first.witnesses().unwrap().iter().map(|witness| witness.standing).collect();
    assert_eq!(standings, [Standing::Own, Standing::Fresh]);
    // Another that this program was told of is its own, too.
    let id = second.witnesses().unwrap()[1].device;
    first.disregard_witness(id);
    assert_eq!(first.get(&name("a"), None).unwrap_err().kind(), Kind::Stale);
}

/// The reader is behind, and the store is not: it follows, and nothing is withheld.
#[test]
fn a_witness_that_was_quicker() {
    let (_place, _, [mut first, mut second]) = witnessed();
    second.checkpoint().unwrap();
    first.refresh().unwrap();
    second.put(&name("b"), &secret("newer"), &PutOptions::default()).unwrap();
    let newer = second.checkpoint().unwrap();
    assert!(newer.position.n > first.replica().position().n);
    first.check_witnesses("open").unwrap();
    assert_eq!(first.replica().position(), newer.position);
    assert_eq!(first.get(&name("b"), None).unwrap().expose(), b"newer");
}

#[test]
fn only_a_witness_signs() {
    let (place, _, [mut first, second]) = witnessed();
    let plain = SoftDevice::named("plain");
    enrol(&mut first, &plain, &["open"]);
    let mut third = place.meet(&first, "third", &[&plain]);
    assert_eq!(third.checkpoint().unwrap_err().kind(), Kind::Refused);
    let id = third.replica().active_device("plain").unwrap().unwrap().id;
    assert_eq!(third.checkpoint_with(&id).unwrap_err().kind(), Kind::Refused);
    drop(second);
}

/// What a renewed or retired device had signed goes with it, and resealing waits for witnesses as opening does.
#[test]
fn a_witness_is_retired_where_nothing_opens() {
    let (place, devices, [mut first, mut second]) = witnessed();
    let third = SoftDevice::named("third");
    enrol(&mut first, &third, &["witness"]);
    drop(first);
    let mut first = place.at("first", &[&devices[0]]);
    second.checkpoint().unwrap();
    first.get(&name("a"), None).unwrap();
    let report = first.reseal(&Prefix::default(), &mut |_, _| {}).unwrap();
    assert_eq!((report.resealed, report.left.len()), (0, 0));
    let report = first.retire("two", &RetireOptions::default(), &mut |_, _| {}).unwrap();
    assert_eq!(report.reseal.left.len(), 1);
    assert!(report.reseal.left[0].error.message().contains("third: it has signed none"));
    let mut witness = place.meet(&first, "third", &[&third]);
    witness.checkpoint().unwrap();
    assert_eq!(first.get(&name("a"), None).unwrap().expose(), b"token");
    assert_eq!(first.reseal(&Prefix::default(), &mut |_, _| {}).unwrap().resealed, 1);
}

const CHILD: &str = "STRONGROOM_TEST_CHECKPOINTS";

/// No test of its own: it signs one, and is killed meanwhile.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let (dir, device) = (PathBuf::from(dir), SoftDevice::named("two"));
    let url = format!("sqlite://{}/store.sqlite", dir.display());
    let connected = vec![(device.uri(), Box::new(device) as _)];
    let setup = Setup { connected, clock: || NOW, ..Setup::new(url, Vec::new(), dir.join("second")) };
    Vault::open(setup).unwrap().checkpoint().unwrap();
}

/// Whenever the witness dies, its last word stands, or the one before.
#[test]
fn killed_between_signing_and_storing() {
    let (place, devices, [mut first, mut second]) = witnessed();
    let before = second.checkpoint().unwrap();
    second.put(&name("a"), &secret("newer"), &PutOptions::default()).unwrap();
    drop(second);
    for point in ["checkpoint.signed", "checkpoint.written"] {
        killed_at(rerun("vault::checkpoints::child").env(CHILD, place.dir.path()), point);
        assert_eq!(first.get(&name("a"), None).unwrap().expose(), b"newer", "{point}");
        assert_eq!(first.witnesses().unwrap()[1].n, Some(before.position.n), "{point}");
    }
    let mut second = place.at("second", &[&devices[1]]);
    let after = second.checkpoint().unwrap();
    assert!(after.position.n > before.position.n);
    assert_eq!(first.get(&name("a"), None).unwrap().expose(), b"newer");
    assert_eq!(first.verify(&mut |_, _, _| {}).unwrap().problems, []);
}
