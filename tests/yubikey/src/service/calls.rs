//! The calls of PC/SC part 5, on behalf of one context.

use super::reader::{self, Outcome, Reader, state};
use super::{Exchange, GRACE, Lost, Place, RESET, Service, State};
use crate::protocol::{ANY_READER, Reply, Request, code};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// T=1, which is all that a YubiKey speaks, and the protocols that include it.
const T1: u32 = 2;

/// A client's context, on one connection.
pub(super) struct Context {
    pub service: Service,
    pub number: u32,
    pub run: u32,
}

impl Context {
    /// Answers one request. May wait, for others' transactions and for events.
    pub fn answer(&self, request: Request) -> Reply {
        let done = match request {
            Request::Establish => Ok(numbers(vec![self.number])),
            Request::ListReaders => self.list(),
            Request::Connect(name, share, protocols) => self.connect(&name, share, protocols),
            Request::Reconnect(handle, share, _, initialisation) => {
                self.reconnect(handle, share, initialisation)
            }
            Request::Disconnect(handle, disposition) => self.disconnect(handle, disposition),
            Request::Begin(handle) => self.begin(handle),
            Request::End(handle, disposition) => self.end(handle, disposition),
            Request::Transmit(handle, apdu) => self.transmit(handle, apdu),
            Request::Status(handle) => self.status(handle),
            Request::Changes(milliseconds, readers) => self.changes(milliseconds, &readers),
            Request::Cancel(context) => {
                self.service.lock().cancelled.push(context);
                Ok(Reply::default())
            }
        };
        self.service.shared.changed.notify_all();
        done.unwrap_or_else(Reply::code)
    }

    /// The client is gone.
    pub fn close(&self) {
        let mut state = self.service.lock();
        if state.run != self.run {
            return;
        }
        let mut bodies = Vec::new();
        for place in &mut state.places {
            if place.reader.drop_context(self.number) {
                bodies.push(place.body.clone());
            }
            place.note_idleness();
        }
        state.connections.retain(|(number, _)| *number != self.number);
        drop(state);
        bodies.iter().for_each(|body| body.card().power_cycle());
        self.service.shared.changed.notify_all();
    }

    fn list(&self) -> Outcome<Reply> {
        let state = self.service.lock();
        let attached = state.places.iter().filter(|place| place.reader.attached);
        let bytes: Vec<u8> = attached.flat_map(|place| place.name.bytes().chain([0])).collect();
        if bytes.is_empty() { Err(code::NO_READERS) } else { Ok(Reply { bytes, ..Reply::default() }) }
    }

    fn connect(&self, name: &str, share: u32, protocols: u32) -> Outcome<Reply> {
        // Direct access needs no protocol. 0x1000 is an old name for any.
        if share != 3 && protocols & (T1 | 0x1000) == 0 {
            return Err(code::PROTO_MISMATCH);
        }
        let mut state = self.service.lock();
        let index = state.places.iter().position(|place| place.reader.attached && place.name == name);
        let index = index.ok_or(code::UNKNOWN_READER)?;
        while state.run == self.run && state.places[index].reader.makes_wait() {
            state = self.service.wait(state);
        }
        state.last_number += 1;
        let handle = state.last_number;
        let place = &mut state.places[index];
        if place.is_resetting {
            return Err(code::PROTO_MISMATCH);
        }
        let slept = place.idle_since.is_some_and(|since| since.elapsed() > GRACE);
        place.reader.connect(handle, self.number, share)?;
        place.idle_since = None;
        self.reset_if(slept, state, index);
        Ok(numbers(vec![handle]))
    }

    fn reconnect(&self, handle: u32, share: u32, initialisation: u32) -> Outcome<Reply> {
        let (mut state, index) = self.own(handle)?;
        let resets = state.places[index].reader.reconnect(handle, share, initialisation)?;
        self.reset_if(resets, state, index);
        Ok(Reply::default())
    }

    fn disconnect(&self, handle: u32, disposition: u32) -> Outcome<Reply> {
        // A reader that is gone has taken its handles along: that is no error here.
        let (mut state, index) = match disposition {
            0 => match self.find(handle) {
                Ok(found) => found,
                Err(_) => return Ok(Reply::default()),
            },
            _ => match self.own(handle) {
                Ok(found) => found,
                Err(_) => return Ok(Reply::default()),
            },
        };
        let resets = state.places[index].reader.disconnect(handle, disposition);
        state.places[index].note_idleness();
        self.reset_if(resets, state, index);
        Ok(Reply::default())
    }

    fn begin(&self, handle: u32) -> Outcome<Reply> {
        let (mut state, index) = self.own(handle)?;
        state.places[index].reader.begin(handle).map(|()| Reply::default())
    }

    fn end(&self, handle: u32, disposition: u32) -> Outcome<Reply> {
        let (mut state, index) = self.find(handle)?;
        let resets = state.places[index].reader.end(handle, disposition)?;
        self.reset_if(resets, state, index);
        Ok(Reply::default())
    }

    fn status(&self, handle: u32) -> Outcome<Reply> {
        let (state, index) = self.own(handle).map_err(|_| code::READER_UNAVAILABLE)?;
        let place = &state.places[index];
        let bytes = place.name.clone().into_bytes();
        Ok(Reply { numbers: vec![place.reader.status(handle)?], bytes, ..Reply::default() })
    }

    /// Sends an APDU. The service is not locked while the card works, or waits for a touch.
    fn transmit(&self, handle: u32, command: Vec<u8>) -> Outcome<Reply> {
        let (mut state, index) = self.own(handle)?;
        let place = &mut state.places[index];
        place.reader.check_event(handle)?;
        let lost = place.log.next();
        if lost == Some(Lost::Command) {
            place.take_out(place.removal);
            return Err(code::NOT_TRANSACTED);
        }
        let (body, insertion) = (place.body.clone(), place.reader.insertion);
        drop(state);
        let answer = body.transmit(&command).map_err(|_| code::INTERNAL_ERROR)?;

        let mut state = self.service.lock();
        let place = &mut state.places[index];
        if lost == Some(Lost::Answer) {
            place.take_out(place.removal);
        }
        if !place.reader.present || place.reader.insertion != insertion {
            place.log.exchanges.push(Exchange { command, answer: Vec::new() });
            return Err(code::NOT_TRANSACTED);
        }
        place.log.exchanges.push(Exchange { command, answer: answer.clone() });
        Ok(Reply { bytes: answer, ..Reply::default() })
    }

    fn changes(&self, milliseconds: u32, known: &[(String, u32)]) -> Outcome<Reply> {
        let deadline = Instant::now().checked_add(Duration::from_millis(milliseconds.into()));
        let deadline = deadline.filter(|_| milliseconds != u32::MAX);
        let mut state = self.service.lock();
        if let Some((name, _)) =
            known.iter().find(|(name, _)| name != ANY_READER && state.reader(name).is_none())
        {
            let existed = state.places.iter().any(|place| place.name == *name);
            if !existed {
                return Err(code::UNKNOWN_READER);
            }
        }
        let at_first = state.attached();
        loop {
            let states: Vec<u32> =
                known.iter().map(|(name, current)| state.watch(name, *current, at_first)).collect();
            if states.iter().any(|now| now & state::CHANGED != 0) {
                return Ok(numbers(states));
            }
            if state.cancelled.contains(&self.number) {
                state.cancelled.retain(|context| *context != self.number);
                return Err(code::CANCELLED);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                _ if state.run != self.run => return Err(code::NO_SERVICE),
                Some(Duration::ZERO) => return Err(code::TIMEOUT),
                Some(left) => {
                    let waited = self.service.shared.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.service.wait(state),
            };
        }
    }

    /// The place of a handle.
    fn find(&self, handle: u32) -> Outcome<(MutexGuard<'_, State>, usize)> {
        let state = self.service.lock();
        let index = state.places.iter().position(|place| place.reader.has(handle));
        index.map(|index| (state, index)).ok_or(code::INVALID_VALUE)
    }

    /// The place of a handle, once nobody else is in a transaction there.
    fn own(&self, handle: u32) -> Outcome<(MutexGuard<'_, State>, usize)> {
        let (mut state, index) = self.find(handle)?;
        while state.places[index].reader.is_locked_for(handle) {
            state = self.service.wait(state);
            if !state.places[index].reader.has(handle) {
                return Err(code::INVALID_VALUE);
            }
        }
        Ok((state, index))
    }

    /// Resets the card, which takes a moment. Until it is over, pcscd does not know the card's protocol and refuses to connect.
    fn reset_if(&self, resets: bool, mut state: MutexGuard<'_, State>, index: usize) {
        if !resets {
            return;
        }
        let body = state.places[index].body.clone();
        state.places[index].is_resetting = true;
        drop(state);
        std::thread::sleep(RESET);
        body.card().power_cycle();
        self.service.lock().places[index].is_resetting = false;
    }
}

impl State {
    fn reader(&self, name: &str) -> Option<&Reader> {
        let place = self.places.iter().find(|place| place.name == name);
        place.map(|place| &place.reader).filter(|reader| reader.attached)
    }

    fn attached(&self) -> usize {
        self.places.iter().filter(|place| place.reader.attached).count()
    }

    /// The state of a reader, or of the list of them.
    fn watch(&self, name: &str, current: u32, attached_at_first: usize) -> u32 {
        if current & state::IGNORE != 0 {
            return state::IGNORE;
        }
        if name == ANY_READER {
            return if self.attached() == attached_at_first { 0 } else { state::CHANGED };
        }
        self.reader(name).map_or_else(|| reader::gone(current), |reader| reader.state(current))
    }
}

impl Place {
    fn note_idleness(&mut self) {
        if self.reader.is_idle() && self.idle_since.is_none() {
            self.idle_since = Some(Instant::now());
        }
    }
}

fn numbers(numbers: Vec<u32>) -> Reply {
    Reply { numbers, ..Reply::default() }
}
