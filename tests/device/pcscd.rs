//! Other people's modules for YubiKeys, over the virtual one behind a real pcscd, whose cards others may hold and reset.

use crate::other_modules::library;
use crate::ykcs11::once;
use pcsc::{Context, Disposition, Protocols, Scope, ShareMode};
use std::path::Path;
use std::time::Duration;
use strongroom::device::{
    Algorithm, CreateOptions, Device, KeyRef, PrivateOperation, PublicKey, Purpose, connect,
};
use strongroom::error::{Kind, Result};
use test_support::device_conformance::{exchange, signs_once};
use test_support::pcscd::{PORT, Pcscd, in_namespaces, plug, wait};
use test_support::prompter::Scripted;
use test_support::yubikey::{Options, PIN, Service, YubiKey};

/// A card behind a pcscd, and two keys in it: for opening, and for signing, which wants the PIN every time.
struct Card {
    key: YubiKey,
    keys: [KeyRef; 2],
}

/// Runs a test with a card in namespaces of its own.
fn with_card<F: FnOnce(&Card)>(test: F) {
    let (directory, cards) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _pcscd = Pcscd::start(directory.path());
    let key = Service::start(cards.path()).unwrap().add(&Options::default()).unwrap();
    let _place = plug(&key, PORT);
    wait(|| connect(&"piv:".parse().unwrap()).is_ok());
    let mut piv = connect(&"piv:".parse().unwrap()).unwrap();
    let made =
        [(Purpose::Open, once()), (Purpose::Sign, CreateOptions::default())].map(|(purpose, options)| {
            let prompter = &mut Scripted::pin(PIN);
            let made = piv.provisioning().unwrap().create(purpose, Algorithm::P256, &options, prompter);
            KeyRef::from(&made.unwrap())
        });
    drop(piv);
    test(&Card { key, keys: made });
}

fn device(module: &Path) -> Result<Box<dyn Device>> {
    connect(&format!("pkcs11:?module-path={}", module.display()).parse().unwrap())
}

fn opens(device: &mut dyn Device, key: &KeyRef, prompter: &mut Scripted) -> Result<()> {
    let (peer, expected) = exchange(&key.public);
    assert_eq!(device.open_key(key, PrivateOperation::Ecdh { peer: &peer }, prompter)?[..], expected);
    Ok(())
}

/// The card as another process sees it, which holds it or resets it.
fn other() -> Context {
    Context::establish(Scope::User).unwrap()
}

fn held(context: &Context, mode: ShareMode) -> pcsc::Card {
    let readers = context.list_readers_owned().unwrap();
    context.connect(&readers[0], mode, Protocols::ANY).unwrap()
}

fn reset(context: &Context) {
    let disconnected = held(context, ShareMode::Shared).disconnect(Disposition::ResetCard);
    disconnected.map_err(|(_, error)| error).unwrap();
}

/// What a driver promises, as far as it goes where another driver makes the keys.
fn conforms(card: &Card, module: &Path) {
    let [opening, signing] = &card.keys;
    let mut prompter = Scripted::pin(PIN);
    for _ in 0..2 {
        let mut device = device(module).unwrap();
        assert!(!device.identity().label.is_empty());
        for key in &card.keys {
            assert!(device.has_key(key, &mut prompter).unwrap());
        }
        for byte in 1..4 {
            opens(&mut *device, opening, &mut prompter).unwrap();
            signs_once(&mut *device, signing, byte, &mut prompter).unwrap();
        }
        let mut stranger = opening.clone();
        stranger.public = PublicKey::from_point(&exchange(&opening.public).0).unwrap();
        assert!(!device.has_key(&stranger, &mut prompter).unwrap());
        assert_eq!(opens(&mut *device, &stranger, &mut prompter).unwrap_err().kind(), Kind::KeyMissing);
        let garbage = PrivateOperation::Ecdh { peer: &[0; 65] };
        assert_eq!(device.open_key(opening, garbage, &mut prompter).unwrap_err().kind(), Kind::Device);
        opens(&mut *device, opening, &mut prompter).unwrap();
    }
    assert_eq!(prompter.pins, 2, "one for each connection");
}

/// Another process resets the card between operations, which logs it out.
fn survives_resets(card: &Card, module: &Path) {
    let [opening, signing] = &card.keys;
    let (context, mut prompter) = (other(), Scripted::pin(PIN));
    let mut device = device(module).unwrap();
    for byte in 1..4 {
        opens(&mut *device, opening, &mut prompter).unwrap();
        reset(&context);
        signs_once(&mut *device, signing, byte, &mut prompter).unwrap();
        reset(&context);
    }
    assert_eq!(prompter.pins, 1);
}

/// Another process holds the card for a while, and then lets others in.
fn waits_for_others(card: &Card, module: &Path) {
    let (context, mut prompter) = (other(), Scripted::pin(PIN));
    let mut device = device(module).unwrap();
    opens(&mut *device, &card.keys[0], &mut prompter).unwrap();
    std::thread::scope(|scope| {
        let mut other = held(&context, ShareMode::Shared);
        scope.spawn(move || {
            let transaction = other.transaction().unwrap();
            std::thread::sleep(Duration::from_millis(300));
            transaction.end(Disposition::LeaveCard).map_err(|(_, error)| error).unwrap();
        });
        std::thread::sleep(Duration::from_millis(50));
        opens(&mut *device, &card.keys[0], &mut prompter).unwrap();
    });
}

/// Another process has the card for itself.
fn says_who_has_the_card(card: &Card, module: &Path) {
    let context = other();
    let exclusive = held(&context, ShareMode::Exclusive);
    let mut prompter = Scripted::pin(PIN);
    let refused = device(module).and_then(|mut device| opens(&mut *device, &card.keys[0], &mut prompter));
    let kind = refused.unwrap_err().kind();
    assert!(matches!(kind, Kind::DeviceGone | Kind::Device | Kind::KeyMissing), "{kind:?}");
    drop(exclusive);
    opens(&mut *device(module).unwrap(), &card.keys[0], &mut prompter).unwrap();
}

fn whole(card: &Card, module: &Path) {
    conforms(card, module);
    survives_resets(card, module);
    waits_for_others(card, module);
    says_who_has_the_card(card, module);
    assert_eq!(card.key.card().memory().pin.left, 3);
}

#[test]
fn ykcs11_behind_pcscd() {
    let Some(module) = library("libykcs11.so.2", "ykcs11") else { return };
    in_namespaces(|| with_card(|card| whole(card, &module)));
}

#[test]
fn opensc_behind_pcscd() {
    let Some(module) = library("opensc-pkcs11.so", "opensc-pkcs11") else { return };
    in_namespaces(|| with_card(|card| whole(card, &module)));
}
