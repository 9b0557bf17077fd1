//! The real agent on a store in a PostgreSQL database.

use crate::daemon::Daemon;
use std::time::Duration;
use test_support::eventually::eventually;
use test_support::home::Home;
use test_support::postgres::Postgres;

/// It starts, serves, takes changes of others, writes, and starts anew: each on a thread that may wait for a server.
#[test]
fn an_agent_serves_from_a_database() {
    let (Some(home), Some(database)) = (Home::new(), Postgres::database()) else { return };
    home.ok(&["init", "-q", "--store", &database.url(), "--device", &home.device()]);
    home.put("prod/db", b"first");
    let daemon = Daemon::start(&home, &[]);
    let opens_to = |value: &str| daemon.get("/v1/values/prod/db").text() == value;
    assert!(opens_to("first"), "{}", daemon.said());
    home.put("prod/db", b"second");
    assert!(eventually(Duration::from_secs(30), || opens_to("second")), "{}", daemon.said());
    daemon.signal("-HUP");
    home.put("prod/db", b"third");
    assert!(eventually(Duration::from_secs(30), || opens_to("third")), "{}", daemon.said());
    // A database that is away is told, and found again.
    let name = &database.name;
    let server = database.server();
    server.sql(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
    server.sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"));
    let away = daemon.get("/v1/values/prod/db");
    assert_eq!((away.status, away.json()["kind"].as_str()), (503, Some("store")), "{}", away.text());
    assert!(
        eventually(Duration::from_secs(30), || daemon.get("/v1/health").status == 503),
        "{}",
        daemon.said()
    );
    server.sql(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"));
    assert!(eventually(Duration::from_secs(30), || opens_to("third")), "{}", daemon.said());
}
