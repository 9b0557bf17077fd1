//! What the owner reads of the ledger and the access log, and grants.

use crate::agent::Agent;
use crate::agent::http::handlers::{MAX_JSON_BYTES, parse};
use crate::agent::http::query::Query;
use crate::agent::http::response::{self, Answer};
use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use crate::vault::{
    EntryView, GrantOn, GrantOptions, Grantee, LogOrder, Op, Revoked, TokenBackend, TokenRef, Vault,
};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

/// How many lines are answered where nothing is said, and at most.
const LINES: u64 = 100;
const MOST_LINES: u64 = 1000;

/// About how many bytes of statements an answer holds at most.
const MOST_BYTES: usize = 4 << 20;

/// A grant that is to be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantBody {
    on: String,
    to: String,
    #[serde(default)]
    ops: Vec<String>,
    #[serde(default, deserialize_with = "crate::timestamp::deserialize")]
    until: Option<u64>,
    #[serde(rename = "as")]
    alias: Option<String>,
}

impl Agent {
    /// A version as it lies in the store.
    ///
    /// # Errors
    /// As [`TokenBackend::sealed`].
    pub async fn sealed(&self, name: Name, query: &Query) -> Result<Answer> {
        let wanted = TokenRef { name, version: query.number("version")? };
        let tried = format!("show {}", wanted.name);
        let sealed = self
            .read("show sealed bytes", move |reader| reader.vault.sealed_version(&wanted, &tried))
            .await?;
        Ok(response::bytes("application/octet-stream", sealed))
    }

    /// The ledger, newest first before a position, or oldest first after one.
    ///
    /// # Errors
    /// `Usage`; `Tampered`.
    pub async fn log(&self, query: &Query) -> Result<Answer> {
        let (before, after) = (query.number("before")?, query.number("after")?);
        let order = if after.is_some() { LogOrder::OldestFirst } else { LogOrder::NewestFirst };
        let limit = lines(query)?;
        let page = self.read("read the ledger", move |reader| {
            let mut page = Page::default();
            reader.vault.log(order, after.or(before), |vault, entry| {
                Ok(page.take(EntryView::from_entry(vault, &entry), limit))
            })?;
            Ok(page.entries)
        });
        Ok(response::json(&json!({"entries": page.await?})))
    }

    /// The statements that changed a token, oldest first.
    ///
    /// # Errors
    /// As [`Vault::history`].
    pub async fn history(&self, name: Name, query: &Query) -> Result<Answer> {
        let (after, limit) = (query.number("after")?.unwrap_or(0), lines(query)?);
        let page = self.read("read the history", move |reader| {
            let mut page = Page::default();
            let entries = TokenBackend::history(&mut reader.vault, &name)?;
            let _ = entries.into_iter().filter(|entry| entry.n > after).all(|entry| page.take(entry, limit));
            Ok(page.entries)
        });
        Ok(response::json(&json!({"entries": page.await?})))
    }

    /// Who read what, newest first.
    ///
    /// # Errors
    /// `Usage`; the store's.
    pub async fn accesses(&self, query: &Query) -> Result<Answer> {
        let before = query.number("before")?.unwrap_or(0);
        let limit = u32::try_from(lines(query)?).unwrap_or(1);
        let page = self.read("read the access log", move |reader| {
            TokenBackend::accesses(&mut reader.vault, before, limit)
        });
        Ok(response::json(&json!({"accesses": page.await?})))
    }

    /// The grants that stand.
    ///
    /// # Errors
    /// As [`Vault::grants`].
    pub async fn grants(&self, query: &Query) -> Result<Answer> {
        let on = query.one("on")?.map(|text| part(text, "list grants")).transpose()?;
        let grants =
            self.read("list grants", move |reader| TokenBackend::grants(&mut reader.vault, on.as_ref()));
        Ok(response::json(&json!({"grants": grants.await?})))
    }

    /// One more.
    ///
    /// # Errors
    /// As [`Vault::grant`].
    pub async fn grant(&self, body: Incoming) -> Result<Answer> {
        const TRIED: &str = "grant";
        let body: GrantBody = parse(&self.read_body(body, MAX_JSON_BYTES, TRIED).await?)?;
        let (on, to): (GrantOn, Grantee) = (part(&body.on, TRIED)?, part(&body.to, TRIED)?);
        let options = GrantOptions {
            ops: body.ops.iter().map(|op| part::<Op>(op, TRIED)).collect::<Result<_>>()?,
            until: body.until,
            alias: body.alias,
        };
        let grant =
            self.write(TRIED, move |vault: &mut Vault| TokenBackend::grant(vault, &on, &to, &options));
        Ok(response::json(&grant.await?))
    }

    /// One or some less.
    ///
    /// # Errors
    /// As [`Vault::ungrant`].
    pub async fn ungrant(&self, query: &Query) -> Result<Answer> {
        const TRIED: &str = "take grants back";
        let which = match (query.one("id")?, query.one("on")?, query.one("to")?) {
            (Some(id), None, None) => Revoked::Id(part(id, TRIED)?),
            (None, Some(on), Some(to)) => Revoked::Of(part(on, TRIED)?, part(to, TRIED)?),
            _ => return Err(Error::new(Kind::Usage, TRIED, "say which by id, or by on and to")),
        };
        let grants = self.write(TRIED, move |vault: &mut Vault| TokenBackend::ungrant(vault, &which));
        Ok(response::json(&json!({"grants": grants.await?})))
    }
}

/// Statements for one answer.
#[derive(Default)]
struct Page {
    entries: Vec<EntryView>,
    bytes: usize,
}

impl Page {
    /// Takes one more; answers whether there is room for another.
    fn take(&mut self, entry: EntryView, limit: u64) -> bool {
        self.bytes += entry.words.len() + entry.body.to_string().len();
        self.entries.push(entry);
        (self.entries.len() as u64) < limit && self.bytes < MOST_BYTES
    }
}

fn lines(query: &Query) -> Result<u64> {
    Ok(query.number("limit")?.unwrap_or(LINES).clamp(1, MOST_LINES))
}

/// A part of a request that has rules of its own.
fn part<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str, tried: &str) -> Result<T> {
    text.parse().map_err(|why: T::Err| Error::new(Kind::Usage, tried, why.to_string()))
}
