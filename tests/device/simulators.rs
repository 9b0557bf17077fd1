//! The conformance suite on every simulator there is.

use crate::conformance::{Bench, conforms};
use crate::prompter::Scripted;
use crate::softhsm::{self, LABEL, PIN, isolated};
use strongroom::device::{Algorithm, Device};

/// SoftHSM with opening keys of one algorithm.
struct OnSoftHsm(Algorithm);

impl Bench for OnSoftHsm {
    fn device(&self) -> Box<dyn Device> {
        let module = softhsm::module().unwrap();
        let uri = format!("pkcs11:token={LABEL}?module-path={}", module.display());
        strongroom::device::connect(&uri.parse().unwrap()).unwrap()
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
