//! The password of the database's user: from a file that the URI names, or from PostgreSQL's own password file.

use super::uri;
use crate::error::{Error, Kind, Result, printable};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio_postgres::config::Host;
use zeroize::Zeroizing;

const READ: &str = "read the database's password";

/// The longest password file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The password, if there is one. Without one, the server may know the user by other means.
pub(super) fn find(config: &postgres::Config, source: Option<&Path>) -> Result<Option<Zeroizing<String>>> {
    if let Some(source) = source {
        let text = read(source)?.ok_or_else(|| failed(source, "it does not exist"))?;
        let line = text.lines().next().unwrap_or_default();
        return Ok(Some(Zeroizing::new(line.to_owned())));
    }
    let Some(path) = password_file() else { return Ok(None) };
    let Some(text) = read(&path)? else { return Ok(None) };
    let wanted = wanted(config);
    Ok(wanted.iter().find_map(|fields| in_file(&text, fields)))
}

/// `PGPASSFILE`, or `~/.pgpass`.
fn password_file() -> Option<PathBuf> {
    let named = std::env::var_os("PGPASSFILE").filter(|name| !name.is_empty()).map(PathBuf::from);
    named.or_else(|| std::env::home_dir().map(|home| home.join(".pgpass")))
}

/// Host, port, database and user, for each host.
fn wanted(config: &postgres::Config) -> Vec<[String; 4]> {
    let user =
        config.get_user().map(str::to_owned).or_else(|| std::env::var("USER").ok()).unwrap_or_default();
    let hosts = config.get_hosts().iter().enumerate();
    let fields = hosts.map(|(i, host)| {
        let host = match host {
            Host::Tcp(host) => host.clone(),
            Host::Unix(_) => "localhost".to_owned(),
        };
        [
            host,
            uri::port(config, i).to_string(),
            config.get_dbname().unwrap_or_default().to_owned(),
            user.clone(),
        ]
    });
    fields.collect()
}

/// The password of the first line that fits (PostgreSQL's manual, "The Password File").
fn in_file(text: &str, wanted: &[String; 4]) -> Option<Zeroizing<String>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(fields).find_map(|fields| {
        let [host, port, database, user, password] = &*fields;
        let fits = [host, port, database, user]
            .into_iter()
            .zip(wanted)
            .all(|(field, value)| field == "*" || field == value);
        fits.then(|| Zeroizing::new(password.clone()))
    })
}

/// The five fields of a line. A backslash makes a colon or a backslash part of a field.
fn fields(line: &str) -> Option<Zeroizing<[String; 5]>> {
    let mut fields = Zeroizing::new([const { String::new() }; 5]);
    fields.iter_mut().for_each(|field| field.reserve_exact(line.len()));
    let (mut at, mut characters) = (0, line.chars());
    while let Some(c) = characters.next() {
        match c {
            // What follows the fourth colon is the password, with its colons.
            ':' if at < 4 => at += 1,
            '\\' => fields.get_mut(at)?.push(characters.next()?),
            c => fields.get_mut(at)?.push(c),
        }
    }
    (at == 4).then_some(fields)
}

/// The file's text, if there is a file. Others must not be able to read it.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(path, &e.to_string())),
    };
    let metadata = file.metadata().map_err(|e| failed(path, &e.to_string()))?;
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        let shown = printable(&path.display().to_string());
        return Err(failed(path, "others may read it").with_hint(format!("chmod 0600 {shown}")));
    }
    let size = usize::try_from(metadata.len().min(MAX_BYTES)).unwrap_or(0);
    let mut text = Zeroizing::new(String::with_capacity(size + 1));
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(|e| failed(path, &e.to_string()))?;
    Ok(Some(text))
}

fn failed(path: &Path, message: &str) -> Error {
    Error::new(Kind::Io, READ, message).with_target(printable(&path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_is_read_as_libpq_reads_it() {
        let text = "# a comment\n\
            db.example:5432:tokens:web1:one\n\
            db.example:*:*:web2:with\\:colon\\\\and:more\n\
            short:5432:tokens\n\
            *:*:*:*:any\n";
        let find = |host: &str, port: &str, user: &str| {
            let wanted = [host, port, "tokens", user].map(str::to_owned);
            in_file(text, &wanted).unwrap().to_string()
        };
        assert_eq!(find("db.example", "5432", "web1"), "one");
        assert_eq!(find("db.example", "5433", "web1"), "any");
        assert_eq!(find("db.example", "5433", "web2"), "with:colon\\and:more");
        assert_eq!(find("other", "5432", "web1"), "any");
        assert_eq!(in_file("a:b:c:d", &["a", "b", "c", "d"].map(str::to_owned)).as_deref(), None);
    }

    #[test]
    fn a_file_that_others_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "secret\nmore\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let config = postgres::Config::new();
        let error = find(&config, Some(&path)).unwrap_err();
        assert!(error.hint().unwrap().contains("chmod 0600"), "{error}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(find(&config, Some(&path)).unwrap().unwrap().as_str(), "secret");
        assert!(find(&config, Some(&directory.path().join("nosuch"))).is_err());
    }
}
