//! What each kind of statement is about, and which rules hold for it as a class.

use super::{Body, State};
use crate::ledger::subject::Subject;

impl Body {
    /// Whether its batch must directly follow what its author had seen: an anchor states what the counter showed there.
    pub fn follows_directly(&self) -> bool {
        matches!(self, Self::Anchor(_))
    }

    /// Changes of devices, roles and recovery, which only admin batches hold.
    pub fn is_admin(&self) -> bool {
        matches!(
            self,
            Self::Genesis(_)
                | Self::Enrol(_)
                | Self::Retire(_)
                | Self::Roles(_)
                | Self::Repair(_)
                | Self::Anchor(_)
                | Self::Settings(_)
                | Self::Propose(_)
                | Self::Approve(_)
                | Self::Reject(_)
        )
    }

    /// The changes that several admins must agree to where the settings ask for a quorum.
    pub fn needs_quorum(&self) -> bool {
        matches!(self, Self::Enrol(_) | Self::Retire(_) | Self::Roles(_) | Self::Settings(_))
    }

    /// The changes that rollback counters count: undoing one would give somebody more access than they should have.
    pub fn is_guarding(&self) -> bool {
        match self {
            Self::State(b) => matches!(b.state, State::Suspended | State::Revoked),
            Self::Genesis(_) | Self::Put(_) | Self::Rename(_) => false,
            Self::Destroy(_) | Self::Grant(_) | Self::Ungrant(_) | Self::Policy(_) | Self::Reseal(_) => true,
            admin => admin.is_admin(),
        }
    }

    /// The subjects this statement advances, in canonical order.
    pub fn subjects(&self) -> Vec<Subject> {
        let mut subjects = match self {
            admin if admin.is_admin() => vec![Subject::Store],
            Self::Policy(b) => vec![b.target.subject()],
            Self::Reseal(b) => vec![Subject::Token(b.token)],
            Self::Put(b) => vec![Subject::Token(b.token), Subject::Name(b.name.clone())],
            Self::State(b) => vec![Subject::Token(b.token)],
            Self::Destroy(b) if b.version == 0 => {
                vec![Subject::Token(b.token), Subject::Name(b.name.clone())]
            }
            Self::Destroy(b) => vec![Subject::Token(b.token)],
            Self::Rename(b) => {
                vec![Subject::Token(b.token), Subject::Name(b.from.clone()), Subject::Name(b.to.clone())]
            }
            Self::Grant(b) => vec![b.target.subject()],
            Self::Ungrant(b) => vec![b.target.subject()],
            _ => Vec::new(),
        };
        subjects.sort_by_cached_key(Subject::encode);
        subjects.dedup();
        subjects
    }

    /// The kind's name in listings.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Genesis(_) => "genesis",
            Self::Enrol(_) => "enrol",
            Self::Retire(_) => "retire",
            Self::Roles(_) => "roles",
            Self::Put(_) => "put",
            Self::State(_) => "state",
            Self::Destroy(_) => "destroy",
            Self::Rename(_) => "rename",
            Self::Grant(_) => "grant",
            Self::Ungrant(_) => "ungrant",
            Self::Repair(_) => "repair",
            Self::Reseal(_) => "reseal",
            Self::Anchor(_) => "anchor",
            Self::Policy(_) => "policy",
            Self::Settings(_) => "settings",
            Self::Propose(_) => "propose",
            Self::Approve(_) => "approve",
            Self::Reject(_) => "reject",
        }
    }
}
