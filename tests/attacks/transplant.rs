//! Sealed bytes belong to one version: pointing at somebody else's, or moving them in the store, opens nothing.

use rusqlite::params;
use strongroom::Kind;
use strongroom::ledger::{Body, StoreId, TokenId, sha256};
use strongroom::seal::Sealed;
use strongroom::vault::{PutOptions, TokenRef, Vault};
use test_support::forged_batch::{Draft, put, sealed, token};
use test_support::test_store::{TestStore, name, secret};

fn sealed_of(test_store: &TestStore, vault: &mut Vault, token: &str, version: u64) -> (TokenId, Vec<u8>) {
    let row = vault.replica().find(token).unwrap().unwrap();
    assert!(test_store.path().exists());
    let wanted = TokenRef { name: name(token), version: Some(version) };
    let bytes = vault.sealed_version(&wanted, "read").unwrap();
    (row.id, bytes)
}

/// The writer has no right to `prod/db`, and an accomplice that opens what is below `w`.
#[test]
fn a_writer_points_at_somebody_elses_bytes() {
    let test_store = TestStore::populated();
    let before = test_store.answers("admin");
    let mut vault = test_store.client("admin", &[]).unwrap();
    let (_, theirs) = sealed_of(&test_store, &mut vault, "prod/db", 2);
    let own = vault.replica().find("w/own").unwrap().unwrap().id;
    let puts = [
        put(own, "w/own", 2, &theirs, &[&test_store.opener]),
        put(token(1), "w/stolen", 1, &theirs, &[&test_store.opener]),
        put(token(2), "w/stolen", 1, &theirs, &[&test_store.admin, &test_store.opener]),
    ];
    let mut first = None;
    for put in puts {
        let vault = test_store.client("admin", &[]).unwrap();
        let draft = Draft::on(&vault, &test_store.writer, [Body::Put(Box::new(put))]);
        first.get_or_insert(test_store.append(&draft, &[]));
    }
    test_store.ineffective(&before, first.unwrap(), &["belong to another version"; 3]);
}

/// Bytes of a digest that nobody recorded, made from somebody else's: their context is under the MAC.
#[test]
fn a_writer_alters_somebody_elses_bytes() {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[]).unwrap();
    let (victim, theirs) = sealed_of(&test_store, &mut vault, "prod/db", 2);
    let header_end = theirs.windows(5).position(|bytes| bytes == b"\n--- ").unwrap();
    let context =
        |token: TokenId, version: u64| format!("strongroom/context {} {token} {version}", test_store.id);
    let text = String::from_utf8_lossy(&theirs[..header_end]).into_owned();
    assert!(text.contains(&context(victim, 2)));
    let stolen = token(3);
    let forgeries: Vec<Vec<u8>> = vec![
        // The context of the writer's own token, which the MAC does not cover.
        [text.replace(&context(victim, 2), &context(stolen, 1)).as_bytes(), &theirs[header_end..]].concat(),
        // One more stanza.
        [text.as_bytes(), b"\n-> grease\n", &theirs[header_end..]].concat(),
        // Another end.
        [&theirs[..], &[0]].concat(),
        theirs[..theirs.len() - 1].to_vec(),
    ];
    for (i, forged) in (1..).zip(forgeries) {
        let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
        let own = format!("w/forged-{i}");
        let put = put(if i == 1 { stolen } else { token(10 + i) }, &own, 1, &forged, &[&test_store.opener]);
        let n =
            test_store.append(&Draft::on(&vault, &test_store.writer, [Body::Put(Box::new(put))]), &[&forged]);
        let mut reader = test_store.client("reader", &[&test_store.opener, &test_store.admin]).unwrap();
        assert_eq!(reader.replica().ineffective(n).unwrap(), None);
        let error = reader.get(&name(&own), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Tampered, "{i}: {error}");
        assert!(error.operation().contains(&own), "{error}");
        assert_eq!(reader.get(&name("prod/db"), None).unwrap().expose(), b"two");
        // `verify` looks at the context at least; what only a key can tell, it cannot.
        drop(reader);
        vault = test_store.client("admin", &[]).unwrap();
        let report = vault.verify(&mut |_, _, _| {}).unwrap();
        let named = report.problems.iter().any(|problem| problem.place.contains(&own));
        let claims =
            Sealed::parse(&forged).is_ok_and(|parsed| parsed.context().token == put_token(i, stolen).0);
        assert_eq!(named, !claims, "{i}: {:?}", report.problems);
    }
}

fn put_token(i: u8, stolen: TokenId) -> TokenId {
    if i == 1 { stolen } else { token(10 + i) }
}

/// Made by the writer itself, to the openers' public keys, for the wrong place.
#[test]
fn a_context_that_does_not_fit() {
    let test_store = TestStore::populated();
    let vault = test_store.client("admin", &[]).unwrap();
    let victim = vault.replica().find("prod/db").unwrap().unwrap().id;
    let own = token(1);
    let wrong = [
        (sealed(test_store.id, victim, 1, "x", &[&test_store.opener]), "another token"),
        (sealed(test_store.id, own, 2, "x", &[&test_store.opener]), "another version"),
        (sealed(StoreId([1; 32]), own, 1, "x", &[&test_store.opener]), "another store"),
        (b"age-encryption.org/v1\n--- x\n".to_vec(), ""),
        (b"no age file".to_vec(), ""),
    ];
    for (i, (bytes, words)) in (0..).zip(wrong) {
        let vault = test_store.client("admin", &[]).unwrap();
        let (token, own_name) = if i == 0 { (own, "w/a".into()) } else { (token(20 + i), format!("w/a{i}")) };
        let bytes =
            if i == 2 { sealed(StoreId([1; 32]), token, 1, "x", &[&test_store.opener]) } else { bytes };
        let bytes = if i == 1 { sealed(test_store.id, token, 2, "x", &[&test_store.opener]) } else { bytes };
        let body = Body::Put(Box::new(put(token, &own_name, 1, &bytes, &[&test_store.opener])));
        test_store.append(&Draft::on(&vault, &test_store.writer, [body]), &[&bytes]);
        let mut reader = test_store.client("reader", &[&test_store.opener]).unwrap();
        let error = reader.get(&name(&own_name), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Tampered, "{error}");
        assert!(error.message().contains(words), "{error}");
        let report = reader.verify(&mut |_, _, _| {}).unwrap();
        assert!(
            report.problems.iter().any(|problem| problem.place.contains(&own_name)),
            "{:?}",
            report.problems
        );
    }
}

/// Whoever can write to the file moves bytes about, or puts a file there that a device really opens.
#[test]
fn bytes_are_moved_or_forged_in_the_store() {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    vault.put(&name("prod/db"), &secret("three"), &PutOptions::default()).unwrap();
    let (db, three) = sealed_of(&test_store, &mut vault, "prod/db", 3);
    let (_, two) = sealed_of(&test_store, &mut vault, "prod/db", 2);
    let (_, own) = sealed_of(&test_store, &mut vault, "w/own", 1);
    let forged = sealed(test_store.id, db, 3, "forged", &[&test_store.admin, &test_store.opener]);
    let longer = [&three[..], &[0]].concat();
    let digest = sha256(&three);
    for bytes in [&two, &own, &forged, &longer, &three[..three.len() - 1].to_vec(), &Vec::new()] {
        test_store
            .db()
            .execute("UPDATE sealed SET bytes = ?2 WHERE digest = ?1", params![digest.0, bytes])
            .unwrap();
        let mut reader = test_store.client("reader", &[&test_store.opener]).unwrap();
        let error = reader.get(&name("prod/db"), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Tampered, "{error}");
        assert!(error.hint().unwrap().contains(&digest.to_string()), "the row is named: {error}");
        assert_eq!(reader.get(&name("prod/db"), Some(2)).unwrap().expose(), b"two");
        let report = reader.verify(&mut |_, _, _| {}).unwrap();
        assert_eq!(report.problems.len(), 1);
        assert!(report.problems[0].place.contains(&digest.to_string()), "{:?}", report.problems);
    }
    // Missing, and marked as destroyed.
    for sql in ["UPDATE sealed SET destroyed = 1 WHERE digest = ?1", "DELETE FROM sealed WHERE digest = ?1"] {
        test_store.db().execute(sql, params![digest.0]).unwrap();
        let mut reader = test_store.client("reader", &[&test_store.opener]).unwrap();
        let error = reader.get(&name("prod/db"), None).unwrap_err();
        assert!(error.kind() == Kind::Tampered && error.message().contains("missing"), "{error}");
    }
    let sql = "INSERT INTO sealed (digest, destroyed, bytes) VALUES (?1, 0, ?2)";
    test_store.db().execute(sql, params![digest.0, three]).unwrap();
    let mut reader = test_store.client("reader", &[&test_store.opener]).unwrap();
    assert_eq!(reader.get(&name("prod/db"), None).unwrap().expose(), b"three");
}

/// The statement is forged along with the bytes: then it is the statement that is found.
#[test]
fn the_digest_in_the_statement_is_changed_too() {
    let test_store = TestStore::populated();
    let mut vault = test_store.client("admin", &[&test_store.admin]).unwrap();
    let (db, two) = sealed_of(&test_store, &mut vault, "prod/db", 2);
    let forged = sealed(test_store.id, db, 2, "forged", &[&test_store.admin, &test_store.opener]);
    let row = vault.replica().find("prod/db").unwrap().unwrap();
    let n = vault.replica().version_row(&row, 2).unwrap().unwrap().n;
    drop(vault);
    let sql = "UPDATE statements SET bytes = ?2 WHERE n = ?1";
    let db_file = test_store.db();
    let honest: Vec<u8> =
        db_file.query_row("SELECT bytes FROM statements WHERE n = ?1", [n], |row| row.get(0)).unwrap();
    let at = honest.windows(32).position(|bytes| bytes == sha256(&two).0).unwrap();
    let altered = [&honest[..at], &sha256(&forged).0, &honest[at + 32..]].concat();
    db_file.execute(sql, params![n, altered]).unwrap();
    let insert = "INSERT INTO sealed (digest, destroyed, bytes) VALUES (?1, 0, ?2)";
    db_file.execute(insert, params![sha256(&forged).0, forged]).unwrap();
    // Who verified it goes on with what was verified; the edit is found by `verify`, by `log`, and at first contact.
    let mut reader = test_store.client("reader", &[&test_store.opener]).unwrap();
    assert_eq!(reader.get(&name("prod/db"), None).unwrap().expose(), b"two");
    let report = reader.verify(&mut |_, _, _| {}).unwrap();
    assert!(
        report.problems.iter().any(|p| p.what.contains(&format!("batch at {n}"))),
        "{:?}",
        report.problems
    );
    let error = reader.history(&name("prod/db")).unwrap_err();
    assert_eq!(error.kind(), Kind::Tampered);
    let error = test_store.client("newcomer", &[]).err().unwrap();
    assert!(error.message().contains(&format!("batch at {n}")), "{error}");
}
