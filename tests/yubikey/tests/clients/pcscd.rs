//! The card behind a real pcscd.

use crate::third_party::{self, Desk};
use crate::{library, sharing};
use std::cell::Cell;
use test_support::pcscd::{PORT, Pcscd, in_namespaces, plug, wait};
use test_support::yubikey::{Options, Service};
use yubikey::{Serial, YubiKey};

#[test]
fn other_peoples_programs_accept_the_card() {
    if !third_party::programs() {
        return;
    }
    in_namespaces(|| {
        let directory = tempfile::tempdir().unwrap();
        let _pcscd = Pcscd::start(directory.path());
        let cards = tempfile::tempdir().unwrap();
        let service = Service::start(cards.path()).unwrap();
        let old =
            service.add(&Options { serial: 10_001, firmware: [5, 4, 3], ..Options::default() }).unwrap();
        let new =
            service.add(&Options { serial: 10_002, firmware: [5, 7, 1], ..Options::default() }).unwrap();
        let root = cards.path().join("root.pem");
        std::fs::write(&root, old.authority().pem()).unwrap();

        let place = Cell::new(Some(plug(&old, PORT)));
        sharing::resets();
        sharing::transactions();
        sharing::exclusive();
        sharing::removal(|| place.set(None), || place.set(Some(plug(&old, PORT))));

        let _second = plug(&new, PORT + 1);
        wait(|| YubiKey::open_by_serial(Serial(10_002)).is_ok());
        library::calls(10_001, (5, 4, 3));
        library::calls(10_002, (5, 7, 1));
        let desk = Desk { dir: cards.path().into(), environment: Vec::new(), old: 10_001, new: 10_002 };
        third_party::administration(&desk, &root);
        third_party::key_operations(&desk);
        third_party::as_a_token(&desk);
    });
}
