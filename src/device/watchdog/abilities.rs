//! What some devices can do besides, behind a watchdog.

use super::{PATIENCE_FOR_MAKING, Watchdog};
use crate::device::{
    Algorithm, Counting, CreateOptions, Device, KeyInfo, KeyRef, Measured, Measurement, Parallel, Prediction,
    Provision, Purpose, Wrap,
};
use crate::error::{Error, Kind, Result};
use crate::prompt::{BatchPrompter, Prompter};
use zeroize::Zeroizing;

fn without<T>(name: &str, what: &str) -> Result<T> {
    Err(Error::new(Kind::Unsupported, what, "the device cannot").with_target(name))
}

impl Measured for Watchdog {
    fn measure(&mut self, key: &KeyRef, predicted: &[Prediction]) -> Result<Option<Measurement>> {
        const WHAT: &str = "read what was measured";
        let (key, predicted, name) = (key.clone(), predicted.to_vec(), self.name.clone());
        self.ask(WHAT, self.patience, &mut BatchPrompter, move |device, _| match device.measured() {
            Some(measured) => measured.measure(&key, &predicted),
            None => without(&name, WHAT),
        })
    }

    fn bound_alike(&mut self, key: &KeyRef) -> Result<CreateOptions> {
        const WHAT: &str = "tell what the key is bound to";
        let (key, name) = (key.clone(), self.name.clone());
        self.ask(WHAT, self.patience, &mut BatchPrompter, move |device, _| match device.measured() {
            Some(measured) => measured.bound_alike(&key),
            None => without(&name, WHAT),
        })
    }
}

impl Watchdog {
    fn count<T: Send + 'static>(
        &self,
        what: &'static str,
        job: impl FnOnce(&mut dyn Counting) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let name = self.name.clone();
        self.ask(what, self.patience, &mut BatchPrompter, move |device, _| match device.counting() {
            Some(counting) => job(counting),
            None => without(&name, what),
        })
    }
}

impl Counting for Watchdog {
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

impl Provision for Watchdog {
    fn create(
        &mut self,
        purpose: Purpose,
        algorithm: Algorithm,
        options: &CreateOptions,
        prompter: &mut dyn Prompter,
    ) -> Result<KeyInfo> {
        const WHAT: &str = "create the key";
        let (name, options) = (self.name.clone(), options.clone());
        self.ask(WHAT, self.patience.max(PATIENCE_FOR_MAKING), prompter, move |device, prompter| match device
            .provisioning()
        {
            Some(provision) => provision.create(purpose, algorithm, &options, prompter),
            None => without(&name, WHAT),
        })
    }

    fn algorithms(&mut self) -> Result<Vec<Algorithm>> {
        self.ask("list the device's mechanisms", self.patience, &mut BatchPrompter, |device, _| {
            device.provisioning().map_or_else(|| Ok(Vec::new()), Provision::algorithms)
        })
    }

    fn destroy(&mut self, key: &KeyInfo, prompter: &mut dyn Prompter) -> Result<()> {
        const WHAT: &str = "destroy the key";
        let (key, name) = (key.clone(), self.name.clone());
        self.ask(WHAT, self.patience, prompter, move |device, prompter| match device.provisioning() {
            Some(provision) => provision.destroy(&key, prompter),
            None => without(&name, WHAT),
        })
    }
}

impl Wrap for Watchdog {
    fn wrap(
        &mut self,
        key: &KeyRef,
        iv: &[u8; 12],
        aad: &[u8],
        plaintext: &[u8],
        prompter: &mut dyn Prompter,
    ) -> Result<Vec<u8>> {
        const WHAT: &str = "seal with the key";
        let (key, iv, aad, name) = (key.clone(), *iv, aad.to_vec(), self.name.clone());
        let plaintext = Zeroizing::new(plaintext.to_vec());
        self.ask(WHAT, self.patience, prompter, move |device, prompter| match device.wrapping() {
            Some(wrap) => wrap.wrap(&key, &iv, &aad, &plaintext, prompter),
            None => without(&name, WHAT),
        })
    }
}

impl Parallel for Watchdog {
    fn lanes(&self, key: &KeyRef) -> usize {
        let key = key.clone();
        let lanes = self.ask("count the lanes", self.patience, &mut BatchPrompter, move |device, _| {
            Ok(device.parallel().map_or(1, |parallel| parallel.lanes(&key)))
        });
        lanes.unwrap_or(1)
    }

    fn another(&mut self) -> Result<Box<dyn Device>> {
        const WHAT: &str = "open another session";
        let name = self.name.clone();
        let lane = self.ask(WHAT, self.patience, &mut BatchPrompter, move |device, _| {
            device.parallel().map_or_else(|| without(&name, WHAT), Parallel::another)
        })?;
        let (scheme, name) = (self.scheme, self.name.clone());
        Ok(Box::new(Self::around(move |_| Ok(lane), scheme, name, self.patience, &mut BatchPrompter)?))
    }
}
