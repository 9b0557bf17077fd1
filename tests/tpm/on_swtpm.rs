//! The conformance suite on swtpm, and what its other tests share.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use strongroom::device::{
    Algorithm, CreateOptions, Device, EvidenceLevel, KeyInfo, KeyRef, PrivateOperation, Purpose, TpmOptions,
    connect,
};
use strongroom::error::{Kind, Result};
use strongroom::prompt::Prompter;
use test_support::device_conformance::{Bench, conforms, opens_once, signs_once};
use test_support::prompter::Scripted;
use test_support::swtpm::Swtpm;
use test_support::tpm_relay::{LOAD, Relay, code};

/// The PIN of every test.
pub const PIN: &str = "correct horse";

/// A swtpm with keys of one kind.
pub struct OnSwtpm<'a> {
    pub tpm: &'a Swtpm,
    pub options: TpmOptions,
    pub client: Client,
}

/// What speaks to the TPM when it opens and signs.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    Direct,
    Tss,
}

impl Client {
    pub const BOTH: [Self; 2] = [Self::Direct, Self::Tss];

    fn of(self, uri: &str) -> String {
        match self {
            Self::Direct => uri.into(),
            Self::Tss => format!("{uri}&client=tpm2-tss"),
        }
    }
}

impl Bench for OnSwtpm<'_> {
    fn device(&self) -> Box<dyn Device> {
        connect(&self.uri().parse().unwrap()).unwrap()
    }

    fn prompter(&self) -> Scripted {
        Scripted::pin(PIN)
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::P256
    }

    fn options(&self) -> CreateOptions {
        CreateOptions { tpm: self.options.clone(), ..CreateOptions::default() }
    }

    fn asks(&self) -> bool {
        self.options.pin
    }

    fn keeps_keys(&self) -> bool {
        false
    }
}

impl OnSwtpm<'_> {
    /// The device's URI.
    pub fn uri(&self) -> String {
        self.client.of(&self.tpm.uri())
    }

    /// The device behind a relay.
    pub fn through(&self, relay: &Relay) -> Box<dyn Device> {
        connect(&self.client.of(&relay.uri()).parse().unwrap()).unwrap()
    }

    /// An opening and a signing key.
    pub fn keys(&self) -> (KeyInfo, KeyInfo) {
        let mut device = self.device();
        let mut prompter = self.prompter();
        let provision = device.provisioning().unwrap();
        let mut make =
            |purpose| provision.create(purpose, Algorithm::P256, &self.options(), &mut prompter).unwrap();
        (make(Purpose::Open), make(Purpose::Sign))
    }

    /// Opens with a key, and checks what comes of it.
    pub fn opens(&self, device: &mut dyn Device, key: &KeyInfo) {
        opens_once(device, self, key);
    }
}

/// Opens with a key, whatever comes of it.
pub fn open(device: &mut dyn Device, key: &KeyInfo, prompter: &mut dyn Prompter) -> Result<()> {
    let peer: [u8; 65] = match &key.public {
        // Any point of the curve will do: the key's own.
        strongroom::device::PublicKey::P256(point) => *point,
        other => panic!("{other:?}"),
    };
    device.open_key(&KeyRef::from(key), PrivateOperation::Ecdh { peer: &peer }, prompter).map(drop)
}

/// Runs a test twice, with a swtpm of its own for each client, whose keys have these options.
pub fn with_swtpm(options: TpmOptions, test: impl Fn(&OnSwtpm<'_>)) {
    for client in Client::BOTH {
        let Some(tpm) = &Swtpm::new() else { return };
        println!("by {client:?}");
        test(&OnSwtpm { tpm, options: options.clone(), client });
    }
}

#[test]
fn swtpm_conforms() {
    with_swtpm(TpmOptions::default(), |bench| {
        conforms(bench);
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

#[test]
fn swtpm_with_a_pin_conforms() {
    with_swtpm(TpmOptions { pin: true, ..TpmOptions::default() }, |bench| {
        conforms(bench);
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

#[test]
fn swtpm_with_measured_keys_conforms() {
    with_swtpm(TpmOptions { pcrs: Some("sha256:0,7,16".into()), ..TpmOptions::default() }, |bench| {
        conforms(bench);
    });
}

#[test]
fn a_simulator_is_called_one() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, signs) = bench.keys();
        let mut device = bench.device();
        assert!(device.identity().simulator);
        assert_eq!(device.identity().maker, "IBM");
        for key in [opens, signs] {
            assert_eq!(key.evidence.level, EvidenceLevel::Simulator);
            let claims =
                ["fixedTPM", "fixedParent", "sensitiveDataOrigin"].map(|name| (name.to_owned(), true));
            assert_eq!(key.evidence.claims, claims);
        }
    });
}

#[test]
fn a_key_does_only_what_it_is_for() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, signs) = bench.keys();
        let mut device = bench.device();
        let mut as_signing = KeyRef::from(&opens);
        as_signing.purpose = Purpose::Sign;
        let error = device.sign(&as_signing, &[0; 32], &mut bench.prompter()).unwrap_err();
        assert_eq!(error.kind(), Kind::KeyMissing);
        let error = open(&mut *device, &signs, &mut bench.prompter());
        assert_eq!(error.unwrap_err().kind(), Kind::KeyMissing);
    });
}

#[test]
fn a_copy_may_stay_in_the_tpm() {
    with_swtpm(TpmOptions { persistent: Some(0x8101_0040), ..TpmOptions::default() }, |bench| {
        let (opens, signs) = bench.keys();
        let listed = || bench.tpm.tool("tpm2_getcap", &["handles-persistent"]);
        for handle in ["0x81000001", "0x81010040", "0x81010041"] {
            assert!(listed().contains(handle), "{}", listed());
        }
        let mut device = bench.device();
        bench.opens(&mut *device, &opens);
        device.sign(&KeyRef::from(&signs), &[0; 32], &mut bench.prompter()).unwrap();
        for key in [opens, signs] {
            device.provisioning().unwrap().destroy(&key, &mut bench.prompter()).unwrap();
        }
        drop(device);
        assert!(!listed().contains("0x8101004"), "{}", listed());
        assert!(listed().contains("0x81000001"), "the storage root key is everybody's");
    });
}

#[test]
fn a_copy_in_the_tpm_is_used_without_loading_it() {
    with_swtpm(TpmOptions { persistent: Some(0x8101_0040), ..TpmOptions::default() }, |bench| {
        let (opens, _) = bench.keys();
        let (relay, loads) = (Relay::before(bench.tpm), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&loads);
        relay.act(move |command, forward| {
            counted.fetch_add(usize::from(code(command) == LOAD), Ordering::Relaxed);
            forward(command)
        });
        for expected in [0, 1] {
            let mut device = bench.through(&relay);
            bench.opens(&mut *device, &opens);
            bench.opens(&mut *device, &opens);
            drop(device);
            assert_eq!((relay.loaded(), loads.load(Ordering::Relaxed)), ((0, 0), expected));
            if expected == 0 {
                let mut device = bench.through(&relay);
                device.provisioning().unwrap().destroy(&opens, &mut bench.prompter()).unwrap();
            }
        }
    });
}

/// Makes a key of the owner hierarchy persistent at the storage root key's handle, as another program.
fn occupy(bench: &OnSwtpm<'_>, arguments: &[&str]) -> String {
    bench.tpm.tool("tpm2_createprimary", &[&["-C", "o", "-c", "other.ctx"], arguments].concat());
    bench.tpm.tool("tpm2_evictcontrol", &["-C", "o", "-c", "other.ctx", "0x81000001"]);
    bench.tpm.tool("tpm2_flushcontext", &["-t"]);
    bench.tpm.tool("tpm2_readpublic", &["-c", "0x81000001"])
}

/// The attributes of systemd's storage root key.
const SYSTEMD: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt|noda";

#[test]
fn the_storage_root_key_of_systemd_is_used_and_made_again() {
    with_swtpm(TpmOptions { pin: true, ..TpmOptions::default() }, |bench| {
        let before = occupy(bench, &["-G", "ecc", "-a", SYSTEMD]);
        let (opens, signs) = bench.keys();
        assert_eq!(bench.tpm.tool("tpm2_readpublic", &["-c", "0x81000001"]), before);
        assert_eq!(bench.tpm.loaded(), (0, 0));
        for _ in 0..2 {
            let mut device = bench.device();
            bench.opens(&mut *device, &opens);
            signs_once(&mut *device, &(&signs).into(), 1, &mut bench.prompter()).unwrap();
            drop(device);
            assert_eq!(bench.tpm.loaded(), (0, 0));
            // Once it is gone, its template yields it again.
            let _ = Command::new("tpm2_evictcontrol")
                .args(["-C", "o", "-c", "0x81000001"])
                .env("TPM2TOOLS_TCTI", bench.tpm.tcti())
                .output()
                .unwrap();
        }
    });
}

#[test]
fn the_storage_root_key_of_windows_is_used() {
    with_swtpm(TpmOptions { pin: true, ..TpmOptions::default() }, |bench| {
        let before = occupy(bench, &["-G", "rsa2048"]);
        let (opens, signs) = bench.keys();
        assert_eq!(bench.tpm.tool("tpm2_readpublic", &["-c", "0x81000001"]), before);
        let mut device = bench.device();
        bench.opens(&mut *device, &opens);
        signs_once(&mut *device, &(&signs).into(), 1, &mut bench.prompter()).unwrap();
        drop(device);
        assert_eq!(bench.tpm.loaded(), (0, 0));

        // RSA keys take long to make again, so this is not tried.
        bench.tpm.tool("tpm2_evictcontrol", &["-C", "o", "-c", "0x81000001"]);
        let error = open(&mut *bench.device(), &opens, &mut bench.prompter()).unwrap_err();
        assert_eq!(error.kind(), Kind::KeyMissing, "{error}");
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

#[test]
fn a_key_that_is_no_parent_stays_where_it_is() {
    with_swtpm(TpmOptions::default(), |bench| {
        let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
        let before = occupy(bench, &["-G", "ecc256:ecdsa:null", "-a", attributes]);
        let create = |uri: &str| {
            let mut device = connect(&uri.parse().unwrap()).unwrap();
            let provision = device.provisioning().unwrap();
            provision.create(Purpose::Open, Algorithm::P256, &bench.options(), &mut bench.prompter())
        };
        let error = create(&bench.uri()).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error}");
        assert_eq!(bench.tpm.tool("tpm2_readpublic", &["-c", "0x81000001"]), before);
        assert_eq!(bench.tpm.loaded(), (0, 0));

        let elsewhere = bench.uri().replace("tpm:?", "tpm:srk=0x81000002?");
        let key = create(&elsewhere).unwrap();
        bench.opens(&mut *bench.device(), &key);
    });
}

#[test]
fn an_owner_with_a_password_is_said_to_have_one() {
    with_swtpm(TpmOptions::default(), |bench| {
        bench.tpm.tool("tpm2_changeauth", &["-c", "owner", "secret"]);
        let mut device = bench.device();
        let provision = device.provisioning().unwrap();
        let error = provision.create(Purpose::Open, Algorithm::P256, &bench.options(), &mut bench.prompter());
        let error = error.unwrap_err();
        assert!(
            error.message().contains("TPM_RC_BAD_AUTH (0x9a2, session 1) from TPM2_CreatePrimary"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("has an owner password"));
    });
}
