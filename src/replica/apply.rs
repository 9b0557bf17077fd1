//! What an effective statement changes in the replica (docs/reference/format.md, section 3).

use super::Replica;
use super::rows::{DESTROYED, roles_to, state_to};
use crate::error::Result;
use crate::ledger::body::{
    Anchor, Body, Destroy, Enrol, Grant, Put, Rename, Reseal, Retire, State, StateChange, Target,
};
use crate::ledger::{DeviceId, Hash, Statement, Subject, TokenId};
use rusqlite::{Params, params};

/// The reason shown for versions that `keep` closed.
const PRUNED: &str = "pruned";

impl Replica {
    pub(super) fn run(&self, sql: &str, params: impl Params) -> Result<usize> {
        let run = || self.db.prepare_cached(sql)?.execute(params);
        run().map_err(|e| self.failed(e))
    }

    /// Applies a statement that was judged to have an effect.
    pub(super) fn apply(&mut self, n: u64, statement: &Statement, hash: Hash) -> Result<()> {
        self.cache.borrow_mut().forget_lines();
        match &statement.body {
            // Most statements are puts, so these take a short path that writes the heads at once.
            Body::Put(b) => return self.apply_put(n, statement, b, hash),
            Body::Genesis(_) | Body::Repair(_) => {}
            Body::Enrol(b) => self.apply_enrol(n, statement, b)?,
            Body::Retire(b) => self.apply_retire(n, b)?,
            Body::Roles(b) => {
                self.run(
                    "UPDATE devices SET roles = ?2 WHERE id = ?1",
                    params![&b.device.0[..], roles_to(&b.roles)],
                )?;
            }
            Body::State(b) => self.apply_state(b)?,
            Body::Destroy(b) => self.apply_destroy(b)?,
            Body::Rename(b) => self.apply_rename(b)?,
            Body::Reseal(b) => self.apply_reseal(b)?,
            Body::Anchor(b) => self.apply_anchor(b)?,
            Body::Grant(b) => self.apply_grant(n, b)?,
            Body::Ungrant(b) => {
                self.run("UPDATE grants SET live = 0 WHERE id = ?1", [&b.grant.0[..]])?;
            }
        }
        if statement.body.is_admin() {
            self.cache.borrow_mut().forget_devices();
        }
        for (subject, _) in &statement.advances {
            self.advance(n, subject, hash)?;
        }
        Ok(())
    }

    fn advance(&mut self, n: u64, subject: &Subject, hash: Hash) -> Result<()> {
        match subject {
            Subject::Store => {
                self.admin_head = hash;
            }
            Subject::Token(id) => {
                self.run("UPDATE tokens SET head = ?2 WHERE id = ?1", [&id.0[..], &hash.0[..]])?;
                let sql = "INSERT INTO history SELECT row, ?2 FROM tokens WHERE id = ?1";
                self.run(sql, params![&id.0[..], n])?;
            }
            Subject::Name(name) => {
                let sql =
                    "INSERT INTO names VALUES (?1, ?2, NULL) ON CONFLICT DO UPDATE SET head = excluded.head";
                self.run(sql, params![name, &hash.0[..]])?;
            }
            Subject::Device(id) => {
                self.run("UPDATE devices SET head = ?2 WHERE id = ?1", [&id.0[..], &hash.0[..]])?;
            }
            Subject::Prefix(prefix) => {
                let sql =
                    "INSERT INTO prefixes VALUES (?1, ?2) ON CONFLICT DO UPDATE SET head = excluded.head";
                self.run(sql, params![prefix, &hash.0[..]])?;
            }
        }
        Ok(())
    }

    fn apply_enrol(&self, n: u64, statement: &Statement, b: &Enrol) -> Result<()> {
        let signing = b.signing.key.signer();
        let sql = "INSERT INTO devices VALUES (?1, ?2, ?3, ?4, ?5, 0, '', ?6, ?7, NULL, NULL, NULL, NULL)";
        let (id, head, roles) = (&b.device.0[..], &Hash::ZERO.0[..], roles_to(&b.roles));
        self.run(sql, params![id, head, signing, b.name, roles, n, statement.encode()])?;
        Ok(())
    }

    fn apply_retire(&self, n: u64, b: &Retire) -> Result<()> {
        let sql = "UPDATE devices SET roles = '', retired = ?2, reason = ?3, gone = ?4,
                   anchor = NULL, anchor_start = NULL, anchor_after = NULL WHERE id = ?1";
        self.run(sql, params![&b.device.0[..], if b.compromised { 2 } else { 1 }, b.reason, n])?;
        Ok(())
    }

    fn apply_anchor(&self, b: &Anchor) -> Result<()> {
        // The batch that sets the anchor is itself a counted change.
        let counter = b.counter.map(|counter| (counter.index, counter.start, self.counted_changes() + 1));
        let (index, start, after) = match counter {
            Some((index, start, after)) => (Some(index), Some(start), Some(after)),
            None => (None, None, None),
        };
        let sql = "UPDATE devices SET anchor = ?2, anchor_start = ?3, anchor_after = ?4 WHERE id = ?1";
        self.run(sql, params![&b.device.0[..], index, start, after])?;
        Ok(())
    }

    fn apply_reseal(&self, b: &Reseal) -> Result<()> {
        let token = self.token_rowid(&b.token)?;
        let sql = "INSERT INTO former SELECT token, version, digest, recipients FROM versions
                   WHERE token = ?1 AND version = ?2";
        self.run(sql, params![token, b.version])?;
        let sql =
            "UPDATE versions SET digest = ?3, length = ?4, recipients = ?5 WHERE token = ?1 AND version = ?2";
        let recipients = self.recipients_row(&b.recipients)?;
        self.run(sql, params![token, b.version, &b.digest.0[..], b.length, recipients])?;
        Ok(())
    }

    /// Whether these are fewer than the devices a new version is sealed to.
    fn is_narrow(&self, recipients: &[DeviceId]) -> Result<bool> {
        let same = |openers: &Vec<u8>| openers.chunks_exact(16).eq(recipients.iter().map(|id| &id.0[..]));
        if let Some(openers) = &self.cache.borrow().openers {
            return Ok(!same(openers));
        }
        let openers = self.openers()?.iter().flat_map(|device| device.id.0).collect();
        let narrow = !same(&openers);
        self.cache.borrow_mut().openers = Some(openers);
        Ok(narrow)
    }

    fn apply_put(&self, n: u64, statement: &Statement, b: &Put, hash: Hash) -> Result<()> {
        let token = match b.version {
            1 => self.insert_token(b, hash)?,
            version => {
                let sql = "UPDATE tokens SET latest = ?2, head = ?3 WHERE id = ?1";
                self.run(sql, params![&b.token.0[..], version, &hash.0[..]])?;
                self.run("UPDATE names SET head = ?2 WHERE name = ?1", params![b.name, &hash.0[..]])?;
                self.token_rowid(&b.token)?
            }
        };
        let sql = "INSERT INTO versions VALUES (?1, ?2, ?3, ?4, ?5, '', ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
        self.run(
            sql,
            params![
                token,
                b.version,
                &b.digest.0[..],
                b.length,
                state_to(b.state),
                time(b.not_before),
                time(b.expiry),
                labels_to(&b.labels),
                b.description,
                time(b.keep),
                self.recipients_row(&b.recipients)?,
                n,
                time(Some(statement.time)),
                &statement.author.0[..],
                self.is_narrow(&b.recipients)?
            ],
        )?;
        if let Some(last) = b.keep.and_then(|keep| b.version.checked_sub(keep)) {
            let sql = "UPDATE versions SET state = ?3, reason = ?4 WHERE token = ?1 AND version <= ?2 AND state < ?3";
            self.run(sql, params![token, last, state_to(State::Revoked), PRUNED])?;
        }
        Ok(())
    }

    fn insert_token(&self, b: &Put, hash: Hash) -> Result<i64> {
        let sql =
            "INSERT INTO tokens (id, name, head, latest, suspended, destroyed) VALUES (?1, ?2, ?3, 1, 0, 0)";
        self.run(sql, params![&b.token.0[..], b.name, &hash.0[..]])?;
        let row = self.db.last_insert_rowid();
        let sql = "INSERT INTO names VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET head = excluded.head, token = excluded.token";
        self.run(sql, params![b.name, &hash.0[..], row])?;
        Ok(row)
    }

    /// The row of this set of recipients.
    fn recipients_row(&self, devices: &[DeviceId]) -> Result<i64> {
        let devices: Vec<u8> = devices.iter().flat_map(|id| id.0).collect();
        if let Some(row) = self.cache.borrow().recipients.get(&devices) {
            return Ok(*row);
        }
        self.run("INSERT OR IGNORE INTO recipients (devices) VALUES (?1)", [&devices])?;
        let row = self.one("SELECT row FROM recipients WHERE devices = ?1", [&devices], |row| row.get(0))?;
        let row = row.ok_or_else(|| self.failed(rusqlite::Error::QueryReturnedNoRows))?;
        self.cache.borrow_mut().recipients.insert(devices, row);
        Ok(row)
    }

    fn apply_state(&self, b: &StateChange) -> Result<()> {
        let (token, state) = (self.token_rowid(&b.token)?, state_to(b.state));
        match (b.version, b.state) {
            (0, State::Revoked) => {
                let sql = "UPDATE versions SET state = ?2, reason = ?3 WHERE token = ?1 AND state < ?2";
                self.run(sql, params![token, state, b.reason])?;
            }
            (0, _) => {
                let suspended = b.state == State::Suspended;
                self.run("UPDATE tokens SET suspended = ?2 WHERE row = ?1", params![token, suspended])?;
            }
            (version, _) => {
                let sql = "UPDATE versions SET state = ?3, reason = ?4 WHERE token = ?1 AND version = ?2";
                self.run(sql, params![token, version, state, b.reason])?;
            }
        }
        Ok(())
    }

    fn apply_destroy(&self, b: &Destroy) -> Result<()> {
        let token = self.token_rowid(&b.token)?;
        if b.version > 0 {
            let sql = "UPDATE versions SET state = ?3, reason = ?4 WHERE token = ?1 AND version = ?2";
            self.run(sql, params![token, b.version, DESTROYED, b.reason])?;
            return Ok(());
        }
        let sql = "UPDATE versions SET state = ?2, reason = ?3 WHERE token = ?1 AND state < ?2";
        self.run(sql, params![token, DESTROYED, b.reason])?;
        self.run("UPDATE tokens SET destroyed = 1 WHERE row = ?1", [token])?;
        self.run("UPDATE names SET token = NULL WHERE name = ?1", [&b.name])?;
        Ok(())
    }

    fn apply_rename(&self, b: &Rename) -> Result<()> {
        let token = self.token_rowid(&b.token)?;
        self.run("UPDATE tokens SET name = ?2 WHERE row = ?1", params![token, b.to])?;
        self.run("UPDATE names SET token = NULL WHERE name = ?1", [&b.from])?;
        let sql = "INSERT INTO names VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET token = excluded.token";
        self.run(sql, params![b.to, &Hash::ZERO.0[..], token])?;
        Ok(())
    }

    fn apply_grant(&self, n: u64, b: &Grant) -> Result<()> {
        let (token, prefix) = match &b.target {
            Target::Token(id) => (Some(id.0), None),
            Target::Prefix(prefix) => (None, Some(prefix)),
        };
        let token = token.as_ref().map(|id| &id[..]);
        let sql = "INSERT OR REPLACE INTO grants VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1)";
        let (ops, until) = (b.ops.join(","), time(b.until));
        self.run(sql, params![&b.grant.0[..], token, prefix, b.to, ops, until, b.alias, n])?;
        Ok(())
    }

    fn token_rowid(&self, id: &TokenId) -> Result<i64> {
        let found = self.one("SELECT row FROM tokens WHERE id = ?1", [&id.0[..]], |row| row.get(0))?;
        found.ok_or_else(|| self.failed(rusqlite::Error::QueryReturnedNoRows))
    }
}

/// A number for SQLite, capped at its maximum: a time that large means never.
fn time(value: Option<u64>) -> Option<i64> {
    value.map(|value| i64::try_from(value).unwrap_or(i64::MAX))
}

fn labels_to(labels: &[(String, String)]) -> String {
    // One label per line: neither keys nor values hold line breaks, and keys hold no `=`.
    let lines: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    lines.join("\n")
}

pub(super) fn labels_from(text: &str) -> Vec<(String, String)> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
}
