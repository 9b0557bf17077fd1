//! YubiKeys: which are plugged in, and in what state.

use super::Finding;

/// The YubiKeys that pcscd sees. If it does not run, another finding says so.
#[cfg(feature = "piv")]
pub fn findings() -> Vec<Finding> {
    match strongroom::device::piv::discover() {
        Ok(readers) => readers.iter().flat_map(present::reader).collect(),
        Err(error) if error.kind() == strongroom::Kind::DeviceGone => {
            log::debug!("{error}");
            Vec::new()
        }
        Err(error) => vec![Finding::new("yubikey", super::Status::Broken, error.to_string())],
    }
}

/// This build has no YubiKey driver.
#[cfg(not(feature = "piv"))]
pub fn findings() -> Vec<Finding> {
    Vec::new()
}

#[cfg(feature = "piv")]
mod present {
    use super::super::{Finding, Status};
    use strongroom::device::piv::{PivInfo, ReaderInfo, YubiKeyInfo};
    use strongroom::error::printable;

    const AREA: &str = "yubikey";

    pub fn reader(facts: &ReaderInfo) -> Vec<Finding> {
        let yubikey = match &facts.yubikey {
            Ok(yubikey) => yubikey,
            Err(why) => {
                let what = format!("{}: {}", printable(&facts.reader), printable(why));
                return vec![Finding::new("reader", Status::Note, what)];
            }
        };
        let uri = format!("piv:serial={}", yubikey.serial);
        match &yubikey.piv {
            None => {
                let what =
                    format!("{uri} (firmware {}): too old for Strongroom, which needs 5.3", yubikey.firmware);
                vec![Finding::new(AREA, Status::Note, what)]
            }
            Some(piv) => std::iter::once(summary(&uri, yubikey, piv)).chain(warnings(&uri, piv)).collect(),
        }
    }

    fn summary(uri: &str, yubikey: &YubiKeyInfo, piv: &PivInfo) -> Finding {
        let free = |slots: &[String]| match slots {
            [] => "none".into(),
            [one] => one.clone(),
            [first, .., last] => format!("{first} … {last} ({})", slots.len()),
        };
        let what = format!(
            "{uri} (firmware {}): PIN {} tries, PUK {}; free for opening: {}, for signing: {}",
            yubikey.firmware,
            piv.pin.tries,
            piv.puk.tries,
            free(&piv.free_for_opening),
            free(&piv.free_for_signing)
        );
        Finding::new(AREA, Status::Ok, what)
    }

    fn warnings(uri: &str, piv: &PivInfo) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut note = |holds: bool, what: &str, fix: &str| {
            if holds {
                found.push(Finding::new(AREA, Status::Note, format!("{uri}: {what}")).fix(fix));
            }
        };
        let lost = piv.pin.tries == 0 && piv.puk.tries == 0;
        note(lost, "PIN and PUK are blocked: its keys are lost", "ykman piv reset");
        note(piv.pin.tries == 0 && !lost, "its PIN is blocked", "ykman piv access unblock-pin");
        note(
            piv.pin.tries == 1,
            "one more wrong PIN blocks it",
            "enter the right PIN, or: ykman piv access unblock-pin",
        );
        note(
            piv.puk.tries == 0 && !lost,
            "its PUK is blocked: if the PIN is blocked too, its keys are lost",
            "do not enter a wrong PIN",
        );
        note(piv.pin.factory, "its PIN is the factory default", "ykman piv access change-pin");
        note(piv.puk.factory, "its PUK is the factory default", "ykman piv access change-puk");
        note(
            piv.factory_management_key,
            "its management key is the factory default: anyone who has the YubiKey can replace its keys",
            "ykman piv access change-management-key --generate --protect",
        );
        found
    }
}
