//! The conformance suite on every simulator there is.

use std::path::Path;
use std::process::Command;
use strongroom::device::{Algorithm, Device};
use strongroom::uri::DeviceUri;
use test_support::device_conformance::{Bench, conforms};
use test_support::prompter::Scripted;
use test_support::softhsm::{self, LABEL, PIN, SoftHsm, isolated};

fn uri() -> DeviceUri {
    format!("pkcs11:token={LABEL}?module-path={}", softhsm::module().unwrap().display()).parse().unwrap()
}

/// SoftHSM with opening keys of one algorithm.
struct OnSoftHsm(Algorithm);

impl Bench for OnSoftHsm {
    fn device(&self) -> Box<dyn Device> {
        strongroom::device::connect(&uri()).unwrap()
    }

    fn prompter(&self) -> Scripted {
        Scripted::pin(PIN)
    }

    fn algorithm(&self) -> Algorithm {
        self.0
    }

    fn signing(&self) -> Algorithm {
        if self.0 == Algorithm::P384 { Algorithm::P384 } else { Algorithm::P256 }
    }
}

#[test]
fn softhsm_p256() {
    isolated(|_| conforms(&OnSoftHsm(Algorithm::P256)));
}

#[test]
fn softhsm_p384() {
    isolated(|_| conforms(&OnSoftHsm(Algorithm::P384)));
}

#[test]
fn softhsm_rsa() {
    isolated(|_| conforms(&OnSoftHsm(Algorithm::Rsa(2048))));
}

#[test]
fn softhsm_aes() {
    isolated(|_| conforms(&OnSoftHsm(Algorithm::Aes256)));
}

#[test]
fn the_script_makes_a_token_once() {
    let Some(hsm) = SoftHsm::new() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("softhsm/make-token");
    let dir = hsm.dir.join("it's a directory & more");
    for _ in 0..2 {
        let mut shell = Command::new("sh");
        shell.args(["-euc", r#"eval "$("$1" "$2" "my HSM")"; echo "$SOFTHSM2_CONF"; echo "$DEVICE""#, "sh"]);
        let output = shell.args([&script, &dir]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let (conf, device) = said.trim_end().split_once('\n').unwrap();
        assert_eq!(Path::new(conf), dir.join("softhsm2.conf"));
        let device: DeviceUri = device.parse().unwrap();
        assert_eq!((device.token(), device.module_path().is_some()), (Some("my HSM"), true));

        let slots =
            Command::new("softhsm2-util").arg("--show-slots").env("SOFTHSM2_CONF", conf).output().unwrap();
        let slots = String::from_utf8_lossy(&slots.stdout).into_owned();
        assert_eq!(slots.matches("my HSM").count(), 1, "{slots}");
    }
}
