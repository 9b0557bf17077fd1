//! A module that hangs.

use crate::prompter::Scripted;
use crate::shim::Shim;
use crate::softhsm::{LABEL, PIN, SoftHsm, isolated, isolated_with};
use std::time::{Duration, Instant};
use strongroom::device::watchdog::Watchdog;
use strongroom::device::{Algorithm, CreateOptions, Device, KeyRef, Provision, Purpose, connect};
use strongroom::error::{Kind, Result};
use strongroom::prompt::{PinRequest, Prompter};
use strongroom::secret::Secret;

const PATIENCE: Duration = Duration::from_millis(300);

fn signing_key(hsm: &SoftHsm) -> KeyRef {
    let mut device = connect(&hsm.uri_without_pin(&format!("token={LABEL}")).parse().unwrap()).unwrap();
    let provision = device.provisioning().unwrap();
    (&provision
        .create(Purpose::Sign, Algorithm::P256, &CreateOptions::default(), &mut Scripted::pin(PIN))
        .unwrap())
        .into()
}

#[test]
fn a_hung_module_is_given_up() {
    isolated_with(&[("SHIM_HANG", "1")], |hsm| {
        let key = signing_key(hsm);
        let began = Instant::now();
        let mut device = Watchdog::connect(&Shim::new(hsm).uri().parse().unwrap(), PATIENCE).unwrap();
        let mut prompter = Scripted::pin(PIN);
        let error = device.sign(&key, &[0; 32], &mut prompter).unwrap_err();
        assert_eq!(error.kind(), Kind::Device);
        assert_eq!(error.message(), "the device has not answered for 300ms");

        // It is not asked again, and does not keep the process from ending.
        let asked = Instant::now();
        assert_eq!(device.sign(&key, &[0; 32], &mut prompter).unwrap_err().kind(), Kind::Device);
        device.lock();
        assert!(asked.elapsed() < PATIENCE);
        drop(device);
        assert!(began.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn a_person_may_take_their_time() {
    isolated(|hsm| {
        let uri = hsm.uri_without_pin(&format!("token={LABEL}")).parse().unwrap();
        let mut device = Watchdog::connect(&uri, PATIENCE).unwrap();
        device.create(Purpose::Sign, Algorithm::P256, &CreateOptions::default(), &mut Slow).unwrap();
    });
}

/// Types the PIN slower than a device may answer.
struct Slow;

impl Prompter for Slow {
    fn pin(&mut self, _request: &PinRequest<'_>) -> Result<Secret> {
        std::thread::sleep(PATIENCE * 2);
        Ok(Secret::new(PIN.into()))
    }

    fn touch(&mut self, _why: &str) -> Result<()> {
        Ok(())
    }

    fn confirm(&mut self, _question: &str) -> Result<bool> {
        Ok(false)
    }
}
