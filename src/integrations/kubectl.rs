//! kubectl's exec credentials (client.authentication.k8s.io): a bearer token, or a client certificate with its key.

use super::hosts::HostToken;
use super::json;
use crate::error::{Error, Kind, Result};
use crate::timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The version where kubectl does not say which it speaks.
const V1: &str = "client.authentication.k8s.io/v1";

/// The versions that are understood: they differ in their name only.
const VERSIONS: [&str; 2] = [V1, "client.authentication.k8s.io/v1beta1"];

/// The part of `KUBERNETES_EXEC_INFO` that matters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecInfo {
    api_version: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredential<'a> {
    api_version: &'a str,
    kind: &'static str,
    status: Status<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate_data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key_data: Option<&'a str>,
}

/// The answer for a bearer token, or with `certificate` for a client's key. `info` is `KUBERNETES_EXEC_INFO`.
///
/// # Errors
/// `Unsupported` for another version of the protocol; `Usage` for a token that is no text.
pub fn answer(
    info: Option<&str>,
    found: &HostToken,
    certificate: Option<&HostToken>,
) -> Result<Zeroizing<Vec<u8>>> {
    let info: Option<ExecInfo> = info.and_then(|info| serde_json::from_str(info).ok());
    let api_version = info.as_ref().map_or(V1, |info| &info.api_version);
    if !VERSIONS.contains(&api_version) {
        let error =
            Error::new(Kind::Unsupported, "answer kubectl", "it speaks another version of the protocol");
        return Err(error.with_hint(format!("write apiVersion: {V1} into the kubeconfig")));
    }
    let expires = [Some(found), certificate].into_iter().flatten().filter_map(HostToken::expires).min();
    let status = match certificate {
        None => Status { token: Some(found.text()?), ..Status::default() },
        Some(certificate) => Status {
            client_certificate_data: Some(pem(certificate)?),
            client_key_data: Some(pem(found)?),
            ..Status::default()
        },
    };
    let status = Status { expiration_timestamp: expires.map(timestamp::rfc3339_secs), ..status };
    json(&ExecCredential { api_version, kind: "ExecCredential", status })
}

fn pem(found: &HostToken) -> Result<&str> {
    let text = std::str::from_utf8(found.token.expose())
        .ok()
        .filter(|text| text.trim_start().starts_with("-----BEGIN "));
    text.ok_or_else(|| Error::new(Kind::Usage, format!("give {} to kubectl", found.name), "it is not PEM"))
}
