//! What can be done without anything of Strongroom's: open a context, start a salted session, load the key, one TPM2_ECDH_ZGen
//! whose parameters are encrypted both ways.

use std::path::Path;
use std::str::FromStr;
use tss_esapi::attributes::{ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{KeyHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Private, Public, PublicBuilder,
    PublicEccParametersBuilder, SymmetricDefinition,
};
use tss_esapi::traits::{Marshall, UnMarshall};
use tss_esapi::{Context, TctiNameConf};

/// The storage root key, which is there already.
const PARENT: u32 = 0x8100_0001;

pub struct Bare {
    context: Context,
    key: KeyHandle,
    session: AuthSession,
    /// Any point of the curve: here the key's own.
    peer: EccPoint,
}

impl Bare {
    pub fn load(tcti: &str, directory: &Path) -> Self {
        let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
        let (public, private) = (read("bare.pub"), read("bare.priv"));
        let (public, private) = (Public::unmarshall(&public).unwrap(), Private::try_from(private).unwrap());
        let Public::Ecc { unique: peer, .. } = public.clone() else { panic!("it is EC") };
        let (mut context, parent) = connect(tcti);
        let session = context.execute_without_session(|context| {
            let (symmetric, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
            context.start_auth_session(Some(parent), None, None, SessionType::Hmac, symmetric, hash)
        });
        let session = session.unwrap().unwrap();
        let (attributes, mask) =
            SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
        context.tr_sess_set_attributes(session, attributes, mask).unwrap();
        let key = context.execute_with_session(Some(AuthSession::Password), |context| {
            context.load(parent, private, public)
        });
        Self { key: key.unwrap(), context, session, peer }
    }

    pub fn agree(&mut self) {
        let (key, peer) = (self.key, self.peer.clone());
        let shared =
            self.context.execute_with_session(Some(self.session), |context| context.ecdh_z_gen(key, peer));
        assert!(!shared.unwrap().x().value().is_empty());
    }
}

/// Makes the key: without policy, used by an empty authValue.
pub fn make(tcti: &str, directory: &Path) {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_decrypt(true)
        .build();
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(EccScheme::EcDh(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_is_decryption_key(true)
        .with_restricted(false)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .build();
    let template = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes.unwrap())
        .with_ecc_parameters(parameters.unwrap())
        .with_ecc_unique_identifier(EccPoint::default())
        .build();
    let (mut context, parent) = connect(tcti);
    let made = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.create(parent, template.unwrap(), None, None, None, None)
    });
    let made = made.unwrap();
    std::fs::write(directory.join("bare.pub"), made.out_public.marshall().unwrap()).unwrap();
    std::fs::write(directory.join("bare.priv"), made.out_private.value()).unwrap();
}

fn connect(tcti: &str) -> (Context, KeyHandle) {
    let mut context = Context::new(TctiNameConf::from_str(tcti).unwrap()).unwrap();
    let handle = TpmHandle::Persistent(PersistentTpmHandle::new(PARENT).unwrap());
    let parent = context.execute_without_session(|context| context.tr_from_tpm_public(handle)).unwrap();
    (context, parent.into())
}
