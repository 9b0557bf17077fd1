//! The hook `postgres-role`, on a real server.

use crate::machine::{Machines, NOW, words};
use strongroom::Kind;
use strongroom::rotation::Outcome;
use test_support::postgres::{Postgres, SUPERUSER};

/// A server with a role `app` whose password is `first`.
fn server() -> Option<Postgres> {
    let postgres = Postgres::start()?;
    postgres.sql("CREATE ROLE app LOGIN PASSWORD 'first'");
    Some(postgres)
}

fn hook(url: &str, roles: &str) -> String {
    format!("kind = \"postgres-role\"\nurl = {url:?}\nroles = [{roles}]\n")
}

#[test]
fn one_role_by_an_administrator_and_by_itself() {
    let Some(postgres) = server() else { return };
    for user in [Some(SUPERUSER), None] {
        postgres.sql("ALTER ROLE app PASSWORD 'first'");
        let machines = Machines::new(&hook(&postgres.url(user), "\"app\""), "first", &[("role", "app")]);
        assert_eq!(machines.rotate("one", NOW).unwrap(), Outcome::Rotated(2));
        let value = machines.value();
        assert!(postgres.lets_in("app", &value), "{user:?}");
        assert!(!postgres.lets_in("app", "first"));
        machines.is_tidy();
        // Every statement is in the log, and the password is not.
        let log = postgres.log();
        assert!(log.contains("ALTER ROLE \"app\" PASSWORD 'SCRAM-SHA-256$"), "{log}");
        assert!(!log.contains(&value));
    }
}

#[test]
fn two_roles_take_turns() {
    let Some(postgres) = server() else { return };
    postgres.sql("CREATE ROLE app_b LOGIN");
    let hook = hook(&postgres.url(Some(SUPERUSER)), "\"app\", \"app_b\"");
    let url = "postgresql://app:first@db.example:5432/orders?sslmode=verify-full";
    let machines = Machines::new(&hook, url, &[("roles", "app,app_b")]);
    let password = |value: &str| value.split([':', '@']).nth(2).unwrap().to_owned();
    let mut last = ("app".to_owned(), "first".to_owned());
    for (version, role) in [(2, "app_b"), (3, "app"), (4, "app_b")] {
        assert_eq!(machines.rotate("one", NOW).unwrap(), Outcome::Rotated(version));
        let value = machines.value();
        assert!(value.starts_with(&format!("postgresql://{role}:").replace('_', "%5F")), "{role}");
        assert!(value.ends_with("@db.example:5432/orders?sslmode=verify-full"));
        let now = (role.to_owned(), password(&value));
        assert!(postgres.lets_in(&now.0, &now.1));
        // The overlap is over at once.
        assert!(!postgres.lets_in(&last.0, &last.1));
        last = now;
        machines.is_tidy();
    }
}

/// Until the overlap is over, both let their readers in.
#[test]
fn two_roles_overlap() {
    let Some(postgres) = server() else { return };
    postgres.sql("CREATE ROLE app_b LOGIN");
    let hook = hook(&postgres.url(Some(SUPERUSER)), "\"app\", \"app_b\"");
    let machines = Machines::new(&hook, "postgresql://app:first@h/d", &[("roles", "app,app_b")]);
    let longer = strongroom::ledger::body::RotationPolicy {
        overlap: 3_600_000,
        ..crate::machine::policy(&[("roles", "app,app_b")])
    };
    machines.vault("one").set_policy(&"prod/db".parse().unwrap(), Some(&longer)).unwrap();
    assert_eq!(machines.rotate("one", NOW).unwrap(), Outcome::Rotated(2));
    assert!(postgres.lets_in("app", "first"));
    assert_eq!(machines.stored().len(), 2);
    // With one role there is no overlap, and whoever sets the policy has to say so.
    let one =
        strongroom::ledger::body::RotationPolicy { overlap: 1, ..crate::machine::policy(&[("role", "app")]) };
    machines.vault("one").set_policy(&"prod/db".parse().unwrap(), Some(&one)).unwrap();
    let error = machines.rotate("one", NOW).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(words(&error).contains("--overlap 0"), "{error}");
}

#[test]
fn tls_verifies_the_server() {
    let Some(postgres) = Postgres::with_tls() else { return };
    postgres.sql("CREATE ROLE app LOGIN PASSWORD 'first'");
    // On the network there is TLS or nothing.
    std::fs::write(
        postgres.dir.join("data/pg_hba.conf"),
        "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    postgres.sql("SELECT pg_reload_conf()");
    let ca = postgres.dir.join("ca.pem");
    let url = format!("postgresql://127.0.0.1:{}/postgres", postgres.port);
    let verified = format!("{}ca = {ca:?}\n", hook(&url, "\"app\""));
    let machines = Machines::new(&verified, "first", &[("role", "app")]);
    assert_eq!(machines.rotate("one", NOW).unwrap(), Outcome::Rotated(2));
    // Another authority.
    let other = Postgres::with_tls().unwrap();
    let forged = verified.replace(ca.to_str().unwrap(), other.dir.join("ca.pem").to_str().unwrap());
    let machines = Machines::new(&forged, "first", &[("role", "app")]);
    let error = machines.rotate("one", NOW).unwrap_err();
    assert!(words(&error).contains("certificate"), "{error}");
    // Another name.
    let named = verified.replace("127.0.0.1", "localhost");
    let error = Machines::new(&named, "first", &[("role", "app")]).rotate("one", NOW).unwrap_err();
    assert!(words(&error).contains("certificate"), "{error}");
}

/// Where any password is let in, a probe would tell nothing.
#[test]
fn a_server_that_asks_for_no_password_is_no_issuer() {
    let Some(postgres) = server() else { return };
    std::fs::write(postgres.dir.join("data/pg_hba.conf"), "local all all trust\n").unwrap();
    postgres.sql("SELECT pg_reload_conf()");
    let machines = Machines::new(&hook(&postgres.url(None), "\"app\""), "first", &[("role", "app")]);
    let error = machines.rotate("one", NOW).unwrap_err();
    assert!(words(&error).contains("any password"), "{error}");
    assert_eq!(machines.value(), "first");
}

#[test]
fn a_policy_names_only_roles_that_the_machine_allows() {
    let Some(postgres) = server() else { return };
    let hook = hook(&postgres.url(Some(SUPERUSER)), "\"app\"");
    for (params, says) in [
        (&[("role", "postgres")][..], "which it may not change"),
        (&[("role", "app"), ("host", "evil")], "means nothing"),
        (&[], "names no role"),
        (&[("role", "app"), ("format", "url")], "no postgresql:// URL"),
        (&[("roles", "app,app")], "two names"),
    ] {
        let error = Machines::new(&hook, "first", params).rotate("one", NOW).unwrap_err();
        assert!(words(&error).contains(says), "{params:?}: {error}");
    }
    assert!(postgres.lets_in("app", "first"));
}

/// Somebody else changed the password: with an administrator it is set, alone the role cannot.
#[test]
fn a_password_that_nobody_knows() {
    let Some(postgres) = server() else { return };
    let alone = Machines::new(&hook(&postgres.url(None), "\"app\""), "other", &[("role", "app")]);
    let error = alone.rotate("one", NOW).unwrap_err();
    assert!(words(&error).contains("changed by somebody else"), "{error}");
    let machines =
        Machines::new(&hook(&postgres.url(Some(SUPERUSER)), "\"app\""), "other", &[("role", "app")]);
    assert_eq!(machines.rotate("one", NOW).unwrap(), Outcome::Rotated(2));
    assert!(postgres.lets_in("app", &machines.value()));
}
