//! High s, and every other way to write the same batch or statement a second time. Where it helps the attacker, the twin is
//! signed as it stands, by an enrolled device: only the rule of one spelling refuses it.

use strongroom::Kind;
use strongroom::ledger::Body;
use strongroom::ledger::body::Retire;
use strongroom::vault::{PutOptions, Vault};
use test_support::forged_batch::{AAD, Cose, Draft, Signed, put, sealed, token, twin};
use test_support::test_store::{Actor, TestStore, name, secret};

/// A put that the writer may make.
fn draft(test_store: &TestStore) -> (Draft, Vec<u8>) {
    draft_by(test_store, &test_store.writer)
}

fn draft_by(test_store: &TestStore, author: &Actor) -> (Draft, Vec<u8>) {
    let vault = test_store.client("admin", &[]).unwrap();
    let bytes = sealed(test_store.id, token(1), 1, "mine", &[&test_store.opener]);
    let body = put(token(1), "w/twin", 1, &bytes, &[&test_store.opener]);
    (Draft::on(&vault, author, [Body::Put(Box::new(body))]), bytes)
}

fn each_is_refused(test_store: &TestStore, twins: &[(&str, Signed, &str)]) {
    for (what, signed, words) in twins {
        let first = test_store.plant(signed);
        eprintln!("{what}");
        test_store.refused(words);
        test_store.unplant(first);
    }
    test_store.goes_on();
}

#[test]
fn a_signature_has_no_twin() {
    let test_store = TestStore::populated();
    let (draft, bytes) = draft(&test_store);
    let signed = draft.sign().with(&bytes);
    let honest = Cose::of(&signed.sign1);
    let planted = |sign1: Vec<u8>| Signed { sign1, ..signed.clone() };
    let resigned = |cose: Cose| planted(cose.signed_by(&test_store.writer, "Signature1", AAD).encode());
    assert_eq!(planted(honest.encode()), signed);

    let high_s = Cose { signature: twin(&honest.signature), ..honest.clone() };
    let [mut long_r, mut zero_s] = [honest.signature.clone(), honest.signature.clone()];
    long_r.insert(0, 0);
    zero_s[32..].fill(0);
    let map = |entries: &[(&[u8], &[u8])]| {
        let mut map = vec![0xa0 + entries.len() as u8];
        entries.iter().for_each(|(key, value)| map.extend([*key, *value].concat()));
        map
    };
    let kid = [&[0x50][..], &test_store.writer.id.0].concat();
    let (alg, four) = ([0x26u8], [4u8]);
    let protected = |entries: &[(&[u8], &[u8])]| Cose { protected: map(entries), ..honest.clone() };
    assert_eq!(protected(&[(&[1], &alg), (&four, &kid)]).protected, honest.protected);
    let unprotected = |bytes: &[u8]| Cose { unprotected: bytes.into(), ..honest.clone() };
    // The version, 1, in two bytes.
    let long_int = [&[0x87, 0x18, 0x01][..], &honest.payload[2..]].concat();
    let endless = [&[0x9f][..], &honest.payload[1..], &[0xff]].concat();
    let payload = |payload: Vec<u8>| Cose { payload, ..honest.clone() };
    let mut endless_outside = honest.encode();
    endless_outside[0] = 0x9f;
    endless_outside.push(0xff);
    let mut long_string = honest.encode();
    // The protected header's length in two bytes.
    long_string.splice(1..2, [0x58, honest.protected.len() as u8]);

    each_is_refused(
        &test_store,
        &[
            ("high s", planted(high_s.encode()), "high s"),
            ("a longer r", planted(Cose { signature: long_r, ..honest.clone() }.encode()), "a signature"),
            ("s of zero", planted(Cose { signature: zero_s, ..honest.clone() }.encode()), "a signature"),
            ("no signature", planted(Cose { signature: vec![], ..honest.clone() }.encode()), "a signature"),
            ("a tag", planted([&[0xd2][..], &honest.encode()].concat()), "COSE_Sign1"),
            ("trailing bytes", planted([&honest.encode()[..], &[0]].concat()), "COSE_Sign1"),
            ("an endless array", planted(endless_outside), "not canonical"),
            ("a long string head", planted(long_string), "not canonical"),
            ("an unprotected header", planted(unprotected(&[0xa1, 5, 0x41, 9]).encode()), "not canonical"),
            ("kid a second time", planted(unprotected(&map(&[(&four, &kid)])).encode()), "not canonical"),
            (
                "one more header",
                resigned(protected(&[(&[1], &alg), (&four, &kid), (&[0x18, 99], &[0])])),
                "not canonical",
            ),
            (
                "a key twice",
                resigned(protected(&[(&[1], &alg), (&four, &kid), (&four, &kid)])),
                "not well formed",
            ),
            (
                "headers in another order",
                resigned(protected(&[(&four, &kid), (&[1], &alg)])),
                "not canonical",
            ),
            ("no algorithm", resigned(protected(&[(&four, &kid)])), "not canonical"),
            (
                "another algorithm",
                resigned(protected(&[(&[1], &[0x38, 0x22]), (&four, &kid)])),
                "not canonical",
            ),
            ("a long label", resigned(protected(&[(&[0x18, 1], &alg), (&four, &kid)])), "not canonical"),
            ("a long integer", resigned(payload(long_int)), "not deterministic"),
            ("an endless payload", resigned(payload(endless)), "a batch"),
            ("a longer payload", resigned(payload([&honest.payload[..], &[0]].concat())), "trailing bytes"),
            ("an empty payload", resigned(payload(vec![])), "a batch"),
            ("nothing at all", planted(Vec::new()), "COSE_Sign1"),
            ("very long", planted(vec![0x84; 5000]), "too long"),
        ],
    );
}

#[test]
fn a_statement_has_no_twin() {
    let test_store = TestStore::populated();
    let (draft, bytes) = draft(&test_store);
    let honest = draft.encoded().remove(0);
    assert_eq!(honest[..2], [0x87, 0x01]);
    let spelt = |statement: Vec<u8>| draft.sign_over(vec![statement]).with(&bytes);
    let long_version = [&[0x87, 0x18, 0x01][..], &honest[2..]].concat();
    let endless = [&[0x9f][..], &honest[1..], &[0xff]].concat();
    let tagged = [&[0xc0][..], &honest].concat();
    let longer = [&honest[..], &[0]].concat();
    let mut swapped = draft.clone();
    swapped.statements[0].advances.reverse();
    let mut one_less = draft.clone();
    one_less.statements[0].advances.pop();
    let mut twice = draft.clone();
    let first = twice.statements[0].advances[0].clone();
    twice.statements[0].advances.insert(0, first);
    let mut unsorted = draft.clone();
    let Body::Put(body) = &mut unsorted.statements[0].body else { unreachable!() };
    body.labels = vec![("b".into(), "1".into()), ("a".into(), "2".into())];
    let long_text = Body::Put(Box::new({
        let Body::Put(body) = &draft.statements[0].body else { unreachable!() };
        let mut body = (**body).clone();
        body.description = "x".repeat(1 << 20);
        body
    }));
    let mut too_long = draft.clone();
    too_long.statements[0].body = long_text;
    each_is_refused(
        &test_store,
        &[
            ("a long integer", spelt(long_version), "not deterministic"),
            ("an endless array", spelt(endless), "a statement"),
            ("a tag", spelt(tagged), "a statement"),
            ("trailing bytes", spelt(longer), "trailing bytes"),
            ("nothing", spelt(Vec::new()), "a statement"),
            ("subjects in another order", swapped.sign().with(&bytes), "subjects that do not fit"),
            ("a subject left out", one_less.sign().with(&bytes), "subjects that do not fit"),
            ("a subject twice", twice.sign().with(&bytes), "subjects that do not fit"),
            ("labels in another order", unsorted.sign().with(&bytes), "out of order"),
            ("more than 1 MiB", too_long.sign().with(&bytes), "is longer than"),
        ],
    );
}

/// A statement's array with another element at `index`.
fn with_element(statement: &[u8], index: usize, element: &[u8]) -> Vec<u8> {
    let mut decoder = minicbor::Decoder::new(statement);
    decoder.array().unwrap();
    (0..index).for_each(|_| decoder.skip().unwrap());
    let start = decoder.position();
    decoder.skip().unwrap();
    [&statement[..start], element, &statement[decoder.position()..]].concat()
}

/// Kind 99 in CBOR: far beyond what will be known for a long time.
const FAR_KIND: [u8; 2] = [0x18, 99];

#[test]
fn what_a_newer_strongroom_signed_is_never_skipped() {
    let test_store = TestStore::populated();
    let before = test_store.answers("admin");
    let (draft, bytes) = draft_by(&test_store, &test_store.admin);
    let honest = draft.encoded().remove(0);
    let put_state = {
        let mut statement = draft.statements[0].clone();
        let Body::Put(body) = &mut statement.body else { unreachable!() };
        body.state = strongroom::ledger::body::State::Revoked;
        // Revoked is 3; 4 is not known.
        let revoked = statement.encode();
        let at = revoked.len() - 8;
        let position = (at..revoked.len()).find(|i| revoked[*i] == 3 && revoked[i + 1] == 0xf6).unwrap();
        let mut unknown = revoked;
        unknown[position] = 4;
        unknown
    };
    for statement in [with_element(&honest, 0, &[2]), with_element(&honest, 2, &FAR_KIND), put_state] {
        let first = test_store.plant(&draft.sign_over(vec![statement]).with(&bytes));
        for client in ["admin", "reader", "newcomer"] {
            let error = test_store.client(client, &[]).err().unwrap();
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            assert!(error.message().contains("written by a newer Strongroom"), "{error}");
            assert!(error.message().contains(&format!("statement {first}")), "{error}");
            assert!(error.hint().unwrap().contains("upgrade"), "{error}");
        }
        test_store.unplant(first);
    }
    // A batch of a newer version.
    let cose = Cose::of(&draft.sign().sign1);
    let payload = [&[0x87, 2][..], &cose.payload[2..]].concat();
    let cose = Cose { payload, ..cose }.signed_by(&test_store.admin, "Signature1", AAD);
    let first = test_store.plant(&Signed { sign1: cose.encode(), ..draft.sign() });
    assert_eq!(test_store.client("reader", &[]).err().unwrap().kind(), Kind::Unsupported);
    test_store.unplant(first);
    assert_eq!(test_store.answers("admin"), before);
    test_store.goes_on();
}

/// Whoever can write to the file, and has no admin's device, must not be able to make everybody believe in an upgrade,
/// which no repair ends.
#[test]
fn only_an_admin_speaks_for_a_newer_strongroom() {
    let test_store = TestStore::populated();
    let (draft, bytes) = draft(&test_store);
    let newer = with_element(&draft.encoded()[0], 2, &FAR_KIND);
    let signed = draft.sign_over(vec![newer]).with(&bytes);
    let mut cose = Cose::of(&signed.sign1);
    cose.signature = Cose::of(&draft.sign().sign1).signature;
    let first = test_store.plant(&Signed { sign1: cose.encode(), ..signed });
    test_store.refused("is not that of");
    test_store.unplant(first);
    // Signed, too: by a device that may write, and the whole batch of a newer version.
    let vault = test_store.client("admin", &[]).unwrap();
    let retire =
        Body::Retire(Retire { device: test_store.writer.id, compromised: true, reason: String::new() });
    let retired = Draft::on(&vault, &test_store.admin, [retire]);
    drop(vault);
    for gone in [false, true] {
        if gone {
            test_store.append(&retired, &[]);
        }
        let (draft, bytes) = draft_by(&test_store, &test_store.writer);
        let statement = with_element(&draft.encoded()[0], 2, &FAR_KIND);
        let first = test_store.plant(&draft.sign_over(vec![statement]).with(&bytes));
        test_store.refused("which only an admin's device may begin");
        test_store.unplant(first);
        let cose = Cose::of(&draft.sign().sign1);
        let payload = [&[0x87, 2][..], &cose.payload[2..]].concat();
        let cose = Cose { payload, ..cose }.signed_by(&test_store.writer, "Signature1", AAD);
        test_store.plant(&Signed { sign1: cose.encode(), ..draft.sign() });
        test_store.refused("which only an admin's device may begin");
        let (_, dropped) = Vault::repair(test_store.setup("admin", &[&test_store.admin]), "planted").unwrap();
        assert_eq!(dropped, 1);
    }
    test_store.client("reader", &[]).unwrap();
}

#[test]
fn a_signature_made_for_something_else() {
    let test_store = TestStore::populated();
    let (draft, bytes) = draft(&test_store);
    let signed = draft.sign().with(&bytes);
    let honest = Cose::of(&signed.sign1);
    let planted = |cose: Cose| Signed { sign1: cose.encode(), ..signed.clone() };
    let by = |context: &str, aad: &[u8]| planted(honest.clone().signed_by(&test_store.writer, context, aad));
    let raw = |bytes: &[u8]| {
        let signature = test_store.writer.device.sign_digest(&strongroom::ledger::sha256(bytes).0);
        planted(Cose { signature: test_support::forged_batch::low_s(&signature), ..honest.clone() })
    };
    let words = "is not that of";
    each_is_refused(
        &test_store,
        &[
            ("no external data", by("Signature1", b""), words),
            ("another use", by("Signature1", b"strongroom/access/1"), words),
            ("a later version of it", by("Signature1", b"strongroom/batch/2"), words),
            ("COSE_Sign", by("Signature", AAD), words),
            ("COSE_Mac0", by("MAC0", AAD), words),
            ("the bare payload", raw(&honest.payload), words),
            ("the bare statement", raw(&signed.statements[0]), words),
            ("a JWT of it", raw(&[b"eyJhbGciOiJFUzI1NiJ9.", &honest.payload[..]].concat()), words),
            ("zeroes", raw(&[0; 32]), words),
        ],
    );
}

#[test]
fn an_author_unlike_the_kid() {
    let test_store = TestStore::populated();
    let (draft, bytes) = draft(&test_store);
    // The writer signs under its own kid what names the admin as its author.
    let mut framed = draft.clone();
    framed.statements[0].author = test_store.admin.id;
    // The writer signs under the admin's kid.
    let mut usurped = framed.clone();
    usurped.kid = test_store.admin.id;
    // The writer names itself, in a batch under the admin's kid.
    let mut mixed = draft.clone();
    mixed.kid = test_store.admin.id;
    each_is_refused(
        &test_store,
        &[
            ("framed", framed.sign().with(&bytes), "names an author who did not sign it"),
            ("usurped", usurped.sign().with(&bytes), "is not that of"),
            ("mixed", mixed.sign().with(&bytes), "is not that of"),
        ],
    );
}

#[test]
fn a_device_that_was_never_enrolled() {
    let test_store = TestStore::populated();
    let (mut draft, bytes) = draft(&test_store);
    let stranger = test_support::test_store::Actor::named("stranger");
    draft.statements[0].author = stranger.id;
    (draft.kid, draft.signer) = (stranger.id, stranger.clone());
    let first = test_store.plant(&draft.sign().with(&bytes));
    test_store.refused("was never enrolled");
    test_store.unplant(first);
    // Nor one that enrols itself.
    let vault = test_store.client("admin", &[]).unwrap();
    let own = Draft::on(&vault, &stranger, [stranger.enrolment(test_support::test_store::all_roles())]);
    let first = test_store.plant(&own.sign());
    test_store.refused("was never enrolled");
    test_store.unplant(first);
    test_store.goes_on();
}

#[test]
fn a_statement_of_another_store() {
    let test_store = TestStore::populated();
    let other = TestStore::bare(9);
    assert_ne!(test_store.id, other.id);
    // The same admin, with the same keys: a whole batch from over there, as it was signed.
    let mut elsewhere = other.client("admin", &[&other.admin]).unwrap();
    elsewhere.put(&name("prod/db"), &secret("from elsewhere"), &PutOptions::default()).unwrap();
    let row = "SELECT sign1, bytes FROM batches JOIN statements ON n = first ORDER BY n DESC LIMIT 1";
    let (sign1, statement) = other.db().query_row(row, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let foreign = Signed { sign1, statements: vec![statement], sealed: Vec::new() };
    let (draft, bytes) = draft(&test_store);
    let mut inside = draft.clone();
    inside.statements[0].store = other.id;
    let mut unborn = draft.clone();
    unborn.statements[0].store = strongroom::ledger::StoreId::ZERO;
    let mut outside = draft.clone();
    outside.store = other.id;
    each_is_refused(
        &test_store,
        &[
            ("a whole batch", foreign, "belongs to another store"),
            ("a statement", inside.sign().with(&bytes), "belongs to another store"),
            ("a statement of none", unborn.sign().with(&bytes), "belongs to another store"),
            ("the batch around it", outside.sign().with(&bytes), "belongs to another store"),
        ],
    );
}
