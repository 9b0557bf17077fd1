//! Leases: who is rotating a token. A courtesy among machines that behave; the ledger keeps two from harming each other.

use super::connection::{Failure, Param, Session};
use crate::store::Lease;
use crate::store::rules::{Columns, MAX_HOLDER_BYTES};
use postgres::types::Type;

/// Takes or renews a lease. The one that stands in the way, if another holder's has not run out.
pub(super) fn take(session: &mut Session<'_>, lease: &Lease, now: u64) -> Result<Option<Lease>, Failure> {
    let (until, now) = (session.at.integer(lease.until)?, session.at.integer(now)?);
    let sql = "INSERT INTO strongroom.leases AS l (token, holder, until) VALUES ($1, $2, $3)
        ON CONFLICT (token) DO UPDATE SET holder = excluded.holder, until = excluded.until
        WHERE l.until <= $4 OR l.holder = excluded.holder";
    let token = &lease.token[..];
    let params: [Param<'_>; 4] =
        [(&token, Type::BYTEA), (&lease.holder, Type::TEXT), (&until, Type::INT8), (&now, Type::INT8)];
    if session.execute(sql, &params)? > 0 {
        return Ok(None);
    }
    let sql = "SELECT token, left(holder, 129) AS holder, until FROM strongroom.leases WHERE token = $1";
    session.first("leases", sql, &[(&token, Type::BYTEA)], |row| {
        Ok(Lease { token: lease.token, holder: row.text(1, MAX_HOLDER_BYTES)?, until: row.uint(2)? })
    })
}

/// Ends a lease of this holder's.
pub(super) fn end(session: &mut Session<'_>, token: &[u8; 16], holder: &str) -> Result<(), Failure> {
    let sql = "DELETE FROM strongroom.leases WHERE token = $1 AND holder = $2";
    session.execute(sql, &[(&&token[..], Type::BYTEA), (&holder, Type::TEXT)]).map(drop)
}
