//! Certificates for the endorsement keys of simulated TPMs.

use crate::authority::{Authority, EK_PURPOSE, Wish, ca, purpose, tpm_name};
use crate::swtpm::Swtpm;
use base64::Engine;

/// NV index of the certificate, and the algorithm as tpm2-tools call it.
pub const P256: (&str, &str) = ("0x1c0000a", "ecc");
/// See [`P256`].
pub const RSA: (&str, &str) = ("0x1c00002", "rsa");
/// Where the certificates in between lie.
pub const CHAIN: &str = "0x1c00100";

/// The endorsement key's certificate by this authority, as a maker would write it.
pub fn certificate(tpm: &Swtpm, algorithm: &str, maker: &Authority) -> Vec<u8> {
    tpm.tool("tpm2_createek", &["-G", algorithm, "-c", "ek.ctx", "-u", "ek.pem", "-f", "pem"]);
    let pem = std::fs::read_to_string(tpm.dir.join("ek.pem")).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    tpm.tool("tpm2_flushcontext", &["--transient-object"]);
    let extensions = vec![tpm_name(), ca(false, None), purpose(&[EK_PURPOSE])];
    maker.issue(Wish { subject: "", key, extensions, ..Wish::default() })
}

/// Writes bytes where everybody may read them.
pub fn write(tpm: &Swtpm, index: &str, bytes: &[u8]) {
    let attributes = "ownerwrite|ownerread|authread|no_da";
    tpm.tool("tpm2_nvdefine", &[index, "-C", "o", "-s", &bytes.len().to_string(), "-a", attributes]);
    std::fs::write(tpm.dir.join("nv"), bytes).unwrap();
    tpm.tool("tpm2_nvwrite", &[index, "-C", "o", "-i", "nv"]);
}
