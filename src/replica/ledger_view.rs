//! The replica as the verified state that the rules read.

use super::Replica;
use super::cache::{NameLine, TokenLine};
use super::rows::{blob, state_from};
use crate::device::PublicKey;
use crate::error::Result;
use crate::ledger::body::{Role, State, Target};
use crate::ledger::judge::{DeviceState, LedgerView, TokenState};
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
            Subject::Device(id) => self.head_of("SELECT head FROM devices WHERE id = ?1", [&id.0[..]]),
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

    fn another_admin(&self, than: &DeviceId) -> Result<bool> {
        let devices = self.devices()?;
        Ok(devices.iter().any(|device| {
            device.id != *than && device.retired.is_none() && device.roles.contains(&Role::Admin)
        }))
    }

    fn token(&self, id: &TokenId) -> Result<Option<TokenState>> {
        Ok(self.token_line(id)?.map(|(_, state)| state))
    }

    fn name_taken(&self, name: &str) -> Result<bool> {
        Ok(self.name_line(name)?.is_some_and(|(_, taken)| taken))
    }

    fn version(&self, token: &TokenId, version: u64) -> Result<Option<Option<State>>> {
        let sql = "SELECT v.state FROM versions v JOIN tokens t ON t.row = v.token WHERE t.id = ?1 AND v.version = ?2";
        // No version number exceeds SQLite's range.
        let version = i64::try_from(version).unwrap_or(-1);
        self.one(sql, (&token.0[..], version), |row| state_from(row, 0))
    }

    fn digest_recorded(&self, digest: &Hash) -> Result<bool> {
        let sql = "SELECT 1 FROM versions WHERE digest = ?1 UNION ALL SELECT 1 FROM former WHERE digest = ?1";
        self.exists(sql, [&digest.0[..]])
    }

    fn grant(&self, id: &GrantId) -> Result<Option<Target>> {
        let sql = "SELECT token, prefix FROM grants WHERE id = ?1 AND live = 1";
        self.one(sql, [&id.0[..]], |row| match row.get::<_, Option<String>>(1)? {
            Some(prefix) => Ok(Target::Prefix(prefix)),
            None => Ok(Target::Token(TokenId(blob(row, 0)?))),
        })
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
}
