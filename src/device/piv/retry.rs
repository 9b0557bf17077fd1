//! Runs operations, and repeats them after a lost connection.
//!
//! Reconnecting helps when another program has reset the card, pcscd was restarted, or the YubiKey was unplugged and plugged in
//! again. It is tried a few times per operation. Repeating is safe: each operation changes the card by a single command.

use super::card::Card;
use super::device::PivDevice;
use super::error::{DriverError, catch_malformed};
use super::find;
use super::login::lock;
use super::transaction::Transaction;
use crate::error::{Error, Result};
use crate::prompt::Prompter;
use std::sync::Arc;

/// The number of attempts. Each process that disconnects resets the card for the others.
const ATTEMPTS: u32 = 12;

impl PivDevice {
    /// Runs an operation and repeats it after a lost connection. Other operations of this process on the same YubiKey wait.
    pub fn operate<T>(
        &mut self,
        operation: &str,
        prompter: &mut dyn Prompter,
        run: impl Fn(&mut Transaction<'_>) -> Result<T, DriverError>,
    ) -> Result<T> {
        let login = Arc::clone(&self.login);
        let mut login = lock(&login);
        for left in (0..ATTEMPTS).rev() {
            let kept = self.card.take();
            let mut card = kept.map_or_else(|| self.reconnect(operation, prompter), Ok)?;
            let mut transaction = Transaction {
                card: &mut card,
                login: &mut login,
                prompter: &mut *prompter,
                uri: &self.uri,
                name: &self.name,
                serial: self.serial,
                slots: self.slots,
            };
            match catch_malformed(|| run(&mut transaction)).unwrap_or(Err(DriverError::Malformed)) {
                Err(DriverError::Malformed) => {
                    card.close();
                    return Err(DriverError::Malformed.into_error(operation, &self.name));
                }
                Err(fault) if fault.is_of_the_connection() => {
                    card.abandon();
                    if left == 0 {
                        return Err(fault.into_error(operation, &self.name));
                    }
                    log::debug!("{}: {operation}: connecting anew", self.name);
                }
                done => {
                    self.card = Some(card);
                    return done.map_err(|fault| fault.into_error(operation, &self.name));
                }
            }
        }
        Err(DriverError::Forgotten.into_error(operation, &self.name))
    }

    /// The same YubiKey, found again.
    fn reconnect(&self, operation: &str, prompter: &mut dyn Prompter) -> Result<Card> {
        let retold = |error: Error| error.with_operation(operation);
        match find::find(&self.uri).map_err(retold)? {
            Some(yubikey) => Ok(Card::new(yubikey)),
            None => wait(self, prompter).map_err(retold),
        }
    }
}

/// Waits for a person to plug the YubiKey in.
fn wait(device: &PivDevice, prompter: &mut dyn Prompter) -> Result<Card> {
    find::await_insertion(&device.uri, prompter).map(Card::new)
}
