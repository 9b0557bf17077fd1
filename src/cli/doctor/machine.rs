//! The machine: its system, devices and services, whatever is configured.

use super::{Finding, Status};
use crate::cli::devices::discovery::{self, Module, Token};
use rustix::fs::{Access, access};
use std::path::Path;
use strongroom::uri::Scheme;

/// Where pcscd listens.
const PCSCD: &str = "/run/pcscd/pcscd.comm";

/// All of them.
pub fn findings() -> Vec<Finding> {
    let packages = Packages::from_os_release();
    let mut findings = vec![program(), system()];
    findings.extend(pkcs11(&packages));
    findings.push(smart_cards(&packages));
    findings.extend(super::piv::findings());
    findings
}

fn program() -> Finding {
    let drivers: Vec<&str> = [
        (Scheme::Pkcs11, cfg!(feature = "pkcs11")),
        (Scheme::Tpm, cfg!(feature = "tpm")),
        (Scheme::Piv, cfg!(feature = "piv")),
    ]
    .iter()
    .filter(|(_, built)| *built)
    .map(|(scheme, _)| scheme.name())
    .collect();
    let what = format!("strongroom {}, drivers: {}", env!("CARGO_PKG_VERSION"), drivers.join(", "));
    Finding::new("program", Status::Ok, what)
}

fn system() -> Finding {
    let uname = rustix::system::uname();
    let name = os_release("PRETTY_NAME").unwrap_or_else(|| "an unknown system".into());
    let kernel = format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy());
    let systemd = if Path::new("/run/systemd/system").exists() { ", systemd" } else { "" };
    Finding::new(
        "system",
        Status::Ok,
        format!("{name}, {kernel} on {}{systemd}", uname.machine().to_string_lossy()),
    )
}

fn os_release(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

fn pkcs11(packages: &Packages) -> Vec<Finding> {
    let modules = discovery::modules();
    if modules.is_empty() {
        let what = "no module is installed where they usually are";
        let fix = packages.install("opensc-pkcs11", "opensc") + ", or the library of the device's vendor";
        return vec![Finding::new("pkcs11", Status::Missing, what).fix(fix)];
    }
    modules.iter().flat_map(module).collect()
}

fn module(module: &Module) -> Vec<Finding> {
    let path = module.path.display();
    match &module.tokens {
        // Not configured, perhaps not even wanted: nothing is broken.
        Err(error) => vec![Finding::from_error("pkcs11", Status::Note, error)],
        Ok(tokens) if tokens.is_empty() => {
            let what = format!("{path}: no token");
            vec![Finding::new("pkcs11", Status::Note, what).fix("plug the device in, if it is this module's")]
        }
        Ok(tokens) => {
            // Leave out empty slots beside a token in use: SoftHSM always has one.
            let used = tokens.iter().any(|token| token.ready);
            let news = tokens.iter().filter(|token| token.ready || !used);
            news.map(|token| one(&module.path, token)).collect()
        }
    }
}

fn one(module: &Path, token: &Token) -> Finding {
    let identity = &token.identity;
    let simulator = if identity.simulator { ", a simulator" } else { "" };
    let who = format!("{} {}, serial {}{simulator}", identity.maker, identity.model, identity.serial);
    if token.locked {
        let fix = "let its security officer set a new PIN with the vendor's tool";
        return Finding::new("pkcs11", Status::Note, format!("{} ({who}): its PIN is locked", token.uri))
            .fix(fix);
    }
    if token.last_try {
        let what = format!("{} ({who}): one more wrong PIN locks it", token.uri);
        return Finding::new("pkcs11", Status::Note, what).fix("enter the right PIN once");
    }
    if token.ready {
        return Finding::new("pkcs11", Status::Ok, format!("{} ({who})", token.uri));
    }
    let fix = match identity.simulator {
        true => "softhsm2-util --init-token --free --label NAME",
        false => "initialise it with the vendor's tool",
    };
    let what = format!("{}: a token that is not initialised ({who})", module.display());
    Finding::new("pkcs11", Status::Note, what).fix(fix)
}

fn smart_cards(packages: &Packages) -> Finding {
    match (Path::new(PCSCD).exists(), access(PCSCD, Access::READ_OK | Access::WRITE_OK)) {
        (true, Ok(())) => Finding::new("smart cards", Status::Ok, format!("pcscd listens on {PCSCD}")),
        (true, Err(_)) => Finding::new(
            "smart cards",
            Status::Missing,
            format!("{PCSCD} exists, but this user may not open it"),
        )
        .fix(format!("sudo chmod 666 {PCSCD}, as pcscd.socket makes it")),
        (false, _) => Finding::new(
            "smart cards",
            Status::Missing,
            "pcscd does not run: no YubiKey or smart card is seen",
        )
        .fix(format!(
            "{} && sudo systemctl enable --now pcscd.socket",
            packages.install("pcscd", "pcsc-lite")
        )),
    }
}

/// How this system installs software.
enum Packages {
    Debian,
    Fedora,
    Other,
}

impl Packages {
    fn from_os_release() -> Self {
        let like =
            format!("{} {}", os_release("ID").unwrap_or_default(), os_release("ID_LIKE").unwrap_or_default());
        let is = |name: &str| like.split_whitespace().any(|word| word == name);
        match (is("debian"), is("fedora")) {
            (true, _) => Self::Debian,
            (_, true) => Self::Fedora,
            _ => Self::Other,
        }
    }

    fn install(&self, debian: &str, fedora: &str) -> String {
        match self {
            Self::Debian => format!("sudo apt-get install {debian}"),
            Self::Fedora => format!("sudo dnf install {fedora}"),
            Self::Other => format!("install {debian}"),
        }
    }
}
