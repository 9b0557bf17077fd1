//! `show`: all there is to know about one token, but the token.

use super::context::Context;
use super::describe::{Shown, VersionJson, device, devices, labels, time_or_nothing};
use super::output::Output;
use super::{Act, names, time};
use clap::Args;
use serde::Serialize;
use strongroom::ledger::Name;
use strongroom::replica::{TokenRow, VersionRow};
use strongroom::vault::Wanted;
use strongroom::{Error, Kind, Result, Vault};

/// Show a token's metadata, versions, recipients and grants
///
/// With --sealed, the sealed bytes as they lie in the store go to standard output: an age file, which any age
/// implementation opens that reaches the same hardware.
#[derive(Debug, Args)]
pub struct Show {
    /// NAME or NAME@VERSION
    name: String,
    /// Write the age file of the version, by default of the newest
    #[arg(long, conflicts_with = "json")]
    sealed: bool,
}

impl Act for Show {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
        let wanted = names::versioned(&self.name)?;
        context.with_vault(|vault, out| {
            let tried = format!("show {}", self.name);
            let token = living_or_last(vault, &wanted.name, &tried)?;
            let versions = versions(vault, &token, &wanted, &tried)?;
            match (self.sealed, out.json_wanted()) {
                (true, _) => sealed(vault, out, &token, &versions, &tried)?,
                (false, true) => out.json(&TokenJson::of(vault, &token, &versions)?)?,
                (false, false) => tell(vault, out, &token, &versions)?,
            }
            Ok(())
        })
    }
}

/// The token of this name, or the last one that had it.
fn living_or_last(vault: &Vault, name: &Name, tried: &str) -> Result<TokenRow> {
    match vault.token(name, tried) {
        Err(error) if error.kind() == Kind::NotFound => {
            vault.replica().bearers(name.as_str())?.pop().filter(|token| token.destroyed).ok_or(error)
        }
        other => other,
    }
}

fn versions(vault: &Vault, token: &TokenRow, wanted: &Wanted, tried: &str) -> Result<Vec<VersionRow>> {
    let mut versions = vault.replica().versions(token)?;
    versions.retain(|row| wanted.version.is_none_or(|version| version == row.version));
    match versions.is_empty() {
        true => Err(Error::new(
            Kind::NotFound,
            tried,
            format!("it has no such version; the newest is {}", token.latest),
        )),
        false => Ok(versions),
    }
}

fn sealed(
    vault: &mut Vault,
    out: &mut Output,
    token: &TokenRow,
    versions: &[VersionRow],
    tried: &str,
) -> Result<()> {
    let refused = |kind, answer: &str| Error::new(kind, tried, answer);
    let row = versions.last().ok_or_else(|| refused(Kind::NotFound, "it has no version"))?;
    if out.to_terminal() {
        return Err(refused(Kind::Usage, "an age file is binary, and would garble the terminal")
            .advice("redirect it to a file"));
    }
    if row.state.is_none() {
        return Err(refused(Kind::Refused, "its sealed bytes were destroyed"));
    }
    let bytes = vault.sealed_bytes(token, row)?;
    out.bytes(&bytes)
}

fn tell(vault: &Vault, out: &mut Output, token: &TokenRow, versions: &[VersionRow]) -> Result<()> {
    let Some(newest) = versions.last() else { return Ok(()) };
    out.card(&[
        ("name", token.name.clone()),
        ("token id", token.id.to_string()),
        ("state", Shown::of(vault, token, newest).word().into()),
        ("closed", vault.closed_because(token, newest).map(|(why, _)| why).unwrap_or_default()),
        ("description", newest.description.clone()),
        ("labels", if newest.labels.is_empty() { String::new() } else { labels(newest) }),
        ("keep", newest.keep.map(|keep| format!("{keep} versions")).unwrap_or_default()),
    ])?;
    let mut table =
        out.aligned_table(&["VERSION", "STATE", "PUT", "BY", "NOT BEFORE", "EXPIRES", "SEALED TO", "REASON"]);
    out.line("")?;
    for row in versions {
        let cells = [
            row.version.to_string(),
            Shown::of(vault, token, row).word().into(),
            time::person(row.time),
            device(vault, &row.author),
            time_or_nothing(row.not_before),
            time_or_nothing(row.expiry),
            devices(vault, &row.recipients).join(","),
            row.reason.clone(),
        ];
        out.row(&mut table, cells.into())?;
    }
    out.end(table)?;
    let grants = vault.replica().grants(&token.id)?;
    if grants.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = out.aligned_table(&["GRANTED TO", "OPERATIONS", "STATEMENT"]);
    for grant in grants {
        out.row(&mut table, vec![grant.to, grant.ops, grant.n.to_string()])?;
    }
    out.end(table)
}

/// A token in JSON.
#[derive(Serialize)]
struct TokenJson<'a> {
    name: &'a str,
    token: String,
    suspended: bool,
    destroyed: bool,
    versions: Vec<VersionJson<'a>>,
    grants: Vec<GrantJson>,
}

#[derive(Serialize)]
struct GrantJson {
    to: String,
    ops: String,
    n: u64,
}

impl<'a> TokenJson<'a> {
    fn of(vault: &Vault, token: &'a TokenRow, versions: &'a [VersionRow]) -> Result<Self> {
        let grants = vault.replica().grants(&token.id)?;
        Ok(Self {
            name: &token.name,
            token: token.id.to_string(),
            suspended: token.suspended,
            destroyed: token.destroyed,
            versions: versions.iter().map(|row| VersionJson::of(vault, token, row)).collect(),
            grants: grants
                .into_iter()
                .map(|grant| GrantJson { to: grant.to, ops: grant.ops, n: grant.n })
                .collect(),
        })
    }
}
