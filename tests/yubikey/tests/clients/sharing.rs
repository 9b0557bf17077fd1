//! Several handles on one card, cards that come and go, a service that restarts: through libpcsclite.
//!
//! What can be tried on a real pcscd as well is (`pcscd.rs`), so that the service here does not make up answers of its own.

use pcsc::{Card, Context, Disposition, Error, Protocols, Scope, ShareMode};
use std::time::Duration;
use test_support::eventually::eventually;
use test_support::yubikey::{Lost, Options, Removal, isolated};

const SELECT: &[u8] = b"\x00\xa4\x04\x00\x0b\xa0\x00\x00\x03\x08\x00\x00\x10\x00\x01\x00";
const VERIFY: &[u8] = b"\x00\x20\x00\x80\x08123456\xff\xff";
const IS_VERIFIED: &[u8] = b"\x00\x20\x00\x80";

fn context() -> Context {
    Context::establish(Scope::User).unwrap()
}

/// Connects to the card in the first reader. A real pcscd takes a moment to see a card that was put in.
fn connect(context: &Context) -> Card {
    let mut card = None;
    let connected = eventually(Duration::from_secs(20), || {
        let readers = context.list_readers_owned().unwrap();
        card = readers.first().map(|reader| context.connect(reader, ShareMode::Shared, Protocols::T1));
        matches!(card, Some(Ok(_)))
    });
    assert!(connected, "no card: {:?}", card.map(Result::err));
    card.unwrap().unwrap()
}

fn transmit(card: &Card, apdu: &[u8]) -> Result<Vec<u8>, Error> {
    card.transmit(apdu, &mut [0; 300]).map(<[u8]>::to_vec)
}

fn status(card: &Card, apdu: &[u8]) -> Result<u16, Error> {
    transmit(card, apdu).map(|answer| u16::from_be_bytes(*answer.last_chunk().unwrap()))
}

/// One handle's reset is heard of by the others, and forgets the PIN.
pub fn resets() {
    let context = context();
    let (mut first, mut second) = (connect(&context), connect(&context));
    assert_eq!(status(&first, SELECT), Ok(0x9000));
    assert_eq!(status(&first, VERIFY), Ok(0x9000));
    assert_eq!(status(&second, IS_VERIFIED), Ok(0x9000), "one card, whoever asks");
    second.reconnect(ShareMode::Shared, Protocols::T1, Disposition::ResetCard).unwrap();
    assert_eq!(status(&first, IS_VERIFIED), Err(Error::ResetCard));
    assert_eq!(first.transaction().err(), Some(Error::ResetCard));
    assert_eq!(first.status2_owned().err(), Some(Error::ResetCard));
    first.reconnect(ShareMode::Shared, Protocols::T1, Disposition::LeaveCard).unwrap();
    assert_eq!(status(&first, SELECT), Ok(0x9000));
    assert_eq!(status(&first, IS_VERIFIED), Ok(0x63c3));
    drop(second);
    assert_eq!(status(&first, SELECT), Err(Error::ResetCard), "dropping a card resets it");
}

/// A transaction makes others wait, even those who only want to know.
pub fn transactions() {
    let (context, others) = (context(), context());
    let (mut card, mut other) = (connect(&context), connect(&others));
    let transaction = card.transaction().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let transaction = other.transaction().unwrap();
            transaction.transmit(IS_VERIFIED, &mut [0; 300]).unwrap().to_vec()
        });
        for apdu in [SELECT, VERIFY] {
            transaction.transmit(apdu, &mut [0; 300]).unwrap();
        }
        assert!(!waiting.is_finished());
        drop(transaction);
        assert_eq!(waiting.join().unwrap(), [0x90, 0]);
    });
}

/// A connection for one alone.
pub fn exclusive() {
    let context = context();
    let card = connect(&context);
    let (reader, mode) = (context.list_readers_owned().unwrap().remove(0), ShareMode::Exclusive);
    assert_eq!(context.connect(&reader, mode, Protocols::T1).err(), Some(Error::SharingViolation));
    drop(card);
    let card = context.connect(&reader, mode, Protocols::T1).unwrap();
    assert_eq!(status(&card, SELECT), Ok(0x9000));
    let shared = context.connect(&reader, ShareMode::Shared, Protocols::T1);
    assert_eq!(shared.err(), Some(Error::SharingViolation));
}

/// A card is withdrawn from its reader, and put back.
pub fn removal(remove: impl FnOnce(), insert: impl FnOnce()) {
    let context = context();
    let mut card = connect(&context);
    assert_eq!(status(&card, SELECT), Ok(0x9000));
    assert_eq!(status(&card, VERIFY), Ok(0x9000));
    remove();
    let removed = || status(&card, SELECT) == Err(Error::RemovedCard);
    assert!(eventually(Duration::from_secs(20), removed), "{:?}", status(&card, SELECT));
    assert_eq!(card.transaction().err(), Some(Error::RemovedCard));
    let again = |card: &mut Card| card.reconnect(ShareMode::Shared, Protocols::T1, Disposition::LeaveCard);
    assert_eq!(again(&mut card), Err(Error::NoSmartcard));
    let reader = context.list_readers_owned().unwrap().remove(0);
    let other = context.connect(&reader, ShareMode::Shared, Protocols::T1);
    assert_eq!(other.err(), Some(Error::NoSmartcard));
    insert();
    let fresh = connect(&context);
    assert_eq!(status(&card, SELECT), Err(Error::RemovedCard), "until it reconnects");
    again(&mut card).unwrap();
    assert_eq!([status(&card, SELECT), status(&card, IS_VERIFIED)], [Ok(0x9000), Ok(0x63c3)]);
    assert_eq!(status(&fresh, IS_VERIFIED), Ok(0x63c3));
}

#[test]
fn several_handles_share_a_card() {
    isolated(Options::default(), |yubikey| {
        resets();
        transactions();
        exclusive();
        assert_eq!(yubikey.tries(), (3, 3));
    });
}

#[test]
fn cards_come_and_go() {
    let withdrawn = Options { removal: Removal::Withdrawn, ..Options::default() };
    isolated(withdrawn, |yubikey| removal(|| yubikey.remove(), || yubikey.insert()));
}

#[test]
fn an_unplugged_card_takes_its_reader_along() {
    isolated(Options::default(), |yubikey| {
        let context = context();
        let card = connect(&context);
        yubikey.remove_after(1, Lost::Answer);
        assert_eq!(status(&card, SELECT), Ok(0x9000));
        assert_eq!(status(&card, VERIFY), Err(Error::NotTransacted));
        assert_eq!(status(&card, VERIFY), Err(Error::InvalidValue));
        assert_eq!(card.status2_owned().err(), Some(Error::ReaderUnavailable));
        assert!(context.list_readers_owned().unwrap().is_empty());
        yubikey.insert();
        let card = connect(&context);
        assert_eq!(status(&card, SELECT), Ok(0x9000));
        assert_eq!(status(&card, IS_VERIFIED), Ok(0x63c3));
    });
}

#[test]
fn a_command_that_was_lost_was_not_carried_out_and_one_whose_answer_was_lost_was() {
    const WRONG: &[u8] = b"\x00\x20\x00\x80\x08000000\xff\xff";
    isolated(Options::default(), |yubikey| {
        for (lost, tries) in [(Lost::Command, 3), (Lost::Answer, 2)] {
            let card = connect(&context());
            status(&card, SELECT).unwrap();
            yubikey.remove_after(0, lost);
            assert_eq!(status(&card, WRONG), Err(Error::NotTransacted));
            assert_eq!(yubikey.tries().0, tries, "{lost:?}");
            yubikey.insert();
        }
    });
}

#[test]
fn handles_do_not_outlive_the_service() {
    isolated(Options::default(), |yubikey| {
        let old = context();
        let card = connect(&old);
        yubikey.restart_service();
        for _ in 0..3 {
            assert_eq!(status(&card, SELECT), Err(Error::NoService));
        }
        assert_eq!(old.list_readers_owned().err(), Some(Error::NoService));
        assert_eq!(status(&connect(&context()), SELECT), Ok(0x9000));
        yubikey.service().stop();
        assert_eq!(Context::establish(Scope::User).err(), Some(Error::NoService));
    });
}

#[test]
fn waiting_for_a_card_ends_when_it_comes() {
    use pcsc::{PNP_NOTIFICATION, ReaderState, State};
    let absent = Options { inserted: false, ..Options::default() };
    isolated(absent, |yubikey| {
        let context = context();
        assert!(context.list_readers_owned().unwrap().is_empty());
        let mut states = [ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE)];
        assert_eq!(context.get_status_change(Duration::from_millis(1), &mut states), Err(Error::Timeout));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| context.get_status_change(None, &mut states));
            std::thread::sleep(Duration::from_millis(20));
            yubikey.insert();
            waiting.join().unwrap().unwrap();
        });
        let reader = context.list_readers_owned().unwrap().remove(0);
        let mut states = [ReaderState::new(reader, State::UNAWARE)];
        context.get_status_change(None, &mut states).unwrap();
        assert!(states[0].event_state().contains(State::PRESENT));
        states[0].sync_current_state();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| context.get_status_change(None, &mut states));
            std::thread::sleep(Duration::from_millis(20));
            context.cancel().unwrap();
            assert_eq!(waiting.join().unwrap(), Err(Error::Cancelled));
        });
    });
}
