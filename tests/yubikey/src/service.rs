//! A PC/SC service for virtual YubiKeys: what pcscd is for real ones.
//!
//! It listens on a Unix socket and speaks [`protocol`](crate::protocol) with the drop-in libpcsclite. Whoever owns it plays the world:
//! inserts and removes cards, touches them, restarts the service.

mod calls;
mod log;
mod reader;
mod server;

pub use log::{Exchange, Lost};
pub use reader::Removal;

use crate::body::Body;
use crate::card::{Authority, Card, Profile, simulator_root};
use crate::touch::{Hand, Touch};
use log::Log;
use reader::Reader;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A card that nobody is connected to loses its power after so long, and with it a PIN that was given.
const GRACE: Duration = Duration::from_secs(5);

/// How long a reset takes. The card of a YubiKey is powered again after some milliseconds.
const RESET: Duration = Duration::from_millis(4);

/// What a card is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Serial number.
    pub serial: u32,
    /// Firmware.
    pub firmware: [u8; 3],
    /// What becomes of touches at first.
    pub touch: Touch,
    /// How long the card waits for a touch. Hardware waits for 15 seconds.
    pub patience: Duration,
    /// Whether its reader stays when the card is removed.
    pub removal: Removal,
    /// Whether it is there from the start.
    pub inserted: bool,
    /// What its keys and challenges follow from; `None`: chance.
    pub seed: Option<u64>,
    /// The common name of another root than the simulator's, for chains to strangers.
    pub stranger: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            serial: 12_345_678,
            firmware: [5, 7, 1],
            touch: Touch::Granted,
            patience: Duration::from_millis(300),
            removal: Removal::Unplugged,
            inserted: true,
            seed: None,
            stranger: None,
        }
    }
}

/// The service. It ends when the last of its clones and cards is dropped.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    directory: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: bool,
    /// How often it was stopped: a connection of an earlier run is not served.
    run: u32,
    last_number: u32,
    places: Vec<Place>,
    cancelled: Vec<u32>,
    connections: Vec<(u32, UnixStream)>,
}

/// A card, its reader and its history.
struct Place {
    name: String,
    reader: Reader,
    body: Arc<Body>,
    removal: Removal,
    log: Log,
    idle_since: Option<Instant>,
    is_resetting: bool,
}

/// One virtual YubiKey of a service.
#[derive(Clone)]
pub struct YubiKey {
    service: Service,
    index: usize,
    body: Arc<Body>,
    authority: Arc<Authority>,
}

impl Service {
    /// Starts one with `DIRECTORY/socket`; its cards' memories lie there too, by serial, and are taken up where they are.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn start(directory: &Path) -> io::Result<Self> {
        let state = State { running: true, ..State::default() };
        let shared =
            Shared { directory: directory.into(), state: Mutex::new(state), changed: Condvar::new() };
        let service = Self { shared: Arc::new(shared) };
        server::listen(&service)?;
        Ok(service)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.shared.directory.join("socket")
    }

    /// One more card.
    ///
    /// # Errors
    /// When its memory cannot be read or written.
    pub fn add(&self, options: &Options) -> io::Result<YubiKey> {
        let authority = match &options.stranger {
            Some(name) => Authority::new(name, 2),
            None => simulator_root(),
        };
        let profile = Profile { serial: options.serial, firmware: options.firmware };
        let seed = options.seed.unwrap_or_else(rand::random);
        let file = self.shared.directory.join(format!("{}.json", options.serial));
        let hand = Hand::new(options.touch, options.patience);
        let body = Arc::new(Body::new(profile, &authority, seed, hand, file)?);
        let mut state = self.lock();
        let index = state.places.len();
        let mut reader = Reader::new(options.removal);
        if options.inserted {
            reader.insert();
        }
        state.places.push(Place {
            name: format!("Yubico YubiKey OTP+FIDO+CCID {index:02} 00"),
            reader,
            body: body.clone(),
            removal: options.removal,
            log: Log::default(),
            idle_since: None,
            is_resetting: false,
        });
        self.shared.changed.notify_all();
        Ok(YubiKey { service: self.clone(), index, body, authority: Arc::new(authority) })
    }

    /// Ends every connection and takes no new one, as when pcscd is stopped. Cards lose their power.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.running = false;
        state.run += 1;
        for (_, connection) in state.connections.drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        let mut bodies = Vec::new();
        for place in &mut state.places {
            place.reader.forget_connections();
            bodies.push(place.body.clone());
        }
        drop(state);
        self.shared.changed.notify_all();
        bodies.iter().for_each(|body| body.card().power_cycle());
    }

    /// Takes connections again.
    pub fn resume(&self) {
        self.lock().running = true;
    }

    /// Stops and resumes: handles of before are dead, new ones work.
    pub fn restart(&self) {
        self.stop();
        self.resume();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl YubiKey {
    /// Puts it in.
    pub fn insert(&self) {
        self.body.card().power_cycle();
        self.body.hand.set_gone(false);
        self.service.lock().places[self.index].reader.insert();
        self.service.shared.changed.notify_all();
    }

    /// Pulls it out, even while it blinks.
    pub fn remove(&self) {
        let removal = self.service.lock().places[self.index].removal;
        self.service.lock().places[self.index].take_out(removal);
        self.service.shared.changed.notify_all();
    }

    /// Pulls it out later: so many APDUs are answered, and with the next one it is gone. See [`Lost`].
    pub fn remove_after(&self, apdus: usize, lost: Lost) {
        self.service.lock().places[self.index].log.remove_after(apdus, lost);
    }

    /// Takes its power and gives it back, behind everybody's back: what was selected and verified is forgotten, and no handle
    /// hears of it.
    pub fn power_cycle(&self) {
        self.body.card().power_cycle();
    }

    /// What becomes of touches from now on, and of one that is being waited for.
    pub fn touch(&self, touch: Touch) {
        self.body.hand.decide(touch);
    }

    /// The hand that touches it.
    pub fn hand(&self) -> &Hand {
        &self.body.hand
    }

    /// The card itself.
    pub fn card(&self) -> MutexGuard<'_, Card> {
        self.body.card()
    }

    /// The card, its hand and its file, for another kind of reader.
    pub fn body(&self) -> &Arc<Body> {
        &self.body
    }

    /// The commands it got, and what it answered, since the start or [`YubiKey::forget_apdus`].
    pub fn apdus(&self) -> Vec<Exchange> {
        self.service.lock().places[self.index].log.exchanges.clone()
    }

    /// Forgets them.
    pub fn forget_apdus(&self) {
        self.service.lock().places[self.index].log.exchanges.clear();
    }

    /// Its reader's name.
    pub fn reader(&self) -> String {
        self.service.lock().places[self.index].name.clone()
    }

    /// The root that certified its attestation key.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The service it belongs to.
    pub fn service(&self) -> &Service {
        &self.service
    }
}

impl Place {
    fn take_out(&mut self, removal: Removal) {
        self.body.hand.set_gone(true);
        self.reader.remove(removal);
    }
}

/// A test that panicked while it held a lock has failed already; the others' cards go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELECT: &[u8] = b"\x00\xa4\x04\x00\x05\xa0\x00\x00\x03\x08";
    const WRONG: &[u8] = b"\x00\x20\x00\x80\x08000000\xff\xff";

    fn serial(serial: u32) -> Options {
        Options { serial, ..Options::default() }
    }

    #[test]
    fn cards_are_taken_up_where_they_were_left() {
        let directory = tempfile::tempdir().unwrap();
        for left in [2, 1] {
            let service = Service::start(directory.path()).unwrap();
            let (card, other) = (service.add(&serial(1)).unwrap(), service.add(&serial(2)).unwrap());
            card.body().transmit(SELECT).unwrap();
            assert_eq!(card.body().transmit(WRONG).unwrap(), [0x63, 0xc0 | left]);
            assert_eq!((card.card().memory().pin.left, other.card().memory().pin.left), (left, 3));
        }
        assert!(!directory.path().join("socket").exists(), "it went with its service");
    }

    #[test]
    fn a_card_whose_memory_cannot_be_written_does_not_answer() {
        let directory = tempfile::tempdir().unwrap();
        let service = Service::start(directory.path()).unwrap();
        let card = service.add(&serial(1)).unwrap();
        std::fs::create_dir(directory.path().join("1.json")).unwrap();
        assert!(card.body().transmit(SELECT).is_err());
        assert!(service.add(&serial(1)).is_err());
    }
}
