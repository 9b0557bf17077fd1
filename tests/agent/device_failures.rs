//! Devices that hang, go away, come back, and want a PIN.

use crate::agent_in_process::{Served, own_uid};
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use strongroom::agent::AgentOwner;
use test_support::subprocess::in_namespaces;

/// An agent that waits a second for anything.
fn impatient() -> Served {
    Served::new(AgentOwner::User(own_uid()), |options| options.deadline = Duration::from_secs(1))
}

#[test]
fn a_hung_device_stalls_nobody_who_has_another() {
    let served = impatient();
    served.faults[0].hang(true);
    // The first device is given its share of the time, then the second opens.
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    served.until("the device is found to hang", || served.status(0) == "hung");
    let health = served.get("/v1/health");
    assert_eq!((health.status, &health.json()["status"]), (503, &"degraded".into()));
    // From then on nobody waits for it.
    let started = Instant::now();
    (0..20).for_each(|_| assert_eq!(served.get("/v1/values/prod/db").status, 200));
    assert!(started.elapsed() < Duration::from_secs(5));
    served.faults[0].hang(false);
    served.until("the device answers again", || {
        served.get("/v1/values/prod/db");
        served.status(0) == "ready"
    });
}

#[test]
fn everybody_is_answered_within_the_deadline() {
    let served = impatient();
    served.faults.iter().for_each(|faults| faults.hang(true));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (status, kind, _) = served.get("/v1/values/prod/db").problem();
                assert_eq!((status, kind.as_str()), (503, "device"));
            });
        }
        // What needs no device is answered meanwhile.
        assert_eq!(served.get("/v1/tokens").status, 200);
    });
    let put = served.ask("PUT", "/v1/values/prod/db", b"three");
    assert_eq!(put.problem().1, "device");
}

#[test]
fn a_device_that_was_away_is_connected_anew() {
    let served = Served::to_owner();
    assert_eq!(served.get("/v1/values/prod/db").status, 200);
    for faults in &served.faults {
        faults.gone.store(true, Ordering::SeqCst);
    }
    let (status, kind, _) = served.get("/v1/values/prod/db").problem();
    assert_eq!((status, kind.as_str()), (503, "device-gone"));
    assert_eq!(served.status(0), "gone");
    served.faults[0].gone.store(false, Ordering::SeqCst);
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    assert_eq!(served.status(0), "ready");
    assert_eq!(served.faults[0].connected.load(Ordering::SeqCst), 2);
    // Changes find it again too.
    assert_eq!(served.ask("PUT", "/v1/values/prod/db", b"three").status, 200);
}

#[test]
fn a_pin_is_given_once_and_stays_until_it_is_locked() {
    let served = Served::to_owner();
    let both =
        |act: &dyn Fn(&crate::failing_device::Faults)| served.faults.iter().for_each(|faults| act(faults));
    both(&|faults| *faults.pin.lock().unwrap() = Some("1234"));
    let locked = || served.get("/v1/values/prod/db").problem();
    let (status, kind, _) = locked();
    assert_eq!((status, kind.as_str()), (423, "pin-unavailable"));
    assert_eq!(served.status(0), "locked");
    let unlock = |device: usize, pin: &str| {
        let name = served.get("/v1/health").json()["devices"][device]["device"].clone();
        let body = serde_json::json!({"device": name, "pin": pin}).to_string();
        served.ask("POST", "/v1/unlock", body.as_bytes())
    };
    assert_eq!(unlock(0, "1234").json()["status"], "ready");
    (0..3).for_each(|_| assert_eq!(served.get("/v1/values/prod/db").status, 200));
    assert_eq!(served.faults[0].pins.load(Ordering::SeqCst), 1);
    assert_eq!(served.ask("POST", "/v1/lock", b"").status, 200);
    assert_eq!(locked().0, 423);
    // A pin-source would not open what a person locked.
    assert_eq!(served.faults[0].pins.load(Ordering::SeqCst), 1);
    assert_eq!(unlock(0, "1234").status, 200);
    assert_eq!(served.get("/v1/values/prod/db").status, 200);
}

#[test]
fn a_refused_pin_is_never_sent_again_by_itself() {
    let served = Served::to_owner();
    served.faults[1].gone.store(true, Ordering::SeqCst);
    *served.faults[0].pin.lock().unwrap() = Some("1234");
    let unlock = |pin: &str| {
        let name = served.get("/v1/health").json()["devices"][0]["device"].clone();
        let body = serde_json::json!({"device": name, "pin": pin}).to_string();
        served.ask("POST", "/v1/unlock", body.as_bytes()).status
    };
    assert_eq!(unlock("0000"), 423);
    for _ in 0..5 {
        assert_eq!(served.get("/v1/values/prod/db").problem().1, "pin-wrong");
    }
    assert_eq!((served.status(0).as_str(), served.faults[0].pins.load(Ordering::SeqCst)), ("pin-refused", 1));
    assert!(
        served
            .get("/metrics")
            .text()
            .contains("strongroom_device_pin_refused{device=\"pkcs11:token=admin\"} 1")
    );
    assert_eq!(unlock("1234"), 200);
    assert_eq!(served.get("/v1/values/prod/db").status, 200);
}

#[test]
fn the_numbers_of_all_devices_stand_together() {
    let metrics = Served::to_owner().get("/metrics").text();
    let name = |line: &str| line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").to_owned();
    let family = |line: &str| {
        let name = name(line).split(['{', ' ']).next().unwrap().to_owned();
        let parts = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        parts.map_or(name.clone(), ToOwned::to_owned)
    };
    let mut families: Vec<String> = metrics.lines().map(family).collect();
    families.dedup();
    let mut once = families.clone();
    once.sort();
    once.dedup();
    assert_eq!(families.len(), once.len(), "{metrics}");
    assert!(metrics.matches("strongroom_device_ready{").count() == 2, "{metrics}");
}

#[test]
fn a_device_that_is_locked_out_is_told_from_one_that_refused_a_pin() {
    let served = Served::to_owner();
    let shows = |gauge: &str, value: u8| {
        let line = format!("strongroom_device_{gauge}{{device=\"pkcs11:token=admin\"}} {value}\n");
        let metrics = served.get("/metrics").text();
        assert!(metrics.contains(&line), "{line}{metrics}");
    };
    shows("pin_locked", 0);
    served.faults[0].locked_out.store(true, Ordering::SeqCst);
    // The other device opens.
    assert_eq!(served.get("/v1/values/prod/db").status, 200);
    assert_eq!(served.status(0), "pin-locked");
    shows("pin_locked", 1);
    shows("pin_refused", 0);
    shows("ready", 0);
}

/// Neither a full queue nor a caller who gave up may lose a lock.
#[test]
fn a_busy_device_is_locked_all_the_same() {
    let served = Served::new(AgentOwner::User(own_uid()), |options| {
        options.cache = vec![crate::agent_in_process::cached("prod", Duration::from_secs(600))];
        options.deadline = Duration::from_secs(20);
    });
    served.faults[1].gone.store(true, Ordering::SeqCst);
    *served.faults[0].pin.lock().unwrap() = Some("1234");
    let name = served.get("/v1/health").json()["devices"][0]["device"].clone();
    let pin = serde_json::json!({"device": name, "pin": "1234"}).to_string();
    let unlock = || served.ask("POST", "/v1/unlock", pin.as_bytes()).status;
    assert_eq!(unlock(), 200);
    assert_eq!(served.get("/v1/values/prod/key").status, 200);
    served.faults[0].hang(true);
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| served.get("/v1/values/prod/db"));
        served.until("the device is busy", || served.faults[0].busy.load(Ordering::SeqCst) > 0);
        let unlocking = scope.spawn(unlock);
        served.until("somebody waits", || served.get("/v1/health").json()["devices"][0]["waiting"] == 1);
        let locked = served.ask("POST", "/v1/lock", b"").json();
        assert_eq!(locked["devices"][0]["locked"], false);
        assert_eq!(served.status(0), "locked");
        // What was kept is gone, and nobody waits for the device only to hear that it is locked.
        let started = Instant::now();
        assert_eq!(served.get("/v1/values/prod/key").problem().1, "pin-unavailable");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        served.faults[0].hang(false);
        // What was under way is not handed out, and an unlock from before the lock does not undo it.
        assert_eq!(opening.join().unwrap().problem().1, "pin-unavailable");
        assert_eq!(unlocking.join().unwrap(), 423);
    });
    served.until("it is logged out", || !served.faults[0].logged_in.load(Ordering::SeqCst));
    assert_eq!(served.get("/v1/values/prod/db").problem().1, "pin-unavailable");
    assert_eq!(served.get("/v1/health").json()["cached_tokens"], 0);
    assert_eq!(unlock(), 200);
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
}

#[test]
fn nobody_used_it_for_a_while_and_the_pin_is_forgotten() {
    let served = Served::new(AgentOwner::User(own_uid()), |options| {
        options.pin_policy.idle = Some(Duration::from_millis(300))
    });
    *served.faults[0].pin.lock().unwrap() = Some("1234");
    let name = served.get("/v1/health").json()["devices"][0]["device"].clone();
    let body = serde_json::json!({"device": name, "pin": "1234"}).to_string();
    assert_eq!(served.ask("POST", "/v1/unlock", body.as_bytes()).status, 200);
    served.until("it locks itself", || served.status(0) == "locked");
}

#[test]
fn a_client_that_dies_in_the_middle_harms_nobody() {
    use std::io::Write;
    let served = Served::to_owner();
    for _ in 0..50 {
        let mut stream = served.connect();
        stream.write_all(b"GET /v1/values/prod/db HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n\r\n").unwrap();
        drop(stream);
        let mut stream = served.connect();
        stream
            .write_all(b"PUT /v1/values/prod/db HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\ncontent-length: 100\r\n\r\nhalf")
            .unwrap();
        drop(stream);
    }
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    assert_eq!(served.get("/v1/tokens/prod/db").json()["versions"].as_array().unwrap().len(), 2);
}

#[test]
fn a_store_that_is_away_is_said_so_and_comes_back() {
    let served = Served::to_owner();
    assert_eq!(served.get("/v1/values/prod/db").status, 200);
    let (path, aside) = (served.test_store.path(), served.test_store.dir.path().join("aside"));
    std::fs::create_dir(&aside).unwrap();
    let files: Vec<_> = ["", "-wal", "-shm"].map(|end| format!("store.sqlite{end}")).into();
    let shift = |from: &std::path::Path, to: &std::path::Path| {
        for file in &files {
            let _ = std::fs::rename(from.join(file), to.join(file));
        }
    };
    shift(path.parent().unwrap(), &aside);
    served.until("it is noticed", || served.get("/v1/health").status == 503);
    assert_eq!(served.get("/v1/values/prod/db").problem().1, "store");
    shift(&aside, path.parent().unwrap());
    served.until("it is there again", || served.get("/v1/health").status == 200);
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
}

#[test]
fn a_store_that_another_process_locks_stops_changes_and_no_reads() {
    let served =
        Served::new(AgentOwner::User(own_uid()), |options| options.deadline = Duration::from_secs(3));
    let db = served.test_store.db();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    assert_eq!(served.ask("PUT", "/v1/values/prod/db", b"three").status, 503);
    db.execute_batch("ROLLBACK").unwrap();
    served.until("changes are made again", || served.ask("PUT", "/v1/values/prod/other", b"x").status == 200);
    assert_eq!(served.get("/v1/values/prod/other").text(), "x");
}

#[test]
fn a_full_disk_stops_changes_and_nothing_else() {
    // Where its files are, see `TestStore`.
    let disk = "mount -t tmpfs -o size=3m tmpfs /dev/shm";
    in_namespaces(&["--user", "--map-root-user", "--mount"], disk, || {
        let served = Served::to_owner();
        let put = |token: &[u8]| served.ask("PUT", "/v1/values/prod/new", token);
        assert_eq!(put(b"before").status, 200);
        assert!(served.test_store.dir.path().starts_with("/dev/shm"));
        let ballast = std::path::Path::new("/dev/shm/ballast");
        let mut file = std::fs::File::create(ballast).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        // Until the room that the store has of its own is used up as well.
        let large = [7; 100_000];
        let versions = 1 + (0..30).take_while(|_| put(&large).status == 200).count();
        for _ in 0..3 {
            let (status, kind, answer) = put(&large).problem();
            assert!(status >= 500 && kind == "store" && answer.contains("the disk is full"), "{answer}");
            // Reading goes on, though no line of the access log can be written.
            assert_eq!(served.get("/v1/values/prod/new?version=1").text(), "before");
            let shown = served.get("/v1/tokens/prod/new").json();
            assert_eq!(shown["versions"].as_array().unwrap().len(), versions);
        }
        drop(file);
        std::fs::remove_file(ballast).unwrap();
        assert_eq!(put(b"after").status, 200);
        assert_eq!(served.get("/v1/values/prod/new").text(), "after");
        let report = served.another().verify(&mut |_, _, _| {}).unwrap();
        assert_eq!(report.problems, []);
    });
}
