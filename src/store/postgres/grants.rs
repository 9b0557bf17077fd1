//! The rights of a database's users, as SQL for its owner to run.

use crate::ledger::DeviceId;
use std::fmt::Write;

/// What a user of the database may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseRole {
    /// Read, and write its own lines of the access log and its own checkpoints.
    Reader,
    /// Also append to the ledger, and lease tokens.
    Writer,
    /// Also repair, and drop old lines of the access log.
    Owner,
}

/// What everybody reads.
const TABLES: &str = "strongroom.format, strongroom.changes, strongroom.batches, strongroom.statements, strongroom.heads,
    strongroom.sealed, strongroom.access, strongroom.access_dropped, strongroom.leases, strongroom.checkpoints";

const RECORD: &str = "strongroom.record(TEXT[], BYTEA[], BIGINT[], TEXT[], BIGINT[], BIGINT[], TEXT[], TEXT[], BIGINT[], TEXT[], BYTEA[])";
const APPEND: &str =
    "strongroom.append(BIGINT, BIGINT, BYTEA[], BYTEA, BYTEA, BYTEA[], BYTEA[], BYTEA[], BYTEA[], BYTEA[])";

/// The statements that give `user` this role, and nothing more than it, and that let it speak for `devices`.
pub fn grant_sql(role: DatabaseRole, user: &str, devices: &[DeviceId]) -> String {
    let to = format!("\"{}\"", user.replace('"', "\"\""));
    let text = user.replace('\'', "''");
    let mut sql = format!(
        "BEGIN;
REVOKE ALL ON ALL TABLES IN SCHEMA strongroom FROM {to};
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA strongroom FROM {to};
DELETE FROM strongroom.clients WHERE role = '{text}';
GRANT USAGE ON SCHEMA strongroom TO {to};
GRANT SELECT ON {TABLES} TO {to};
GRANT EXECUTE ON FUNCTION {RECORD} TO {to};
GRANT EXECUTE ON FUNCTION strongroom.put_checkpoint(BYTEA, BYTEA) TO {to};
"
    );
    // Writing into a text cannot fail.
    if role != DatabaseRole::Reader {
        let _ = write!(
            sql,
            "GRANT EXECUTE ON FUNCTION {APPEND} TO {to};
GRANT EXECUTE ON FUNCTION strongroom.release(BIGINT, BYTEA[], BYTEA[]) TO {to};
GRANT INSERT, UPDATE, DELETE ON strongroom.leases TO {to};
"
        );
    }
    if role == DatabaseRole::Owner {
        let _ = writeln!(sql, "GRANT ALL ON ALL TABLES IN SCHEMA strongroom TO {to};");
    }
    for device in devices {
        let _ = writeln!(sql, "INSERT INTO strongroom.clients (role, device) VALUES ('{text}', '{device}');");
    }
    sql + "COMMIT;"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        let sql = grant_sql(DatabaseRole::Reader, "we\"b'; DROP", &[DeviceId([1; 16])]);
        assert!(sql.contains("TO \"we\"\"b'; DROP\";") && sql.contains("'we\"b''; DROP'"), "{sql}");
    }
}
