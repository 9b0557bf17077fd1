//! Chains of certificates: which hold, and why others do not.

use std::time::{Duration, SystemTime};
use strongroom::device::certificates::{Certificate, EK_CERTIFICATE, Oid, SubjectKey};
use strongroom::device::certificates::{from_pem, roots_from, verify_chain};
use strongroom::error::{Kind, Result};
use test_support::authority::{Authority, EK_PURPOSE, Extension, Wish, ca, pem, purpose, tpm_name};

/// Root, authority below it, and a leaf with these extensions.
fn chain(below: Vec<Extension>, leaf: Vec<Extension>) -> (Authority, Authority, Vec<u8>) {
    let root = Authority::root("root");
    let below = root.below("below", below);
    let leaf = below.issue(Wish { extensions: leaf, ..Wish::default() });
    (root, below, leaf)
}

fn endorsement_key() -> Vec<Extension> {
    vec![tpm_name(), ca(false, None), purpose(&[EK_PURPOSE])]
}

fn verify(leaf: &[u8], between: &[&Authority], roots: &[&Authority]) -> Result<usize> {
    let der = |of: &[&Authority]| of.iter().map(|one| one.certificate.clone()).collect::<Vec<_>>();
    verify_chain(leaf, &der(between), &der(roots), Some(&EK_CERTIFICATE), SystemTime::now())
}

fn refusal(outcome: Result<usize>) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), Kind::Evidence, "{error}");
    error.message().to_owned()
}

#[test]
fn a_chain_holds_and_names_its_root() {
    let (root, below, leaf) = chain(vec![ca(true, Some(0))], endorsement_key());
    let stranger = Authority::root("stranger");
    assert_eq!(verify(&leaf, &[&stranger, &below], &[&stranger, &root]).unwrap(), 1);
    // What is trusted may stand in the middle.
    assert_eq!(verify(&leaf, &[], &[&below]).unwrap(), 0);
    // Issued by the root itself, and looked at without a purpose in mind.
    let plain = root.issue(Wish::default());
    let roots = [root.certificate.clone()];
    assert_eq!(verify_chain(&plain, &[], &roots, None, SystemTime::now()).unwrap(), 0);
}

#[test]
fn a_stranger_vouches_for_nothing() {
    let (root, below, leaf) = chain(vec![ca(true, None)], endorsement_key());
    let unknown = "none of the trusted certificates issued it";
    assert!(refusal(verify(&leaf, &[&below], &[&Authority::root("another")])).contains(unknown));
    assert!(refusal(verify(&leaf, &[&below], &[])).contains(unknown));
    assert!(refusal(verify(&leaf, &[], &[&root])).contains(unknown));
    // One who took the name without the key.
    let namesake = Authority::root("root");
    assert_eq!(refusal(verify(&leaf, &[&below], &[&namesake])), "a signature in its chain is wrong");
}

#[test]
fn times_count_in_the_whole_chain() {
    let root = Authority::root("root");
    let below = root.below("below", vec![ca(true, None)]);
    let roots = [root.certificate.clone()];
    let of = |valid, at| {
        let leaf = below.issue(Wish { valid, extensions: endorsement_key(), ..Wish::default() });
        verify_chain(&leaf, std::slice::from_ref(&below.certificate), &roots, Some(&EK_CERTIFICATE), at)
    };
    let now = SystemTime::now();
    assert!(refusal(of(["100101000000Z", "200101000000Z"], now)).contains("no longer valid"));
    assert!(refusal(of(["480101000000Z", "491231235959Z"], now)).contains("not valid yet"));
    // The leaf is valid, the one above it not any more.
    let in_2050 = SystemTime::UNIX_EPOCH + Duration::from_secs(2_530_000_000);
    assert!(refusal(of(["200101000000Z", "491231235959Z"], in_2050)).contains("no longer valid"));
}

#[test]
fn only_a_ca_issues() {
    for extensions in [vec![], vec![ca(false, None)]] {
        let (root, below, leaf) = chain(extensions, endorsement_key());
        assert_eq!(refusal(verify(&leaf, &[&below], &[&root])), "the one that issued it is not a CA's");
    }
    let (root, below, leaf) = chain(vec![ca(true, None)], vec![ca(true, None), purpose(&[EK_PURPOSE])]);
    assert_eq!(refusal(verify(&leaf, &[&below], &[&root])), "it is a CA's, not a device's");
}

#[test]
fn a_path_is_no_longer_than_it_may_be() {
    let root = Authority::root("root");
    let first = root.below("first", vec![ca(true, Some(0))]);
    let second = first.below("second", vec![ca(true, None)]);
    let leaf = second.issue(Wish { extensions: endorsement_key(), ..Wish::default() });
    assert!(refusal(verify(&leaf, &[&first, &second], &[&root])).contains("so many CAs below it"));
}

#[test]
fn every_signature_counts() {
    let (root, below, leaf) = chain(vec![ca(true, None)], endorsement_key());
    let altered = |der: &[u8]| {
        let mut der = der.to_vec();
        *der.last_mut().unwrap() ^= 1;
        der
    };
    assert_eq!(refusal(verify(&altered(&leaf), &[&below], &[&root])), "a signature in its chain is wrong");
    let between = [altered(&below.certificate)];
    let roots = [root.certificate.clone()];
    let outcome = verify_chain(&leaf, &between, &roots, Some(&EK_CERTIFICATE), SystemTime::now());
    assert_eq!(refusal(outcome), "a signature in its chain is wrong");
}

#[test]
fn the_purpose_is_in_the_leaf_and_allowed_above() {
    const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
    let (root, below, leaf) = chain(vec![ca(true, None)], vec![tpm_name()]);
    let answer = refusal(verify(&leaf, &[&below], &[&root]));
    assert_eq!(answer, "the certificate of `CN=a device` does not say that it is for 2.23.133.8.1");
    let (root, below, leaf) = chain(vec![ca(true, None)], vec![purpose(&[SERVER_AUTH])]);
    assert!(refusal(verify(&leaf, &[&below], &[&root])).contains("for other purposes"));
    let (root, below, leaf) = chain(vec![ca(true, None), purpose(&[SERVER_AUTH])], endorsement_key());
    assert!(refusal(verify(&leaf, &[&below], &[&root])).contains("for other purposes"));
    let (root, below, leaf) =
        chain(vec![ca(true, None), purpose(&[SERVER_AUTH, EK_PURPOSE])], endorsement_key());
    verify(&leaf, &[&below], &[&root]).unwrap();
}

#[test]
fn an_unknown_critical_extension_is_refused() {
    let unknown = (vec![0x2a, 0x03, 0x04], true, vec![0x05, 0x00]);
    let (root, below, leaf) = chain(vec![ca(true, None)], [endorsement_key(), vec![unknown]].concat());
    assert!(refusal(verify(&leaf, &[&below], &[&root])).contains("a critical extension that is not known"));
    // In one above it, which may be trusted in spite of it.
    let policies = (vec![0x55, 0x1d, 0x20], true, vec![0x30, 0x05, 0x30, 0x03, 0x06, 0x01, 0x2a]);
    let (root, below, leaf) = chain(vec![ca(true, None), policies], endorsement_key());
    assert!(refusal(verify(&leaf, &[&below], &[&root])).contains("may be trusted as a root"));
    verify(&leaf, &[], &[&below]).unwrap();
}

#[test]
fn garbage_is_refused() {
    let (root, below, leaf) = chain(vec![ca(true, None)], endorsement_key());
    let followed = [leaf.as_slice(), &[0]].concat();
    for garbage in [&[][..], b"x", &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &leaf[..leaf.len() - 1], &followed]
    {
        assert_eq!(Certificate::parse(garbage).unwrap_err().kind(), Kind::Evidence);
        refusal(verify(garbage, &[&below], &[&root]));
        let roots = [garbage.to_vec()];
        refusal(verify_chain(
            &leaf,
            std::slice::from_ref(&below.certificate),
            &roots,
            None,
            SystemTime::now(),
        ));
    }
}

#[test]
fn a_certificate_says_what_it_is_about() {
    let serial: Extension =
        (vec![0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0xc4, 0x0a, 0x03, 0x07], false, vec![2, 1, 42]);
    let root = Authority::root("root");
    let der = root.issue(Wish { extensions: vec![serial], key: root.spki(), ..Wish::default() });
    let certificate = Certificate::parse(&der).unwrap();
    assert_eq!(certificate.extension(&Oid::new_unwrap("1.3.6.1.4.1.41482.3.7")), Some(&[2, 1, 42][..]));
    assert_eq!(certificate.extension(&Oid::new_unwrap("1.3.6.1.4.1.41482.3.8")), None);
    let SubjectKey::Ec { curve, point } = certificate.key().unwrap() else { panic!("it is EC") };
    assert_eq!((curve, point), (Oid::new_unwrap("1.2.840.10045.3.1.7"), &root.spki()[26..]));
    assert_eq!((certificate.is_ca(), certificate.subject().as_str()), (false, "`CN=a device`"));
}

#[test]
fn a_directory_of_roots_is_read_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (one, two, three) = (Authority::root("one"), Authority::root("two"), Authority::root("three"));
    let error = |answer: &str| {
        let error = roots_from(directory.path()).unwrap_err();
        assert!(error.message().contains(answer), "{error}");
        error
    };
    error("there are none");
    std::fs::write(at("a.pem"), format!("# two of them\n{}{}", pem(&one.certificate), pem(&two.certificate)))
        .unwrap();
    std::fs::write(at("b.der"), &three.certificate).unwrap();
    std::fs::write(at(".hidden"), "no certificate").unwrap();
    std::fs::create_dir(at("old")).unwrap();
    let expected = [one.certificate, two.certificate, three.certificate.clone()];
    assert_eq!(roots_from(directory.path()).unwrap(), expected);

    for (bytes, answer) in [
        (b"words".to_vec(), "there is no certificate in it"),
        (three.certificate[..40].to_vec(), "no X.509 certificate"),
        (pem(&three.certificate)[..60].into(), "no PEM text"),
        (three.issue(Wish::default()), "`CN=a device` is not a CA's"),
        (vec![b' '; 1 << 21], "too long"),
    ] {
        std::fs::write(at("c"), bytes).unwrap();
        assert!(error(answer).target().unwrap().ends_with("/c"));
    }
    let nowhere = roots_from(&at("nowhere")).unwrap_err();
    assert_eq!(nowhere.kind(), Kind::Io);
    assert!(nowhere.target().unwrap().ends_with("/nowhere"));
}

#[test]
fn the_bundled_roots_are_yubicos() {
    let roots = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/device/piv/roots");
    let read = |name: &str| from_pem(&std::fs::read(roots.join(name)).unwrap()).unwrap();
    let (old, new) = (read("yubico-piv-root-263751.pem"), read("yubico-attestation-root-1.pem"));
    let between = read("yubico-piv-intermediates.pem");
    assert_eq!((old.len(), new.len(), between.len()), (1, 1, 5));
    let readme = std::fs::read_to_string(roots.join("README.md")).unwrap();
    for der in [&old, &new, &between].into_iter().flatten() {
        let digest = hex::encode(ring::digest::digest(&ring::digest::SHA256, der));
        assert!(readme.contains(&format!("`{digest}`")), "{digest}");
        assert!(Certificate::parse(der).unwrap().is_ca());
    }
    // They are CAs', so the judge of leaves finds no more fault than that; without the root it finds more.
    for der in &between {
        assert_eq!(
            refusal(verify_chain(der, &between, &new, None, SystemTime::now())),
            "it is a CA's, not a device's"
        );
    }
}
