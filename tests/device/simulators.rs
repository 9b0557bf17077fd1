//! The conformance suite on every simulator there is.

use crate::conformance::{Bench, conforms};
use crate::prompter::Scripted;
use crate::softhsm::{self, LABEL, PIN, isolated};
use strongroom::device::watchdog::{self, Watchdog};
use strongroom::device::{Algorithm, Device};
use strongroom::uri::DeviceUri;

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
}

/// The same behind a watchdog.
struct Watched(Algorithm);

impl Bench for Watched {
    fn device(&self) -> Box<dyn Device> {
        Box::new(Watchdog::connect(&uri(), watchdog::PATIENCE).unwrap())
    }

    fn prompter(&self) -> Scripted {
        Scripted::pin(PIN)
    }

    fn algorithm(&self) -> Algorithm {
        self.0
    }
}

#[test]
fn softhsm_p256() {
    isolated(|_| conforms(&OnSoftHsm(Algorithm::P256)));
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
fn softhsm_behind_a_watchdog() {
    isolated(|_| [Algorithm::P256, Algorithm::Aes256].map(Watched).iter().for_each(|bench| conforms(bench)));
}
