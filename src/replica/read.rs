//! Queries: tokens, versions, devices, grants, history. All are paged.

use super::Replica;
use super::apply::labels_from;
use super::rows::{DESTROYED, SEALS, blob, seals_from, state_from, state_to};
use crate::error::Result;
use crate::ledger::body::{Seal, State};
use crate::ledger::{DeviceId, Hash, LogPosition, Prefix, TokenId};
use rusqlite::{Params, Row};

/// A living or destroyed token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its id.
    pub id: TokenId,
    /// Its current or last name.
    pub name: String,
    /// Its newest version, staged or not.
    pub latest: u64,
    /// Suspended as a whole.
    pub suspended: bool,
    /// Destroyed as a whole.
    pub destroyed: bool,
    pub(super) row: i64,
}

/// One version of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// From 1.
    pub version: u64,
    /// Its sealed bytes, sorted by digest. Empty once they were destroyed.
    pub seals: Vec<Seal>,
    /// The name that it was put under.
    pub name: String,
    /// How many recipients open it together: mostly 1.
    pub threshold: u64,
    /// `None` if the sealed bytes were destroyed.
    pub state: Option<State>,
    /// The reason for its state; empty if none was given.
    pub reason: String,
    /// Not before (ms).
    pub not_before: Option<u64>,
    /// Not from then on (ms).
    pub expiry: Option<u64>,
    /// Sorted by key.
    pub labels: Vec<(String, String)>,
    /// In the user's words.
    pub description: String,
    /// How many versions stay active.
    pub keep: Option<u64>,
    /// Its author chose the recipients (`--only`). Resealing adds no others.
    pub only: bool,
    /// The position of the put.
    pub n: u64,
    /// The time the put claims (ms).
    pub time: u64,
    /// Who put it.
    pub author: DeviceId,
    /// When it became active for the first time, as the statement claims (ms); `None` if it never did.
    pub since: Option<u64>,
}

impl VersionRow {
    /// The devices it is sealed to, sorted.
    pub fn recipients(&self) -> Vec<DeviceId> {
        let mut devices: Vec<DeviceId> =
            self.seals.iter().flat_map(|seal| seal.recipients.iter().copied()).collect();
        devices.sort();
        devices
    }

    /// Whether it is sealed to this device.
    pub fn is_for(&self, device: &DeviceId) -> bool {
        self.seals.iter().any(|seal| seal.recipients.contains(device))
    }
}

/// A version whose sealed bytes should be in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRow {
    /// Its row, for the next page.
    pub at: (i64, u64),
    /// Its token.
    pub token: TokenId,
    /// The token's name.
    pub name: String,
    /// The version.
    pub version: VersionRow,
}

/// The filter of a listing.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Whole segments of the name; empty for all.
    pub prefix: crate::ledger::Prefix,
    /// Destroyed tokens instead of existing ones.
    pub destroyed: bool,
    /// Only names after this one in order; empty for all.
    pub after: String,
}

const VERSION: &str = "v.version, v.name, v.threshold, v.state, v.reason, v.not_before, v.expiry, v.labels,
                       v.description, v.keep, v.n, v.time, v.author, v.chosen, v.since, {SEALS}";

pub(super) fn version_columns() -> String {
    VERSION.replace("{SEALS}", SEALS)
}

/// The version that counts for the token `t`: the newest that came into use, or the newest if none did. One that was revoked
/// while it was staged closes nothing.
pub(super) const CURRENT: &str =
    "coalesce((SELECT c.version FROM versions c WHERE c.token = t.row AND c.since IS NOT NULL
                       ORDER BY c.version DESC LIMIT 1), t.latest)";

impl Replica {
    /// The living token of this name.
    pub fn find(&self, name: &str) -> Result<Option<TokenRow>> {
        let sql = "SELECT t.row, t.id, t.name, t.latest, t.suspended, t.destroyed FROM names n
                   JOIN tokens t ON t.row = n.token WHERE n.name = ?1";
        self.one(sql, [name], |row| token_from(row, 0))
    }

    /// A token, living or destroyed.
    pub fn token_row(&self, id: &TokenId) -> Result<Option<TokenRow>> {
        let sql = "SELECT row, id, name, latest, suspended, destroyed FROM tokens WHERE id = ?1";
        self.one(sql, [&id.0[..]], |row| token_from(row, 0))
    }

    /// One version of a token.
    pub fn version_row(&self, token: &TokenRow, version: u64) -> Result<Option<VersionRow>> {
        let columns = version_columns();
        let sql = format!("SELECT {columns} FROM versions v WHERE v.token = ?1 AND v.version = ?2");
        let version = i64::try_from(version).unwrap_or(-1);
        self.one(&sql, (token.row, version), |row| version_from(row, 0))
    }

    /// All versions of a token, oldest first.
    pub fn versions(&self, token: &TokenRow) -> Result<Vec<VersionRow>> {
        let columns = version_columns();
        let sql = format!("SELECT {columns} FROM versions v WHERE v.token = ?1 ORDER BY v.version");
        self.many(&sql, [token.row], |row| version_from(row, 0))
    }

    /// Visits tokens by name, each with its current version, while `each` returns true. A staged version is current only
    /// where there is no other.
    pub fn list(
        &self,
        filter: &ListFilter,
        mut each: impl FnMut(TokenRow, VersionRow) -> Result<bool>,
    ) -> Result<()> {
        let living = "SELECT t.row, t.id, t.name, t.latest, t.suspended, t.destroyed, {V} FROM names n
                      JOIN tokens t ON t.row = n.token JOIN versions v ON v.token = t.row AND v.version = {C}
                      WHERE n.name > ?2
                      AND (?1 = '' OR n.name = ?1 OR (n.name >= ?1 || '/' AND n.name < ?1 || '0')) ORDER BY n.name";
        let destroyed = "SELECT t.row, t.id, t.name, t.latest, t.suspended, t.destroyed, {V} FROM tokens t
                      JOIN versions v ON v.token = t.row AND v.version = {C}
                      WHERE t.destroyed = 1 AND t.name > ?2
                      AND (?1 = '' OR t.name = ?1 OR (t.name >= ?1 || '/' AND t.name < ?1 || '0')) ORDER BY t.name";
        let sql = if filter.destroyed { destroyed } else { living };
        let sql = sql.replace("{V}", &version_columns()).replace("{C}", CURRENT);
        let mut statement = self.db.prepare_cached(&sql).map_err(|e| self.failed(e))?;
        let mut rows =
            statement.query([filter.prefix.as_str(), filter.after.as_str()]).map_err(|e| self.failed(e))?;
        while let Some(row) = rows.next().map_err(|e| self.failed(e))? {
            let both = token_from(row, 0).and_then(|token| Ok((token, version_from(row, 6)?)));
            let (token, version) = both.map_err(|e| self.failed(e))?;
            if !each(token, version)? {
                break;
            }
        }
        Ok(())
    }

    /// The number of tokens.
    pub fn count(&self) -> Result<u64> {
        Ok(self.one("SELECT count(*) FROM tokens WHERE destroyed = 0", [], |row| row.get(0))?.unwrap_or(0))
    }

    /// The number of tokens whose current version is active and expires before this time (ms).
    pub fn count_expiring(&self, until: u64) -> Result<u64> {
        let sql = format!(
            "SELECT count(*) FROM tokens t JOIN versions v ON v.token = t.row AND v.version = {CURRENT}
             WHERE t.destroyed = 0 AND t.suspended = 0 AND v.state = 1 AND v.expiry < ?1"
        );
        let until = i64::try_from(until).unwrap_or(i64::MAX);
        Ok(self.one(&sql, [until], |row| row.get(0))?.unwrap_or(0))
    }

    /// All versions that should have sealed bytes, a page at a time; `after` is [`SealedRow::at`] of the previous
    /// page's last row.
    pub fn sealed_page(&self, after: (i64, u64), limit: u32) -> Result<Vec<SealedRow>> {
        let columns = version_columns();
        let sql = format!(
            "SELECT t.row, t.id, t.name, {columns} FROM versions v JOIN tokens t ON t.row = v.token
            
             WHERE (v.token, v.version) > (?1, ?2) AND v.state < {DESTROYED} ORDER BY v.token, v.version LIMIT ?3"
        );
        self.many(&sql, (after.0, after.1, limit), sealed_from)
    }

    /// The versions under `prefix` that are neither revoked nor destroyed, a page at a time, as
    /// [`Replica::sealed_page`].
    pub fn openable_page(&self, prefix: &Prefix, after: (i64, u64), limit: u32) -> Result<Vec<SealedRow>> {
        let columns = version_columns();
        let sql = format!(
            "SELECT t.row, t.id, t.name, {columns} FROM versions v JOIN tokens t ON t.row = v.token
            
             WHERE (v.token, v.version) > (?1, ?2) AND v.state < {}
             AND (?4 = '' OR t.name = ?4 OR (t.name >= ?4 || '/' AND t.name < ?4 || '0'))
             ORDER BY v.token, v.version LIMIT ?3",
            state_to(State::Revoked)
        );
        self.many(&sql, (after.0, after.1, limit, prefix.as_str()), sealed_from)
    }

    /// One version as a page has it.
    pub fn sealed_row(&self, at: (i64, u64)) -> Result<Option<SealedRow>> {
        let columns = version_columns();
        let sql = format!(
            "SELECT t.row, t.id, t.name, {columns} FROM versions v JOIN tokens t ON t.row = v.token
             WHERE v.token = ?1 AND v.version = ?2"
        );
        self.one(&sql, at, sealed_from)
    }

    /// The versions that a device can or could open, except destroyed ones; paged as [`Replica::sealed_page`].
    pub fn opened_by_page(&self, device: &DeviceId, after: (i64, u64), limit: u32) -> Result<Vec<SealedRow>> {
        let columns = version_columns();
        let sql = format!(
            "SELECT t.row, t.id, t.name, {columns} FROM versions v JOIN tokens t ON t.row = v.token
            
             WHERE (v.token, v.version) > (?1, ?2) AND v.state < {DESTROYED}
             AND EXISTS (SELECT 1 FROM seals s JOIN recipients r ON r.row = s.recipients
               WHERE s.token = v.token AND s.version = v.version AND instr(r.devices, ?4) > 0)
             ORDER BY v.token, v.version LIMIT ?3"
        );
        self.many(&sql, (after.0, after.1, limit, &device.0[..]), sealed_from)
    }

    /// The versions that a device put and that are neither revoked nor destroyed; paged as [`Replica::sealed_page`].
    pub fn put_by_page(&self, device: &DeviceId, after: (i64, u64), limit: u32) -> Result<Vec<SealedRow>> {
        let columns = version_columns();
        let sql = format!(
            "SELECT t.row, t.id, t.name, {columns} FROM versions v JOIN tokens t ON t.row = v.token
             WHERE (v.token, v.version) > (?1, ?2) AND v.author = ?4 AND v.state < {}
             ORDER BY v.token, v.version LIMIT ?3",
            state_to(State::Revoked)
        );
        self.many(&sql, (after.0, after.1, limit, &device.0[..]), sealed_from)
    }

    /// How many versions have sealed bytes.
    pub fn count_sealed(&self) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM versions WHERE state < {DESTROYED}");
        Ok(self.one(&sql, [], |row| row.get(0))?.unwrap_or(0))
    }

    /// The ends of verified batches after position `n`, at most `limit`.
    pub(crate) fn batch_ends(&self, n: u64, limit: u32) -> Result<Vec<LogPosition>> {
        let sql = "SELECT n, chain FROM boundaries WHERE n > ?1 ORDER BY n LIMIT ?2";
        self.many(sql, (n, limit), |row| Ok(LogPosition { n: row.get(0)?, chain: Hash(blob(row, 1)?) }))
    }

    /// Names in use, for suggestions; at most `limit`, from this one on.
    pub fn names_from(&self, from: &str, limit: u32) -> Result<Vec<String>> {
        let sql = "SELECT name FROM names WHERE token IS NOT NULL AND name >= ?1 ORDER BY name LIMIT ?2";
        self.many(sql, (from, limit), |row| row.get(0))
    }

    /// The positions of the statements that changed a token, oldest first.
    pub fn history(&self, token: &TokenRow) -> Result<Vec<u64>> {
        let sql =
            "SELECT n FROM versions WHERE token = ?1 UNION SELECT n FROM history WHERE token = ?1 ORDER BY n";
        self.many(sql, [token.row], |row| row.get(0))
    }

    /// Every token that ever had this name, the current one last.
    pub fn tokens_ever_named(&self, name: &str) -> Result<Vec<TokenRow>> {
        let sql =
            "SELECT row, id, name, latest, suspended, destroyed FROM tokens WHERE name = ?1 ORDER BY row";
        self.many(sql, [name], |row| token_from(row, 0))
    }

    /// Why statement `n` has no effect; `None` if it has one.
    pub fn ineffective(&self, n: u64) -> Result<Option<String>> {
        self.one("SELECT reason FROM ineffective WHERE n = ?1", [n], |row| row.get(0))
    }

    pub(super) fn many<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let query = || self.db.prepare_cached(sql)?.query_map(params, read)?.collect::<rusqlite::Result<_>>();
        query().map_err(|e| self.failed(e))
    }
}

fn sealed_from(row: &Row<'_>) -> rusqlite::Result<SealedRow> {
    let (token, name, version) = (TokenId(blob(row, 1)?), row.get(2)?, version_from(row, 3)?);
    Ok(SealedRow { at: (row.get(0)?, version.version), token, name, version })
}

pub(super) fn token_from(row: &Row<'_>, at: usize) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        row: row.get(at)?,
        id: TokenId(blob(row, at + 1)?),
        name: row.get(at + 2)?,
        latest: row.get(at + 3)?,
        suspended: row.get(at + 4)?,
        destroyed: row.get(at + 5)?,
    })
}

pub(super) fn version_from(row: &Row<'_>, at: usize) -> rusqlite::Result<VersionRow> {
    let state = state_from(row, at + 3)?;
    Ok(VersionRow {
        version: row.get(at)?,
        name: row.get(at + 1)?,
        threshold: row.get(at + 2)?,
        state,
        reason: row.get(at + 4)?,
        not_before: row.get(at + 5)?,
        expiry: row.get(at + 6)?,
        labels: labels_from(row.get_ref(at + 7)?.as_str()?),
        description: row.get(at + 8)?,
        keep: row.get(at + 9)?,
        n: row.get(at + 10)?,
        time: row.get(at + 11)?,
        author: DeviceId(blob(row, at + 12)?),
        only: row.get(at + 13)?,
        since: row.get(at + 14)?,
        seals: seals_from(row, at + 15)?,
    })
}
