//! Copies the whole store into another file, while others use it.

use super::operation::SqliteOperation;
use crate::error::Result;
use crate::store::rules::Columns;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::path::Path;
use std::time::Duration;

/// How many pages of the file are copied between two calls of `progress`.
const PAGES: i32 = 2048;

/// Copies one snapshot into `file`, which exists and is empty. It becomes a single file, without a write-ahead log.
pub(super) fn copy_to(
    attempt: &SqliteOperation<'_>,
    file: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let _snapshot = attempt.reading()?;
    // The snapshot begins with the first read. Without it, the copy would begin anew with each change.
    attempt.first("sqlite_schema", "SELECT count(*) FROM sqlite_schema", [], |row| row.uint(0))?;
    let mut copied = || {
        let mut copy = Connection::open(file)?;
        let backup = Backup::new(attempt.db, &mut copy)?;
        loop {
            match backup.step(PAGES)? {
                StepResult::Done => break,
                // Nobody else knows the file.
                StepResult::Busy | StepResult::Locked => std::thread::sleep(Duration::from_millis(2)),
                _ => {}
            }
            let (left, all) = (backup.progress().remaining, backup.progress().pagecount);
            progress(u64::try_from(all - left).unwrap_or(0), u64::try_from(all).unwrap_or(0));
        }
        drop(backup);
        copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
        copy.close().map_err(|(_, e)| e)
    };
    copied().map_err(|e| attempt.failed(None, &e))
}
