//! What an effective statement changes in the replica (docs/reference/format.md, section 3).

use super::Replica;
use super::rows::{DESTROYED, blob, devices_to, roles_to, state_to};
use crate::error::Result;
use crate::ledger::body::{
    Anchor, Approve, Body, Destroy, Enrol, Grant, PolicyChange, Propose, Put, Reject, Rename, Reseal, Retire,
    Role, Seal, State, StateChange, Target,
};
use crate::ledger::judge::{LedgerView, Proposal, change_carried_out, is_closed_by};
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
            Body::Enrol(_) | Body::Retire(_) | Body::Roles(_) | Body::Settings(_) => {
                self.apply_change(n, &statement.body, statement)?;
            }
            Body::State(b) => self.apply_state(b, statement.time)?,
            Body::Destroy(b) => self.apply_destroy(b)?,
            Body::Rename(b) => self.apply_rename(b)?,
            Body::Reseal(b) => self.apply_reseal(b)?,
            Body::Anchor(b) => self.apply_anchor(b)?,
            Body::Grant(b) => self.apply_grant(n, b)?,
            Body::Ungrant(b) => {
                self.run("UPDATE grants SET live = 0 WHERE id = ?1", [&b.grant.0[..]])?;
            }
            Body::Policy(b) => self.apply_policy(n, b)?,
            Body::Propose(b) => self.apply_propose(n, b, statement, hash)?,
            Body::Approve(b) => self.apply_approve(n, b, statement)?,
            Body::Reject(b) => self.apply_reject(n, b, statement)?,
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
            Subject::Prefix(prefix) => {
                let sql =
                    "INSERT INTO prefixes VALUES (?1, ?2) ON CONFLICT DO UPDATE SET head = excluded.head";
                self.run(sql, params![prefix, &hash.0[..]])?;
            }
        }
        Ok(())
    }

    /// A change that needs a quorum where one is asked for: as a statement of its own, or carried out by an approval.
    fn apply_change(&self, n: u64, change: &Body, statement: &Statement) -> Result<()> {
        // What others agreed to about the same, they agreed to in another state.
        let sql = "UPDATE proposals SET closed = ?2 WHERE about = ?1 AND closed IS NULL";
        self.run(sql, params![about(change), n])?;
        match change {
            Body::Enrol(b) => self.apply_enrol(n, statement, b),
            Body::Retire(b) => {
                self.end_votes(n, &b.device)?;
                self.apply_retire(n, b)
            }
            Body::Roles(b) => {
                if !b.roles.contains(&Role::Admin) {
                    self.end_votes(n, &b.device)?;
                }
                let sql = "UPDATE devices SET roles = ?2 WHERE id = ?1";
                self.run(sql, params![&b.device.0[..], roles_to(&b.roles)]).map(drop)
            }
            Body::Settings(_) => self.run("UPDATE position SET settings = ?1", [change.to_bytes()]).map(drop),
            _ => Ok(()),
        }
    }

    fn apply_enrol(&self, n: u64, statement: &Statement, b: &Enrol) -> Result<()> {
        let sql =
            "INSERT INTO devices VALUES (?1, ?2, ?3, ?4, 0, '', ?5, ?6, ?7, ?8, ?9, NULL, NULL, NULL, NULL)";
        let enrolment = Body::Enrol(Box::new(b.clone())).to_bytes();
        let (signing, roles) = (b.signing.key.signer(), roles_to(&b.roles));
        let (time, author) = (clamped(statement.time), &statement.author.0[..]);
        let replaces = b.replaces.as_ref().map(|device| &device.0[..]);
        let values = params![&b.device.0[..], signing, b.name, roles, n, enrolment, time, author, replaces];
        self.run(sql, values).map(drop)
    }

    /// A device that is no admin any more: its votes end, and its proposals are closed.
    fn end_votes(&self, n: u64, device: &DeviceId) -> Result<()> {
        let sql = "UPDATE proposals SET closed = ?2 WHERE proposer = ?1 AND closed IS NULL";
        self.run(sql, params![&device.0[..], n])?;
        let open = self.many("SELECT hash FROM proposals WHERE closed IS NULL", [], |row| blob(row, 0))?;
        for hash in open.into_iter().map(Hash) {
            let Some(mut proposal) = self.proposal(&hash)? else { continue };
            proposal.approved.retain(|voter| voter != device);
            proposal.rejected.retain(|voter| voter != device);
            self.set_votes(&hash, &proposal, None)?;
        }
        Ok(())
    }

    fn set_votes(&self, hash: &Hash, proposal: &Proposal, closed: Option<u64>) -> Result<()> {
        let sql = "UPDATE proposals SET approved = ?2, rejected = ?3, closed = ?4 WHERE hash = ?1";
        let (approved, rejected) = (devices_to(&proposal.approved), devices_to(&proposal.rejected));
        self.run(sql, params![&hash.0[..], approved, rejected, closed]).map(drop)
    }

    fn apply_propose(&self, n: u64, b: &Propose, statement: &Statement, hash: Hash) -> Result<()> {
        let sql = "INSERT INTO proposals VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?3, x'', NULL)";
        let (proposer, until) = (&statement.author.0[..], clamped(b.until));
        let change = b.change.to_bytes();
        self.run(sql, params![&hash.0[..], n, proposer, until, change, about(&b.change)]).map(drop)
    }

    fn apply_approve(&self, n: u64, b: &Approve, statement: &Statement) -> Result<()> {
        let Some(mut proposal) = self.proposal(&b.proposal)? else { return Ok(()) };
        let change = change_carried_out(&proposal, &statement.author, self)?.cloned();
        proposal.approved.push(statement.author);
        self.set_votes(&b.proposal, &proposal, change.as_ref().map(|_| n))?;
        change.map_or(Ok(()), |change| self.apply_change(n, &change, statement))
    }

    fn apply_reject(&self, n: u64, b: &Reject, statement: &Statement) -> Result<()> {
        let Some(mut proposal) = self.proposal(&b.proposal)? else { return Ok(()) };
        let closed = is_closed_by(&proposal, &statement.author, self)?.then_some(n);
        proposal.approved.retain(|voter| *voter != statement.author);
        proposal.rejected.push(statement.author);
        self.set_votes(&b.proposal, &proposal, closed)
    }

    fn apply_policy(&self, n: u64, b: &PolicyChange) -> Result<()> {
        let subject = b.target.subject().encode();
        match &b.policy {
            None => self.run("DELETE FROM policies WHERE subject = ?1", [subject]),
            Some(_) => {
                let (token, prefix) = columns_of(&b.target);
                let policy = Body::Policy(b.clone()).to_bytes();
                let sql = "INSERT OR REPLACE INTO policies VALUES (?1, ?2, ?3, ?4, ?5)";
                self.run(sql, params![subject, token, prefix, n, policy])
            }
        }
        .map(drop)
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
        let sql = "UPDATE versions SET threshold = ?3 WHERE token = ?1 AND version = ?2";
        self.run(sql, params![token, b.version, b.threshold])?;
        for digest in &b.drop {
            let sql = "UPDATE seals SET live = 0 WHERE token = ?1 AND version = ?2 AND digest = ?3";
            self.run(sql, params![token, b.version, &digest.0[..]])?;
        }
        b.add.iter().try_for_each(|seal| self.insert_seal(token, b.version, seal))
    }

    fn insert_seal(&self, token: i64, version: u64, seal: &Seal) -> Result<()> {
        let recipients = self.recipients_row(&seal.recipients)?;
        let sql = "INSERT INTO seals VALUES (?1, ?2, ?3, ?4, ?5, 1)";
        self.run(sql, params![token, version, &seal.digest.0[..], seal.length, recipients]).map(drop)
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
                b.name,
                b.threshold,
                state_to(b.state),
                b.not_before.map(clamped),
                b.expiry.map(clamped),
                labels_to(&b.labels),
                b.description,
                b.keep.map(clamped),
                n,
                clamped(statement.time),
                &statement.author.0[..],
                b.only,
                (b.state == State::Active).then(|| clamped(statement.time)),
            ],
        )?;
        b.seals.iter().try_for_each(|seal| self.insert_seal(token, b.version, seal))?;
        match (b.state, b.keep) {
            (State::Active, Some(keep)) => self.prune(token, b.version, keep),
            _ => Ok(()),
        }
    }

    /// A version with `keep` became active: it and the newest others stay, as many as `keep` says.
    fn prune(&self, token: i64, version: u64, keep: u64) -> Result<()> {
        let open = (state_to(State::Active), state_to(State::Suspended));
        let sql = "UPDATE versions SET state = ?4, reason = ?5
                   WHERE token = ?1 AND version <> ?2 AND state IN (?6, ?7) AND version NOT IN (
                     SELECT version FROM versions WHERE token = ?1 AND version <> ?2 AND state IN (?6, ?7)
                     ORDER BY version DESC LIMIT ?3)";
        let revoked = state_to(State::Revoked);
        self.run(sql, params![token, version, clamped(keep - 1), revoked, PRUNED, open.0, open.1]).map(drop)
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
        let devices = devices_to(devices);
        if let Some(row) = self.cache.borrow().recipients.get(&devices) {
            return Ok(*row);
        }
        self.run("INSERT OR IGNORE INTO recipients (devices) VALUES (?1)", [&devices])?;
        let row = self.one("SELECT row FROM recipients WHERE devices = ?1", [&devices], |row| row.get(0))?;
        let row = row.ok_or_else(|| self.failed(rusqlite::Error::QueryReturnedNoRows))?;
        self.cache.borrow_mut().recipients.insert(devices, row);
        Ok(row)
    }

    fn apply_state(&self, b: &StateChange, time: u64) -> Result<()> {
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
                let sql = "SELECT keep FROM versions WHERE token = ?1 AND version = ?2 AND state = ?3";
                let staged = params![token, version, state_to(State::Staged)];
                let keep = self.one(sql, staged, |row| row.get::<_, Option<u64>>(0))?.flatten();
                let sql = "UPDATE versions SET state = ?3, reason = ?4 WHERE token = ?1 AND version = ?2";
                self.run(sql, params![token, version, state, b.reason])?;
                if b.state == State::Active {
                    let sql =
                        "UPDATE versions SET since = coalesce(since, ?3) WHERE token = ?1 AND version = ?2";
                    self.run(sql, params![token, version, clamped(time)])?;
                }
                if let (State::Active, Some(keep)) = (b.state, keep) {
                    self.prune(token, version, keep)?;
                }
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
        self.run("UPDATE grants SET live = 0 WHERE token = ?1", [&b.token.0[..]])?;
        self.run("DELETE FROM policies WHERE token = ?1", [&b.token.0[..]])?;
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
        let (token, prefix) = columns_of(&b.target);
        let sql = "INSERT OR REPLACE INTO grants VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1)";
        let (ops, until) = (b.ops.join(","), b.until.map(clamped));
        self.run(sql, params![&b.grant.0[..], token, prefix, b.to, ops, until, b.alias, n])?;
        Ok(())
    }

    fn token_rowid(&self, id: &TokenId) -> Result<i64> {
        let found = self.one("SELECT row FROM tokens WHERE id = ?1", [&id.0[..]], |row| row.get(0))?;
        found.ok_or_else(|| self.failed(rusqlite::Error::QueryReturnedNoRows))
    }
}

/// A target as two columns, one of which is null: the token's id, and the prefix.
fn columns_of(target: &Target) -> (Option<&[u8]>, Option<&str>) {
    match target {
        Target::Token(id) => (Some(&id.0[..]), None),
        Target::Prefix(prefix) => (None, Some(prefix)),
    }
}

/// The device that a proposed change is about; empty for settings.
fn about(change: &Body) -> Vec<u8> {
    match change {
        Body::Enrol(b) => b.device.0.to_vec(),
        Body::Retire(b) => b.device.0.to_vec(),
        Body::Roles(b) => b.device.0.to_vec(),
        _ => Vec::new(),
    }
}

/// A number for SQLite, capped at its maximum: a time that large means never.
pub(super) fn clamped(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn labels_to(labels: &[(String, String)]) -> String {
    // One label per line: neither keys nor values hold line breaks, and keys hold no `=`.
    let lines: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    lines.join("\n")
}

pub(super) fn labels_from(text: &str) -> Vec<(String, String)> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
}
