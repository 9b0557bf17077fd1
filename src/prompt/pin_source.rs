//! PINs from a pin-source, and the prompter for unattended processes.

use super::{PinRequest, Prompter};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::uri::PinSource;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Far more than any device takes.
const MAX_PIN_BYTES: usize = 1024;

/// What a failing look-up was trying.
const OPERATION: &str = "get the PIN";

/// Nobody to ask: PINs come from the URI's pin-source or not at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchPrompter;

impl Prompter for BatchPrompter {
    fn pin(&mut self, request: &PinRequest<'_>) -> Result<Secret> {
        if let Some(source) = request.source {
            return pin_from(source);
        }
        Err(Error::new(Kind::PinUnavailable, OPERATION, "there is no terminal to ask on").with_target(request.device).with_hint(
            "run the command on a terminal, or add pin-source=file:/path, env:NAME or credential:NAME to the device's URI",
        ))
    }

    fn touch(&mut self, why: &str) -> Result<()> {
        log::warn!("{why}");
        Ok(())
    }

    fn confirm(&mut self, _question: &str) -> Result<bool> {
        Ok(false)
    }
}

/// The PIN that a pin-source names. Unreadable or empty is an error, never "no PIN".
///
/// # Errors
/// `PinUnavailable`, naming the source.
pub fn pin_from(source: &PinSource) -> Result<Secret> {
    let refused = |message: String| {
        Error::new(Kind::PinUnavailable, OPERATION, message).with_target(source.to_string())
    };
    let pin = match source {
        PinSource::File(path) => from_file(path).map_err(refused)?,
        PinSource::Credential(name) => {
            let directory =
                std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).ok_or_else(|| {
                    refused("this process was given no systemd credentials".into())
                        .with_hint(format!("add LoadCredential={name}:/path to the unit"))
                })?;
            from_file(&directory.join(name)).map_err(refused)?
        }
        PinSource::Env(name) => match std::env::var_os(name) {
            Some(value) => Secret::new(value.into_vec()),
            None => return Err(refused("the environment variable is not set".into())),
        },
    };
    if pin.is_empty() {
        return Err(refused("it is empty".into())
            .with_hint("an empty PIN is never tried: most devices count it as wrong"));
    }
    Ok(pin)
}

/// A file's only line, without its end.
fn from_file(path: &Path) -> Result<Secret, String> {
    let mut buffer = Zeroizing::new([0; MAX_PIN_BYTES]);
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]).map_err(|e| e.to_string())? {
            0 => break,
            n => filled += n,
        }
    }
    let line = buffer[..filled].strip_suffix(b"\n").unwrap_or(&buffer[..filled]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if filled == buffer.len() || line.contains(&b'\n') {
        return Err("it holds more than one line, or a very long one: it is not a PIN file".into());
    }
    Ok(Secret::new(line.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::TriesLeft;

    fn written(content: &[u8]) -> Result<Secret> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        std::fs::write(&path, content).unwrap();
        pin_from(&PinSource::File(path))
    }

    #[test]
    fn one_line_end_is_no_part_of_the_pin() {
        for content in [&b"1234"[..], b"1234\n", b"1234\r\n"] {
            assert_eq!(written(content).unwrap().expose(), b"1234");
        }
        assert_eq!(written(b" 12 34 \n").unwrap().expose(), b" 12 34 ");
    }

    #[test]
    fn what_is_no_pin_is_an_error() {
        for content in [&b""[..], b"\n", b"1234\n5678\n", &[b'1'; 5000]] {
            assert_eq!(written(content).unwrap_err().kind(), Kind::PinUnavailable);
        }
        for source in [
            PinSource::File("/nonexistent/pin".into()),
            PinSource::File("/".into()),
            PinSource::Env("STRONGROOM_TEST_UNSET".into()),
            PinSource::Credential("strongroom-test-unset".into()),
        ] {
            assert_eq!(pin_from(&source).unwrap_err().kind(), Kind::PinUnavailable, "{source}");
        }
    }

    #[test]
    fn the_environment_is_copied() {
        // The one variable that every test process has.
        let path = std::env::var("PATH").unwrap();
        assert_eq!(pin_from(&PinSource::Env("PATH".into())).unwrap().expose(), path.as_bytes());
    }

    #[test]
    fn silence_says_what_to_do() {
        let request = PinRequest {
            device: "pkcs11:token=demo",
            source: None,
            tries: TriesLeft::Unknown,
            what_for: None,
        };
        let error = BatchPrompter.pin(&request).unwrap_err();
        assert_eq!(error.kind(), Kind::PinUnavailable);
        assert!(error.hint().unwrap().contains("pin-source="));
        assert!(!BatchPrompter.confirm("really?").unwrap());
    }
}
