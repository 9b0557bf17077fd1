//! The AWS tools' `credential_process` ("Source credentials with an external process").
//!
//! A token holds the secret access key, and its label `username` the access key's id; or it holds the JSON that this
//! protocol is made of.

use super::hosts::{HostToken, USERNAME};
use super::json;
use crate::error::{Error, Kind, Result};
use crate::timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use zeroize::Zeroizing;

/// What the tools read.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credential<'a> {
    #[serde(default = "version")]
    version: u64,
    #[serde(borrow)]
    access_key_id: Cow<'a, str>,
    #[serde(borrow)]
    secret_access_key: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    session_token: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    expiration: Option<Cow<'a, str>>,
}

fn version() -> u64 {
    1
}

/// The answer for a token.
///
/// # Errors
/// `Usage` for one that is neither.
pub fn answer(found: &HostToken) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = found.token.expose().trim_ascii();
    let expires = found.expires().map(|at| Cow::Owned(timestamp::rfc3339_secs(at)));
    let wrong = |what: &str, hint: String| {
        Err(Error::new(Kind::Usage, format!("give {} to AWS", found.name), what).with_hint(hint))
    };
    if bytes.starts_with(b"{") {
        return match serde_json::from_slice::<Credential<'_>>(bytes) {
            Ok(mut credential) => {
                credential.version = version();
                credential.expiration = credential.expiration.or(expires);
                json(&credential)
            }
            Err(_) => wrong(
                "it is not the JSON that AWS's tools read",
                "put {\"AccessKeyId\": \"...\", \"SecretAccessKey\": \"...\"}; also SessionToken and Expiration".into(),
            ),
        };
    }
    let Some(id) = found.username() else {
        return wrong(
            "it has no access key id",
            format!(
                "put it with --label {USERNAME}=AKIA..., or as JSON: {{\"AccessKeyId\": ..., \"SecretAccessKey\": ...}}"
            ),
        );
    };
    json(&Credential {
        version: version(),
        access_key_id: id.into(),
        secret_access_key: found.text()?.into(),
        session_token: None,
        expiration: expires,
    })
}
