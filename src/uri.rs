//! Device URIs, in the form of RFC 7512: `scheme:name=value;name=value?name=value&name=value`.
//!
//! ```text
//! pkcs11:token=prod;object=strongroom?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin
//! tpm:?tcti=device:/dev/tpmrm0
//! piv:serial=12345678;slot=9d
//! ```
//!
//! A URI ends up in configuration files, logs and process lists, so it never carries a PIN: `pin-value` (RFC 7512 §2.3)
//! is refused, and no error repeats a value, since a PIN may have been typed in the wrong place.

use crate::error::{Error, Kind, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

mod percent;

/// The `object` attribute where a URI has none.
pub const DEFAULT_OBJECT: &str = "strongroom";

/// Attributes of RFC 7512 §2.3 that name a PKCS#11 token or object, in canonical order.
const PKCS11_PATH: &[&str] = &["token", "manufacturer", "model", "serial", "slot-id", "object", "id"];
/// Attributes after the `?`, in canonical order. `user-type` is not in the standard, which leaves room for more (§2.3).
const PKCS11_QUERY: &[&str] = &["module-path", "module-name", "user-type", "pin-source"];

/// What names a YubiKey and its slots: the serial, the opening key's slot, the signing key's.
const PIV_PATH: &[&str] = &["serial", "slot", "sign-slot"];
/// Attributes after the `?` that every kind of device has.
const PIV_QUERY: &[&str] = &["pin-source"];
/// Attributes that name a TPM's storage root key, or a key of ours in it, in canonical order.
const TPM_PATH: &[&str] = &["object", "handle", "srk"];
/// Attributes after the `?` for a TPM.
const TPM_QUERY: &[&str] = &["tcti", "client", "pin-source", "pcr-signature"];

/// Which driver a URI is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// An HSM or smart card behind a PKCS#11 module.
    Pkcs11,
    /// A TPM 2.0.
    Tpm,
    /// A YubiKey's PIV application.
    Piv,
}

/// Where the PIN of a device lies (RFC 7512 `pin-source`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PinSource {
    /// `file:/path` or `/path`: a file's first line.
    File(PathBuf),
    /// `env:NAME`: an environment variable.
    Env(String),
    /// `credential:NAME`: a systemd credential, `$CREDENTIALS_DIRECTORY/NAME`.
    Credential(String),
}

/// A parsed device URI. Two URIs with the same attributes are equal, whatever their order was.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DeviceUri {
    scheme: Scheme,
    path: Vec<Attribute>,
    query: Vec<Attribute>,
    pin_source: Option<PinSource>,
}

/// A name and its decoded value. Every value but `id` is UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attribute {
    name: String,
    value: Vec<u8>,
}

impl DeviceUri {
    /// Parses a URI.
    ///
    /// # Errors
    /// `Usage`, naming the attribute that is unknown, doubled, empty or wrongly encoded, never its value.
    pub fn parse(uri: &str) -> Result<Self> {
        let (scheme, rest) = uri.split_once(':').ok_or_else(|| no_scheme("it has no scheme"))?;
        let scheme = Scheme::from_str(scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parsed = Self {
            scheme,
            path: attributes(scheme, path, ';')?,
            query: attributes(scheme, query, '&')?,
            pin_source: None,
        };
        parsed.check_names()?;
        parsed.normalise()?;
        Ok(parsed)
    }

    /// Which driver it is for.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The URI without module path and PIN source, for errors, prompts and listings. Everything outside printable ASCII
    /// is percent-encoded, so it is safe on a terminal.
    pub fn display_name(&self) -> String {
        let mut shown = self.clone();
        shown.query.retain(|a| !["module-path", "pin-source", "pcr-signature"].contains(&a.name.as_str()));
        shown.to_string()
    }

    /// Where the PIN lies, if the URI says so.
    pub fn pin_source(&self) -> Option<&PinSource> {
        self.pin_source.as_ref()
    }

    /// Any attribute by name, from before or after the `?`; `None` also for `id`, which is bytes.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.bytes(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// CK_TOKEN_INFO `label`.
    pub fn token(&self) -> Option<&str> {
        self.attribute("token")
    }

    /// CK_TOKEN_INFO `manufacturerID`.
    pub fn manufacturer(&self) -> Option<&str> {
        self.attribute("manufacturer")
    }

    /// CK_TOKEN_INFO `model`.
    pub fn model(&self) -> Option<&str> {
        self.attribute("model")
    }

    /// CK_TOKEN_INFO `serialNumber`, or a YubiKey's serial number.
    pub fn serial(&self) -> Option<&str> {
        self.attribute("serial")
    }

    /// CK_SLOT_ID.
    pub fn slot_id(&self) -> Option<u64> {
        self.attribute("slot-id").and_then(|id| id.parse().ok())
    }

    /// What the keys' labels start with; [`DEFAULT_OBJECT`] where the URI does not say.
    pub fn object(&self) -> &str {
        self.attribute("object").unwrap_or(DEFAULT_OBJECT)
    }

    /// CKA_ID.
    pub fn id(&self) -> Option<&[u8]> {
        self.bytes("id")
    }

    /// The PKCS#11 module's file.
    pub fn module_path(&self) -> Option<&Path> {
        self.attribute("module-path").map(Path::new)
    }

    /// The PKCS#11 module's name without directory, `lib` and `.so`.
    pub fn module_name(&self) -> Option<&str> {
        self.attribute("module-name")
    }

    /// CK_USER_TYPE of a vendor's own, in place of CKU_USER.
    pub fn user_type(&self) -> Option<u32> {
        self.attribute("user-type").and_then(|text| vendor_user_type(text).ok())
    }

    /// The same URI with one attribute set to another value.
    ///
    /// # Errors
    /// `Usage`, as for [`DeviceUri::parse`].
    pub fn with(&self, name: &str, value: &str) -> Result<Self> {
        let mut changed = self.clone();
        let list = if is_query(self.scheme, name) { &mut changed.query } else { &mut changed.path };
        list.retain(|a| a.name != name);
        list.push(Attribute { name: name.into(), value: value.into() });
        Self::parse(&changed.to_string())
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        let found = self.path.iter().chain(&self.query).find(|a| a.name == name)?;
        Some(&found.value)
    }

    fn check_names(&self) -> Result<()> {
        let mut seen: Vec<&str> = Vec::new();
        for attribute in self.path.iter().chain(&self.query) {
            let name = attribute.name.as_str();
            if seen.contains(&name) {
                return Err(wrong(format!("the attribute `{name}` is there twice")));
            }
            seen.push(name);
        }
        let (path, query) = known(self.scheme);
        let known = self.path.iter().map(|a| (a, path)).chain(self.query.iter().map(|a| (a, query)));
        for (attribute, allowed) in known {
            if !allowed.contains(&attribute.name.as_str()) {
                return Err(unknown(self.scheme, &attribute.name));
            }
        }
        Ok(())
    }

    /// Canonical order and spelling, so that equal URIs are equal and print alike.
    fn normalise(&mut self) -> Result<()> {
        for attribute in self.path.iter_mut().chain(&mut self.query) {
            let text = std::str::from_utf8(&attribute.value).unwrap_or_default();
            match attribute.name.as_str() {
                "slot-id" => attribute.value = slot_number(text)?.to_string().into(),
                "user-type" => attribute.value = format!("{:#010x}", vendor_user_type(text)?).into(),
                "pin-source" => {
                    let source = PinSource::parse(text)?;
                    attribute.value = source.to_string().into();
                    self.pin_source = Some(source);
                }
                _ => {}
            }
        }
        let (path, query) = known(self.scheme);
        for (list, order) in [(&mut self.path, path), (&mut self.query, query)] {
            let rank = |a: &Attribute| order.iter().position(|n| *n == a.name).unwrap_or(order.len());
            list.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name)));
        }
        Ok(())
    }
}

impl FromStr for DeviceUri {
    type Err = Error;

    fn from_str(uri: &str) -> Result<Self> {
        Self::parse(uri)
    }
}

impl fmt::Display for DeviceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        let lists = [(&self.path, ';', ';'), (&self.query, '?', '&')];
        for (list, before, between) in lists {
            for (i, attribute) in list.iter().enumerate() {
                match (i, before) {
                    (0, ';') => {}
                    (0, _) => write!(f, "{before}")?,
                    _ => write!(f, "{between}")?,
                }
                write!(f, "{}=", attribute.name)?;
                match attribute.name.as_str() {
                    "id" => write!(f, "{}", percent::encode_all(&attribute.value))?,
                    _ => write!(f, "{}", percent::encode(&attribute.value, before == '?'))?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for DeviceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceUri({self})")
    }
}

impl Scheme {
    /// Its name in a URI, and of its cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pkcs11 => "pkcs11",
            Self::Tpm => "tpm",
            Self::Piv => "piv",
        }
    }
}

impl FromStr for Scheme {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        // RFC 3986 §3.1: schemes are case-insensitive.
        [Self::Pkcs11, Self::Tpm, Self::Piv]
            .into_iter()
            .find(|scheme| scheme.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| no_scheme("its scheme is unknown"))
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PinSource {
    /// `file:/path`, `/path`, `env:NAME` or `credential:NAME`.
    fn parse(source: &str) -> Result<Self> {
        let plain =
            |name: &str| !name.is_empty() && !name.contains(['/', '=', '\0']) && name != "." && name != "..";
        match source.split_once(':') {
            Some(("env", name)) if plain(name) => Ok(Self::Env(name.into())),
            Some(("credential", name)) if plain(name) => Ok(Self::Credential(name.into())),
            Some(("file", path)) => Self::file(path),
            _ => Self::file(source),
        }
    }

    fn file(path: &str) -> Result<Self> {
        if !path.starts_with('/') || path.contains('\0') {
            return Err(wrong("the attribute `pin-source` is not one of the forms that Strongroom knows")
                .with_hint(
                    "write pin-source=file:/absolute/path, pin-source=env:NAME or pin-source=credential:NAME",
                ));
        }
        // Also `file:///path`, as RFC 8089 writes it; leading slashes mean no more than one does.
        Ok(Self::File(format!("/{}", path.trim_start_matches('/')).into()))
    }
}

impl fmt::Display for PinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

/// The attributes of one half of a URI.
fn attributes(scheme: Scheme, text: &str, separator: char) -> Result<Vec<Attribute>> {
    text.split(separator)
        .filter(|part| !part.is_empty())
        .enumerate()
        .map(|(i, part)| attribute(scheme, i, part))
        .collect()
}

fn attribute(scheme: Scheme, position: usize, text: &str) -> Result<Attribute> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(wrong(format!("its attribute number {} has no name of a-z, 0-9 and `-`", position + 1)));
    }
    if name == "pin-value" {
        return Err(wrong("it has a `pin-value`: a URI is seen in configuration files, logs and process lists, so a PIN \
                          has no place in it")
        .with_hint("write pin-source=file:/path, env:NAME or credential:NAME instead, and change a PIN that was shown"));
    }
    let (path, query) = known(scheme);
    if !path.contains(&name) && !query.contains(&name) {
        return Err(unknown(scheme, name));
    }
    let value = percent::decode(value)
        .ok_or_else(|| wrong(format!("the attribute `{name}` has a `%` without two hexadecimal digits")))?;
    if value.is_empty() {
        return Err(wrong(format!("the attribute `{name}` has no value")));
    }
    if name != "id" && std::str::from_utf8(&value).is_err() {
        return Err(wrong(format!("the attribute `{name}` is not UTF-8")));
    }
    Ok(Attribute { name: name.into(), value })
}

fn slot_number(text: &str) -> Result<u64> {
    // RFC 7512 §2.3 has decimal digits only; `u64::from_str` would also take a plus sign.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| wrong("the attribute `slot-id` is not a decimal number"))
}

/// CK_USER_TYPE from CKU_VENDOR_DEFINED upwards (PKCS#11 v2.40 §3.3), decimal or hexadecimal. The standard's own types are no
/// choice: a security officer opens nothing.
fn vendor_user_type(text: &str) -> Result<u32> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')),
        None => text.parse().ok().filter(|_| !text.starts_with('+')),
    };
    number.filter(|number| *number >= 0x8000_0000).ok_or_else(|| {
        wrong("the attribute `user-type` is not the number of a vendor's type of user")
            .with_hint("write it as in the vendor's header file, for example user-type=0x80000001")
    })
}

fn is_query(scheme: Scheme, name: &str) -> bool {
    PKCS11_QUERY.contains(&name) || (scheme == Scheme::Tpm && TPM_QUERY.contains(&name))
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(Kind::Usage, "read the device URI", message)
}

/// The attributes of a scheme before and after the `?`.
fn known(scheme: Scheme) -> (&'static [&'static str], &'static [&'static str]) {
    match scheme {
        Scheme::Pkcs11 => (PKCS11_PATH, PKCS11_QUERY),
        Scheme::Piv => (PIV_PATH, PIV_QUERY),
        Scheme::Tpm => (TPM_PATH, TPM_QUERY),
    }
}

fn unknown(scheme: Scheme, name: &str) -> Error {
    let (path, query) = known(scheme);
    let (path, query) = (path.join(", "), query.join(", "));
    let standard = if scheme == Scheme::Pkcs11 { " (RFC 7512 §2.3)" } else { "" };
    wrong(format!("the attribute `{name}` is unknown in its place"))
        .with_hint(format!("before the `?` stand {path}; after it {query}{standard}"))
}

fn no_scheme(message: &str) -> Error {
    wrong(message).with_hint(
        "write `pkcs11:token=LABEL?module-path=/path/to/module.so`, `tpm:?tcti=device:/dev/tpmrm0` or \
         `piv:serial=NUMBER`",
    )
}

#[cfg(test)]
mod tests;
