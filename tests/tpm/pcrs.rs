//! Keys that are bound to what was measured at boot.

use crate::on_swtpm::{OnSwtpm, open, with_swtpm};
use base64::Engine;
use std::path::PathBuf;
use std::process::Command;
use strongroom::device::{
    CreateOptions, Device, KeyInfo, KeyRef, Measurement, Prediction, TpmOptions, connect,
};
use strongroom::error::Kind;
use strongroom::prompt::BatchPrompter;
use test_support::device_conformance::Bench;
use test_support::swtpm::run;

const PCRS: &str = "sha256:0,7,16";

fn measured(pcr_policy_key: Option<PathBuf>) -> TpmOptions {
    TpmOptions { pcrs: Some(PCRS.into()), pcr_policy_key, ..TpmOptions::default() }
}

/// What a boot measures.
fn extend(bench: &OnSwtpm<'_>, pcr: u8) {
    bench.tpm.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={}", "ab".repeat(32))]);
}

fn measure(device: &mut dyn Device, key: &KeyInfo, predicted: &[Prediction]) -> Measurement {
    device.pcr_binding().unwrap().measure(&KeyRef::from(key), predicted).unwrap().unwrap()
}

#[test]
fn a_changed_pcr_is_named() {
    with_swtpm(measured(None), |bench| {
        let (opens, signs) = bench.keys();
        bench.opens(&mut *bench.device(), &opens);
        extend(bench, 10);
        bench.opens(&mut *bench.device(), &opens);
        extend(bench, 7);

        let mut device = bench.device();
        let error = open(&mut *device, &opens, &mut BatchPrompter).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{error}");
        assert!(
            error
                .message()
                .starts_with("PCR 7 (Secure Boot state and keys) has changed since the key was made"),
            "{error}"
        );
        let error = device.sign(&KeyRef::from(&signs), &[0; 32], &mut BatchPrompter).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{error}");

        let measurement = measure(&mut *device, &opens, &[]);
        assert_eq!((measurement.changed(), measurement.opens()), (vec![7], false));
        drop(device);
        extend(bench, 16);
        let error = open(&mut *bench.device(), &opens, &mut BatchPrompter).unwrap_err();
        assert!(error.message().starts_with("PCRs 7 and 16 have changed since the key was made"), "{error}");
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

#[test]
fn predicted_values_say_whether_it_will_open() {
    with_swtpm(measured(None), |bench| {
        let (opens, _) = bench.keys();
        let mut device = bench.device();
        let now = measure(&mut *device, &opens, &[]);
        assert!(now.opens());
        let value = now.pcrs.iter().find(|pcr| pcr.index == 7).unwrap().now.clone();
        let predict =
            |bank: &str, index, value: &[u8]| Prediction { bank: bank.into(), index, value: value.into() };
        let same = measure(&mut *device, &opens, &[predict("sha256", 7, &value)]);
        assert!(same.opens() && same.pcrs.iter().any(|pcr| pcr.predicted));
        let other = measure(&mut *device, &opens, &[predict("sha256", 7, &[1; 32])]);
        assert_eq!((other.opens(), other.changed()), (false, vec![7]));
        // Of a bank, and a PCR, that the key is not bound to.
        let aside = [predict("sha1", 7, &[1; 20]), predict("sha256", 9, &[1; 32])];
        assert!(measure(&mut *device, &opens, &aside).opens());
    });
}

#[test]
fn a_device_tells_how_to_bind_new_keys_alike() {
    for options in [measured(None), TpmOptions { pin: true, ..measured(None) }, TpmOptions::default()] {
        with_swtpm(options.clone(), |bench| {
            let (opens, _) = bench.keys();
            let mut device = bench.device();
            let alike = device.pcr_binding().unwrap().bound_alike(&KeyRef::from(&opens)).unwrap();
            assert_eq!(alike, CreateOptions { tpm: options.clone(), ..CreateOptions::default() });
        });
    }
    with_swtpm(TpmOptions::default(), |bench| {
        let signer = Signer::new(bench, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        let bench = &OnSwtpm { tpm: bench.tpm, options: measured(Some(signer.public)), client: bench.client };
        let (opens, _) = bench.keys();
        let mut device = bench.device();
        let error = device.pcr_binding().unwrap().bound_alike(&KeyRef::from(&opens)).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert_eq!(
            error.hint(),
            Some(&*format!("name the signer's key again: --pcrs {PCRS} --pcr-policy-key FILE"))
        );
    });
}

/// A signer of PCR policies, with openssl, as docs/reference/tpm.md tells it.
struct Signer {
    private: PathBuf,
    public: PathBuf,
    signatures: PathBuf,
}

impl Signer {
    fn new(bench: &OnSwtpm<'_>, algorithm: &[&str]) -> Self {
        let path = |name: &str| bench.tpm.dir.join(name);
        let signer = Self {
            private: path("pcr-key.pem"),
            public: path("pcr-key.pub"),
            signatures: path("signatures.json"),
        };
        run(Command::new("openssl").arg("genpkey").args(algorithm).arg("-out").arg(&signer.private));
        run(Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(&signer.private)
            .arg("-out")
            .arg(&signer.public));
        signer
    }

    /// Signs a policy, in place of those before.
    fn sign(&self, measurement: &Measurement) {
        let policy = self.signatures.with_extension("pol");
        std::fs::write(&policy, measurement.policy_digest).unwrap();
        let mut openssl = Command::new("openssl");
        let output =
            openssl.args(["dgst", "-sha256", "-sign"]).arg(&self.private).arg(&policy).output().unwrap();
        assert!(output.status.success());
        let signed = serde_json::json!({"sha256": [{
            "pcrs": measurement.pcrs.iter().map(|pcr| pcr.index).collect::<Vec<_>>(),
            "pol": hex::encode(measurement.policy_digest),
            "sig": base64::prelude::BASE64_STANDARD.encode(output.stdout),
        }]});
        std::fs::write(&self.signatures, signed.to_string()).unwrap();
    }

    fn device(&self, bench: &OnSwtpm<'_>) -> Box<dyn Device> {
        let uri = format!("{}&pcr-signature={}", bench.uri(), self.signatures.display());
        connect(&uri.parse().unwrap()).unwrap()
    }
}

fn a_signed_policy_survives_a_change(algorithm: &[&str]) {
    with_swtpm(TpmOptions::default(), |bench| {
        let signer = Signer::new(bench, algorithm);
        let bench =
            &OnSwtpm { tpm: bench.tpm, options: measured(Some(signer.public.clone())), client: bench.client };
        let (opens, _) = bench.keys();
        let mut device = signer.device(bench);
        let refused = |device: &mut dyn Device| open(device, &opens, &mut BatchPrompter).unwrap_err();
        std::fs::write(&signer.signatures, "{}").unwrap();
        let error = refused(&mut *device);
        assert_eq!(error.kind(), Kind::Refused, "{error}");
        assert!(error.message().starts_with("it has no signature over the current values of"), "{error}");

        signer.sign(&measure(&mut *device, &opens, &[]));
        assert!(measure(&mut *device, &opens, &[]).opens());
        bench.opens(&mut *device, &opens);
        bench.opens(&mut *device, &opens);

        // A change that nobody signed, then somebody did.
        drop(device);
        extend(bench, 7);
        let mut device = signer.device(bench);
        assert!(refused(&mut *device).message().starts_with("PCR 7 changed since enrolment"));
        let changed = measure(&mut *device, &opens, &[]);
        assert_eq!((changed.changed(), changed.opens()), (vec![7], false));
        signer.sign(&changed);
        bench.opens(&mut *device, &opens);

        // Somebody else's signature is nobody's.
        let other = Signer::new(bench, algorithm);
        other.sign(&changed);
        let error = refused(&mut *device);
        assert_eq!(error.kind(), Kind::Refused, "{error}");
        assert!(error.message().contains("by the enrolled key"), "{error}");
        drop(device);
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

#[test]
fn a_policy_signed_with_ecdsa_survives_a_change() {
    a_signed_policy_survives_a_change(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
}

#[test]
fn a_policy_signed_with_rsa_survives_a_change() {
    a_signed_policy_survives_a_change(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    with_swtpm(TpmOptions::default(), |bench| {
        use strongroom::device::{Algorithm, Purpose};
        let refused = |options: TpmOptions, kind| {
            let bench = OnSwtpm { tpm: bench.tpm, options, client: bench.client };
            let mut device = bench.device();
            let create = device.provisioning().unwrap();
            let error = create.create(Purpose::Open, Algorithm::P256, &bench.options(), &mut BatchPrompter);
            let error = error.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        };
        let signer = Signer::new(bench, &["-algorithm", "ED25519"]);
        refused(measured(Some(signer.public)), Kind::Unsupported);
        refused(measured(Some(signer.private)), Kind::Usage);
        refused(measured(Some("/nonexistent/key".into())), Kind::Io);
        let signer = Signer::new(bench, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        refused(TpmOptions { pcr_policy_key: Some(signer.public), ..TpmOptions::default() }, Kind::Usage);
        refused(TpmOptions { pcrs: Some("sha512:99".into()), ..TpmOptions::default() }, Kind::Usage);
        refused(TpmOptions { persistent: Some(0x8000_0000), ..TpmOptions::default() }, Kind::Usage);
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}
