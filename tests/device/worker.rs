//! A module that hangs does not stop its caller.

use crate::shim::Shim;
use std::time::{Duration, Instant};
use strongroom::device::{
    Algorithm, CreateOptions, DeviceWorker, KeyInfo, PrivateOperation, PublicKey, Purpose, connect,
};
use strongroom::error::{Kind, Result};
use strongroom::prompt::{PinRequest, Prompter};
use strongroom::secret::Secret;
use test_support::prompter::Scripted;
use test_support::softhsm::{LABEL, PIN, SoftHsm, isolated, isolated_with};

const PATIENCE: Duration = Duration::from_millis(300);

fn create(hsm: &SoftHsm, purpose: Purpose) -> KeyInfo {
    let mut device = connect(&hsm.uri_without_pin(&format!("token={LABEL}")).parse().unwrap()).unwrap();
    let provision = device.provisioning().unwrap();
    let options = CreateOptions::default();
    provision.create(purpose, Algorithm::P256, &options, &mut Scripted::pin(PIN)).unwrap()
}

fn sign(worker: &DeviceWorker, key: &KeyInfo) -> Result<Vec<u8>> {
    let key = key.into();
    worker
        .call("sign", &mut Scripted::pin(PIN), move |device, prompter| device.sign(&key, &[0; 32], prompter))
}

#[test]
fn a_hung_module_is_given_up() {
    isolated_with(&[("SHIM_HANG", "C_Sign")], |hsm| {
        let key = create(hsm, Purpose::Sign);
        let began = Instant::now();
        let worker = DeviceWorker::connect(&Shim::new(hsm).uri().parse().unwrap(), PATIENCE).unwrap();
        let error = sign(&worker, &key).unwrap_err();
        assert_eq!(error.kind(), Kind::Device);
        assert_eq!(error.message(), "the device has not answered for 300ms");

        // It is not asked again, and does not keep the process from ending.
        let asked = Instant::now();
        assert_eq!(sign(&worker, &key).unwrap_err().kind(), Kind::Device);
        worker.lock();
        assert!(asked.elapsed() < PATIENCE);
        drop(worker);
        assert!(began.elapsed() < Duration::from_secs(20));
    });
}

/// After twice its time a new thread is tried: here it is asked, and hangs again.
#[test]
fn a_thread_that_hung_is_replaced() {
    isolated_with(&[("SHIM_HANG", "C_Sign")], |hsm| {
        let key = create(hsm, Purpose::Sign);
        let shim = Shim::new(hsm);
        let worker = DeviceWorker::connect(&shim.uri().parse().unwrap(), PATIENCE).unwrap();
        sign(&worker, &key).unwrap_err();
        assert_eq!(shim.count("C_Sign"), 1);
        std::thread::sleep(PATIENCE * 2);
        sign(&worker, &key).unwrap_err();
        assert_eq!(shim.count("C_Sign"), 2);
    });
}

fn is_given_up_in(hsm: &SoftHsm, call: &str) {
    let key = create(hsm, Purpose::Open);
    let PublicKey::P256(peer) = key.public.clone() else { panic!("{:?}", key.public) };
    let shim = Shim::new(hsm);
    let began = Instant::now();
    let opened = DeviceWorker::connect(&shim.uri().parse().unwrap(), PATIENCE).and_then(|worker| {
        let key = (&key).into();
        worker.call("open", &mut Scripted::pin(PIN), move |device, prompter| {
            device.open_key(&key, PrivateOperation::Ecdh { peer: &peer }, prompter)
        })
    });
    assert_eq!(opened.unwrap_err().message(), "the device has not answered for 300ms");
    assert_eq!(shim.count(call), 1, "{:?}", shim.calls());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_module_that_hangs_in_initialize_is_given_up() {
    isolated_with(&[("SHIM_HANG", "C_Initialize")], |hsm| is_given_up_in(hsm, "C_Initialize"));
}

#[test]
fn a_module_that_hangs_in_get_slot_list_is_given_up() {
    isolated_with(&[("SHIM_HANG", "C_GetSlotList")], |hsm| is_given_up_in(hsm, "C_GetSlotList"));
}

#[test]
fn a_module_that_hangs_in_login_is_given_up() {
    isolated_with(&[("SHIM_HANG", "C_Login")], |hsm| is_given_up_in(hsm, "C_Login"));
}

#[test]
fn a_module_that_hangs_in_derive_key_is_given_up() {
    isolated_with(&[("SHIM_HANG", "C_DeriveKey")], |hsm| is_given_up_in(hsm, "C_DeriveKey"));
}

/// Long enough to make a key on a busy machine.
const LONGER: Duration = Duration::from_millis(1500);

#[test]
fn a_person_may_take_their_time() {
    isolated(|hsm| {
        let uri = hsm.uri_without_pin(&format!("token={LABEL}")).parse().unwrap();
        let worker = DeviceWorker::connect(&uri, LONGER).unwrap();
        let create = |device: &mut dyn strongroom::device::Device, prompter: &mut dyn Prompter| {
            let provision = device.provisioning().unwrap();
            provision.create(Purpose::Sign, Algorithm::P256, &CreateOptions::default(), prompter)
        };
        worker.call("create the key", &mut Slow, create).unwrap();
    });
}

/// Types the PIN slower than a device may answer.
struct Slow;

impl Prompter for Slow {
    fn pin(&mut self, _request: &PinRequest<'_>) -> Result<Secret> {
        std::thread::sleep(LONGER * 2);
        Ok(Secret::new(PIN.into()))
    }

    fn touch(&mut self, _why: &str) -> Result<()> {
        Ok(())
    }

    fn confirm(&mut self, _question: &str) -> Result<bool> {
        Ok(false)
    }
}
