//! How many calls a module gets: every one is a round trip to a network HSM or a slow card.

use crate::shim::Shim;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use strongroom::device::{Algorithm, CreateOptions, KeyRef, PrivateOperation, Purpose, connect};
use test_support::prompter::Scripted;
use test_support::softhsm::{PIN, isolated};

#[test]
fn opening_takes_the_fewest_calls() {
    isolated(|hsm| {
        let shim = Shim::new(hsm);
        let mut device = connect(&shim.uri().parse().unwrap()).unwrap();
        let mut prompter = Scripted::pin(PIN);
        let key = device
            .provisioning()
            .unwrap()
            .create(Purpose::Open, Algorithm::P256, &CreateOptions::default(), &mut prompter)
            .unwrap();
        drop(device);

        let key = KeyRef::from(&key);
        let peer = p256::SecretKey::random(&mut rand_core::OsRng).public_key().to_encoded_point(false);
        let challenge = PrivateOperation::Ecdh { peer: peer.as_bytes() };
        let before = shim.calls().len();
        let mut device = connect(&shim.uri().parse().unwrap()).unwrap();
        device.open_key(&key, challenge, &mut prompter).unwrap();
        let first = [
            &["C_Initialize"][..],
            // How many slots, which slots; the token's and the free one's facts.
            &["C_GetSlotList", "C_GetSlotList", "C_GetTokenInfo", "C_GetTokenInfo"],
            &["C_OpenSession", "C_Login"],
            // One search; the class of the private and the public object; the point's length and the point.
            &["C_FindObjectsInit", "C_GetAttributeValue", "C_GetAttributeValue"],
            &["C_GetAttributeValue", "C_GetAttributeValue"],
            // The derived secret's length and the secret, which is destroyed.
            &["C_DeriveKey", "C_GetAttributeValue", "C_GetAttributeValue", "C_DestroyObject"],
        ];
        assert_eq!(shim.calls()[before..], first.concat());

        let before = shim.calls().len();
        device.open_key(&key, challenge, &mut prompter).unwrap();
        let again = ["C_DeriveKey", "C_GetAttributeValue", "C_GetAttributeValue", "C_DestroyObject"];
        assert_eq!(shim.calls()[before..], again);

        let before = shim.calls().len();
        drop(device);
        assert_eq!(shim.calls()[before..], ["C_Finalize"]);
    });
}
