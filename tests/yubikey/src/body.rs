//! A card with a hand near it and a file for its memory: what readers hold.

use crate::card::{Authority, Card, Memory, Profile};
use crate::touch::Hand;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A card, its hand and its file.
pub struct Body {
    card: Mutex<Card>,
    /// The hand.
    pub hand: Hand,
    file: PathBuf,
}

impl Body {
    /// Takes the memory up from the file, where there is one; else makes a new card.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn new(
        profile: Profile,
        authority: &Authority,
        seed: u64,
        hand: Hand,
        file: PathBuf,
    ) -> io::Result<Self> {
        let card = match Memory::load(&file)? {
            Some(memory) => Card::restore(profile, memory, seed),
            None => Card::new(profile, authority, seed),
        };
        Ok(Self { card: Mutex::new(card), hand, file })
    }

    /// The card itself. One that is being waited for by a blinking card is not to be had before it stops.
    pub fn card(&self) -> MutexGuard<'_, Card> {
        // A test that panicked while it held the card has failed already; its other processes go on.
        self.card.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One APDU. What it changed lies in the file before the answer is given.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn transmit(&self, apdu: &[u8]) -> io::Result<Vec<u8>> {
        let mut card = self.card();
        let answer = card.transmit(apdu, &mut &self.hand);
        if let Some(memory) = card.take_changes() {
            memory.store(&self.file)?;
        }
        Ok(answer)
    }
}
