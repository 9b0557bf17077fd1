//! Opened tokens that are kept for a while: no longer than anything they rest on.

use crate::agent_in_process::{SOMEBODY_ELSE, Served, cached, grant_on, me, own_uid};
use crate::http::ask;
use std::time::{Duration, Instant};
use strongroom::agent::AgentOwner;
use strongroom::ledger::body::State;
use strongroom::vault::{Op, Revoked};
use test_support::test_store::name;

#[test]
fn only_what_may_be_kept_is_kept() {
    let served = keeping(AgentOwner::User(own_uid()));
    let opened = || served.faults[0].opened.load(std::sync::atomic::Ordering::SeqCst);
    let get = |path: &str| assert_eq!(served.get(path).status, 200);
    (0..3).for_each(|_| get("/v1/values/prod/db"));
    assert_eq!(opened(), 1);
    (0..3).for_each(|_| get("/v1/values/prod/key"));
    assert_eq!(opened(), 4);
    served.grant("prod/key", "user:nobody", &[Op::Get]);
    get("/v1/values/prod/db");
    assert_eq!(opened(), 5);
}

/// Keeps `prod/db` once it was opened.
fn keeping(owner: AgentOwner) -> Served {
    Served::new(owner, |options| options.cache = vec![cached("prod/db", Duration::from_secs(600))])
}

/// How many tokens are kept, as anybody may see.
fn kept(served: &Served) -> u64 {
    let metrics = served.get("/metrics").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("strongroom_cached_tokens "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_kept_token_is_dropped_at_once_by_lock_and_by_changes_through_the_agent() {
    let served = keeping(AgentOwner::User(own_uid()));
    let keep = || {
        assert_eq!(served.get("/v1/values/prod/db").text(), "two");
        assert_eq!(kept(&served), 1);
    };
    let post = |path: &str, body: &str| assert_eq!(served.ask("POST", path, body.as_bytes()).status, 200);
    keep();
    post("/v1/states/prod/db", r#"{"state":"suspended"}"#);
    assert_eq!((kept(&served), served.get("/v1/values/prod/db").status), (0, 403));
    post("/v1/states/prod/db", r#"{"state":"active"}"#);
    keep();
    post("/v1/grants", r#"{"on":"prod/key","to":"user:nobody"}"#);
    assert_eq!(kept(&served), 0);
    keep();
    post("/v1/lock", "");
    assert_eq!((kept(&served), served.get("/v1/values/prod/db").status), (0, 423));
}

#[test]
fn a_kept_token_is_not_handed_out_after_another_process_revoked_it() {
    let served = keeping(AgentOwner::User(own_uid()));
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    assert_eq!(kept(&served), 1);
    served.another().set_state(&name("prod/db"), None, State::Revoked, "leaked").unwrap();
    // The request that notices the change is the first that hears of it, and the token is gone with it.
    assert_eq!(served.get("/v1/values/prod/db").status, 403);
    assert_eq!(kept(&served), 0);
}

#[test]
fn a_kept_token_is_not_handed_out_after_its_grant_was_taken_back() {
    let served = keeping(AgentOwner::User(SOMEBODY_ELSE));
    let id = served.grant("prod/db", &me(), &[Op::Get]);
    let mut stream = served.connect();
    let mut get =
        || ask(&mut stream, b"GET /v1/values/prod/db HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n\r\n").status;
    // Opened, found, and found again without a question.
    assert_eq!([get(), get(), get()], [200; 3]);
    served.ungrant(&id);
    // A new connection has no answer that stands for a moment yet.
    assert_eq!(served.get("/v1/values/prod/db").status, 403);
    assert_eq!((kept(&served), get()), (0, 403));
    // Nobody else's request has to notice it: the agent does by itself.
    served.grant("prod/db", &me(), &[Op::Get]);
    assert_eq!([get(), get(), get()], [200; 3]);
    served.another().ungrant(&Revoked::Of(grant_on("prod/db"), me().parse().unwrap())).unwrap();
    let taken_back = Instant::now();
    served.until("the grant is taken back", || get() == 403);
    assert!(taken_back.elapsed() < Duration::from_secs(5), "{:?}", taken_back.elapsed());
}

#[test]
fn a_token_is_kept_because_its_signed_label_says_so() {
    let put = |served: &Served, query: &str| {
        served.ask("PUT", &format!("/v1/values/prod/hot{query}"), b"hot").status
    };
    for heeded in [true, false] {
        let served = Served::new(AgentOwner::User(own_uid()), |options| options.cache_labels = heeded);
        let opened = || served.faults[0].opened.load(std::sync::atomic::Ordering::SeqCst);
        let get = || assert_eq!(served.get("/v1/values/prod/hot").text(), "hot");
        for nonsense in ["?label=strongroom.cache=soon", "?label=strongroom.cahce=5m"] {
            assert_eq!(put(&served, nonsense), 400);
        }
        assert_eq!(put(&served, "?label=strongroom.cache=10m"), 200);
        (0..3).for_each(|_| get());
        assert_eq!(opened(), if heeded { 1 } else { 3 });
        // Labels are taken over by the next version, and any change drops what is kept.
        assert_eq!(put(&served, ""), 200);
        (0..3).for_each(|_| get());
        assert_eq!(opened(), if heeded { 2 } else { 6 });
        served.another().set_state(&name("prod/hot"), None, State::Suspended, "").unwrap();
        assert_eq!(served.get("/v1/values/prod/hot").status, 403);
        served.another().set_state(&name("prod/hot"), None, State::Active, "").unwrap();
        assert_eq!(put(&served, "?label=owner=ops"), 200);
        (0..2).for_each(|_| get());
        assert_eq!(opened(), if heeded { 4 } else { 8 });
    }
}

#[test]
fn a_token_opens_until_it_expires_however_often_it_was_opened() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NOW: AtomicU64 = AtomicU64::new(test_support::test_store::NOW);
    let served =
        Served::new(AgentOwner::User(own_uid()), |options| options.clock = || NOW.load(Ordering::SeqCst));
    // A minute later.
    let expires = "2033-05-18T03:34:20Z";
    assert_eq!(served.ask("PUT", &format!("/v1/values/prod/short?expires={expires}"), b"x").status, 200);
    for name in ["prod/short", "prod/db"] {
        (0..3).for_each(|_| assert_eq!(served.get(&format!("/v1/values/{name}")).status, 200));
    }
    NOW.fetch_add(60_000, Ordering::SeqCst);
    assert_eq!(served.get("/v1/values/prod/short").problem().2, "it expired at 2033-05-18T03:34:20Z");
    assert_eq!(served.get("/v1/values/prod/db").status, 200);
}
