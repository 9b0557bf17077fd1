//! One reader and who is connected to it: sharing, transactions and events as pcscd keeps them (its `winscard.c` and
//! `readerfactory.c`), without any waiting.

use crate::protocol::code;
use std::collections::BTreeMap;

/// Dispositions and initialisations other than "leave the card".
const LEAVE: u32 = 0;
/// Share modes.
const EXCLUSIVE: u32 = 1;
const SHARED: u32 = 2;
const DIRECT: u32 = 3;

/// `SCardStatus`: present, powered, negotiable.
const PRESENT: u32 = 0x34;

/// Reader states of `SCardGetStatusChange`.
pub(super) mod state {
    pub const UNAWARE: u32 = 0;
    pub const IGNORE: u32 = 1;
    pub const CHANGED: u32 = 2;
    pub const UNKNOWN: u32 = 4;
    pub const UNAVAILABLE: u32 = 8;
    pub const EMPTY: u32 = 0x10;
    pub const PRESENT: u32 = 0x20;
    pub const EXCLUSIVE: u32 = 0x80;
    pub const IN_USE: u32 = 0x100;
}

/// How a card goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Its reader goes with it, as a YubiKey's does when it is pulled out of its port.
    Unplugged,
    /// Its reader stays, as vpcd's does.
    Withdrawn,
}

/// What a call comes to: what it is after, or a return code.
pub(super) type Outcome<T> = Result<T, u32>;

/// What happened to the card behind a handle's back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Event {
    #[default]
    None,
    Reset,
    Removed,
}

#[derive(Debug, Default)]
struct Handle {
    context: u32,
    event: Event,
}

/// One reader.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Whether there is such a reader at all.
    pub attached: bool,
    /// Whether a card is in it.
    pub present: bool,
    /// Which insertion this is: what was sent to the card before it went away is not answered by the same card put back.
    pub insertion: u32,
    /// How often a card came or went.
    events: u32,
    handles: BTreeMap<u32, Handle>,
    exclusive: bool,
    /// Who is in a transaction, and how deep.
    lock: Option<(u32, u32)>,
}

impl Reader {
    /// One without a card: not there either, if cards take it along.
    pub fn new(removal: Removal) -> Self {
        Self { attached: removal == Removal::Withdrawn, ..Self::default() }
    }

    pub fn insert(&mut self) {
        if !self.present {
            (self.attached, self.present) = (true, true);
            self.insertion += 1;
            self.events += 1;
        }
    }

    pub fn remove(&mut self, removal: Removal) {
        self.set_event(Event::Removed);
        self.events += u32::from(self.present);
        self.present = false;
        if removal == Removal::Unplugged {
            self.attached = false;
            self.forget_connections();
        }
    }

    /// The service starts anew.
    pub fn forget_connections(&mut self) {
        self.handles.clear();
        (self.exclusive, self.lock) = (false, None);
    }

    pub fn has(&self, handle: u32) -> bool {
        self.handles.contains_key(&handle)
    }

    pub fn is_idle(&self) -> bool {
        self.handles.is_empty()
    }

    /// Whether somebody else's transaction makes this handle wait.
    pub fn is_locked_for(&self, handle: u32) -> bool {
        self.lock.is_some_and(|(owner, _)| owner != handle)
    }

    /// Whether somebody who connects has to wait. Who is alone with the card makes nobody wait: the others are refused.
    pub fn makes_wait(&self) -> bool {
        self.lock.is_some() && !self.exclusive
    }

    /// `SCardConnect`, when nobody's transaction is in the way.
    pub fn connect(&mut self, handle: u32, context: u32, share: u32) -> Outcome<()> {
        if !matches!(share, EXCLUSIVE | SHARED | DIRECT) {
            return Err(code::INVALID_VALUE);
        }
        if self.exclusive || share == EXCLUSIVE && !self.handles.is_empty() {
            return Err(code::SHARING_VIOLATION);
        }
        if !self.present && share != DIRECT {
            return Err(code::NO_SMARTCARD);
        }
        self.handles.insert(handle, Handle { context, event: Event::None });
        self.set_exclusive(handle, share == EXCLUSIVE);
        Ok(())
    }

    /// `SCardReconnect`, when nobody's transaction is in the way. True when the card is to be reset.
    pub fn reconnect(&mut self, handle: u32, share: u32, initialisation: u32) -> Outcome<bool> {
        if !matches!(share, EXCLUSIVE | SHARED | DIRECT) {
            return Err(code::INVALID_VALUE);
        }
        if !self.present {
            return Err(code::NO_SMARTCARD);
        }
        if share == EXCLUSIVE && self.handles.len() > 1 {
            return Err(code::SHARING_VIOLATION);
        }
        if initialisation != LEAVE {
            self.set_event(Event::Reset);
        }
        self.set_exclusive(handle, share == EXCLUSIVE);
        if let Some(own) = self.handles.get_mut(&handle) {
            own.event = Event::None;
        }
        Ok(initialisation != LEAVE)
    }

    fn set_exclusive(&mut self, handle: u32, exclusive: bool) {
        if exclusive && !self.exclusive {
            self.lock = Some((handle, 1));
        } else if !exclusive && self.exclusive {
            self.lock = None;
        }
        self.exclusive = exclusive;
    }

    /// `SCardDisconnect`. True when the card is to be reset.
    pub fn disconnect(&mut self, handle: u32, disposition: u32) -> bool {
        let resets = disposition != LEAVE && self.present;
        if resets {
            self.set_event(Event::Reset);
        }
        self.handles.remove(&handle);
        if self.lock.is_some_and(|(owner, _)| owner == handle) {
            (self.lock, self.exclusive) = (None, false);
        }
        resets
    }

    /// A client is gone without a word. The card is reset when it died within a transaction.
    pub fn drop_context(&mut self, context: u32) -> bool {
        let of_it = |(handle, held): (&u32, &Handle)| (held.context == context).then_some(*handle);
        let gone: Vec<u32> = self.handles.iter().filter_map(of_it).collect();
        let mut resets = false;
        for handle in gone {
            let in_transaction = self.lock.is_some_and(|(owner, _)| owner == handle);
            resets |= self.disconnect(handle, u32::from(in_transaction));
        }
        resets
    }

    /// `SCardBeginTransaction`, when nobody's transaction is in the way.
    pub fn begin(&mut self, handle: u32) -> Outcome<()> {
        self.check_event(handle)?;
        let (_, depth) = self.lock.unwrap_or_default();
        self.lock = Some((handle, depth + 1));
        Ok(())
    }

    /// `SCardEndTransaction`. True when the card is to be reset: then even who asked for it must connect anew.
    pub fn end(&mut self, handle: u32, disposition: u32) -> Outcome<bool> {
        self.check_event(handle)?;
        self.lock = match self.lock {
            Some((owner, _)) if owner != handle => return Err(code::SHARING_VIOLATION),
            None => return Err(code::NOT_TRANSACTED),
            Some((_, 1)) if self.exclusive => return Err(code::NOT_TRANSACTED),
            Some((_, 0 | 1)) => None,
            Some((_, depth)) => Some((handle, depth - 1)),
        };
        if disposition != LEAVE {
            self.set_event(Event::Reset);
        }
        Ok(disposition != LEAVE)
    }

    /// Whether a handle may speak to the card.
    pub fn check_event(&self, handle: u32) -> Outcome<()> {
        match self.handles.get(&handle).ok_or(code::INVALID_VALUE)?.event {
            Event::Reset => Err(code::RESET_CARD),
            Event::Removed => Err(code::REMOVED_CARD),
            Event::None => Ok(()),
        }
    }

    /// `SCardStatus`: the events counted, and the state.
    pub fn status(&self, handle: u32) -> Outcome<u32> {
        self.check_event(handle)?;
        Ok(self.events << 16 | if self.present { PRESENT } else { 2 })
    }

    /// `SCardGetStatusChange`: the state as it is, with `CHANGED` where a client that knows `current` should hear of it.
    pub fn state(&self, current: u32) -> u32 {
        if !self.attached {
            return gone(current);
        }
        let (mut now, opposite) = match self.present {
            true => (state::PRESENT, state::EMPTY),
            false => (state::EMPTY, state::PRESENT),
        };
        if self.exclusive {
            now |= state::EXCLUSIVE;
        } else if self.present && !self.handles.is_empty() {
            now |= state::IN_USE;
        }
        let counted = current >> 16;
        let sharing = state::EXCLUSIVE | state::IN_USE;
        let changed = current & 0xffff == state::UNAWARE
            || current & (state::UNKNOWN | state::UNAVAILABLE | opposite) != 0
            || counted != 0 && counted != self.events & 0xffff
            || current & sharing & !now != 0;
        self.events << 16 | now | if changed { state::CHANGED } else { 0 }
    }

    fn set_event(&mut self, event: Event) {
        self.handles.values_mut().for_each(|handle| handle.event = event);
    }
}

/// The state of a reader that is not there.
pub(super) fn gone(current: u32) -> u32 {
    let changed = if current & state::UNKNOWN == 0 { state::CHANGED } else { 0 };
    state::UNKNOWN | state::UNAVAILABLE | changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader_with(handles: &[u32]) -> Reader {
        let mut reader = Reader::default();
        reader.insert();
        handles.iter().for_each(|handle| reader.connect(*handle, *handle, SHARED).unwrap());
        reader
    }

    #[test]
    fn a_reset_is_news_to_everybody_else_until_they_reconnect() {
        let mut reader = reader_with(&[1, 2]);
        assert_eq!(reader.reconnect(1, SHARED, 1), Ok(true));
        reader.check_event(1).unwrap();
        assert_eq!(reader.begin(2), Err(code::RESET_CARD));
        assert_eq!(reader.status(2), Err(code::RESET_CARD));
        assert_eq!(reader.reconnect(2, SHARED, LEAVE), Ok(false));
        reader.begin(2).unwrap();
        assert_eq!(reader.end(2, 1), Ok(true));
        assert_eq!(reader.check_event(2), Err(code::RESET_CARD), "even to who ended the transaction so");
    }

    #[test]
    fn a_withdrawn_card_leaves_its_reader_and_an_unplugged_one_does_not() {
        let mut reader = reader_with(&[1]);
        reader.remove(Removal::Withdrawn);
        assert_eq!(reader.check_event(1), Err(code::REMOVED_CARD));
        assert_eq!(reader.reconnect(1, SHARED, LEAVE), Err(code::NO_SMARTCARD));
        assert_eq!(reader.connect(2, 2, SHARED), Err(code::NO_SMARTCARD));
        reader.insert();
        assert_eq!(reader.reconnect(1, SHARED, LEAVE), Ok(false));
        reader.check_event(1).unwrap();

        reader.remove(Removal::Unplugged);
        assert!(!reader.attached && !reader.has(1));
        assert_eq!(reader.check_event(1), Err(code::INVALID_VALUE));
    }

    #[test]
    fn transactions_nest_and_end_with_their_owner() {
        let mut reader = reader_with(&[1, 2]);
        assert_eq!(reader.end(1, LEAVE), Err(code::NOT_TRANSACTED));
        reader.begin(1).unwrap();
        reader.begin(1).unwrap();
        assert!(reader.is_locked_for(2) && reader.makes_wait() && !reader.is_locked_for(1));
        assert_eq!(reader.end(2, LEAVE), Err(code::SHARING_VIOLATION));
        assert_eq!(reader.end(1, LEAVE), Ok(false));
        assert!(reader.is_locked_for(2));
        assert!(!reader.disconnect(1, LEAVE));
        assert!(!reader.is_locked_for(2));
    }

    #[test]
    fn a_client_that_dies_in_a_transaction_has_the_card_reset() {
        let mut reader = reader_with(&[1, 2, 3]);
        assert!(!reader.drop_context(1), "it was in none");
        reader.begin(2).unwrap();
        assert!(reader.drop_context(2));
        assert_eq!(reader.check_event(3), Err(code::RESET_CARD));
        assert!(!reader.is_locked_for(3));
    }

    #[test]
    fn exclusive_means_alone() {
        let mut reader = reader_with(&[1]);
        assert_eq!(reader.connect(2, 2, EXCLUSIVE), Err(code::SHARING_VIOLATION));
        assert_eq!(reader.reconnect(1, EXCLUSIVE, LEAVE), Ok(false));
        assert_eq!(reader.connect(2, 2, SHARED), Err(code::SHARING_VIOLATION));
        assert_eq!(reader.reconnect(1, SHARED, LEAVE), Ok(false));
        reader.connect(2, 2, SHARED).unwrap();
        assert!(!reader.is_locked_for(2));
    }

    #[test]
    fn states_tell_what_changed() {
        let mut reader = Reader::default();
        assert_eq!(reader.state(state::UNAWARE), state::UNKNOWN | state::UNAVAILABLE | state::CHANGED);
        reader.insert();
        let seen = reader.state(state::UNAWARE);
        assert_eq!(seen, 1 << 16 | state::PRESENT | state::CHANGED);
        assert_eq!(reader.state(seen) & state::CHANGED, 0);
        reader.connect(1, 1, SHARED).unwrap();
        assert_eq!(reader.state(seen) & (state::CHANGED | state::IN_USE), state::IN_USE);
        reader.remove(Removal::Withdrawn);
        assert_eq!(reader.state(seen), 2 << 16 | state::EMPTY | state::CHANGED);
        assert_eq!(reader.state(state::EMPTY), 2 << 16 | state::EMPTY);
        reader.insert();
        assert_ne!(reader.state(seen) & state::CHANGED, 0, "it came back, but it was away");
    }
}
