//! Connects to a TPM by a TCTI, a transport of tpm2-tss.

use super::error::{Code, Remedy, UNREACHABLE};
use crate::error::{Error, Kind, Result};
use crate::uri::DeviceUri;
use sha2::{Digest as _, Sha256};
use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;
use tss_esapi::{Context, TctiNameConf};

/// The kernel's resource manager. Never /dev/tpm0, which only one program at a time can open, and which does not swap keys out.
pub const DEFAULT: &str = "/dev/tpmrm0";

/// The pauses between attempts to connect, in milliseconds. Together they are long enough for a service to restart.
const PAUSES: [u64; 7] = [5, 20, 50, 100, 200, 400, 800];

const OPERATION: &str = "connect to the TPM";

/// The address of a TPM.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transport {
    /// In the TCTI loader's form: `device:/dev/tpmrm0`.
    name: String,
}

impl Transport {
    /// The URI's `tcti`, or the kernel's resource manager by default.
    ///
    /// # Errors
    /// `Usage` for a transport unknown to tpm2-tss.
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
            Error::new(Kind::Usage, OPERATION, "the attribute `tcti` names an unknown transport").caused_by(e).with_hint(
                "write tcti=device:/dev/tpmrm0, tcti=tabrmd:bus_type=system or tcti=swtpm:host=127.0.0.1,port=2321",
            )
        })
    }

    /// The device file, if there is one.
    pub fn device(&self) -> Option<&Path> {
        self.name.strip_prefix("device:").map(Path::new)
    }

    /// A short name for files: it tells the TPMs of a machine apart.
    pub fn label(&self) -> String {
        hex::encode(&Sha256::digest(self.name.as_bytes())[..8])
    }

    /// Whether a resource manager manages the TPM's few slots.
    pub fn is_managed(&self) -> bool {
        match self.device() {
            Some(device) => device.to_string_lossy().contains("tpmrm"),
            None => self.name.starts_with("tabrmd"),
        }
    }

    /// Connects, with several attempts if necessary.
    ///
    /// # Errors
    /// `DeviceGone` when there is no TPM, or this user may not use it.
    pub fn connect(&self, target: &str) -> Result<Context> {
        if let Some(device) = self.device() {
            check(device, target)?;
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
                None => return Err(unreachable(&error, code, target)),
            }
        }
    }
}

fn unreachable(error: &tss_esapi::Error, code: Option<Code>, target: &str) -> Error {
    let message = match code {
        Some(code) => format!("no TPM answers: {code}"),
        None => format!("no TPM answers: {error}"),
    };
    Error::new(Kind::DeviceGone, OPERATION, message).with_target(target).with_hint(UNREACHABLE)
}

/// Finds out why the connection failed, which tpm2-tss does not report.
fn check(device: &Path, target: &str) -> Result<()> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(device);
    let gone = |message: String, hint: &str| {
        Err(Error::new(Kind::DeviceGone, OPERATION, message).with_target(target).with_hint(hint))
    };
    let shown = device.display();
    match opened.map_err(|e| e.kind()) {
        Err(ErrorKind::NotFound) => gone(
            format!("there is no {shown}: no TPM 2.0, or it is disabled in the firmware"),
            "enable it in the firmware's setup (TPM, fTPM, PTT or Security Device), or name another with tcti=",
        ),
        Err(ErrorKind::PermissionDenied) => gone(
            format!("{shown} exists, but this user may not use it: it belongs to the group `tss`"),
            "sudo usermod -aG tss \"$USER\", then log in again",
        ),
        // For busy devices and the rest, tpm2-tss reports the cause. The file is closed at once.
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
