//! The access log: who read what, chained per device.

use super::append::taken;
use super::connection::{Connection, Failure, Param, Session, pause};
use super::ledger::at;
use super::row::Fields;
use crate::error::{Error, Kind, Result};
use crate::ledger::{AccessHead, DeviceId, Hash};
use crate::store::access_chain::{Ends, drop_before, dropped_line, link, read_head, read_line};
use crate::store::rules::Columns;
use crate::store::{Access, AccessCount, RecordedAccess};
use postgres::types::Type;
use std::collections::BTreeMap;

const RECORD: &str = "write the access log";

/// How often somebody else's line may come first before a writer gives up.
const TRIES: u32 = 200;

/// The columns of a line, cut where no honest one is as long.
const LINE: &str =
    "n, time, left(device, 65) AS device, uid, pid, left(exe, 16385) AS exe, left(name, 16385) AS name,
    version, left(outcome, 16385) AS outcome, substring(chain FROM 1 FOR 33) AS chain";

pub(super) fn record(connection: &mut Connection, accesses: &[Access]) -> Result<()> {
    let lines: Vec<Access> = accesses.iter().map(without_nul).collect();
    for attempt in 0..TRIES {
        if connection.run(RECORD, |session| append(session, &lines))? {
            return Ok(());
        }
        pause(attempt.min(4));
    }
    Err(Error::new(Kind::Conflict, RECORD, "others kept writing lines for the same device")
        .with_target(connection.location().to_owned())
        .with_hint("try again"))
}

/// A database's texts hold no NUL, and what a client asks for may.
fn without_nul(access: &Access) -> Access {
    let clean = |text: &String| text.replace('\0', "\u{fffd}");
    Access {
        device: clean(&access.device),
        exe: clean(&access.exe),
        name: clean(&access.name),
        outcome: clean(&access.outcome),
        ..access.clone()
    }
}

/// Appends lines unless somebody else's line for one of the devices comes in between; then false.
fn append(session: &mut Session<'_>, lines: &[Access]) -> Result<bool, Failure> {
    let mut ends: BTreeMap<&str, Hash> = BTreeMap::new();
    for line in lines {
        if !ends.contains_key(line.device.as_str()) {
            ends.insert(&line.device, end_of(session, &line.device)?);
        }
    }
    let devices: Vec<&str> = ends.keys().copied().collect();
    let before: Vec<Vec<u8>> = ends.values().map(|end| end.0.to_vec()).collect();
    let mut chains = Vec::with_capacity(lines.len());
    for line in lines {
        let end = ends.entry(&line.device).or_insert(Hash::ZERO);
        *end = link(*end, line);
        chains.push(end.0.to_vec());
    }
    let number = |field: fn(&Access) -> u64| -> Result<Vec<i64>> {
        lines.iter().map(|line| session.at.integer(field(line))).collect()
    };
    let text = |field: fn(&Access) -> &String| -> Vec<&str> {
        lines.iter().map(|line| field(line).as_str()).collect()
    };
    let (times, versions) = (number(|line| line.time)?, number(|line| line.version)?);
    let (uids, pids) = (number(|line| line.uid.into())?, number(|line| line.pid.into())?);
    let (device, exe) = (text(|line| &line.device), text(|line| &line.exe));
    let (name, outcome) = (text(|line| &line.name), text(|line| &line.outcome));
    let params: [Param<'_>; 11] = [
        (&devices, Type::TEXT_ARRAY),
        (&before, Type::BYTEA_ARRAY),
        (&times, Type::INT8_ARRAY),
        (&device, Type::TEXT_ARRAY),
        (&uids, Type::INT8_ARRAY),
        (&pids, Type::INT8_ARRAY),
        (&exe, Type::TEXT_ARRAY),
        (&name, Type::TEXT_ARRAY),
        (&versions, Type::INT8_ARRAY),
        (&outcome, Type::TEXT_ARRAY),
        (&chains, Type::BYTEA_ARRAY),
    ];
    taken(session, "SELECT strongroom.record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)", &params)
}

/// The chain's value after a device's last line.
fn end_of(session: &mut Session<'_>, device: &str) -> Result<Hash, Failure> {
    let sql = "SELECT n, chain FROM strongroom.access WHERE device = $1 ORDER BY n DESC LIMIT 1";
    match session.first("access", sql, &[(&device, Type::TEXT)], |row| row.hash(1))? {
        Some(end) => Ok(end),
        None => Ok(dropped(session, device)?.chain),
    }
}

/// What was dropped of one device.
pub(super) fn dropped(session: &mut Session<'_>, device: &str) -> Result<AccessHead, Failure> {
    let sql = "SELECT device, count, chain FROM strongroom.access_dropped WHERE device = $1";
    let head = session.first("access_dropped", sql, &[(&device, Type::TEXT)], |row| read_head(row))?;
    Ok(head.unwrap_or(AccessHead::EMPTY))
}

/// How many lines name the device, those included that were dropped, and the chain after the last of them.
pub(super) fn head(session: &mut Session<'_>, device: &DeviceId) -> Result<AccessHead, Failure> {
    session.begin_reading()?;
    let device = device.to_string();
    let sql = "SELECT count(*) FROM strongroom.access WHERE device = $1";
    let kept = session.first("access", sql, &[(&device, Type::TEXT)], |row| row.uint(0))?.unwrap_or(0);
    let count = dropped(session, &device)?.count.saturating_add(kept);
    let chain = end_of(session, &device)?;
    session.commit()?;
    Ok(AccessHead { count, chain })
}

/// The chain after the device's line number `count`, unless that was dropped.
pub(super) fn chain_at(
    session: &mut Session<'_>,
    device: &DeviceId,
    count: u64,
) -> Result<Option<Hash>, Failure> {
    session.begin_reading()?;
    let device = device.to_string();
    let dropped = dropped(session, &device)?;
    let before = count.checked_sub(dropped.count).and_then(|kept| kept.checked_sub(1));
    let chain = match before.and_then(|before| i64::try_from(before).ok()) {
        _ if count == dropped.count && count > 0 => Some(dropped.chain),
        Some(before) => {
            let sql = "SELECT n, chain FROM strongroom.access WHERE device = $1 ORDER BY n LIMIT 1 OFFSET $2";
            session
                .first("access", sql, &[(&device, Type::TEXT), (&before, Type::INT8)], |row| row.hash(1))?
        }
        // Nobody reads more lines than the database can count.
        None => None,
    };
    session.commit()?;
    Ok(chain)
}

pub(super) fn accesses(
    session: &mut Session<'_>,
    before: u64,
    limit: u32,
) -> Result<Vec<RecordedAccess>, Failure> {
    let before = if before == 0 { i64::MAX } else { at(before) };
    let sql = format!("SELECT {LINE} FROM strongroom.access WHERE n < $1 ORDER BY n DESC LIMIT $2");
    let rows = session.rows(&sql, &[(&before, Type::INT8), (&i64::from(limit), Type::INT8)])?;
    let read = |row| read_line(&Fields { at: session.at, table: "access", row });
    Ok(rows.iter().map(read).collect::<Result<_>>()?)
}

/// Recomputes the chain of every device, from what was dropped on.
pub(super) fn check(session: &mut Session<'_>) -> Result<AccessCount, Failure> {
    session.begin_reading()?;
    let mut ends = all_dropped(session)?;
    let dropped = ends.count();
    let kept = follow(session, i64::MAX, &mut ends)?;
    session.commit()?;
    Ok(AccessCount { kept, dropped })
}

/// What was dropped, by device.
fn all_dropped(session: &mut Session<'_>) -> Result<Ends, Failure> {
    let mut dropped = Ends::default();
    let sql = "SELECT left(device, 65) AS device, count, chain FROM strongroom.access_dropped";
    session.scan("access_dropped", sql, |_, row| Ok(dropped.start(row)?))?;
    Ok(dropped)
}

/// Recomputes the chains of the lines before `before`, and moves each device's end forward. Returns how many these are.
fn follow(session: &mut Session<'_>, before: i64, ends: &mut Ends) -> Result<u64, Failure> {
    let mut rows = 0;
    let sql = format!("SELECT {LINE} FROM strongroom.access WHERE n < {before} ORDER BY n");
    session.scan("access", &sql, |_, row| {
        ends.follow(row)?;
        rows += 1;
        Ok(true)
    })?;
    Ok(rows)
}

/// Drops the oldest lines, so that about `most` are left, and appends `by` with how many these were. They are verified
/// first: what was altered is not made to disappear.
pub(super) fn drop_oldest(session: &mut Session<'_>, most: u64, by: &Access) -> Result<u64, Failure> {
    session.begin_writing()?;
    session.batch("SELECT 1 FROM strongroom.changes WHERE part = 'access' FOR UPDATE")?;
    let sql = "SELECT min(n), max(n) FROM strongroom.access";
    let span = session.first("access", sql, &[], |row| Ok((row.maybe_uint(0)?, row.maybe_uint(1)?)))?;
    let Some((Some(first), Some(last))) = span else { return session.commit().map(|()| 0) };
    let Some(before) = drop_before(first, last, most) else { return session.commit().map(|()| 0) };
    let mut ends = all_dropped(session)?;
    let dropped = follow(session, at(before), &mut ends)?;
    for (device, end) in ends.into_iter() {
        let sql = "INSERT INTO strongroom.access_dropped (device, count, chain) VALUES ($1, $2, $3)
            ON CONFLICT (device) DO UPDATE SET count = excluded.count, chain = excluded.chain";
        let count = session.at.integer(end.count)?;
        session
            .execute(sql, &[(&device, Type::TEXT), (&count, Type::INT8), (&&end.chain.0[..], Type::BYTEA)])?;
    }
    session.execute("DELETE FROM strongroom.access WHERE n < $1", &[(&at(before), Type::INT8)])?;
    append(session, &[dropped_line(dropped, &without_nul(by))])?;
    session.commit()?;
    Ok(dropped)
}
