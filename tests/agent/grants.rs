//! Who gets what: the owner everything, a stranger what was granted, and not a word about the rest.

use crate::agent_in_process::{Served, me};
use std::sync::atomic::Ordering::SeqCst;
use strongroom::ledger::body::State;
use strongroom::vault::{ImportItem, Op, PutOptions};
use test_support::test_store::{name, secret};

#[test]
fn the_owner_gets_everything() {
    let served = Served::to_owner();
    let answer = served.get("/v1/values/prod/db");
    assert_eq!((answer.status, answer.text().as_str()), (200, "two"));
    assert_eq!(served.get("/v1/values/prod/db?version=1").text(), "one");
    assert_eq!(served.get("/v1/values/none").problem().0, 404);
    let names = served.get("/v1/tokens").json()["tokens"].as_array().unwrap().len();
    assert_eq!(names, 3);
    assert_eq!(served.get("/v1/whoami").json()["owner"], true);
    assert_eq!(served.get("/v1/health").json()["status"], "ok");
}

#[test]
fn a_stranger_gets_nothing_and_learns_nothing() {
    let served = Served::to_strangers();
    let there = served.get("/v1/values/prod/db");
    let not_there = served.get("/v1/values/prod/no");
    assert_eq!(there.problem(), (403, "refused".into(), "this application was granted no such token".into()));
    let without_name = |text: String| text.replace("prod/db", "NAME").replace("prod/no", "NAME");
    assert_eq!(without_name(there.text()), without_name(not_there.text()));
    let without_date = |head: &str| head.lines().filter(|line| !line.starts_with("date")).collect::<String>();
    assert_eq!(without_date(&there.head), without_date(&not_there.head));
    for (method, path, body) in [
        ("GET", "/v1/tokens/prod/db", ""),
        ("PUT", "/v1/values/prod/db", "x"),
        ("POST", "/v1/states/prod/db", r#"{"state":"revoked"}"#),
        ("DELETE", "/v1/tokens/prod/db", ""),
        ("POST", "/v1/rename", r#"{"from":"prod/db","to":"x"}"#),
        ("POST", "/v1/unlock", "{}"),
        ("POST", "/v1/lock", ""),
        ("GET", "/v1/log", ""),
        ("GET", "/v1/accesses", ""),
    ] {
        assert_eq!(served.ask(method, path, body.as_bytes()).problem().0, 403, "{method} {path}");
    }
    assert_eq!(served.get("/v1/tokens").json()["tokens"].as_array().unwrap().len(), 0);
    let health = served.get("/v1/health").json();
    assert!(health["status"] == "ok" && health["devices"].is_null(), "{health}");
    assert!(!served.get("/metrics").text().contains("prod"));
}

#[test]
fn a_grant_opens_its_token_and_no_other_and_ends_at_once() {
    let served = Served::to_strangers();
    let id = served.grant("prod/db", &me(), &[Op::Get]);
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    assert_eq!(served.get("/v1/values/prod/key").status, 403);
    assert_eq!(served.ask("PUT", "/v1/values/prod/db", b"x").status, 403);
    let listed = served.get("/v1/tokens").json();
    assert_eq!(
        (listed["tokens"].as_array().unwrap().len(), &listed["tokens"][0]["name"]),
        (1, &"prod/db".into())
    );
    let shown = served.get("/v1/tokens/prod/db").json();
    assert!(
        shown["versions"].as_array().unwrap().len() == 2 && shown["grants"].as_array().unwrap().is_empty()
    );
    served.ungrant(&id);
    assert_eq!(served.get("/v1/values/prod/db").status, 403);
    let mut vault = served.another();
    let outcomes: Vec<_> =
        vault.accesses(0, 10).unwrap().into_iter().map(|line| line.access.outcome).collect();
    assert!(
        outcomes.iter().any(|o| o == "opened") && outcomes.iter().filter(|o| *o == "denied").count() >= 2
    );
}

#[test]
fn a_prefix_covers_what_lies_below_it() {
    let served = Served::to_strangers();
    served.grant("prod/", &me(), &[Op::Get, Op::Put]);
    assert_eq!(served.get("/v1/values/prod/key").text(), "key");
    assert_eq!(served.get("/v1/values/prod/no").status, 404);
    assert_eq!(served.get("/v1/values/w/own").status, 403);
    let put = served.ask("PUT", "/v1/values/prod/new?label=a=b&description=x+y", b"fresh");
    assert_eq!((put.status, &put.json()["version"]), (200, &1.into()));
    assert_eq!(served.get("/v1/values/prod/new").text(), "fresh");
    assert_eq!(served.ask("PUT", "/v1/values/w/new", b"fresh").status, 403);
    assert_eq!(served.ask("POST", "/v1/states/prod/new", br#"{"state":"suspended"}"#).status, 403);
}

#[test]
fn whoever_may_only_put_revokes_nothing_and_chooses_no_devices() {
    let served = Served::to_strangers();
    served.grant("prod/", &me(), &[Op::Put, Op::Get]);
    let keep = || served.ask("PUT", "/v1/values/prod/db?keep=1", b"three").status;
    assert_eq!(keep(), 403);
    assert_eq!(served.ask("PUT", "/v1/values/prod/db?only=opener", b"three").status, 403);
    assert_eq!(served.get("/v1/values/prod/db?version=1").status, 200);
    served.grant("prod/db", &me(), &[Op::State]);
    assert_eq!(keep(), 200);
    assert_eq!(served.get("/v1/values/prod/db?version=1").status, 403);
}

#[test]
fn what_another_process_closes_is_closed_at_once() {
    let served = Served::to_owner();
    let mut vault = served.another();
    let db = name("prod/db");
    vault.set_state(&db, None, State::Suspended, "holiday").unwrap();
    let (status, kind, answer) = served.get("/v1/values/prod/db").problem();
    assert_eq!((status, kind.as_str(), answer.as_str()), (403, "refused", "the token is suspended"));
    vault.set_state(&db, None, State::Active, "").unwrap();
    assert_eq!(served.get("/v1/values/prod/db").status, 200);
    vault.set_state(&db, Some(2), State::Revoked, "leaked").unwrap();
    assert!(served.get("/v1/values/prod/db").problem().2.contains("leaked"));
    let expired = PutOptions { expiry: Some(1_000), ..PutOptions::default() };
    vault.put(&name("prod/old"), &secret("old"), &expired).unwrap();
    assert!(served.get("/v1/values/prod/old").problem().2.contains("expired"));
}

#[test]
fn changes_are_made_through_the_agent() {
    let served = Served::to_owner();
    assert_eq!(
        served.ask("POST", "/v1/states/prod/db", br#"{"state":"suspended","reason":"x"}"#).status,
        200
    );
    assert_eq!(served.get("/v1/values/prod/db").status, 403);
    assert_eq!(served.ask("POST", "/v1/states/prod/db", br#"{"state":"active"}"#).status, 200);
    assert_eq!(served.ask("POST", "/v1/rename", br#"{"from":"prod/db","to":"prod/pg"}"#).status, 200);
    assert_eq!(served.get("/v1/values/prod/pg").text(), "two");
    assert_eq!(served.ask("DELETE", "/v1/tokens/prod/pg?reason=gone", b"").json()["destroyed"], 2);
    assert_eq!(served.get("/v1/values/prod/pg").status, 404);
    let log = served.get("/v1/log?limit=2").json();
    assert_eq!(log["entries"][0]["kind"], "destroy");
    assert_eq!(served.get("/v1/accesses?limit=1").json()["accesses"][0]["outcome"], "not found");
}

#[test]
fn the_ledger_is_read_in_pages_that_begin_anywhere() {
    let served = Served::to_owner();
    // One batch of several statements among others of one.
    let item = |n: u8| {
        let (name, token) = (name(&format!("many/{n}")), secret("x"));
        Ok(ImportItem { name, token, options: PutOptions::default() })
    };
    served.another().import((0..5).map(item), &mut |_| {}).unwrap();
    served.another().rename(&name("many/0"), &name("many/zero")).unwrap();
    let page = |query: &str| -> Vec<u64> {
        let log = served.get(&format!("/v1/{query}")).json();
        log["entries"].as_array().unwrap().iter().map(|entry| entry["n"].as_u64().unwrap()).collect()
    };
    let pages = |path: &str, direction: &str, begin: u64, size: usize| {
        let (mut all, mut from) = (Vec::new(), begin);
        loop {
            let more = page(&format!("{path}?{direction}={from}&limit={size}"));
            assert!(more.len() <= size);
            let Some(last) = more.last() else { return all };
            from = *last;
            all.extend(more);
        }
    };
    let end = served.another().head().position.n;
    for size in [1, 2, 3, 4, 1000] {
        assert_eq!(pages("log", "after", 0, size), (1..=end).collect::<Vec<_>>());
        assert_eq!(pages("log", "before", i64::MAX as u64, size), (1..=end).rev().collect::<Vec<_>>());
        assert_eq!(pages("history/many/zero", "after", 0, size), [end - 5, end]);
        assert_eq!(pages("history/many/zero", "before", end + 1, size), [end, end - 5]);
    }
    assert_eq!(page("log?limit=1"), [end]);
    let sealed = served.get("/v1/sealed/many/zero");
    assert!(sealed.status == 200 && sealed.text().starts_with("age-encryption.org/v1\n"));
    for path in ["/v1/log", "/v1/accesses", "/v1/history/prod/db", "/v1/sealed/prod/db", "/v1/grants"] {
        let (status, _, answer) = Served::to_strangers().get(path).problem();
        assert_eq!((status, answer.as_str()), (403, "only the agent's owner may ask for that"), "{path}");
    }
}

#[test]
fn grants_are_made_and_taken_back_over_the_socket() {
    let served = Served::to_owner();
    let grant = |body: &str| served.ask("POST", "/v1/grants", body.as_bytes());
    let made =
        grant(r#"{"on":"prod/","to":"user:nobody","ops":["put"],"until":"2199-01-01T00:00:00Z"}"#).json();
    assert_eq!((made["on"].as_str(), made["ops"][0].as_str()), (Some("prod/"), Some("put")));
    assert_eq!(served.get("/v1/grants?on=prod/db").json()["grants"][0], made);
    for nonsense in [
        "",
        "{}",
        r#"{"on":"prod/db","to":"nobody"}"#,
        r#"{"on":"prod/db","to":"user:nobody","ops":["open"]}"#,
        r#"{"on":"prod/db","to":"user:nobody","until":"tomorrow"}"#,
        r#"{"on":"prod/db","to":"user:nobody","as":"db"}"#,
        r#"{"on":"prod/db","to":"user:nobody","more":1}"#,
    ] {
        assert_eq!(grant(nonsense).status, 400, "{nonsense}");
    }
    for nonsense in ["", "/1", "?on=prod/", "/00?on=prod/&to=user:nobody"] {
        assert_eq!(served.ask("DELETE", &format!("/v1/grants{nonsense}"), b"").status, 400, "{nonsense}");
    }
    let gone = served.ask("DELETE", &format!("/v1/grants/{}", made["id"].as_str().unwrap()), b"").json();
    assert_eq!(gone["grants"][0], made);
    assert_eq!(served.get("/v1/grants").json()["grants"].as_array().unwrap().len(), 0);
}

#[test]
fn programs_are_told_by_path_and_by_digest() {
    let served = Served::to_strangers();
    let exe = std::env::current_exe().unwrap().canonicalize().unwrap();
    let digest = strongroom::ledger::sha256(&std::fs::read(&exe).unwrap());
    let other = strongroom::ledger::sha256(b"another program");
    for (grantee, opens) in [
        ("exe:/usr/bin/curl".to_owned(), false),
        (format!("exe:sha256:{other}"), false),
        (format!("exe:{}", exe.display()), true),
        (format!("exe:sha256:{digest}"), true),
        (format!("exe:sha256:{digest}+{}", me()), true),
        (format!("exe:sha256:{other}+{}", me()), false),
        (format!("exe:sha256:{digest}+unit:web.service"), false),
    ] {
        let id = served.grant("prod/db", &grantee, &[Op::Get]);
        assert_eq!(served.get("/v1/values/prod/db").status == 200, opens, "{grantee}");
        served.ungrant(&id);
        assert_eq!(served.get("/v1/values/prod/db").status, 403);
    }
    served.grant("prod/db", "group:0", &[Op::Get]);
    assert_eq!(served.get("/v1/values/prod/db").status == 200, rustix::process::getegid().is_root());
}

#[test]
fn a_grant_follows_its_token_and_dies_with_it() {
    let served = Served::to_strangers();
    served.grant("prod/db", &me(), &[Op::Get]);
    served.another().rename(&name("prod/db"), &name("prod/pg")).unwrap();
    assert_eq!(served.get("/v1/values/prod/pg").text(), "two");
    assert_eq!(served.get("/v1/values/prod/db").status, 403);
    served.another().destroy(&name("prod/pg"), None, "gone").unwrap();
    served.another().put(&name("prod/pg"), &secret("a new token"), &PutOptions::default()).unwrap();
    // A new token of the same name inherits nothing.
    assert_eq!(served.get("/v1/values/prod/pg").status, 403);
    assert_eq!(served.get("/v1/tokens").json()["tokens"].as_array().unwrap().len(), 0);
}

/// Checked by one thread, made by another, and signed by a device that takes its time.
#[test]
fn a_change_is_made_to_the_token_that_was_granted_and_to_no_other_of_its_name() {
    let served = Served::to_strangers();
    served.grant("prod/db", &me(), &[Op::Put]);
    served.faults[0].hang(true);
    std::thread::scope(|scope| {
        let putting = scope.spawn(|| served.ask("PUT", "/v1/values/prod/db", b"three"));
        served.until("the device is busy", || served.faults[0].busy.load(SeqCst) > 0);
        served.another().rename(&name("prod/db"), &name("prod/old")).unwrap();
        served.another().put(&name("prod/db"), &secret("another token"), &PutOptions::default()).unwrap();
        served.faults[0].hang(false);
        let (status, kind, words) = putting.join().unwrap().problem();
        assert_eq!((status, kind.as_str()), (409, "conflict"), "{words}");
    });
    let opened =
        served.test_store.client("opener", &[&served.test_store.opener]).unwrap().get(&name("prod/db"), None);
    assert_eq!(opened.unwrap().value.expose(), b"another token");
}

#[test]
fn a_grant_ends_when_its_time_is_over() {
    use strongroom::vault::{GrantOn, GrantOptions};
    use test_support::test_store::NOW;
    let served = Served::to_strangers();
    for (until, status) in [(NOW, 403), (NOW + 1, 200)] {
        let options = GrantOptions { until: Some(until), ..GrantOptions::default() };
        let on = GrantOn::Token(name("prod/db"));
        served.another().grant(&on, &me().parse().unwrap(), &options).unwrap();
        assert_eq!(served.get("/v1/values/prod/db").status, status);
    }
}

#[test]
fn a_listing_comes_in_pages() {
    let served = Served::to_owner();
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = served.get(&format!("/v1/tokens?limit=1{after}")).json();
        seen.extend(
            page["tokens"].as_array().unwrap().iter().map(|view| view["name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["prod/db", "prod/key", "w/own"]);
}

/// What a program in Python gets that connects, and after `then` asks for a token.
fn asked_by_python(served: &Served, then: &str) -> Option<String> {
    let script = format!(
        "import os,socket,sys,time\n\
         s=socket.socket(socket.AF_UNIX)\n\
         s.connect(sys.argv[1])\n\
         time.sleep(0.3)\n\
         {then}\n\
         s.sendall(b'GET /v1/values/prod/db HTTP/1.1\\r\\nhost: x\\r\\nstrongroom: 1\\r\\nconnection: close\\r\\n\\r\\n')\n\
         while True:\n\
         \u{20}d=s.recv(4096)\n\
         \u{20}if not d: break\n\
         \u{20}sys.stdout.buffer.write(d)\n\
         sys.stdout.flush()\n"
    );
    let output = std::process::Command::new("python3").args(["-c", &script]).arg(&served.socket).output();
    let Ok(output) = output else {
        test_support::skip::skip("python3 is missing");
        return None;
    };
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_connection_is_worth_nothing_without_the_process_that_made_it() {
    let served = Served::to_strangers();
    served.grant("prod/db", &me(), &[Op::Get]);
    let Some(itself) = asked_by_python(&served, "") else { return };
    assert!(itself.ends_with("\r\n\r\ntwo"), "{itself}");
    // The parent has ended when its child asks on the connection that it inherited.
    let Some(heir) = asked_by_python(&served, "if os.fork(): os._exit(0)\ntime.sleep(0.5)") else { return };
    assert!(heir.starts_with("HTTP/1.1 403") && !heir.contains("two"), "{heir}");
}
