//! Finds the YubiKey that a URI names.

use super::error::{catch_malformed, from_reader, is_absence};
use crate::error::{Error, Kind, Result, printable};
use crate::prompt::Prompter;
use crate::uri::DeviceUri;
use std::time::{Duration, Instant};
use yubikey::reader::Context;
use yubikey::{Serial, Version, YubiKey};

/// The operation named in errors.
pub const CONNECT: &str = "connect to the device";

/// The oldest firmware with GET METADATA, which describes a slot's contents.
pub const OLDEST: Version = Version { major: 5, minor: 3, patch: 0 };

/// How long a person may take to plug the YubiKey in.
const PATIENCE: Duration = Duration::from_secs(60);

/// The polling interval. A card appears about 300 ms after it is plugged in.
const PAUSE: Duration = Duration::from_millis(200);

/// Pauses before connecting again while another process resets the card, in ms. Each process resets it when it ends. A card of
/// another kind may look like this for ever.
const RESETS_MS: [u64; 10] = [0, 0, 2, 5, 10, 20, 40, 80, 160, 300];

/// The serial a URI names.
///
/// # Errors
/// `Usage` when it is not a YubiKey's serial number.
pub fn serial_of(uri: &DeviceUri) -> Result<Option<Serial>> {
    let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    match uri.serial().map(|text| number(text).map(Serial)) {
        None => Ok(None),
        Some(Some(serial)) => Ok(Some(serial)),
        Some(None) => {
            Err(Error::new(Kind::Usage, CONNECT, "the attribute `serial` is not a YubiKey's number")
                .with_target(uri.display_name())
                .with_hint("write the number that is printed on the YubiKey: piv:serial=12345678"))
        }
    }
}

/// Opens the YubiKey; `None` when it is not plugged in.
///
/// # Errors
/// `DeviceGone` when pcscd does not answer; `Device` when another program has exclusive access; `Usage` when several are plugged in
/// and the URI names none; `Unsupported` for old firmware.
pub fn find(uri: &DeviceUri) -> Result<Option<YubiKey>> {
    let wanted = serial_of(uri)?;
    let mut pauses = RESETS_MS.iter();
    loop {
        let readers = readers()?;
        let failed = |error: pcsc::Error| {
            readers.iter().any(|(_, opened)| opened.as_ref().err() == Some(&error.into()))
        };
        let (taken, disturbed) = (failed(pcsc::Error::SharingViolation), readers.iter().any(is_being_reset));
        match (choose(uri, wanted, readers)?, pauses.next()) {
            (Some(yubikey), _) => return new_enough(uri, yubikey).map(Some),
            (None, Some(pause)) if disturbed => std::thread::sleep(Duration::from_millis(*pause)),
            // A card in exclusive use cannot be identified. It may be the one we look for.
            (None, _) if taken => {
                return Err(
                    from_reader(pcsc::Error::SharingViolation, CONNECT).with_target(uri.display_name())
                );
            }
            (None, _) => return Ok(None),
        }
    }
}

/// The YubiKey with the wanted serial, or the only one. Disconnects from the others.
fn choose(uri: &DeviceUri, wanted: Option<Serial>, readers: Vec<Reader>) -> Result<Option<YubiKey>> {
    let mut found: Option<YubiKey> = None;
    for (reader, opened) in readers {
        match (opened, &found) {
            (Err(error), _) => log::debug!("{}: {error}", printable(&reader)),
            (Ok(yubikey), _) if wanted.is_some_and(|serial| serial != yubikey.serial()) => leave(yubikey),
            (Ok(yubikey), Some(other)) if wanted.is_none() => {
                let error = several(uri, other.serial(), yubikey.serial());
                found.into_iter().chain([yubikey]).for_each(leave);
                return Err(error);
            }
            (Ok(yubikey), _) => found = Some(yubikey),
        }
    }
    Ok(found)
}

/// The error for a missing YubiKey. Lists those that are plugged in.
pub fn absent(uri: &DeviceUri) -> Error {
    let here = settled_readers().unwrap_or_default();
    let serials: Vec<String> = here
        .into_iter()
        .filter_map(|(_, opened)| opened.ok())
        .map(|yubikey| {
            let serial = yubikey.serial().to_string();
            leave(yubikey);
            serial
        })
        .collect();
    let message = match (uri.serial(), serials.is_empty()) {
        (Some(serial), false) => {
            format!("YubiKey {serial} is not plugged in; here is {}", serials.join(" and "))
        }
        (Some(serial), true) => format!("YubiKey {serial} is not plugged in, nor any other"),
        (None, _) => "no YubiKey is plugged in".into(),
    };
    Error::new(Kind::DeviceGone, CONNECT, message).with_target(uri.display_name()).with_hint(
        "plug it in and repeat the command; `strongroom doctor` shows which readers and YubiKeys are seen. If it is lost: \
         `strongroom device retire NAME`, with another admin device",
    )
}

/// Waits for a person to plug in the YubiKey.
///
/// # Errors
/// `DeviceGone` when no person is present, or the time is over.
pub fn await_insertion(uri: &DeviceUri, prompter: &mut dyn Prompter) -> Result<YubiKey> {
    let absent = absent(uri);
    if !prompter.is_attended() {
        return Err(absent);
    }
    let which =
        uri.serial().map_or_else(|| "a YubiKey".to_owned(), |serial| format!("your YubiKey {serial}"));
    prompter.touch(&format!("plug in {which}"))?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        std::thread::sleep(PAUSE);
        prompter.still_waiting();
        if let Some(yubikey) = find(uri)? {
            return Ok(yubikey);
        }
    }
    Err(absent)
}

/// A reader's name, and the YubiKey in it or why there is none.
pub type Reader = (String, yubikey::Result<YubiKey>);

/// All readers.
///
/// # Errors
/// `DeviceGone` when pcscd does not answer.
fn readers() -> Result<Vec<Reader>> {
    let list = || {
        let mut context = Context::open()?;
        let readers: Vec<Reader> =
            context.iter()?.map(|reader| (reader.name().into_owned(), open(&reader))).collect();
        Ok::<_, yubikey::Error>(readers)
    };
    match list() {
        Ok(readers) => Ok(readers),
        Err(yubikey::Error::PcscError { inner: Some(error) }) if is_absence(error) => Ok(Vec::new()),
        Err(yubikey::Error::PcscError { inner: Some(error) }) => Err(from_reader(error, CONNECT)),
        Err(error) => Err(Error::new(Kind::DeviceGone, CONNECT, error.to_string()).caused_by(error)),
    }
}

/// As [`readers`], once no card is being reset.
///
/// # Errors
/// As [`readers`].
pub fn settled_readers() -> Result<Vec<Reader>> {
    for pause in RESETS_MS {
        let readers = readers()?;
        if !readers.iter().any(is_being_reset) {
            return Ok(readers);
        }
        readers.into_iter().filter_map(|(_, opened)| opened.ok()).for_each(leave);
        std::thread::sleep(Duration::from_millis(pause));
    }
    readers()
}

/// Opens the card in a reader. `ParseError` for malformed responses.
fn open(reader: &yubikey::reader::Reader<'_>) -> yubikey::Result<YubiKey> {
    catch_malformed(|| reader.open()).unwrap_or(Err(yubikey::Error::ParseError))
}

/// Whether another process is resetting the card in a reader. pcscd does not know the card's protocol until it is powered again.
fn is_being_reset((_, opened): &Reader) -> bool {
    let resets = [
        pcsc::Error::ResetCard,
        pcsc::Error::ProtoMismatch,
        pcsc::Error::UnpoweredCard,
        pcsc::Error::UnresponsiveCard,
    ];
    opened.as_ref().is_err_and(|error| resets.into_iter().any(|reset| *error == reset.into()))
}

/// Disconnects from a YubiKey without disturbing other programs.
pub fn leave(yubikey: YubiKey) {
    let _ = yubikey.disconnect(pcsc::Disposition::LeaveCard);
}

fn several(uri: &DeviceUri, one: Serial, other: Serial) -> Error {
    Error::new(Kind::Usage, CONNECT, "several YubiKeys are plugged in, and the URI names none")
        .with_target(uri.display_name())
        .with_hint(format!("name one: piv:serial={one}  or  piv:serial={other}"))
}

fn new_enough(uri: &DeviceUri, yubikey: YubiKey) -> Result<YubiKey> {
    let version = yubikey.version();
    if version >= OLDEST {
        return Ok(yubikey);
    }
    leave(yubikey);
    Err(Error::new(
        Kind::Unsupported,
        CONNECT,
        format!("its firmware {version} cannot report the contents of its slots; {OLDEST} and later can"),
    )
    .with_target(uri.display_name())
    .with_hint("a YubiKey's firmware cannot be updated: use a YubiKey 5 with newer firmware"))
}
