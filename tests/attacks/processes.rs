//! Processes that write at the same time, and processes that are killed.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use strongroom::ledger::StoreId;
use strongroom::ledger::body::State;
use strongroom::vault::{PutOptions, Vault};
use test_support::subprocess::{FAILPOINTS, killed_at, rerun};
use test_support::test_store::{Actor, TestStore, client_in, name, secret};

/// What a child is to do; see [`Order`].
const ORDER: &str = "STRONGROOM_TEST_CHILD";

/// `work dir store-id client number`, in that order.
struct Order {
    work: String,
    dir: PathBuf,
    store: StoreId,
    client: String,
    number: u64,
}

fn order(test_store: &TestStore, work: &str, client: &str, number: u64) -> Command {
    let order = format!("{work}|{}|{}|{client}|{number}", test_store.dir.path().display(), test_store.id);
    let mut command = rerun("attacks::processes::child");
    command.env(ORDER, order).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(test_store: &TestStore, work: &str, client: &str, number: u64) -> Child {
    order(test_store, work, client, number).spawn().unwrap()
}

/// No test of its own: what the processes run that the tests below start.
#[test]
fn child() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let parts: Vec<&str> = order.split('|').collect();
    let [work, dir, store, client, number] = parts[..] else { panic!("{order}") };
    let order = Order {
        work: work.into(),
        dir: dir.into(),
        store: store.parse().unwrap(),
        client: client.into(),
        number: number.parse().unwrap(),
    };
    let admin = Actor::named("admin");
    let mut vault = client_in(&order.dir, order.store, &order.client, &[&admin]).unwrap();
    match order.work.as_str() {
        "puts" => puts(&mut vault, order.number),
        "contact" => contact(&mut vault),
        "forever" => forever(&mut vault, order.number),
        other => panic!("{other}"),
    }
}

/// Tells the parent what has returned. One write, so that a line is there whole or not at all.
fn acknowledge(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\nack {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn acknowledged(output: &str) -> Vec<Vec<String>> {
    let lines = output.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let words = |line: &str| line.split_whitespace().map(String::from).collect();
    lines.filter_map(|line| line.strip_prefix("ack ").map(words)).collect()
}

const PUTS: u64 = 100;

fn puts(vault: &mut Vault, number: u64) {
    for i in 0..PUTS {
        let token =
            if i.is_multiple_of(2) { format!("same/{}", i % 10) } else { format!("own/{number}/{i}") };
        let report =
            vault.put(&name(&token), &secret(&format!("{number} {i}")), &PutOptions::default()).unwrap();
        acknowledge(&format!("{token} {} {number} {i}", report.version));
    }
}

/// Meets the store, writes, and says what it sees.
fn contact(vault: &mut Vault) {
    let count = vault.replica().count().unwrap();
    vault.put(&name("prod/db"), &secret("from the crowd"), &PutOptions::default()).unwrap();
    let differences = vault.verify(&mut |_, _, _| {}).unwrap().problems;
    let replica: Vec<_> = differences.iter().filter(|problem| problem.place.contains("replica")).collect();
    assert!(replica.is_empty(), "{replica:?}");
    acknowledge(&count.to_string());
}

/// What so many processes acknowledged that did the same at the same time.
pub fn acknowledged_by(
    test_store: &TestStore,
    work: &str,
    client: &str,
    count: u64,
) -> Vec<Vec<Vec<String>>> {
    let children: Vec<Child> = (0..count).map(|i| start(test_store, work, client, i)).collect();
    let finished = |child: Child| {
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}{err}");
        acknowledged(&out)
    };
    children.into_iter().map(finished).collect()
}

#[test]
fn eight_processes_put_a_hundred_each() {
    let test_store = TestStore::populated();
    let before = test_store.tail().n;
    // Half of them share a replica, and all begin at once.
    let client = |i: u64| if i.is_multiple_of(2) { "shared".into() } else { format!("client-{i}") };
    let children: Vec<Child> = (0..8).map(|i| start(&test_store, "puts", &client(i), i)).collect();
    let mut versions = BTreeMap::<String, BTreeMap<u64, String>>::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}{err}");
        let acknowledged = acknowledged(&out);
        assert_eq!(acknowledged.len() as u64, PUTS);
        for words in acknowledged {
            let [token, version, number, i] = &words[..] else { panic!("{words:?}") };
            let other = versions
                .entry(token.clone())
                .or_default()
                .insert(version.parse().unwrap(), format!("{number} {i}"));
            assert_eq!(other, None, "{token}@{version} twice");
        }
    }
    assert_eq!(test_store.tail().n, before + 8 * PUTS, "one statement each, and no more");
    let mut vault = test_store.client("reader", &[&test_store.opener]).unwrap();
    for (token, versions) in &versions {
        assert!(versions.keys().copied().eq(1..=versions.len() as u64), "{token}: {:?}", versions.keys());
        for (version, plaintext) in versions {
            assert_eq!(vault.get(&name(token), Some(*version)).unwrap().expose(), plaintext.as_bytes());
        }
    }
    for client in ["shared", "client-1", "newcomer"] {
        let report = test_store.client(client, &[]).unwrap().verify(&mut |_, _, _| {}).unwrap();
        assert_eq!((report.problems, report.ineffective), (vec![], 0), "{client}");
    }
}

/// What lands while an admin repairs is not the tail that was found wanting.
#[test]
fn a_repair_among_writers() {
    let test_store = TestStore::populated();
    let before = test_store.tail().n;
    let mut children: Vec<Child> =
        (0..4).map(|i| start(&test_store, "puts", &format!("client-{i}"), i)).collect();
    let mut repairs = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        let setup = test_store.setup("admin", &[&test_store.admin]);
        let (_, dropped) = Vault::repair(setup, "for nothing").unwrap();
        assert_eq!(dropped, 0);
        repairs += 1;
    }
    for child in children {
        let output = child.wait_with_output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(acknowledged(&out).len() as u64, PUTS, "{out}{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(repairs > 1);
    assert_eq!(test_store.tail().n, before + 4 * PUTS);
    let report = test_store.client("admin", &[]).unwrap().verify(&mut |_, _, _| {}).unwrap();
    assert_eq!(report.problems, []);
}

/// Five steps for each number, until it is killed.
fn forever(vault: &mut Vault, number: u64) {
    for k in number.. {
        let token = name(&format!("c/{k}"));
        for step in 0..5 {
            match step {
                0 => drop(vault.put(&token, &secret(&format!("{k} one")), &PutOptions::default()).unwrap()),
                1 => drop(vault.put(&token, &secret(&format!("{k} two")), &PutOptions::default()).unwrap()),
                2 => vault.set_state(&token, Some(1), State::Revoked, "old").unwrap(),
                3 => drop(vault.destroy(&token, Some(1), "older").unwrap()),
                _ if k % 3 == 0 => drop(vault.destroy(&token, None, "all of it").unwrap()),
                _ => vault.set_state(&token, None, State::Suspended, "for now").unwrap(),
            }
            acknowledge(&format!("{k} {step}"));
        }
    }
}

/// How far a token has come: the number of steps that have taken effect.
fn steps(vault: &mut Vault, k: u64) -> u64 {
    let token = name(&format!("c/{k}"));
    let Some(row) = vault.replica().find(token.as_str()).unwrap() else {
        // Not yet, or no longer.
        return if vault.replica().tokens_ever_named(token.as_str()).unwrap().is_empty() { 0 } else { 5 };
    };
    let one = vault.replica().version_row(&row, 1).unwrap().unwrap().state;
    let two = vault.replica().version_row(&row, 2).unwrap();
    if row.suspended {
        assert_eq!(one, None);
        return 5;
    }
    let steps = match (one, &two) {
        (Some(State::Active), None) => 1,
        (Some(State::Active), Some(_)) => 2,
        (Some(State::Revoked), Some(_)) => 3,
        (None, Some(_)) => 4,
        other => panic!("c/{k} is half-written: {other:?}"),
    };
    let newest = if two.is_some() { "two" } else { "one" };
    assert_eq!(vault.get(&token, None).unwrap().expose(), format!("{k} {newest}").as_bytes());
    steps
}

/// kill -9 between any two writes of each step: what was acknowledged is there, and what was not is there whole or not at
/// all.
#[test]
fn killed_between_any_two_writes() {
    let test_store = TestStore::populated();
    let (mut next, mut acks, mut cut_short) = (1_000_000, 0, 0);
    for (crash, point) in FAILPOINTS.iter().enumerate() {
        for times in 1..=5 {
            let out =
                killed_at(&mut order(&test_store, "forever", "admin", next), &format!("{point}:{times}"));
            let acknowledged = acknowledged(&out);
            acks += acknowledged.len();
            let mut reached = BTreeMap::<u64, u64>::new();
            for words in &acknowledged {
                *reached.entry(words[0].parse().unwrap()).or_default() = words[1].parse::<u64>().unwrap() + 1;
            }
            let last = reached.keys().last().copied().unwrap_or(next);
            // The same replica that the child was killed over, and another.
            let client = if times % 2 == 0 { "admin" } else { "reader" };
            let mut vault = test_store.client(client, &[&test_store.admin]).unwrap();
            for k in next..=last + 1 {
                let (told, is) = (reached.get(&k).copied().unwrap_or(0), steps(&mut vault, k));
                assert!(
                    is == told || is == told + 1 && k >= last,
                    "{point}: c/{k}: {told} were acknowledged, there are {is}"
                );
                cut_short += u64::from(is > told);
            }
            next = last + 2;
        }
        if crash % 4 == 0 || crash + 1 == FAILPOINTS.len() {
            for client in ["admin", "reader"] {
                let report = test_store.client(client, &[]).unwrap().verify(&mut |_, _, _| {}).unwrap();
                assert_eq!((report.problems, report.ineffective), (vec![], 0), "after {point}");
            }
        }
    }
    assert!(acks > 100 && cut_short > 20, "{acks} were acknowledged, {cut_short} were there that were not");
}
