//! Tokens that several of the agent's devices open together.

use crate::agent_in_process::{Served, cached, me, own_uid};
use std::sync::atomic::Ordering;
use std::time::Duration;
use strongroom::agent::AgentOwner;
use strongroom::vault::{Op, PutOptions};
use test_support::test_store::{name, secret};

fn put_of_two(served: &Served, token: &str) {
    let options = PutOptions { threshold: Some(2), ..PutOptions::default() };
    served.another().put(&name(token), &secret("of two"), &options).unwrap();
}

fn opened(served: &Served) -> [usize; 2] {
    [0, 1].map(|device| served.faults[device].opened.load(Ordering::SeqCst))
}

#[test]
fn the_agent_asks_as_many_devices_as_it_takes() {
    let served = Served::to_owner();
    put_of_two(&served, "prod/two");
    assert_eq!(served.get("/v1/values/prod/two").text(), "of two");
    assert_eq!(opened(&served), [1, 1]);
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    assert_eq!(opened(&served), [2, 1]);
    // One line, in the chain of the device that came last.
    served.until("the read is in the access log", || {
        let log = served.get("/v1/accesses").json();
        let lines = log["accesses"].as_array().unwrap().clone();
        lines.iter().any(|line| {
            line["name"] == "prod/two" && line["device"] == "opener" && line["outcome"] == "opened with admin"
        })
    });
}

#[test]
fn a_device_that_fails_or_is_locked_closes_it() {
    let served = Served::to_owner();
    put_of_two(&served, "prod/two");
    served.faults[1].gone.store(true, Ordering::SeqCst);
    let problem = served.get("/v1/values/prod/two").json();
    assert_eq!(problem["kind"], "device-gone");
    assert_eq!(problem["operation"], "open share 2 of 2 of prod/two@1");
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    served.faults[1].gone.store(false, Ordering::SeqCst);
    served.until("it opens again", || served.get("/v1/values/prod/two").status == 200);
    assert_eq!(served.ask("POST", "/v1/lock", b"").status, 200);
    assert_eq!(served.get("/v1/values/prod/two").status, 423);
}

#[test]
fn with_too_few_devices_none_is_asked() {
    let served = Served::new(AgentOwner::User(own_uid()), |options| options.devices.truncate(1));
    put_of_two(&served, "prod/two");
    let (status, kind, words) = served.get("/v1/values/prod/two").problem();
    assert_eq!((status, kind.as_str()), (502, "sealed-elsewhere"), "{words}");
    assert!(words.contains("2 devices must open it together, and only admin is configured here"), "{words}");
    assert_eq!(opened(&served)[0], 0);
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
}

/// The agent's own device is an admin's: what a client may put must not become what that device may.
#[test]
fn only_the_owner_says_how_many_devices_open_a_token() {
    let served = Served::to_owner();
    let put = served.ask("PUT", "/v1/values/prod/two?threshold=2", b"of two").json();
    assert_eq!((&put["threshold"], &put["version"]), (&2.into(), &1.into()));
    assert_eq!(served.ask("PUT", "/v1/values/prod/two?threshold=3", b"x").status, 409);
    assert_eq!(served.ask("PUT", "/v1/values/prod/two?threshold=0", b"x").status, 400);
    let again = served.ask("PUT", "/v1/values/prod/two", b"of two again").json();
    assert_eq!(again["threshold"], 2);
    let lowered = served.ask("PUT", "/v1/values/prod/two?threshold=1", b"of one").json();
    assert_eq!(lowered["threshold"], 1);
    drop(served);

    let served = Served::to_strangers();
    put_of_two(&served, "prod/two");
    served.grant("prod/two", &me(), &[Op::Put, Op::State]);
    for threshold in ["1", "2"] {
        let path = format!("/v1/values/prod/two?threshold={threshold}");
        let (status, kind, words) = served.ask("PUT", &path, b"planted").problem();
        assert_eq!((status, kind.as_str()), (403, "refused"), "{words}");
    }
    let put = served.ask("PUT", "/v1/values/prod/two", b"more").json();
    assert_eq!((&put["version"], &put["threshold"]), (&2.into(), &2.into()));
}

#[test]
fn a_kept_token_takes_no_device() {
    let served = Served::new(AgentOwner::User(own_uid()), |options| {
        options.cache = vec![cached("prod/two", Duration::from_secs(600))];
    });
    put_of_two(&served, "prod/two");
    (0..3).for_each(|_| assert_eq!(served.get("/v1/values/prod/two").text(), "of two"));
    assert_eq!(opened(&served), [1, 1]);
    // A change drops it, and then it takes both again.
    put_of_two(&served, "prod/two");
    assert_eq!(served.get("/v1/values/prod/two").text(), "of two");
    assert_eq!(opened(&served), [2, 2]);
}
