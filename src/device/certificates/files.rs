//! Certificates in files.

use super::Certificate;
use crate::error::{Error, Kind, Result};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::io::Read;
use std::path::{Path, PathBuf};
use x509_cert::der::{Reader, SliceReader};

/// Longer than any file of certificates that somebody would put here.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The certificates in a PEM text, in DER, as they come. Other things in it are passed over.
///
/// # Errors
/// `Evidence` when one of them cannot be read.
pub fn from_pem(text: &[u8]) -> Result<Vec<Vec<u8>>> {
    let unreadable = |error| super::refused(format!("it is no PEM text: {error}"));
    CertificateDer::pem_slice_iter(text)
        .map(|der| {
            let der = der.map_err(unreadable)?.to_vec();
            Certificate::parse(&der).map(|_| der)
        })
        .collect()
}

/// The first of some certificates in DER that lie one after the other, or before padding; `None` where there is none.
pub fn first_certificate(bytes: &[u8]) -> Option<&[u8]> {
    let first = SliceReader::new(bytes).and_then(|mut reader| reader.tlv_bytes()).ok()?;
    Certificate::parse(first).is_ok().then_some(first)
}

/// The CA certificates in a directory, in DER: every file in it, in PEM (of one or several) or DER. Directories and hidden
/// files are passed over.
///
/// # Errors
/// `Io` when the directory or a file cannot be read; `Evidence` when there is no certificate, or a file holds something else. All
/// name the file.
pub fn roots_from(directory: &Path) -> Result<Vec<Vec<u8>>> {
    let mut roots = Vec::new();
    for path in files_in(directory).map_err(|error| unread(directory, &error))? {
        let bytes = read(&path).map_err(|error| unread(&path, &error))?;
        roots.extend(authorities(&bytes).map_err(|error| error.with_target(path.display().to_string()))?);
    }
    if roots.is_empty() {
        return Err(Error::new(Kind::Evidence, "read the trusted certificates", "there are none")
            .with_target(directory.display().to_string())
            .with_hint("put the maker's CA certificates there, in PEM or DER"));
    }
    Ok(roots)
}

fn files_in(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // Asked of what a link points at: certificates are often linked to.
        if !entry.file_name().as_encoded_bytes().starts_with(b".") && !entry.path().is_dir() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other("it is too long to be a file of certificates"));
    }
    Ok(bytes)
}

/// One certificate in DER, or some in PEM; all of them CAs'.
fn authorities(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let found = if bytes.starts_with(&[0x30]) {
        Certificate::parse(bytes)?;
        vec![bytes.to_vec()]
    } else {
        from_pem(bytes)?
    };
    if found.is_empty() {
        return Err(super::refused("there is no certificate in it, in PEM or DER"));
    }
    for der in &found {
        let certificate = Certificate::parse(der)?;
        if !certificate.is_ca() {
            let message = format!(
                "the certificate of {} is not a CA's, and so vouches for nothing",
                certificate.subject()
            );
            return Err(super::refused(message));
        }
    }
    Ok(found)
}

fn unread(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Kind::Io, "read the trusted certificates", error.to_string())
        .with_target(path.display().to_string())
}
