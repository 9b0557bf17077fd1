//! The `piv` driver on the virtual YubiKey.

use strongroom::device::{Algorithm, CreateOptions, Device, KeyInfo, PrivateOperation, Purpose, connect};
use strongroom::error::Result;
use strongroom::prompt::Prompter;
use test_support::device_conformance::{Bench, conforms, exchange};
use test_support::prompter::Scripted;
use test_support::yubikey::{Options, PIN, VirtualYubiKey, isolated};

mod discovery;
mod evidence;
mod faults;
mod interruptions;
mod management;
mod pins;
pub mod slots;
mod touch;

/// A virtual YubiKey on the conformance suite's bench, with opening keys of one algorithm.
struct OnYubiKey<'a>(&'a VirtualYubiKey, Algorithm);

impl Bench for OnYubiKey<'_> {
    fn device(&self) -> Box<dyn Device> {
        device(self.0)
    }

    fn prompter(&self) -> Scripted {
        Scripted::pin(PIN)
    }

    fn algorithm(&self) -> Algorithm {
        self.1
    }

    fn signing(&self) -> Algorithm {
        if self.1 == Algorithm::P384 { Algorithm::P384 } else { Algorithm::P256 }
    }
}

#[test]
fn conformance() {
    isolated(Options::default(), |yubikey| conforms(&OnYubiKey(yubikey, Algorithm::P256)));
}

#[test]
fn conformance_with_p384() {
    isolated(Options::default(), |yubikey| conforms(&OnYubiKey(yubikey, Algorithm::P384)));
}

/// An older YubiKey: a 3DES management key, and no way to remove keys.
fn older() -> Options {
    Options { firmware: [5, 4, 3], ..Options::default() }
}

/// The YubiKey, or another on the same service, by a URI with more attributes.
fn device_at(uri: &str) -> Box<dyn Device> {
    connect(&uri.parse().unwrap()).unwrap()
}

fn device(yubikey: &VirtualYubiKey) -> Box<dyn Device> {
    device_at(&yubikey.uri())
}

/// Why a URI does not connect.
fn not_connected(uri: &str) -> strongroom::Error {
    connect(&uri.parse().unwrap()).err().expect("it is not to be reached")
}

fn create_as(device: &mut dyn Device, purpose: Purpose, options: &CreateOptions) -> Result<KeyInfo> {
    device.provisioning().unwrap().create(purpose, Algorithm::P256, options, &mut Scripted::pin(PIN))
}

fn create(device: &mut dyn Device, purpose: Purpose) -> KeyInfo {
    create_as(device, purpose, &CreateOptions::default()).unwrap()
}

/// Options with these policies.
fn guarded_by(pin: &str, touch: &str) -> CreateOptions {
    let mut options = CreateOptions::default();
    options.piv.pin_policy = Some(pin.into());
    options.piv.touch_policy = Some(touch.into());
    options
}

/// Opens something with a key; fails unless the answer is right.
fn open(device: &mut dyn Device, key: &KeyInfo, prompter: &mut dyn Prompter) -> Result<()> {
    let (peer, expected) = exchange(&key.public);
    let shared = device.open_key(&key.into(), PrivateOperation::Ecdh { peer: &peer }, prompter)?;
    assert_eq!(shared[..], expected);
    Ok(())
}
