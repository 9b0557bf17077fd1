//! The hook `file`: a file that a service reads, replaced whole, and a command that has the service read it.

use super::hook::{Answer, Hook, Request, Value};
use super::program::{Descriptors, Program, account};
use crate::config::HookSettings;
use crate::error::{Error, Kind, Result, printable};
use crate::secret::Secret;
use crate::secret::mask::Masker;
use nix::unistd::{Gid, Uid};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// A file of this machine's configuration.
pub(super) struct FileHook {
    name: String,
    path: PathBuf,
    owner: Option<(Uid, Gid)>,
    command: Vec<String>,
    timeout: Duration,
}

impl FileHook {
    pub(super) fn new(name: &str, settings: &HookSettings) -> Result<Self> {
        let failed = |message: String| Error::new(Kind::Usage, format!("use the hook {name}"), message);
        let path = settings.path.clone().filter(|path| path.is_absolute() && path.file_name().is_some());
        let owner = |user: &String| account(user).map(|user| (user.uid, user.gid)).map_err(failed);
        Ok(Self {
            name: name.into(),
            path: path.ok_or_else(|| failed("`path` is no absolute path of a file".into()))?,
            owner: settings.user.as_ref().map(owner).transpose()?,
            command: settings.command.clone(),
            timeout: settings.timeout(),
        })
    }

    fn contents(&self) -> Result<Option<Secret>> {
        let operation = format!("probe with the hook {}", self.name);
        // The directory may be somebody else's: no link leads elsewhere, and no pipe holds the rotation up.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        match OpenOptions::new().read(true).custom_flags(flags).open(&self.path) {
            Ok(file) if file.metadata().is_ok_and(|found| found.is_file()) => {
                Secret::read_from(file, &operation).map(Some)
            }
            Ok(_) => Err(Error::new(Kind::Io, operation, "it is no regular file")
                .with_target(printable(&self.path.display().to_string()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Ok(None),
            Err(e) => Err(Error::io(operation, &self.path, e)),
        }
    }

    /// Nobody else can read it at any moment, and a reader finds the old bytes or the new ones.
    fn write(&self, value: &Secret) -> std::io::Result<()> {
        // A link is replaced itself: where it leads is for whoever made it to say, and they may be somebody else.
        let path = &self.path;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let fresh = path.with_file_name(format!(".{name}.strongroom"));
        // What a killed process left.
        let _ = std::fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(value.expose())?;
        if let Some((uid, gid)) = self.owner {
            std::os::unix::fs::fchown(&file, Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }

    /// Has the service read the file.
    fn tell(&self, request: &Request<'_>) -> Result<Answer> {
        if self.command.is_empty() {
            return Ok(Answer::Done);
        }
        let operation = format!("test with the hook {} for {}", self.name, request.token);
        let program = Program { operation, command: &self.command, user: None, timeout: self.timeout };
        let finished = program.run(b"", &Descriptors::default())?;
        match finished.status.success() {
            true => Ok(Answer::Done),
            false => {
                // The command has read the file, and may quote it.
                let values =
                    [request.old, request.new].into_iter().flatten().map(|value| value.value.expose());
                let words = Masker::new(values).mask(&finished.stderr).trim().to_owned();
                let message = format!("`{}` ended with {}: {words}", self.command.join(" "), finished.status);
                Err(Error::new(Kind::Io, program.operation, message))
            }
        }
    }
}

fn is(contents: Option<&Secret>, value: Option<Value<'_>>) -> bool {
    matches!((contents, value), (Some(contents), Some(value)) if contents == value.value)
}

impl Hook for FileHook {
    fn overlaps(&self, _: &[(String, String)]) -> bool {
        true
    }

    fn create(&self, _: &Request<'_>) -> Result<Option<Secret>> {
        Ok(None)
    }

    fn probe(&self, request: &Request<'_>) -> Result<(bool, bool)> {
        let contents = self.contents()?;
        Ok((is(contents.as_ref(), request.old), is(contents.as_ref(), request.new)))
    }

    fn set(&self, request: &Request<'_>) -> Result<Answer> {
        let Some(new) = request.new else { return Ok(Answer::Done) };
        let operation = format!("set with the hook {} for {}", self.name, request.token);
        self.write(new.value).map_err(|e| Error::io(operation, &self.path, e))?;
        Ok(Answer::Done)
    }

    /// The command is run here and not after writing, since a rotation that died between the two goes on here.
    fn test(&self, request: &Request<'_>) -> Result<Answer> {
        match is(self.contents()?.as_ref(), request.new) {
            true => self.tell(request),
            false => Ok(Answer::Refused("somebody else wrote the file".into())),
        }
    }

    fn retire(&self, request: &Request<'_>) -> Result<Answer> {
        if is(self.contents()?.as_ref(), request.old) {
            if request.new.is_some() {
                let message = format!(
                    "{} holds it; rotate the token first",
                    printable(&self.path.display().to_string())
                );
                return Ok(Answer::Refused(message));
            }
            let operation = format!("retire with the hook {} for {}", self.name, request.token);
            std::fs::remove_file(&self.path).map_err(|e| Error::io(operation, &self.path, e))?;
            return self.tell(request);
        }
        Ok(Answer::Done)
    }
}
