//! Requests as no honest client makes them.

use crate::agent_in_process::{Served, own_uid};
use crate::http::{ask, is_closed, read};
use std::io::Write;
use std::time::{Duration, Instant};
use strongroom::agent::AgentOwner;
use strongroom::vault::Op;

const GET: &[u8] = b"GET /v1/values/prod/db HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n\r\n";

#[test]
fn what_is_malformed_is_refused_and_the_next_is_served() {
    let served = Served::to_owner();
    for request in [
        &b"\r\n\r\n\x00\x01"[..],
        b"GET\r\n\r\n",
        b"GET /v1/health\r\n\r\n",
        b"GET /v1/health HTTP/9.9\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nbroken\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nhost: \x01\r\n\r\n",
        b"PUT /v1/values/a HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"PUT /v1/values/a HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"PUT /v1/values/a HTTP/1.1\r\ntransfer-encoding: what\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = served.connect();
        stream.write_all(request).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = read(&mut stream);
        assert!(answer.as_ref().is_none_or(|answer| answer.status >= 400), "{request:?}: {answer:?}");
        assert_eq!(served.get("/v1/values/prod/db").status, 200);
    }
}

#[test]
fn what_is_not_there_is_said_in_the_same_form() {
    let served = Served::to_owner();
    for (method, path, body, status) in [
        ("GET", "/", "", 404),
        ("GET", "/v1/values/", "", 404),
        ("GET", "/v1/values/a//b", "", 400),
        ("GET", "/v1/values/..%2f..", "", 400),
        ("GET", "/v1/values/%zz", "", 400),
        ("GET", "/v1/values/prod/db?version=x", "", 400),
        ("GET", "/v1/values/prod/db?what=1", "", 400),
        ("GET", "/v1/values/prod/db?version=99", "", 404),
        ("PATCH", "/v1/values/prod/db", "", 405),
        ("POST", "/v1/states/prod/db", "{", 400),
        ("POST", "/v1/states/prod/db", r#"{"state":"staged"}"#, 400),
        ("POST", "/v1/states/prod/db", r#"{"state":"active","more":1}"#, 400),
        ("PUT", "/v1/values/prod/db", "", 400),
        ("PUT", "/v1/values/prod/db?expires=tomorrow", "x", 400),
        ("PUT", "/v1/values/prod/db?keep=0", "x", 400),
        // No schema says it: a well-formed request that contradicts itself.
        ("PUT", "/v1/values/prod/db?label=a=1&label=a=2", "x", 409),
        ("PUT", "/v1/values/prod/db?description=%C2%84", "x", 400),
        ("GET", "/v1/tokens?limit=1001", "", 400),
        ("POST", "/v1/rename", r#"["prod/db","prod/x"]"#, 400),
    ] {
        let answer = served.ask(method, path, body.as_bytes());
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        answer.problem();
    }
    assert!(served.ask("PATCH", "/v1/values/prod/db", b"").head.contains("allow: get, put"));
}

#[test]
fn too_much_is_refused_before_it_is_read() {
    let served = Served::to_owner();
    let long = format!("GET /v1/health HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
    assert!([400, 414, 431].contains(&ask(&mut served.connect(), long.as_bytes()).status));
    let many = format!("GET /v1/health HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000));
    assert!([400, 431].contains(&ask(&mut served.connect(), many.as_bytes()).status));
    let length = format!(
        "PUT /v1/values/a HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\ncontent-length: {}\r\n\r\n",
        1_u64 << 40
    );
    assert_eq!(ask(&mut served.connect(), length.as_bytes()).problem().0, 400);
    // In chunks it shows only as it comes.
    let mut stream = served.connect();
    stream
        .write_all(
            b"PUT /v1/values/a HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .unwrap();
    let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
    while stream.write_all(&chunk).is_ok() {}
    assert!(read(&mut stream).is_none_or(|answer| answer.status == 400));
    assert_eq!(served.get("/v1/values/a").status, 404);
    let most = vec![b'x'; 1 << 20];
    assert_eq!(served.ask("PUT", "/v1/values/a", &most).status, 200);
    assert_eq!(served.get("/v1/values/a").body, most);
}

#[test]
fn a_head_that_trickles_is_given_up() {
    let served = Served::to_owner();
    let (mut slow, started) = (served.connect(), Instant::now());
    let mut idle = served.connect();
    for byte in b"GET /v1/health HTTP/1.1\r\nhost: and so on and on".iter().cycle() {
        if slow.write_all(&[*byte]).is_err() || started.elapsed() > Duration::from_secs(20) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(is_closed(&mut slow), "it is still open");
    assert!((4..15).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    // One that asks for nothing may stay.
    assert_eq!(ask(&mut idle, GET).text(), "two");
}

#[test]
fn a_body_that_trickles_is_given_up() {
    let served =
        Served::new(AgentOwner::User(own_uid()), |options| options.body_time = Duration::from_secs(1));
    let (mut slow, started) = (served.connect(), Instant::now());
    slow.write_all(b"PUT /v1/values/a HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\ncontent-length: 1000\r\n\r\n")
        .unwrap();
    while started.elapsed() < Duration::from_secs(10) && slow.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "it is still open");
    let answer = read(&mut slow).unwrap();
    assert_eq!((answer.status, answer.problem().2.as_str()), (400, "the body did not arrive in time"));
    assert!(is_closed(&mut slow));
    assert_eq!(served.get("/v1/values/a").status, 404);
}

#[test]
fn requests_may_follow_each_other_without_waiting() {
    let served = Served::to_owner();
    let mut stream = served.connect();
    stream.write_all(&GET.repeat(20)).unwrap();
    for _ in 0..20 {
        assert_eq!(read(&mut stream).unwrap().text(), "two");
    }
    // What is cut off after a whole one does not take the whole one along.
    stream.write_all(&[GET, &GET[..20]].concat()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read(&mut stream).unwrap().text(), "two");
}

#[test]
fn many_idle_connections_are_held_and_the_one_too_many_is_let_go() {
    let served = Served::new(AgentOwner::User(own_uid()), |options| options.connections = 400);
    let mut held: Vec<_> = (0..400).map(|_| served.connect()).collect();
    for stream in held.iter_mut().step_by(50) {
        assert_eq!(ask(stream, GET).text(), "two");
    }
    assert!(is_closed(&mut served.connect()));
    drop(held.drain(..10));
    served.until("there is room again", || {
        let mut stream = served.connect();
        stream.write_all(GET).is_ok() && read(&mut stream).is_some()
    });
}

#[test]
fn a_user_who_is_not_the_owner_cannot_take_all_connections() {
    let served = Served::new(AgentOwner::User(crate::agent_in_process::SOMEBODY_ELSE), |options| {
        options.connections = 40
    });
    let mut held: Vec<_> = (0..20).map(|_| served.connect()).collect();
    assert_eq!(
        ask(&mut held[19], b"GET /v1/health HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\n\r\n").status,
        200
    );
    assert!(is_closed(&mut served.connect()));
}

/// Each holds a request whose body does not come.
#[test]
fn the_requests_of_one_user_wait_for_each_other() {
    let served = Served::new(AgentOwner::User(crate::agent_in_process::SOMEBODY_ELSE), |options| {
        options.deadline = Duration::from_secs(1);
    });
    served.grant("prod/", &format!("user:{}", own_uid()), &[Op::Put]);
    const HALF: &[u8] =
        b"PUT /v1/values/prod/db HTTP/1.1\r\nhost: x\r\nstrongroom: 1\r\ncontent-length: 10\r\n\r\nhalf";
    let mut held: Vec<_> = (0..32).map(|_| served.connect()).collect();
    held.iter_mut().for_each(|stream| stream.write_all(HALF).unwrap());
    served.until("all turns are taken", || served.get("/v1/health").status == 503);
    let (status, kind, answer) = served.get("/v1/health").problem();
    assert_eq!((status, kind.as_str()), (503, "device"));
    assert!(answer.contains("too many requests of this user"), "{answer}");
    drop(held.pop());
    served.until("a turn is free again", || served.get("/v1/health").status == 200);
}

/// Against browsers and proxies: neither adds the header by itself.
#[test]
fn what_does_not_say_that_it_is_meant_for_an_agent_is_refused_as_the_document_says() {
    let served = Served::to_owner();
    let document = served.get("/openapi.json").json();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let says = operation["parameters"].as_array().into_iter().flatten();
            let guarded = says.into_iter().any(|parameter| parameter["name"] == "Strongroom");
            let path = path.replace("{name}", "prod/db").replace("{id}", "00");
            for header in ["", "strongroom: 2\r\n", "origin: null\r\n"] {
                let request = format!("{} {path} HTTP/1.1\r\nhost: x\r\n{header}\r\n", method.to_uppercase());
                let answer = ask(&mut served.connect(), request.as_bytes());
                let refused = answer.status == 400 && answer.text().contains("`Strongroom: 1`");
                assert_eq!(refused, guarded, "{method} {path}: {}", answer.text());
            }
        }
    }
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
}

#[test]
fn the_document_is_served_and_tells_of_every_path() {
    let served = Served::to_owner();
    let document = served.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(served.get("/v1/nosuch").problem().2, "there is nothing at that path");
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{name}", "prod/db");
            let answer = served.ask(&method.to_uppercase(), &path, b"");
            assert!(![405, 501].contains(&answer.status), "{method} {path}: {}", answer.status);
            // A token that is not there is found by a route; a path that is not there is not.
            if answer.status == 404 {
                assert_ne!(answer.problem().2, "there is nothing at that path", "{method} {path}");
            }
        }
    }
}
