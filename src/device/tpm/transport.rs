//! How a TPM is reached: TCTI, the transport of tpm2-tss.

use super::error::{Code, Remedy, UNREACHABLE};
use crate::error::{Error, Kind, Result};
use crate::uri::DeviceUri;
use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;
use tss_esapi::{Context, TctiNameConf};

/// The kernel's resource manager. Never /dev/tpm0, which one program at a time can open, and where nobody swaps keys out.
pub const DEFAULT: &str = "/dev/tpmrm0";

/// How long to wait between attempts to connect, in milliseconds; a TPM that is not there is waited for as long as it takes
/// a service to be restarted.
const PAUSES: [u64; 7] = [5, 20, 50, 100, 200, 400, 800];

const TRIED: &str = "connect to the TPM";

/// A way to a TPM.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transport {
    /// In the TCTI loader's form: `device:/dev/tpmrm0`.
    name: String,
}

impl Transport {
    /// The URI's `tcti`; the kernel's resource manager where it has none.
    ///
    /// # Errors
    /// `Usage` for a transport that tpm2-tss does not know.
    pub fn from_uri(uri: &DeviceUri) -> Result<Self> {
        let name = match uri.attribute("tcti") {
            None | Some("device" | "device:") => format!("device:{DEFAULT}"),
            Some(named) => named.to_owned(),
        };
        let transport = Self { name };
        transport.conf().map_err(|e| e.with_target(uri.display_name()))?;
        Ok(transport)
    }

    fn conf(&self) -> Result<TctiNameConf> {
        TctiNameConf::from_str(&self.name).map_err(|e| {
            Error::new(Kind::Usage, TRIED, "the attribute `tcti` names no transport that is known").caused_by(e).with_hint(
                "write tcti=device:/dev/tpmrm0, tcti=tabrmd:bus_type=system or tcti=swtpm:host=127.0.0.1,port=2321",
            )
        })
    }

    /// The device file, where there is one.
    pub fn device(&self) -> Option<&Path> {
        self.name.strip_prefix("device:").map(Path::new)
    }

    /// Whether a resource manager stands between this program and the TPM's few slots.
    pub fn is_managed(&self) -> bool {
        match self.device() {
            Some(device) => device.to_string_lossy().contains("tpmrm"),
            None => self.name.starts_with("tabrmd"),
        }
    }

    /// Connects, after some attempts if need be.
    ///
    /// # Errors
    /// `DeviceGone` when there is no TPM, or none for this user.
    pub fn connect(&self, on: &str) -> Result<Context> {
        if let Some(device) = self.device() {
            check(device, on)?;
        }
        let conf = self.conf()?;
        let mut pauses = PAUSES.iter();
        loop {
            let error = match Context::new(conf.clone()) {
                Ok(context) => return Ok(context),
                Err(error) => error,
            };
            let code = Code::from_error(&error);
            let passing = code.is_some_and(|code| matches!(code.remedy(), Remedy::Wait | Remedy::Reconnect));
            match pauses.next().filter(|_| passing) {
                Some(pause) => std::thread::sleep(Duration::from_millis(*pause)),
                None => return Err(unreachable(&error, code, on)),
            }
        }
    }
}

fn unreachable(error: &tss_esapi::Error, code: Option<Code>, on: &str) -> Error {
    let answer = match code {
        Some(code) => format!("nothing answers there: {code}"),
        None => format!("nothing answers there: {error}"),
    };
    Error::new(Kind::DeviceGone, TRIED, answer).with_target(on).with_hint(UNREACHABLE)
}

/// tpm2-tss says only that it failed; this says why.
fn check(device: &Path, on: &str) -> Result<()> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(device);
    let gone = |answer: String, advice: &str| {
        Err(Error::new(Kind::DeviceGone, TRIED, answer).with_target(on).with_hint(advice))
    };
    let shown = device.display();
    match opened.map_err(|e| e.kind()) {
        Err(ErrorKind::NotFound) => gone(
            format!("there is no {shown}: no TPM 2.0, or it is switched off in the firmware"),
            "switch it on in the firmware's setup (TPM, fTPM, PTT or Security Device), or name another with tcti=",
        ),
        Err(ErrorKind::PermissionDenied) => gone(
            format!("{shown} is there, and not for this user: it belongs to the group `tss`"),
            "sudo usermod -aG tss \"$USER\", then log in anew",
        ),
        // Busy or otherwise odd: tpm2-tss tries, and says what comes of it. Closed again at once.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(uri: &str) -> Result<Transport> {
        Transport::from_uri(&uri.parse().unwrap())
    }

    #[test]
    fn the_resource_manager_is_what_nobody_names() {
        for uri in ["tpm:", "tpm:?tcti=device", "tpm:?tcti=device:"] {
            let transport = transport(uri).unwrap();
            assert_eq!(transport.device(), Some(Path::new("/dev/tpmrm0")), "{uri}");
        }
    }

    #[test]
    fn every_transport_of_tpm2_tss_can_be_named() {
        for tcti in [
            "swtpm:host=127.0.0.1,port=2321",
            "mssim:host=localhost,port=2321",
            "tabrmd:bus_type=session",
            "tabrmd",
            "device:/dev/tpm0",
            "device:/dev/tpmrm1",
        ] {
            transport(&format!("tpm:?tcti={tcti}")).unwrap();
        }
        for tcti in ["cmd:rm", "nothing", "swtpm:port=x"] {
            assert_eq!(transport(&format!("tpm:?tcti={tcti}")).unwrap_err().kind(), Kind::Usage, "{tcti}");
        }
    }

    #[test]
    fn a_missing_device_is_said_to_be_missing() {
        let error = transport("tpm:?tcti=device:/nonexistent/tpmrm0").unwrap().connect("tpm:").unwrap_err();
        assert_eq!(error.kind(), Kind::DeviceGone);
        assert!(error.message().starts_with("there is no /nonexistent/tpmrm0"), "{error}");
    }
}
