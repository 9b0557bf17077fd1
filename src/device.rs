//! A device: enrolled hardware with two keys, one that opens and one that signs.
//!
//! A driver implements [`Device`]; abilities that only some have are traits of their own, asked for. The drivers do raw
//! private-key operations and nothing else: stanzas are `seal`'s business, statements are the ledger's.
//!
//! A device belongs to one thread at a time. Closing is `Drop`: sessions first, then the login, then the module.

use crate::error::{Error, Kind, Result};
use crate::prompt::Prompter;
use crate::uri::{DeviceUri, Scheme};
use zeroize::Zeroizing;

#[cfg(feature = "certificates")]
pub mod certificates;
mod key;
mod options;
mod pcr;
pub mod pin;
#[cfg(feature = "piv")]
pub mod piv;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
#[cfg(feature = "tpm")]
pub mod tpm;
mod worker;

pub use key::{
    ALLOW_UNATTESTED, Algorithm, Evidence, EvidenceLevel, KeyInfo, KeyRef, OaepHash, PublicKey, Purpose,
    RSA_BYTES,
};
pub use options::{CreateOptions, PivOptions, TpmOptions};
pub use pcr::{Measurement, PcrBinding, PcrState, Prediction};
pub use worker::{DeviceJob, DeviceOwner, DeviceWorker, PATIENCE, within};

/// A device's description of itself: claims, not proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// Which driver speaks to it.
    pub scheme: Scheme,
    /// Manufacturer, trimmed of padding.
    pub maker: String,
    /// Model, trimmed of padding.
    pub model: String,
    /// Serial number. Not always unique.
    pub serial: String,
    /// Firmware version, `major.minor`.
    pub firmware: String,
    /// The device's own label (PKCS#11: the token label).
    pub label: String,
    /// SoftHSM, swtpm, a virtual card.
    pub simulator: bool,
}

impl DeviceIdentity {
    /// The description of a device that did not respond.
    pub fn unknown(scheme: Scheme) -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            scheme,
            maker: unknown(),
            model: unknown(),
            serial: String::new(),
            firmware: unknown(),
            label: scheme.name().into(),
            simulator: false,
        }
    }
}

/// The private-key operation that opens a sealed token.
#[derive(Clone, Copy, Debug)]
pub enum PrivateOperation<'a> {
    /// Raw ECDH: the peer's uncompressed point (on the key's curve: the caller checked) in, the x-coordinate out, 32 or 48 bytes.
    Ecdh {
        /// SEC1 uncompressed point, 65 or 97 bytes.
        peer: &'a [u8],
    },
    /// RSA-OAEP decryption with an empty label.
    Oaep {
        /// Hash and MGF1 hash.
        hash: OaepHash,
        /// As long as the modulus.
        ciphertext: &'a [u8],
    },
    /// AES-256-GCM decryption, 128-bit tag at the ciphertext's end.
    AesGcm {
        /// 96-bit nonce.
        iv: &'a [u8; 12],
        /// Additional authenticated data.
        aad: &'a [u8],
        /// Ciphertext and tag.
        ciphertext: &'a [u8],
    },
}

/// One piece of hardware, connected.
pub trait Device: Send {
    /// Its description of itself. Unknown parts may become known later.
    fn identity(&mut self) -> DeviceIdentity;

    /// The device in the user's words, for errors and prompts: its URI without module path and PIN source.
    fn name(&self) -> &str;

    /// Strongroom's keys in it: the opening and the signing key, if they exist. Logs in if that is necessary.
    ///
    /// # Errors
    /// `KeyMissing` when more than one object answers to a key's name; `Evidence` is judged by the caller.
    fn keys(&mut self, prompter: &mut dyn Prompter) -> Result<Vec<KeyInfo>>;

    /// As [`Device::keys`], for keys that are to be enrolled: the options may name roots for their evidence.
    ///
    /// # Errors
    /// As [`Device::keys`]; `Evidence` if a driver knows more about the reason than [`Evidence::check`].
    fn keys_judged_by(
        &mut self,
        _options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<Vec<KeyInfo>> {
        self.keys(prompter)
    }

    /// Whether an enrolled key is one of this device's. Devices that store keys outside themselves look at the material.
    ///
    /// # Errors
    /// As [`Device::keys`].
    fn has_key(&mut self, key: &KeyRef, prompter: &mut dyn Prompter) -> Result<bool> {
        let keys = self.keys(prompter)?;
        Ok(keys.iter().any(|own| own.purpose == key.purpose && own.public == key.public))
    }

    /// Answers a challenge with `key`: the ECDH x-coordinate (32 bytes) or the decrypted bytes.
    ///
    /// # Errors
    /// `KeyMissing`, `Device`, `DeviceGone`, `PinWrong`, `PinLocked`, `PinUnavailable`.
    fn open_key(
        &mut self,
        key: &KeyRef,
        challenge: PrivateOperation<'_>,
        prompter: &mut dyn Prompter,
    ) -> Result<Zeroizing<Vec<u8>>>;

    /// ECDSA over a digest as long as the curve's field: r ‖ s, 64 or 96 bytes, either half of s. With an RSA key, RSASSA-PSS over 32
    /// bytes: as long as the modulus.
    ///
    /// # Errors
    /// As [`Device::open_key`].
    fn sign(&mut self, key: &KeyRef, digest: &[u8], prompter: &mut dyn Prompter) -> Result<Vec<u8>>;

    /// Forgets the PIN and logs out. The next private operation asks again.
    fn lock(&mut self);

    /// Creating and destroying keys.
    fn provisioning(&mut self) -> Option<&mut dyn Provision>;

    /// Sealing inside the device: only symmetric opening keys need it.
    fn wrapping(&mut self) -> Option<&mut dyn KeyWrap> {
        None
    }

    /// More sessions on the same login, for devices that answer several at once.
    fn parallel(&mut self) -> Option<&mut dyn Parallel> {
        None
    }

    /// Counters that only go up, for devices that have them.
    fn monotonic_counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
        None
    }

    /// Keys that are bound to what was measured at boot, for devices that have them.
    fn pcr_binding(&mut self) -> Option<&mut dyn PcrBinding> {
        None
    }
}

/// Creating and destroying keys.
pub trait Provision {
    /// Creates a key that cannot leave the device, and reads its attributes back to check that.
    ///
    /// # Errors
    /// `Unsupported` when the device has no mechanism for the algorithm, or an option is another driver's; `Conflict` when
    /// the key already exists.
    fn create(
        &mut self,
        purpose: Purpose,
        algorithm: Algorithm,
        options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<KeyInfo>;

    /// The algorithms of keys that it can make for a purpose, best first: P-256, P-384, RSA, then AES.
    fn algorithms(&mut self, purpose: Purpose) -> Result<Vec<Algorithm>>;

    /// Destroys one of Strongroom's keys. Tokens sealed only to it are lost.
    fn destroy(&mut self, key: &KeyInfo, prompter: &mut dyn Prompter) -> Result<()>;
}

/// Encrypting inside the device, with a key that never leaves it.
pub trait KeyWrap {
    /// AES-256-GCM encryption of a file key: ciphertext and 128-bit tag.
    fn wrap(
        &mut self,
        key: &KeyRef,
        iv: &[u8; 12],
        aad: &[u8],
        plaintext: &[u8],
        prompter: &mut dyn Prompter,
    ) -> Result<Vec<u8>>;
}

/// Monotonic counters in the device (TPM 2.0 part 1 §37.2.4: an NV index of type counter).
pub trait MonotonicCounter {
    /// Makes a counter and raises it once. Returns its index and value.
    ///
    /// # Errors
    /// `Conflict` when no index is free; the device's.
    fn make_counter(&mut self) -> Result<(u32, u64)>;

    /// Its value.
    ///
    /// # Errors
    /// `KeyMissing` when there is no such counter: somebody removed it, or this is another device.
    fn read_counter(&mut self, index: u32) -> Result<u64>;

    /// Raises it by one, and returns the new value.
    ///
    /// # Errors
    /// As [`MonotonicCounter::read_counter`].
    fn raise_counter(&mut self, index: u32) -> Result<u64>;

    /// Removes it.
    ///
    /// # Errors
    /// As [`MonotonicCounter::read_counter`].
    fn remove_counter(&mut self, index: u32) -> Result<()>;
}

/// Several operations at once on one login.
pub trait Parallel {
    /// How many sessions are worth having for this key on this device and machine; 1 where more would not gain.
    fn max_sessions(&self, key: &KeyRef) -> usize;
    /// Another session on the same login.
    fn clone_session(&mut self) -> Result<Box<dyn Device>>;
}

/// As [`connect`]. If a person is present, asks for a YubiKey that is not plugged in, and waits for it.
///
/// # Errors
/// As [`connect`].
#[cfg_attr(not(feature = "piv"), allow(unused_variables))]
pub fn connect_attended(uri: &DeviceUri, prompter: &mut dyn Prompter) -> Result<Box<dyn Device>> {
    match uri.scheme() {
        #[cfg(feature = "piv")]
        Scheme::Piv if prompter.is_attended() => piv::connect_attended(uri, prompter),
        _ => connect(uri),
    }
}

/// Connects to the device that a URI names, on the caller's thread. Does not log in. A device may hang in any call; a
/// [`DeviceWorker`] limits the wait.
///
/// # Errors
/// `Unsupported` for a driver that was compiled out, naming the feature; else the driver's.
pub fn connect(uri: &DeviceUri) -> Result<Box<dyn Device>> {
    match uri.scheme() {
        #[cfg(feature = "pkcs11")]
        Scheme::Pkcs11 => pkcs11::connect(uri),
        #[cfg(feature = "tpm")]
        Scheme::Tpm => tpm::connect(uri),
        #[cfg(feature = "piv")]
        Scheme::Piv => piv::connect(uri),
        #[allow(unreachable_patterns)]
        scheme => Err(Error::new(
            Kind::Unsupported,
            "connect to the device",
            format!("this build of Strongroom has no `{scheme}` driver"),
        )
        .with_target(uri.display_name())
        .with_hint(match scheme {
            Scheme::Pkcs11 => "build it with `cargo build --features pkcs11`",
            Scheme::Tpm => "build it with `cargo build --features tpm`",
            Scheme::Piv => "build it with `cargo build --features piv`",
        })),
    }
}
