use super::*;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use std::str::FromStr;
use tss_esapi::TctiNameConf;
use tss_esapi::structures::{EccParameter, EccPoint, EccSignature};
use tss_esapi::traits::UnMarshall;

use test_support::authority::{Authority, EK_PURPOSE, Wish, purpose};
use test_support::swtpm::Swtpm;

const NAME: [u8; 34] = [7; 34];
const PARENT: [u8; 34] = [6; 34];
const FRESH: [u8; 32] = [9; 32];

/// An attestation key in software, which therefore can lie.
struct Liar {
    key: EcdsaKeyPair,
    public: Public,
}

impl Liar {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let mut public = templates::attesting().unwrap();
        let point = key.public_key().as_ref();
        if let Public::Ecc { unique, .. } = &mut public {
            *unique = EccPoint::new(half(&point[1..33]), half(&point[33..]));
        }
        Self { key, public }
    }

    fn sign(&self, attest: &[u8]) -> Signature {
        let signature = self.key.sign(&SystemRandom::new(), attest).unwrap();
        let (r, s) = signature.as_ref().split_at(32);
        Signature::EcDsa(EccSignature::create(HashingAlgorithm::Sha256, half(r), half(s)).unwrap())
    }
}

fn half(bytes: &[u8]) -> EccParameter {
    EccParameter::try_from(bytes.to_vec()).unwrap()
}

/// TPMS_ATTEST of a key (0x8017) with this name.
fn statement(kind: u16, name: &[u8], fresh: &[u8]) -> Vec<u8> {
    statement_under(&PARENT, kind, name, fresh)
}

fn statement_under(parent: &[u8; 34], kind: u16, name: &[u8], fresh: &[u8]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let attested = if kind == 0x8017 {
        [sized(name), sized(&qualified(parent, name.try_into().unwrap()))].concat()
    } else {
        // TPMS_TIME_ATTEST_INFO: time, clock, counts, safe, firmware.
        vec![0; 8 + 17 + 8]
    };
    let head =
        [&0xff54_4347_u32.to_be_bytes()[..], &kind.to_be_bytes(), &sized(&[1; 34]), &sized(fresh)].concat();
    [head, vec![0; 17 + 8], attested].concat()
}

#[test]
fn only_a_fresh_statement_about_this_key_by_this_signer_counts() {
    let (signer, other) = (Liar::new(), Liar::new());
    let verdict = |bytes: &[u8], by: &Liar| {
        let attest = Attest::unmarshall(bytes).unwrap();
        assert_eq!(attest.marshall().unwrap(), bytes);
        check(&attest, &by.sign(bytes), &signer.public, (&PARENT, &NAME), &FRESH)
    };
    let good = statement(0x8017, &NAME, &FRESH);
    verdict(&good, &signer).unwrap();
    assert!(verdict(&good, &other).unwrap_err().contains("the attestation key did not sign"));
    assert!(verdict(&statement(0x8017, &[8; 34], &FRESH), &signer).unwrap_err().contains("another key"));
    let elsewhere = statement_under(&[5; 34], 0x8017, &NAME, &FRESH);
    assert!(
        verdict(&elsewhere, &signer).unwrap_err().contains("another storage root key as the key's parent")
    );
    assert!(verdict(&statement(0x8017, &NAME, &[0; 32]), &signer).unwrap_err().contains("an old statement"));
    assert!(verdict(&statement(0x8017, &NAME, &[]), &signer).unwrap_err().contains("an old statement"));
    // TPM_ST_ATTEST_TIME
    assert!(verdict(&statement(0x8019, &NAME, &FRESH), &signer).unwrap_err().contains("not about a key"));
    // Every byte is signed.
    let signature = signer.sign(&good);
    for at in [50, good.len() - 1, good.len() - 50] {
        let mut altered = good.clone();
        altered[at] ^= 1;
        if let Ok(attest) = Attest::unmarshall(&altered) {
            check(&attest, &signature, &signer.public, (&PARENT, &NAME), &FRESH).unwrap_err();
        }
    }
    // What a key signs that is not restricted does not begin with TPM_GENERATED_VALUE.
    assert!(Attest::unmarshall(&[&[0; 4], &good[4..]].concat()).is_err());
}

/// A TPM, and a certificate for its P-256 endorsement key.
fn endorsed() -> Option<(Swtpm, Context, Endorsement)> {
    let tpm = Swtpm::new()?;
    let mut context = Context::new(TctiNameConf::from_str(&tpm.tcti()).unwrap()).unwrap();
    let endorsement = endorsement_of(&mut context);
    Some((tpm, context, endorsement))
}

fn endorsement_of(context: &mut Context) -> Endorsement {
    let (key, public) = ek::make(context, EkKind::P256).unwrap();
    context.flush_context(key.into()).unwrap();
    let Public::Ecc { unique, .. } = &public else { panic!("it is EC") };
    let point = [&[4], unique.x().value(), unique.y().value()].concat();
    let key = test_support::authority::ec_spki(ek::P256.as_bytes(), &point);
    let der = Authority::root("maker").issue(Wish {
        key,
        extensions: vec![purpose(&[EK_PURPOSE])],
        ..Wish::default()
    });
    Endorsement { kind: EkKind::P256, certificate: Certificate::parse(&der).unwrap() }
}

fn refusal(outcome: Result<(), DriverError>) -> String {
    let error = outcome.unwrap_err().report("x", "tpm:");
    assert_eq!(error.kind(), Kind::Evidence, "{error}");
    error.message().to_owned()
}

#[test]
fn a_value_comes_back_only_for_the_key_it_was_bound_to() {
    let Some((_tpm, mut context, endorsement)) = endorsed() else { return };
    let (attesting, public) = make_attesting_key(&mut context).unwrap();
    let name = templates::name(&public).unwrap();
    activate(&mut context, &endorsement, attesting, &name).unwrap();
    // The attestation key that is presented lies somewhere else.
    let elsewhere = templates::name(&Liar::new().public).unwrap();
    let answer = refusal(activate(&mut context, &endorsement, attesting, &elsewhere));
    assert!(answer.contains("the attestation key is not in the TPM"), "{answer}");
}

#[test]
fn a_value_for_another_endorsement_key_does_not_come_back() {
    let Some((_tpm, mut context, _)) = endorsed() else { return };
    let Some((_other, _, theirs)) = endorsed() else { return };
    let (attesting, public) = make_attesting_key(&mut context).unwrap();
    let name = templates::name(&public).unwrap();
    assert!(
        refusal(activate(&mut context, &theirs, attesting, &name))
            .contains("is not the one in its EK certificate")
    );
    // A TPM whose words were altered on their way, so that its endorsement key looks like the other one.
    let (key, _) = ek::make(&mut context, EkKind::P256).unwrap();
    let session = start_policy(&mut context).unwrap();
    authorise(&mut context, session).unwrap();
    let challenge = credential::challenge(theirs.certificate.key().unwrap(), &name).unwrap();
    let outcome = answer(&mut context, attesting, key, session, &challenge).map(drop);
    assert!(refusal(outcome).contains("the attestation key is not in the TPM"));
}
