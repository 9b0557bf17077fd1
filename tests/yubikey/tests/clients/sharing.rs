//! Several handles on one card, cards that come and go, a service that restarts: through libpcsclite.

use crate::yubikey::{Lost, Options, Removal, isolated};
use pcsc::{Card, Context, Disposition, Error, Protocols, Scope, ShareMode};

const SELECT: &[u8] = b"\x00\xa4\x04\x00\x0b\xa0\x00\x00\x03\x08\x00\x00\x10\x00\x01\x00";
const VERIFY: &[u8] = b"\x00\x20\x00\x80\x08123456\xff\xff";
const IS_VERIFIED: &[u8] = b"\x00\x20\x00\x80";

fn context() -> Context {
    Context::establish(Scope::User).unwrap()
}

fn connect(context: &Context) -> Card {
    let readers = context.list_readers_owned().unwrap();
    context.connect(&readers[0], ShareMode::Shared, Protocols::T1).unwrap()
}

fn transmit(card: &Card, apdu: &[u8]) -> Result<Vec<u8>, Error> {
    card.transmit(apdu, &mut [0; 300]).map(<[u8]>::to_vec)
}

fn status(card: &Card, apdu: &[u8]) -> Result<u16, Error> {
    transmit(card, apdu).map(|answer| u16::from_be_bytes(*answer.last_chunk().unwrap()))
}

#[test]
fn a_reset_is_heard_of_and_forgets_the_pin() {
    isolated(Options::default(), |yubikey| {
        let context = context();
        let (mut first, mut second) = (connect(&context), connect(&context));
        assert_eq!(status(&first, SELECT), Ok(0x9000));
        assert_eq!(status(&first, VERIFY), Ok(0x9000));
        assert_eq!(status(&second, IS_VERIFIED), Ok(0x9000), "one card, whoever asks");
        second.reconnect(ShareMode::Shared, Protocols::T1, Disposition::ResetCard).unwrap();
        assert_eq!(status(&first, IS_VERIFIED), Err(Error::ResetCard));
        first.reconnect(ShareMode::Shared, Protocols::T1, Disposition::LeaveCard).unwrap();
        assert_eq!(status(&first, SELECT), Ok(0x9000));
        assert_eq!(status(&first, IS_VERIFIED), Ok(0x63c3));
        assert_eq!(yubikey.tries(), (3, 3));
    });
}

#[test]
fn cards_come_and_go() {
    let withdrawn = Options { removal: Removal::Withdrawn, ..Options::default() };
    isolated(withdrawn, |yubikey| {
        let context = context();
        let card = connect(&context);
        yubikey.remove();
        assert_eq!(status(&card, SELECT), Err(Error::RemovedCard));
        let reader = context.list_readers_owned().unwrap().remove(0);
        let again = context.connect(&reader, ShareMode::Shared, Protocols::T1);
        assert_eq!(again.err(), Some(Error::NoSmartcard));
        yubikey.insert();
        assert_eq!(status(&connect(&context), SELECT), Ok(0x9000));
    });
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
        assert!(context.list_readers_owned().unwrap().is_empty());
        yubikey.insert();
        let card = connect(&context);
        assert_eq!(status(&card, SELECT), Ok(0x9000));
        assert_eq!(status(&card, IS_VERIFIED), Ok(0x63c3));
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
fn a_transaction_makes_others_wait() {
    isolated(Options::default(), |_| {
        let (context, others) = (context(), context());
        let mut card = connect(&context);
        let mut other = connect(&others);
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
    });
}
