//! A record of what this process has loaded in a bare TPM, by which another process flushes it after this one was killed.
//!
//! A TPM without a resource manager has three slots for keys and three for sessions, and keeps what a killed process has loaded.
//! A key's name shows whose it is; a session shows nothing. So a process writes down both, in a file in the runtime directory that
//! it holds locked. A file that nobody holds locked belongs to a process that has died. The runtime directory is emptied when the
//! machine starts, as the TPM is.
//!
//! A process that dies while the TPM starts a session has not heard of its handle. Then it is the one that was not there before,
//! if there is only one such. The TPM serves one connection at a time, so no other program starts sessions meanwhile.

use super::templates::Name;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the names of all records begin with.
const PREFIX: &str = "strongroom-tpm";

/// No record is longer.
const MAX_BYTES: u64 = 1 << 16;

/// What a connection leaves in the TPM.
#[derive(Default)]
pub struct Leftovers {
    /// The names of the keys.
    pub keys: Vec<Name>,
    /// The handles of the sessions.
    pub sessions: Vec<u32>,
    /// The handles of other sessions, which were there before.
    pub others: Vec<u32>,
    /// One more session may have been started, whose handle is not known.
    pub starting: bool,
}

/// The record of this process for one TPM. Dropping it removes the file.
pub struct CrashRecord {
    file: File,
    path: PathBuf,
    loaded: Leftovers,
    /// The length of the file, in bytes.
    length: usize,
}

impl CrashRecord {
    /// Begins a record for the TPM with this label; `None` where files cannot be made.
    /// `others` are the sessions that are loaded now.
    pub fn begin(label: &str, others: Vec<u32>) -> Option<Self> {
        let directory = directory()?;
        let unique =
            format!("{}.{:016x}", std::process::id(), rand_core::RngCore::next_u64(&mut rand_core::OsRng));
        // It gets its name when it is locked: see `take_dead`.
        let new = directory.join(format!(".{PREFIX}.{unique}"));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&new).ok()?;
        let path = directory.join(format!("{PREFIX}.{label}.{unique}"));
        let named = file.try_lock().is_ok() && std::fs::rename(&new, &path).is_ok();
        if !named {
            let _ = std::fs::remove_file(&new);
            return None;
        }
        Some(Self { file, path, loaded: Leftovers { others, ..Leftovers::default() }, length: 0 })
    }

    /// Notes that a session is about to be started. A process that dies before it hears of the session leaves it to be found.
    pub fn begin_session(&mut self) {
        self.loaded.starting = true;
        self.write();
    }

    /// Adds the session that was started, by its handle.
    pub fn add_session(&mut self, session: u32) {
        self.loaded.sessions.push(session);
        self.loaded.starting = false;
        self.write();
    }

    /// Strikes a session off.
    pub fn remove_session(&mut self, session: u32) {
        self.loaded.sessions.retain(|other| *other != session);
        self.write();
    }

    /// Adds a key, by its name.
    pub fn add_key(&mut self, key: Name) {
        self.loaded.keys.push(key);
        self.write();
    }

    /// Writes the record anew, in a single write: a process that is killed leaves the record of before or this one, and never an
    /// empty one. Newlines cover what is left of a longer record. Without a record the slots are lost, which is no reason to fail.
    fn write(&mut self) {
        let sessions = self.loaded.sessions.iter().map(|session| format!("session {session:08x}\n"));
        let keys = self.loaded.keys.iter().map(|key| format!("key {}\n", hex::encode(key)));
        let others = self.loaded.others.iter().map(|other| format!("other {other:08x}\n"));
        let starting = self.loaded.starting.then(|| "starting\n".to_owned());
        let mut text: String = sessions.chain(keys).chain(others).chain(starting).collect();
        text.extend(std::iter::repeat_n('\n', self.length.saturating_sub(text.len())));
        self.length = text.len();
        if let Err(error) = self.file.write_all_at(text.as_bytes(), 0) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

impl Drop for CrashRecord {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The record of a process that has died. It stays locked while this one flushes what it names.
pub struct DeadRecord {
    /// What is left in the TPM.
    pub left: Leftovers,
    path: PathBuf,
    _lock: File,
}

impl DeadRecord {
    /// Removes the record: nothing is left.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The records of dead processes for the TPM with this label.
pub fn take_dead(label: &str) -> Vec<DeadRecord> {
    let Some(entries) = directory().and_then(|directory| std::fs::read_dir(directory).ok()) else {
        return Vec::new();
    };
    let prefix = format!("{PREFIX}.{label}.");
    let of_this = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    of_this.filter_map(|entry| read_dead(&entry.path())).collect()
}

/// `None` when the process lives.
fn read_dead(path: &Path) -> Option<DeadRecord> {
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    file.try_lock().ok()?;
    let mut text = String::new();
    (&file).take(MAX_BYTES).read_to_string(&mut text).ok()?;
    let mut dead = Leftovers::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("session", handle)) => dead.sessions.extend(u32::from_str_radix(handle, 16)),
            Some(("other", handle)) => dead.others.extend(u32::from_str_radix(handle, 16)),
            None if line == "starting" => dead.starting = true,
            Some(("key", name)) => {
                let name = hex::decode(name).ok().and_then(|name| Name::try_from(name).ok());
                dead.keys.extend(name);
            }
            _ => {}
        }
    }
    Some(DeadRecord { left: dead, path: path.into(), _lock: file })
}

/// The runtime directory: only this user, and the machine's start, remove what is in it.
fn directory() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some("/run".into());
    }
    std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_records_of_the_dead_are_taken() {
        let label = format!("test{:x}", std::process::id());
        let Some(mut record) = CrashRecord::begin(&label, vec![0x0300_0002]) else { return };
        record.begin_session();
        record.add_session(0x0300_0000);
        record.add_session(0x0300_0001);
        record.add_key([7; 34]);
        record.remove_session(0x0300_0000);
        record.begin_session();
        assert!(take_dead(&label).is_empty(), "it lives");
        let length = std::fs::metadata(&record.path).unwrap().len();
        record.remove_session(0x0300_0009);
        assert_eq!(std::fs::metadata(&record.path).unwrap().len(), length, "it is never cut");

        // As if it had died: the lock goes, and the file stays.
        let copy = record.path.with_extension("dead");
        std::fs::copy(&record.path, &copy).unwrap();
        let dead = take_dead(&label).pop().unwrap();
        assert!(take_dead(&label).is_empty(), "it is being taken");
        let left = &dead.left;
        assert_eq!((&left.sessions, &left.keys), (&vec![0x0300_0001], &vec![[7; 34]]));
        assert_eq!((&left.others, left.starting), (&vec![0x0300_0002], true));
        dead.remove();
        assert!(!copy.exists() && record.path.exists());
        let path = record.path.clone();
        drop(record);
        assert!(!path.exists());
    }
}
