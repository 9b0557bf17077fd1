//! Authorization: the owner may do everything; others only what a grant allows.

use crate::agent::identity::peer::Peer;
use crate::agent::identity::systemd_unit::Unit;
use crate::error::{Error, Kind};
use crate::ledger::Hash;
use crate::replica::GrantRow;
use crate::vault::{Grantee, Op};
use nix::unistd::{Group, User};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How long the number of a user or group is remembered.
const REMEMBERED: Duration = Duration::from_secs(10);

/// How long a question for such a number may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whose agent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentOwner {
    /// A user's: this user may do everything.
    User(u32),
    /// The machine's: root may do everything.
    Machine,
}

impl AgentOwner {
    /// Whether this is the owner, by rule and not by accident.
    pub fn is_owner(self, peer: &Peer) -> bool {
        self.is_user(peer.uid)
    }

    /// The same for a user's number.
    pub fn is_user(self, uid: u32) -> bool {
        match self {
            Self::User(own) => uid == own,
            Self::Machine => uid == 0,
        }
    }

    /// Whether `unit:NAME` means this unit: the system's units for the machine's agent, the user's own for a user's.
    fn is_unit(self, unit: &Unit, name: &str) -> bool {
        match (self, unit) {
            (Self::Machine, Unit::System(unit)) => unit == name,
            (Self::User(own), Unit::User { uid, unit }) => *uid == own && unit == name,
            _ => false,
        }
    }
}

/// The error for what was not granted. It is the same whether the token exists or not.
pub fn denied(operation: impl Into<String>) -> Error {
    Error::new(Kind::Refused, operation, "this application was granted no such token")
        .with_hint("the agent's owner grants it: `strongroom grant NAME --to …`")
}

/// Numbers of users and groups, asked for once in a while. The name service may be a server that hangs, so a thread of
/// its own asks it. Nobody waits long for that thread, and nobody waits at all while it hangs.
pub struct AccountIds {
    known: HashMap<Account, (Instant, Option<u32>)>,
    look_up: fn(&Account) -> Option<u32>,
    asking: Option<(Sender<Account>, Receiver<Answer>)>,
    /// A question was put that has no answer yet.
    hangs: bool,
}

impl Default for AccountIds {
    fn default() -> Self {
        Self { known: HashMap::new(), look_up, asking: None, hangs: false }
    }
}

/// An account and its number; none if there is no such account.
type Answer = (Account, Option<u32>);

/// A user or a group, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Account {
    User(String),
    Group(String),
}

impl AccountIds {
    fn user(&mut self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| self.number(Account::User(name.into())))
    }

    fn group(&mut self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| self.number(Account::Group(name.into())))
    }

    fn number(&mut self, account: Account) -> Option<u32> {
        if let Some((at, number)) = self.known.get(&account)
            && at.elapsed() < REMEMBERED
        {
            return *number;
        }
        let number = self.ask(&account);
        self.known.insert(account, (Instant::now(), number));
        number
    }

    /// `None` also when no answer comes in time: nothing is granted to an account that is not known.
    fn ask(&mut self, account: &Account) -> Option<u32> {
        let look_up = self.look_up;
        let (asks, hears) = self.asking.get_or_insert_with(|| account_thread(look_up));
        if self.hangs {
            let (late, number) = hears.try_recv().ok()?;
            self.known.insert(late, (Instant::now(), number));
            self.hangs = false;
            return self.number(account.clone());
        }
        asks.send(account.clone()).ok()?;
        if let Ok((_, number)) = hears.recv_timeout(PATIENCE) {
            return number;
        }
        log::warn!("the name service does not say in time which number {account:?} has");
        self.hangs = true;
        None
    }
}

fn look_up(account: &Account) -> Option<u32> {
    match account {
        Account::User(name) => User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()),
        Account::Group(name) => Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw()),
    }
}

fn account_thread(look_up: fn(&Account) -> Option<u32>) -> (Sender<Account>, Receiver<Answer>) {
    let (asks, asked) = channel::<Account>();
    let (says, hears) = channel();
    let answer = move || {
        for account in asked {
            let number = look_up(&account);
            if says.send((account, number)).is_err() {
                return;
            }
        }
    };
    // Without a thread nobody answers, which is noticed at once.
    drop(std::thread::Builder::new().name("accounts".into()).spawn(answer));
    (asks, hears)
}

/// A peer, and what was found out about it on demand.
pub struct Subject<'a> {
    /// The process.
    pub peer: &'a Peer,
    /// The digest of its program, where some grant asks for one.
    pub digest: Option<Hash>,
}

/// Whether one of these grants lets the peer do it now. `now` in milliseconds.
pub fn is_granted(
    owner: AgentOwner,
    asker: &Subject<'_>,
    op: Op,
    now: u64,
    grants: &[GrantRow],
    accounts: &mut AccountIds,
) -> bool {
    let op = op.to_string();
    grants.iter().any(|grant| {
        // Who may do anything with a token may see that it is there.
        let allows = op == "list" || grant.ops.contains(&op);
        let stands = grant.until.is_none_or(|until| now < until);
        allows && stands && grant.to.parse().is_ok_and(|to| is(owner, asker, &to, accounts))
    })
}

/// Whether a grantee is this peer.
fn is(owner: AgentOwner, asker: &Subject<'_>, grantee: &Grantee, accounts: &mut AccountIds) -> bool {
    let peer = asker.peer;
    match grantee {
        Grantee::Unit(name) => peer.unit.as_ref().is_some_and(|unit| owner.is_unit(unit, name)),
        Grantee::UserUnit { user, unit } => match &peer.unit {
            Some(Unit::User { uid, unit: own }) => own == unit && accounts.user(user) == Some(*uid),
            _ => false,
        },
        Grantee::User(user) => accounts.user(user) == Some(peer.uid),
        Grantee::Group(group) => accounts.group(group).is_some_and(|gid| peer.groups.contains(&gid)),
        Grantee::Exe(path) => peer.exe.as_ref().is_some_and(|exe| exe.is_at(path)),
        Grantee::ExeDigest(digest) => asker.digest == Some(*digest),
        Grantee::All(all) => all.iter().all(|one| is(owner, asker, one, accounts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::identity::pidfd_cache::PidfdCache;
    use crate::ledger::GrantId;
    use crate::ledger::body::Target;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn grant(to: &str, ops: &[&str], until: Option<u64>) -> GrantRow {
        GrantRow {
            id: GrantId([1; 16]),
            target: Target::Prefix("prod".into()),
            name: None,
            to: to.into(),
            ops: ops.iter().map(|op| (*op).to_owned()).collect(),
            until,
            alias: None,
            n: 3,
        }
    }

    fn peer() -> Peer {
        let (one, _other) = UnixStream::pair().unwrap();
        Peer::of(&one, &PidfdCache::default()).unwrap()
    }

    fn may(owner: AgentOwner, peer: &Peer, op: Op, grant: GrantRow) -> bool {
        is_granted(owner, &Subject { peer, digest: None }, op, 1000, &[grant], &mut AccountIds::default())
    }

    #[test]
    fn a_grant_is_for_its_grantee_its_operations_and_its_time() {
        let peer = Peer { unit: Some(Unit::System("web.service".into())), ..peer() };
        let web = |ops: &[&str], until| grant("unit:web.service", ops, until);
        assert!(may(AgentOwner::Machine, &peer, Op::Get, web(&["get"], None)));
        assert!(may(AgentOwner::Machine, &peer, Op::List, web(&["get"], None)));
        assert!(may(AgentOwner::Machine, &peer, Op::Get, web(&["get"], Some(1001))));
        assert!(!may(AgentOwner::Machine, &peer, Op::Get, web(&["get"], Some(1000))));
        assert!(!may(AgentOwner::Machine, &peer, Op::Put, web(&["get"], None)));
        assert!(!may(AgentOwner::Machine, &peer, Op::Get, web(&["list"], None)));
        assert!(!may(AgentOwner::Machine, &peer, Op::Get, grant("unit:db.service", &["get"], None)));
        assert!(!may(AgentOwner::Machine, &peer, Op::Get, grant("host:web.service", &["get"], None)));
        // In a user's agent, a unit is one of the user's own.
        assert!(!may(AgentOwner::User(peer.uid), &peer, Op::Get, web(&["get"], None)));
    }

    #[test]
    fn units_of_users_are_not_those_of_the_system() {
        let unit = Some(Unit::User { uid: 1234, unit: "web.service".into() });
        let peer = Peer { unit, ..peer() };
        let get = |owner, to: &str| may(owner, &peer, Op::Get, grant(to, &["get"], None));
        assert!(!get(AgentOwner::Machine, "unit:web.service"));
        assert!(get(AgentOwner::Machine, "unit:1234/web.service"));
        assert!(!get(AgentOwner::Machine, "unit:1235/web.service"));
        assert!(get(AgentOwner::User(1234), "unit:web.service"));
        assert!(!get(AgentOwner::User(1235), "unit:web.service"));
    }

    #[test]
    fn users_groups_and_programs() {
        let peer = peer();
        let get =
            |peer: &Peer, to: String| may(AgentOwner::Machine, peer, Op::Get, grant(&to, &["get"], None));
        let exe = peer.exe.clone().unwrap();
        assert!(get(&peer, format!("user:{}", peer.uid)) && !get(&peer, format!("user:{}", peer.uid + 1)));
        assert!(get(&peer, format!("group:{}", peer.groups[0])));
        assert!(!get(&peer, "group:no-such-group".into()) && !get(&peer, "user:no-such-user".into()));
        assert!(get(&peer, format!("exe:{}", exe.path.display())));
        // All of several hold.
        let both = |uid: u32| format!("exe:{}+user:{uid}", exe.path.display());
        assert!(get(&peer, both(peer.uid)) && !get(&peer, both(peer.uid + 1)));
        assert!(!get(&peer, format!("unit:web.service+user:{}", peer.uid)));
        assert!(!get(&peer, "exe:/usr/bin/env".into()));
    }

    /// Asked for `slow`, the name service hangs until this is true.
    static ANSWERS: AtomicBool = AtomicBool::new(false);

    fn hanging(account: &Account) -> Option<u32> {
        while *account == Account::User("slow".into()) && !ANSWERS.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(7)
    }

    #[test]
    fn a_name_service_that_hangs_is_waited_for_once() {
        let mut accounts = AccountIds { look_up: hanging, ..AccountIds::default() };
        assert_eq!(accounts.user("quick"), Some(7));
        let began = Instant::now();
        assert_eq!(accounts.user("slow"), None);
        assert!(began.elapsed() >= PATIENCE);
        let began = Instant::now();
        // What is known goes on, and so do numbers. The others are nobody, at once.
        assert_eq!((accounts.user("quick"), accounts.user("12")), (Some(7), Some(12)));
        (0..100).for_each(|n| assert_eq!(accounts.group(&format!("group{n}")), None));
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        ANSWERS.store(true, Ordering::SeqCst);
        let answers = || {
            std::thread::sleep(Duration::from_millis(5));
            accounts.group("new") == Some(7)
        };
        assert!(test_support::eventually::eventually(Duration::from_secs(20), answers));
    }
}
