//! From a simulated TPM's certificate to the level of evidence its keys are enrolled with, and everything that is refused on the way.

use std::path::{Path, PathBuf};
use std::process::Command;
use strongroom::device::{self, Algorithm, CreateOptions, EvidenceLevel, KeyInfo, Purpose};
use strongroom::error::{Error, Kind, Result};
use test_support::authority::{Authority, Wish, ca, pem};
use test_support::ek_certificate::{self, CHAIN, P256, RSA};
use test_support::prompter::Scripted;
use test_support::swtpm::{Swtpm, installed};

/// One to whose memory certificates can be written.
fn new_tpm() -> Option<Swtpm> {
    for (program, package) in [("swtpm_setup", "swtpm-tools"), ("tpm2_nvdefine", "tpm2-tools")] {
        if !installed(program) {
            test_support::skip::skip(&format!("{program} is missing: apt-get install {package}"));
            return None;
        }
    }
    Swtpm::new()
}

/// A directory with these authorities' certificates.
fn roots(tpm: &Swtpm, authorities: &[&Authority]) -> PathBuf {
    let directory = tempfile::Builder::new().prefix("roots-").tempdir_in(&tpm.dir).unwrap().keep();
    for (index, authority) in authorities.iter().enumerate() {
        std::fs::write(directory.join(format!("{index}.pem")), pem(&authority.certificate)).unwrap();
    }
    directory
}

fn create(tpm: &Swtpm, purpose: Purpose, options: &CreateOptions) -> Result<KeyInfo> {
    let mut device = device::connect(&tpm.uri().parse().unwrap())?;
    let mut prompter = Scripted::pin("2718");
    device.provisioning().unwrap().create(purpose, Algorithm::P256, options, &mut prompter)
}

fn with(roots: &Path) -> CreateOptions {
    CreateOptions { roots: Some(roots.into()), ..CreateOptions::default() }
}

fn attested(tpm: &Swtpm, options: &CreateOptions) {
    for purpose in [Purpose::Open, Purpose::Sign] {
        let key = create(tpm, purpose, options).unwrap();
        assert_eq!(key.evidence.level, EvidenceLevel::Attested);
        let claims: Vec<_> = key.evidence.claims.iter().map(|(name, is)| (name.as_str(), *is)).collect();
        let expected = [
            ("fixedTPM", true),
            ("fixedParent", true),
            ("sensitiveDataOrigin", true),
            ("EK certificate", true),
            ("TPM2_ActivateCredential", true),
            ("TPM2_Certify", true),
        ];
        assert_eq!(claims, expected);
        key.evidence.check(&key).unwrap();
    }
    assert_eq!(tpm.loaded(), (0, 0));
}

fn refused(tpm: &Swtpm, options: &CreateOptions) -> Error {
    let error = create(tpm, Purpose::Open, options).unwrap_err();
    assert_eq!(error.kind(), Kind::Evidence, "{error}");
    assert_eq!(tpm.loaded(), (0, 0));
    error
}

#[test]
fn a_key_is_attested_through_the_makers_certificates() {
    let Some(tpm) = new_tpm() else { return };
    let root = Authority::root("maker");
    let between = root.below("factory", vec![ca(true, Some(0))]);
    ek_certificate::write(&tpm, P256.0, &ek_certificate::certificate(&tpm, P256.1, &between));
    let options = with(&roots(&tpm, &[&Authority::root("another maker"), &root]));
    let answer = refused(&tpm, &options);
    assert!(answer.message().contains("none of the trusted certificates issued it"), "{answer}");
    // The one in between may be in the TPM, or with the roots.
    let alone = with(&roots(&tpm, &[&between]));
    attested(&tpm, &alone);
    let second = root.below("second factory", vec![ca(true, Some(0))]);
    let chain = [second.certificate.as_slice(), &between.certificate, &[0xff; 20]].concat();
    ek_certificate::write(&tpm, CHAIN, &chain);
    attested(&tpm, &options);
    let mut kept = options.clone();
    kept.tpm.persistent = Some(0x8101_0020);
    attested(&tpm, &kept);
    // With a PIN, which the proof must not send in the clear.
    let mut pin = options.clone();
    pin.tpm.pin = true;
    attested(&tpm, &pin);
}

#[test]
fn an_rsa_endorsement_key_serves_too() {
    let Some(tpm) = new_tpm() else { return };
    let root = Authority::root("maker");
    let mut certificate = ek_certificate::certificate(&tpm, RSA.1, &root);
    // Some makers fill the index up.
    certificate.extend([0; 64]);
    ek_certificate::write(&tpm, RSA.0, &certificate);
    attested(&tpm, &with(&roots(&tpm, &[&root])));
}

#[test]
fn without_roots_a_simulator_is_a_simulator_and_with_them_it_needs_a_certificate() {
    let Some(tpm) = new_tpm() else { return };
    let root = Authority::root("maker");
    let level = |options: &CreateOptions| create(&tpm, Purpose::Open, options).unwrap().evidence.level;
    let error = create(&tpm, Purpose::Open, &with(&roots(&tpm, &[&root]))).unwrap_err();
    assert_eq!(error.kind(), Kind::Evidence, "{error}");
    assert_eq!(error.message(), "the TPM has no endorsement key certificate");
    ek_certificate::write(&tpm, P256.0, &ek_certificate::certificate(&tpm, P256.1, &root));
    assert_eq!(level(&CreateOptions::default()), EvidenceLevel::Simulator);
    let nowhere = create(&tpm, Purpose::Open, &with(Path::new("/nonexistent/roots"))).unwrap_err();
    assert_eq!(nowhere.kind(), Kind::Io);
    assert_eq!(tpm.loaded(), (0, 0));
}

#[test]
fn a_certificate_of_another_tpm_is_refused() {
    let Some(tpm) = new_tpm() else { return };
    let Some(other) = new_tpm() else { return };
    let root = Authority::root("maker");
    ek_certificate::write(&tpm, P256.0, &ek_certificate::certificate(&other, P256.1, &root));
    let options = with(&roots(&tpm, &[&root]));
    let error = refused(&tpm, &options);
    assert!(
        error.message().contains("is not the one in its EK certificate (NV index 0x01c0000a)"),
        "{error}"
    );
    // Nothing stays behind of a key that was refused.
    let mut kept = options.clone();
    kept.tpm.persistent = Some(0x8101_0020);
    refused(&tpm, &kept);
    assert!(!tpm.tool("tpm2_getcap", &["handles-persistent"]).contains("0x81010020"));
    // On one connection, more often than there are slots.
    let mut device = device::connect(&tpm.uri().parse().unwrap()).unwrap();
    for _ in 0..5 {
        let mut prompter = Scripted::default();
        let made =
            device.provisioning().unwrap().create(Purpose::Sign, Algorithm::P256, &options, &mut prompter);
        assert_eq!(made.unwrap_err().kind(), Kind::Evidence);
    }
    let options = CreateOptions::default();
    device
        .provisioning()
        .unwrap()
        .create(Purpose::Sign, Algorithm::P256, &options, &mut Scripted::default())
        .unwrap();
}

#[test]
fn an_endorsement_hierarchy_that_is_guarded_is_said_to_be() {
    let Some(tpm) = new_tpm() else { return };
    let root = Authority::root("maker");
    ek_certificate::write(&tpm, P256.0, &ek_certificate::certificate(&tpm, P256.1, &root));
    let options = with(&roots(&tpm, &[&root]));
    tpm.tool("tpm2_changeauth", &["-c", "endorsement", "guarded"]);
    let error = create(&tpm, Purpose::Open, &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Device);
    assert!(error.message().contains("endorsement hierarchy has a password"), "{error}");
    assert_eq!(tpm.loaded(), (0, 0));
    tpm.tool("tpm2_changeauth", &["-c", "endorsement", "-p", "guarded"]);
    attested(&tpm, &options);
}

#[test]
fn a_certificate_that_is_none_is_refused() {
    let Some(tpm) = new_tpm() else { return };
    let root = Authority::root("maker");
    ek_certificate::write(&tpm, P256.0, b"no certificate at all");
    let options = with(&roots(&tpm, &[&root]));
    assert!(refused(&tpm, &options).message().contains("it is no X.509 certificate"));
    // One that its maker gave to something else, for the right key.
    tpm.tool("tpm2_nvundefine", &[P256.0, "-C", "o"]);
    ek_certificate::write(&tpm, P256.0, &root.issue(Wish { key: root.spki(), ..Wish::default() }));
    assert!(refused(&tpm, &options).message().contains("does not say that it is for 2.23.133.8.1"));
}

#[test]
fn swtpms_own_authority_is_believed_by_who_names_it() {
    let Some(mut tpm) = new_tpm() else { return };
    tpm.kill();
    let authority = tpm.dir.join("authority");
    set_up(&tpm.dir.join("state"), &authority);
    tpm.start();
    let roots = tpm.dir.join("roots");
    std::fs::create_dir(&roots).unwrap();
    std::fs::copy(authority.join("issuercert.pem"), roots.join("issuer.pem")).unwrap();
    // P-384 and RSA-2048; the former is taken.
    attested(&tpm, &with(&roots));
}

/// swtpm_setup with a certificate authority of its own.
fn set_up(state: &Path, authority: &Path) {
    std::fs::create_dir(authority).unwrap();
    let file = |name: &str| authority.join(name).display().to_string();
    let options = "--platform-manufacturer Test\n--platform-version 1.0\n--platform-model swtpm\n";
    std::fs::write(file("options"), options).unwrap();
    let ca = format!(
        "statedir = {}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
        authority.display(),
        file("signkey.pem"),
        file("issuercert.pem"),
        file("certserial")
    );
    std::fs::write(file("ca.conf"), ca).unwrap();
    let setup = format!(
        "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
        file("ca.conf"),
        file("options")
    );
    std::fs::write(file("setup.conf"), setup).unwrap();
    let output = Command::new("swtpm_setup")
        .args(["--tpm2", "--create-ek-cert", "--overwrite", "--tpmstate"])
        .arg(state)
        .args(["--config", &file("setup.conf"), "--logfile", &file("log")])
        .output()
        .unwrap();
    let log = std::fs::read_to_string(file("log")).unwrap_or_default();
    assert!(output.status.success(), "{log}");
}
