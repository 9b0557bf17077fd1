//! From a process's control group to the systemd unit it runs in (systemd's `cg_path_get_unit`).
//!
//! The service manager makes a group for every unit, and only root, or a user below his own manager's group, can move a
//! process to another. Slices are skipped, the first other component is the system's unit; what a unit makes below its
//! own group is its own business, and cannot make it another.

/// Where a process runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// A unit of the system's service manager.
    System(String),
    /// A unit of a user's service manager.
    User {
        /// Whose.
        uid: u32,
        /// The unit.
        unit: String,
    },
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System(unit) => f.write_str(unit),
            Self::User { uid, unit } => write!(f, "{uid}/{unit}"),
        }
    }
}

impl Unit {
    /// From what `/proc/PID/cgroup` holds (cgroups(7)): the unified hierarchy's line, or that of systemd's own.
    pub fn from_cgroup(text: &str) -> Option<Self> {
        let line = |wanted: &str| text.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(wanted));
        Self::from_path(line("name=systemd:").or_else(|| line(":"))?)
    }

    fn from_path(path: &str) -> Option<Self> {
        let mut rest = path.strip_prefix('/')?.split('/').skip_while(|part| is_slice(part));
        let unit = named(rest.next()?)?;
        let manager = unit.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service"));
        match manager.map(str::parse) {
            Some(Ok(uid)) => {
                let below = rest.find(|part| !is_slice(part)).and_then(named);
                Some(below.map_or(Self::System(unit), |unit| Self::User { uid, unit }))
            }
            _ => Some(Self::System(unit)),
        }
    }
}

fn is_slice(part: &str) -> bool {
    part.ends_with(".slice")
}

/// A component that names a unit; one that would mean something else to the kernel is escaped by a `_`.
fn named(part: &str) -> Option<String> {
    let part = part.strip_prefix('_').unwrap_or(part);
    let kinds = [".service", ".scope", ".socket", ".mount", ".swap"];
    kinds.iter().any(|kind| part.len() > kind.len() && part.ends_with(kind)).then(|| part.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(path: &str) -> Option<String> {
        Unit::from_cgroup(&format!("0::{path}\n")).map(|unit| unit.to_string())
    }

    #[test]
    fn slices_are_skipped_and_the_first_unit_counts() {
        for (path, expected) in [
            ("/system.slice/web.service", "web.service"),
            ("/system.slice/system-web.slice/web@1.service", "web@1.service"),
            ("/system.slice/web.service/admin.service", "web.service"),
            ("/init.scope", "init.scope"),
            ("/web.service", "web.service"),
            ("/user.slice/user-1000.slice/session-2.scope", "session-2.scope"),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service", "1000/sync.service"),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", "1000/init.scope"),
            ("/user.slice/user-1000.slice/user@1000.service", "user@1000.service"),
            // Below his manager's group a user names groups as he likes.
            ("/user.slice/user-1000.slice/user@1000.service/system.slice/web.service", "1000/web.service"),
        ] {
            assert_eq!(unit(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn where_there_is_no_unit_there_is_none() {
        for path in ["/", "", "/docker/0123", "/system.slice", "/.service", "web.service", "/../../x"] {
            assert_eq!(unit(path), None, "{path}");
        }
        assert_eq!(Unit::from_cgroup(""), None);
        let hybrid = "4:memory:/x.service\n1:name=systemd:/system.slice/web.service\n0::/\n";
        assert_eq!(Unit::from_cgroup(hybrid), Some(Unit::System("web.service".into())));
    }
}
