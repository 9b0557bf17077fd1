//! The replica as the verified state that the rules read.

use super::Replica;
use super::cache::{NameLine, TokenLine};
use super::rows::{SEALS, blob, damaged, devices_from, seals_from, state_from, state_to};
use crate::device::PublicKey;
use crate::error::Result;
use crate::ledger::body::{Body, Role, Seal, Settings, State, Target};
use crate::ledger::judge::{DeviceState, LedgerView, Proposal, TokenState, VersionState};
use crate::ledger::verify::Chain;
use crate::ledger::{DeviceId, GrantId, Hash, LogPosition, StoreId, Subject, TokenId};
use rusqlite::{OptionalExtension, Params, Row};

impl Replica {
    /// One row, or none.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let query = || self.db.prepare_cached(sql)?.query_row(params, read).optional();
        query().map_err(|e| self.failed(e))
    }

    fn head_of(&self, sql: &str, params: impl Params) -> Result<Hash> {
        Ok(self.one(sql, params, |row| blob(row, 0))?.map_or(Hash::ZERO, Hash))
    }

    /// A token's head and state. The rules ask for one after the other, so the last result is cached.
    fn token_line(&self, id: &TokenId) -> Result<Option<TokenLine>> {
        if let Some((last, line)) = &self.cache.borrow().token
            && last == id
        {
            return Ok(line.clone());
        }
        let sql = "SELECT head, name, latest, suspended, destroyed FROM tokens WHERE id = ?1";
        let line = self.one(sql, [&id.0[..]], |row| {
            let (name, latest) = (row.get(1)?, row.get(2)?);
            let state = TokenState { name, latest, suspended: row.get(3)?, destroyed: row.get(4)? };
            Ok((Hash(blob(row, 0)?), state))
        })?;
        self.cache.borrow_mut().token = Some((*id, line.clone()));
        Ok(line)
    }

    /// A name's head, and whether a living token has it.
    fn name_line(&self, name: &str) -> Result<Option<NameLine>> {
        if let Some((last, line)) = &self.cache.borrow().name
            && last == name
        {
            return Ok(*line);
        }
        let sql = "SELECT head, token IS NOT NULL FROM names WHERE name = ?1";
        let line = self.one(sql, [name], |row| Ok((Hash(blob(row, 0)?), row.get(1)?)))?;
        self.cache.borrow_mut().name = Some((name.to_owned(), line));
        Ok(line)
    }

    fn exists(&self, sql: &str, params: impl Params) -> Result<bool> {
        Ok(self.one(sql, params, |_| Ok(()))?.is_some())
    }
}

impl LedgerView for Replica {
    fn head(&self, subject: &Subject) -> Result<Hash> {
        match subject {
            Subject::Store => Ok(self.admin_head),
            Subject::Token(id) => Ok(self.token_line(id)?.map_or(Hash::ZERO, |(head, _)| head)),
            Subject::Name(name) => Ok(self.name_line(name)?.map_or(Hash::ZERO, |(head, _)| head)),
            Subject::Prefix(prefix) => self.head_of("SELECT head FROM prefixes WHERE prefix = ?1", [prefix]),
        }
    }

    fn device(&self, id: &DeviceId) -> Result<Option<DeviceState>> {
        if let Some(known) = self.cache.borrow().devices.get(id) {
            return Ok(Some(known.clone()));
        }
        let found = self.device_row(id)?.map(|row| DeviceState {
            name: row.enrolment.name,
            signing: row.enrolment.signing.key,
            opening: row.enrolment.opening.key,
            roles: row.roles,
            compromised: row.retired.as_ref().is_some_and(|(compromised, _)| *compromised),
            retired: row.retired.is_some(),
        });
        if let Some(device) = &found {
            self.cache.borrow_mut().devices.insert(*id, device.clone());
        }
        Ok(found)
    }

    fn signing_key_known(&self, key: &PublicKey) -> Result<bool> {
        self.exists("SELECT 1 FROM devices WHERE signing = ?1", [key.signer()])
    }

    fn opening_key_active(&self, key: &PublicKey) -> Result<bool> {
        let mut devices = self.devices()?.into_iter().filter(|device| device.retired.is_none());
        Ok(devices.any(|device| device.enrolment.opening.key.is_same_key(key)))
    }

    fn device_name_taken(&self, name: &str) -> Result<bool> {
        self.exists("SELECT 1 FROM devices WHERE name = ?1 AND retired = 0", [name])
    }

    fn active_with(&self, role: &Role) -> Result<Vec<DeviceId>> {
        // A retired device has no roles.
        let devices = self.devices()?.into_iter().filter(|device| device.roles.contains(role));
        Ok(devices.map(|device| device.id).collect())
    }

    fn settings(&self) -> Result<Settings> {
        if let Some(known) = &self.cache.borrow().settings {
            return Ok(known.clone());
        }
        let stored = self.one("SELECT settings FROM position", [], |row| row.get::<_, Option<Vec<u8>>>(0))?;
        let settings = match stored.flatten().as_deref().map(Body::from_bytes) {
            None => Settings::default(),
            Some(Some(Body::Settings(settings))) => *settings,
            Some(_) => return Err(self.damaged("its settings cannot be read")),
        };
        self.cache.borrow_mut().settings = Some(settings.clone());
        Ok(settings)
    }

    fn proposal(&self, hash: &Hash) -> Result<Option<Proposal>> {
        let sql = "SELECT proposer, until, change, approved, rejected FROM proposals WHERE hash = ?1 AND closed IS NULL";
        self.one(sql, [&hash.0[..]], |row| {
            Ok(Proposal {
                proposer: DeviceId(blob(row, 0)?),
                until: row.get(1)?,
                change: Body::from_bytes(row.get_ref(2)?.as_blob()?).ok_or_else(|| damaged(2, "a change"))?,
                approved: devices_from(row.get_ref(3)?.as_blob()?),
                rejected: devices_from(row.get_ref(4)?.as_blob()?),
            })
        })
    }

    fn count_proposals(&self, proposer: &DeviceId) -> Result<u64> {
        let sql = "SELECT count(*) FROM proposals WHERE proposer = ?1 AND closed IS NULL";
        Ok(self.one(sql, [&proposer.0[..]], |row| row.get(0))?.unwrap_or(0))
    }

    fn is_replaced(&self, device: &DeviceId) -> Result<bool> {
        self.exists("SELECT 1 FROM devices WHERE replaces = ?1", [&device.0[..]])
    }

    fn token(&self, id: &TokenId) -> Result<Option<TokenState>> {
        Ok(self.token_line(id)?.map(|(_, state)| state))
    }

    fn name_taken(&self, name: &str) -> Result<bool> {
        Ok(self.name_line(name)?.is_some_and(|(_, taken)| taken))
    }

    fn version(&self, token: &TokenId, version: u64) -> Result<Option<VersionState>> {
        let sql = "SELECT v.state, v.threshold, v.name FROM versions v JOIN tokens t ON t.row = v.token WHERE t.id = ?1 AND v.version = ?2";
        // No version number exceeds SQLite's range.
        let version = i64::try_from(version).unwrap_or(-1);
        self.one(sql, (&token.0[..], version), |row| {
            Ok(VersionState { state: state_from(row, 0)?, threshold: row.get(1)?, name: row.get(2)? })
        })
    }

    fn digest_recorded(&self, digest: &Hash) -> Result<bool> {
        self.exists("SELECT 1 FROM seals WHERE digest = ?1", [&digest.0[..]])
    }

    fn seals(&self, token: &TokenId, version: u64) -> Result<Vec<Seal>> {
        let sql = format!(
            "SELECT {SEALS} FROM versions v JOIN tokens t ON t.row = v.token WHERE t.id = ?1 AND v.version = ?2"
        );
        let version = i64::try_from(version).unwrap_or(-1);
        Ok(self.one(&sql, (&token.0[..], version), |row| seals_from(row, 0))?.unwrap_or_default())
    }

    fn lowest_threshold(&self, token: &TokenId) -> Result<Option<u64>> {
        let sql = "SELECT min(v.threshold) FROM versions v JOIN tokens t ON t.row = v.token
                   WHERE t.id = ?1 AND v.state < ?2";
        let found = self.one(sql, (&token.0[..], state_to(State::Revoked)), |row| row.get(0))?;
        Ok(found.flatten())
    }

    fn grant(&self, id: &GrantId) -> Result<Option<Target>> {
        let sql = "SELECT token, prefix FROM grants WHERE id = ?1 AND live = 1";
        self.one(sql, [&id.0[..]], |row| match row.get::<_, Option<String>>(1)? {
            Some(prefix) => Ok(Target::Prefix(prefix)),
            None => Ok(Target::Token(TokenId(blob(row, 0)?))),
        })
    }

    fn alias_taken(&self, to: &str, alias: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM grants WHERE grantee = ?1 AND alias = ?2 AND live = 1";
        self.exists(sql, [to, alias])
    }
}

impl Replica {
    /// chain(n) at the end of a batch.
    pub(super) fn boundary(&self, n: u64) -> Result<Option<Hash>> {
        // No position exceeds SQLite's range.
        let n = i64::try_from(n).unwrap_or(-1);
        Ok(self.one("SELECT chain FROM boundaries WHERE n = ?1", [n], |row| blob(row, 0))?.map(Hash))
    }
}

impl Chain for Replica {
    fn store(&self) -> StoreId {
        self.store
    }

    fn position(&self) -> LogPosition {
        self.position
    }

    fn chain_at(&self, n: u64) -> Result<Option<Hash>> {
        if n == self.position.n {
            return Ok(Some(self.position.chain));
        }
        if n == 0 {
            return Ok(Some(Hash::ZERO));
        }
        self.boundary(n)
    }

    fn root_at(&self, n: u64) -> Result<Option<Hash>> {
        let n = i64::try_from(n).unwrap_or(-1);
        Ok(self.one("SELECT root FROM boundaries WHERE n = ?1", [n], |row| blob(row, 0))?.map(Hash))
    }
}
