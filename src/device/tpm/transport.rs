//! Connects to a TPM by a TCTI, a transport of tpm2-tss, or without tpm2-tss where a device file or swtpm is named.

use super::direct::{Address, Direct};
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
    /// Whether opening and signing go through tpm2-tss, too.
    through_tss: bool,
}

impl Transport {
    /// The URI's `tcti`, or the kernel's resource manager by default.
    ///
    /// # Errors
    /// `Usage` for a transport unknown to tpm2-tss, or another client than it.
    pub fn from_uri(uri: &DeviceUri) -> Result<Self> {
        let name = match uri.attribute("tcti") {
            None | Some("device" | "device:") => format!("device:{DEFAULT}"),
            Some(named) => named.to_owned(),
        };
        let through_tss = match uri.attribute("client") {
            None => false,
            Some("tpm2-tss") => true,
            Some(_) => {
                let message = "the attribute `client` names an unknown client";
                let error = Error::new(Kind::Usage, OPERATION, message).with_target(uri.display_name());
                return Err(error.with_hint("write client=tpm2-tss, or leave it out"));
            }
        };
        let transport = Self { name, through_tss };
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

    /// Connects for opening and signing without tpm2-tss; `None` where only tpm2-tss can.
    ///
    /// # Errors
    /// `DeviceGone` when there is no TPM, or this user may not use it.
    pub fn connect_directly(&self, target: &str) -> Result<Option<Direct>> {
        let address = Address::from_tcti(&self.name).filter(|_| !self.through_tss);
        let Some(address) = address else { return Ok(None) };
        let connected = patiently(|| address.connect(), |error| !is_for_good(error.kind()));
        connected.map(|wire| Some(Direct::new(wire))).map_err(|error| self.unreachable(&error, None, target))
    }

    /// Connects through tpm2-tss.
    ///
    /// # Errors
    /// `DeviceGone` when there is no TPM, or this user may not use it.
    pub fn connect(&self, target: &str) -> Result<Context> {
        // tpm2-tss does not report why it failed.
        if let Some(device) = self.device()
            && let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open(device)
            && is_for_good(error.kind())
        {
            return Err(self.unreachable(&error, None, target));
        }
        let conf = self.conf()?;
        let passes = |error: &tss_esapi::Error| {
            let remedy = Code::from_error(error).map(Code::remedy);
            matches!(remedy, Some(Remedy::Wait | Remedy::Reconnect))
        };
        patiently(|| Context::new(conf.clone()), passes)
            .map_err(|error| self.unreachable(&error, Code::from_error(&error), target))
    }

    fn unreachable(
        &self,
        error: &(dyn std::error::Error + 'static),
        code: Option<Code>,
        target: &str,
    ) -> Error {
        let shown = self.name.strip_prefix("device:").unwrap_or(&self.name);
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let (message, hint) = match (kind, code) {
            (Some(ErrorKind::NotFound), _) => (
                format!("there is no {shown}: no TPM 2.0, or it is disabled in the firmware"),
                "enable it in the firmware's setup (TPM, fTPM, PTT or Security Device), or name another with tcti=",
            ),
            (Some(ErrorKind::PermissionDenied), _) => (
                format!("{shown} exists, but this user may not use it: it belongs to the group `tss`"),
                "sudo usermod -aG tss \"$USER\", then log in again",
            ),
            (_, Some(code)) => (format!("no TPM answers: {code}"), UNREACHABLE),
            (_, None) => (format!("no TPM answers: {error}"), UNREACHABLE),
        };
        Error::new(Kind::DeviceGone, OPERATION, message).with_target(target).with_hint(hint)
    }
}

/// Tries until it works, or fails in a way that does not pass.
fn patiently<T, E>(
    mut connect: impl FnMut() -> std::result::Result<T, E>,
    passes: impl Fn(&E) -> bool,
) -> std::result::Result<T, E> {
    for pause in PAUSES {
        match connect() {
            Err(error) if passes(&error) => std::thread::sleep(Duration::from_millis(pause)),
            done => return done,
        }
    }
    connect()
}

fn is_for_good(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied)
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
