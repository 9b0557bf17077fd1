//! A device's thread, as a device: what the vault that writes signs and seals with.

use crate::agent::device::{Host, Station};
use crate::agent::owner::Owner;
use crate::device::{Challenge, Counting, Device, DeviceIdentity, KeyInfo, KeyRef, Provision, Wrap};
use crate::error::{Error, Result};
use crate::prompt::Prompter;
use crate::uri::DeviceUri;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Asks the device's thread, and waits with patience.
pub struct Remote {
    station: Arc<Station>,
    thread: Owner<Host>,
    patience: Duration,
}

impl Remote {
    /// A device on that thread.
    pub fn new(station: &Arc<Station>, patience: Duration) -> Self {
        Self { station: Arc::clone(station), thread: station.thread.clone(), patience }
    }

    fn ask<T: Send + 'static>(
        &self,
        tried: &str,
        mut operation: impl FnMut(&mut dyn Device, &mut dyn Prompter) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.station.check(tried)?;
        let what = tried.to_owned();
        let done = self.thread.ask_blocking(self.patience, move |host| host.run(&what, &mut operation));
        done.map_err(|trouble| trouble.told(tried, &self.station.name))?
    }
}

impl Device for Remote {
    fn identity(&mut self) -> DeviceIdentity {
        nothing_known(&self.station.uri)
    }

    fn name(&self) -> &str {
        &self.station.name
    }

    fn keys(&mut self, _: &mut dyn Prompter) -> Result<Vec<KeyInfo>> {
        self.ask("list the keys", |device, prompter| device.keys(prompter))
    }

    fn open_key(&mut self, _: &KeyRef, _: Challenge<'_>, _: &mut dyn Prompter) -> Result<Zeroizing<Vec<u8>>> {
        // Tokens are opened on the device's own thread, whole.
        Err(Error::new(crate::Kind::Unsupported, "open with the key", "the agent opens tokens elsewhere"))
    }

    fn sign(&mut self, key: &KeyRef, digest: &[u8], _: &mut dyn Prompter) -> Result<Vec<u8>> {
        let (key, digest) = (key.clone(), digest.to_vec());
        self.ask("sign", move |device, prompter| device.sign(&key, &digest, prompter))
    }

    fn lock(&mut self) {}

    fn provisioning(&mut self) -> Option<&mut dyn Provision> {
        None
    }

    fn wrapping(&mut self) -> Option<&mut dyn Wrap> {
        Some(self)
    }

    fn counting(&mut self) -> Option<&mut dyn Counting> {
        Some(self)
    }
}

impl Remote {
    fn count<T: Send + 'static>(
        &self,
        tried: &'static str,
        mut operation: impl FnMut(&mut dyn Counting) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let name = self.station.name.clone();
        self.ask(tried, move |device, _| match device.counting() {
            Some(counting) => operation(counting),
            None => {
                Err(Error::new(crate::Kind::Unsupported, tried, "the device has no counters")
                    .with_target(&name))
            }
        })
    }
}

impl Counting for Remote {
    fn make_counter(&mut self) -> Result<(u32, u64)> {
        self.count("make a counter", |counting| counting.make_counter())
    }

    fn read_counter(&mut self, index: u32) -> Result<u64> {
        self.count("read the counter", move |counting| counting.read_counter(index))
    }

    fn raise_counter(&mut self, index: u32) -> Result<u64> {
        self.count("raise the counter", move |counting| counting.raise_counter(index))
    }

    fn remove_counter(&mut self, index: u32) -> Result<()> {
        self.count("remove the counter", move |counting| counting.remove_counter(index))
    }
}

impl Wrap for Remote {
    fn wrap(
        &mut self,
        key: &KeyRef,
        iv: &[u8; 12],
        aad: &[u8],
        plaintext: &[u8],
        _: &mut dyn Prompter,
    ) -> Result<Vec<u8>> {
        const WHAT: &str = "seal with the key";
        let (key, iv, aad, name) = (key.clone(), *iv, aad.to_vec(), self.station.name.clone());
        let plaintext = Zeroizing::new(plaintext.to_vec());
        self.ask(WHAT, move |device, prompter| match device.wrapping() {
            Some(wrap) => wrap.wrap(&key, &iv, &aad, &plaintext, prompter),
            None => Err(Error::new(crate::Kind::Unsupported, WHAT, "the device cannot").with_target(&name)),
        })
    }
}

/// The vault asks nobody who they are once their ids are known.
fn nothing_known(uri: &DeviceUri) -> DeviceIdentity {
    DeviceIdentity {
        scheme: uri.scheme(),
        maker: String::new(),
        model: String::new(),
        serial: String::new(),
        firmware: String::new(),
        label: String::new(),
        simulator: false,
    }
}
