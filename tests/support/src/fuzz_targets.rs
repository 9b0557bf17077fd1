//! What every fuzz target does with its bytes. `tests/ledger` runs the same over the corpus, on stable Rust.

use std::time::SystemTime;
use strongroom::config::Config;
use strongroom::device::PublicKey;
use strongroom::device::certificates::{Certificate, SubjectKey, first_certificate, from_pem, verify_chain};
use strongroom::ledger::SignatureAlgorithm;
use strongroom::ledger::{SignedBatch, SignedCheckpoint, Statement};
use strongroom::replica::StorePin;
use strongroom::seal::{MAX_SEALED_BYTES, Sealed};
use strongroom::uri::DeviceUri;
use virtual_yubikey::card::{Card, Memory, Profile, Surroundings, simulator_root};

/// A target by its name, which is also that of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("statement", statement),
    ("batch", batch),
    ("checkpoint", checkpoint),
    ("sealed", sealed),
    ("uri", uri),
    ("handover", handover),
    ("config", config),
    ("card", card),
    ("certificate", certificate),
    ("request", request),
    #[cfg(feature = "tpm")]
    ("tpm_response", tpm_response),
];

/// A statement that decodes has these bytes and no others.
pub fn statement(bytes: &[u8]) {
    if let Ok(statement) = Statement::decode(bytes) {
        assert_eq!(statement.encode(), bytes);
    }
}

/// So has a batch.
pub fn batch(bytes: &[u8]) {
    if let Ok(signed) = SignedBatch::decode(bytes) {
        assert_eq!(signed.encode(), bytes);
        assert_eq!(
            signed.batch.clone().digest(SignatureAlgorithm::Es384),
            signed.batch.digest(SignatureAlgorithm::Es384)
        );
        assert!(!signed.is_signed_by(&PublicKey::P256([4; 65])));
        assert!(!signed.is_signed_by(&PublicKey::RsaPss { n: vec![0xff; 256], e: vec![1, 0, 1] }));
    }
}

/// So has a checkpoint, and nothing is both: they are signed for another purpose.
pub fn checkpoint(bytes: &[u8]) {
    if let Ok(signed) = SignedCheckpoint::decode(bytes) {
        assert_eq!(signed.encode(), bytes);
        assert!(SignedBatch::decode(bytes).is_err());
        assert_eq!(signed.checkpoint.tlog_text().lines().count(), 3);
        assert!(!signed.is_signed_by(&PublicKey::P256([4; 65])));
    }
}

/// A sealed token that parses names what it belongs to, in one spelling, and lies within the limits.
pub fn sealed(bytes: &[u8]) {
    if let Ok(sealed) = Sealed::parse(bytes) {
        assert!(bytes.len() <= MAX_SEALED_BYTES);
        let line = format!("\n-> {}\n\n", sealed.context());
        assert!(bytes.windows(line.len()).any(|window| window == line.as_bytes()));
        let share = format!("\n-> strongroom/share {} ", sealed.threshold());
        let shares = bytes.windows(share.len()).filter(|window| *window == share.as_bytes()).count() as u64;
        assert!(
            sealed.threshold() == 1
                || (2..=254).contains(&sealed.threshold()) && shares >= sealed.threshold()
        );
    }
}

/// What a URI is shown as is the same URI, and safe on a terminal. A refusal repeats no value.
pub fn uri(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match DeviceUri::parse(text) {
        Ok(uri) => {
            let shown = uri.to_string();
            assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown:?}");
            assert!(DeviceUri::parse(&shown).is_ok_and(|again| again == uri), "{shown:?}");
            assert!(uri.display_name().bytes().all(|byte| byte.is_ascii_graphic()));
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error}"),
    }
}

/// A hand-over that is taken says the same when it is handed on.
pub fn handover(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(pin) = text.parse::<StorePin>() {
        assert_eq!(pin.to_string().parse(), Ok(pin));
    }
}

/// A configuration that parses is written as one that parses to the same.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(config) = toml::from_str::<Config>(text) {
        config.devices.iter().for_each(|device| drop(device.parsed()));
        let written = toml::to_string(&config).expect("it can be written");
        assert_eq!(toml::from_str::<Config>(&written).expect("it can be read"), config);
    }
}

/// The tests' YubiKey answers whatever it is sent, in APDUs that each follow their length (one byte): with a status word, and
/// without giving tries back that a right PIN or PUK did not earn.
pub fn card(bytes: &[u8]) {
    static MEMORY: std::sync::OnceLock<Memory> = std::sync::OnceLock::new();
    let profile = Profile { serial: 1, firmware: [5, 7, 1] };
    let memory = MEMORY.get_or_init(|| Card::new(profile, &simulator_root(), 1).memory().clone());
    let mut card = Card::restore(profile, memory.clone(), 1);
    let mut rest = bytes;
    while let [length, after @ ..] = rest {
        let (apdu, next) = after.split_at(after.len().min(usize::from(*length)));
        let before = card.memory().pin.left;
        let answer = card.transmit(apdu, &mut NobodyThere);
        assert!((2..=65_538).contains(&answer.len()));
        let pin = &card.memory().pin;
        assert!(pin.left <= pin.total && (pin.left <= before || answer.ends_with(&[0x90, 0])));
        rest = next;
    }
}

/// Nobody touches the card, and no time passes.
struct NobodyThere;

impl Surroundings for NobodyThere {
    fn touched(&mut self) -> bool {
        false
    }

    fn now(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// A certificate that is read speaks safely, is the first of itself, and vouches for nothing by being a root of its own.
pub fn certificate(bytes: &[u8]) {
    let in_pem = from_pem(bytes).unwrap_or_default();
    for der in in_pem.iter().map(Vec::as_slice).chain([bytes]) {
        let Ok(certificate) = Certificate::parse(der) else { continue };
        assert_eq!(first_certificate(der), Some(der));
        if let Ok(SubjectKey::Rsa(key) | SubjectKey::Ec { point: key, .. }) = certificate.key() {
            assert!(der.windows(key.len()).any(|part| part == key));
        }
        let roots = [der.to_vec()];
        if let Err(error) = verify_chain(der, &roots, &roots, None, SystemTime::UNIX_EPOCH) {
            assert!(!error.to_string().chars().any(char::is_control), "{error}");
        }
    }
}

/// What a client of the agent says of itself and of what it wants: read, or refused without a word of it repeated raw.
pub fn request(bytes: &[u8]) {
    for said in strongroom::agent::fuzz_parsers(bytes) {
        assert!(!said.chars().any(char::is_control), "{said:?}");
    }
}

/// What a TPM answers, or somebody in its place: nothing is believed whose HMAC takes a key that they do not have.
#[cfg(feature = "tpm")]
pub fn tpm_response(bytes: &[u8]) {
    assert!(!strongroom::device::tpm::fuzz_responses(bytes));
}
